"""Images as files hold them, and coarse ones enlarged again."""

import warnings

import numpy as np
import rasterio
import torch
from rasterio.errors import NotGeoreferencedWarning

from mapper.models.interpolation import upsample


def read_image(path):
    """All bands of a file, (band, y, x) float64."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with rasterio.open(path) as file:
            return file.read().astype(np.float64)


def enlarge(image, scale, method="bicubic"):
    return upsample(torch.from_numpy(np.ascontiguousarray(image, np.float64))[None], scale, method)[0].numpy()
