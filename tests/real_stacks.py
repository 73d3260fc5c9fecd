"""Real pieces of imagery that published figures of super-resolution are reproduced on."""

import json

import numpy as np
import rasterio
from PIL import Image
from shared import SHARED

FOLDER = SHARED / "super_resolution"


def read_naip():
    """Return the summer of 2020 of one place, (4, 384, 384), 0 to 255."""
    with rasterio.open(FOLDER / "naip/west/20200831.tif") as file:
        return file.read().astype(np.float32)


def read_town():
    """Return a town, (3, 512, 512), 0 to 255."""
    return np.asarray(Image.open(FOLDER / "spacenet7/01_rgb.png"))[..., :3].transpose(2, 0, 1).astype(np.float32)


def read_probav(name):
    """Return the dates (date, 1, 128, 128), the number of the anchor, and the fine image (384, 384) or None."""
    folder = FOLDER / "probav" / name
    dates = [np.asarray(Image.open(path)).astype(np.float32) for path in sorted(folder.glob("LR*.png"))]
    fine = folder / "HR.png"
    truth = np.asarray(Image.open(fine)).astype(np.float64) if fine.exists() else None
    return np.stack(dates)[:, None], json.loads((folder.parent / "anchors.json").read_text())[name], truth


def score_psnr(found, truth, *, border):
    """Return the PSNR in dB of a range of 255, without a border."""
    inner = (..., slice(border, -border), slice(border, -border))
    return -10 * np.log10(np.mean(np.square((np.asarray(found, np.float64) - truth)[inner] / 255)))


def score_cpsnr(found, truth):
    """Return the cPSNR in dB: range 65535, border 3, bias removed, the best of the 49 shifts of +-3 px."""
    inner = found[3:-3, 3:-3].astype(np.float64)
    rows, cols = inner.shape
    parts = [truth[row : row + rows, col : col + cols] for row in range(7) for col in range(7)]
    return max(-10 * np.log10(np.var((part - inner) / 65535)) for part in parts)
