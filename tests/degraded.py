"""Coarse images made from fine ones by the protocol of the shared pieces, and enlarged again."""

import warnings

import numpy as np
import rasterio
import torch
from rasterio.errors import NotGeoreferencedWarning
from scipy import ndimage

from mapper.models.interpolation import upsample


def read_image(path):
    """All bands of a file, (band, y, x) float64."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with rasterio.open(path) as file:
            return file.read().astype(np.float64)


def degrade(image, scale):
    """A Gaussian of .514 source pixels, then the mean of the middle 2 x 2 pixels of each block."""
    blurred = np.stack([ndimage.gaussian_filter(band, 0.514 * scale, truncate=8) for band in image])
    bands, rows, cols = blurred.shape
    blocks = blurred.reshape(bands, rows // scale, scale, cols // scale, scale)
    middle = slice(scale // 2 - 1, scale // 2 + 1)
    return blocks[:, :, middle, :, middle].mean((2, 4))


def enlarge(image, scale, method="bicubic"):
    return upsample(torch.from_numpy(np.ascontiguousarray(image, np.float64))[None], scale, method)[0].numpy()
