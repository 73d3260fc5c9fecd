"""Detail of an image beyond what its source can show: local energy above the source's Nyquist frequency.

With L a low pass that ends there and w weights around a pixel, the energy is E(x) = w * (x - L * x)^2, and the gain of
an image over the bicubic interpolation of its source is E(image) / E(bicubic), both summed over bands: 1 where nothing
was added, below 1 where something was smoothed away. Filters are finite and fixed: the same bits however a window was
cut.
"""

from functools import lru_cache

import numpy as np
import torch
from scipy.ndimage import correlate1d, minimum_filter1d

from mapper.arrays import BoolArray, Float32Array, Float64Array, FloatArray
from mapper.models.interpolation import upsample

_LOW_PASS = 6
"""Radius of the low pass in source pixels."""
_AROUND = 4
"""Radius of the weights around a pixel in source pixels."""
_ROUNDING = 1e-6
"""Part of the local level that counts as rounding, in image and interpolation alike."""


def interpolate(image: Float32Array, scale: int) -> Float64Array:
    """Return an image (band, y, x) interpolated bicubically, (band, y * scale, x * scale); NaN near what is missing."""
    return np.asarray(upsample(torch.from_numpy(image.astype(np.float64))[None], scale, "bicubic")[0].numpy())


def measure_energy(image: FloatArray, known: BoolArray, scale: int) -> Float64Array:
    """Return the energy above the source's Nyquist frequency around each pixel.

    Args:
        image: (band, y, x).
        known: (y, x) False where a pixel does not count.
        scale: Source pixel / pixel of the image.

    Returns:
        (y, x) mean square over pixels and bands, in squared units of the image; NaN where nothing is known around.
    """
    taps = _low_pass(scale)
    sound = _erode(known, len(taps))
    total = np.zeros(known.shape)
    for band in image:
        filled = np.where(known, band, 0).astype(np.float64)
        total += np.where(sound, filled - _filter(filled, taps), 0) ** 2
    return _average(total / len(image), sound, scale)


def measure_gain(
    image: FloatArray, base: Float64Array, known: BoolArray, scale: int
) -> tuple[Float64Array, Float64Array]:
    """Return the gain in detail of an image over an interpolation, and the energy of the image.

    Args:
        image: (band, y, x), all bands in one unit.
        base: The interpolation, of the same shape.
        known: (y, x) False where a pixel does not count.
        scale: Source pixel / target pixel.

    Returns:
        Both (y, x), NaN where nothing is known around.
    """
    level = _average((np.where(known, base, 0) ** 2).mean(0), _erode(known, len(_low_pass(scale))), scale)
    rounding = _ROUNDING**2 * level + np.finfo(np.float64).tiny
    energy, plain = (measure_energy(each, known, scale) for each in (image, base))
    return (energy + rounding) / (plain + rounding), energy


def _average(values: Float64Array, sound: BoolArray, scale: int) -> Float64Array:
    """Return the weighted mean around each pixel over those that are sound; NaN where none is."""
    taps = _hann(_AROUND * scale)
    weight = _filter(sound.astype(np.float64), taps)
    total = _filter(np.where(sound, values, 0), taps)
    return np.where(weight > 0, total / np.where(weight > 0, weight, 1), np.nan)


def _filter(image: Float64Array, taps: Float64Array) -> Float64Array:
    for axis in (0, 1):
        image = correlate1d(image, taps, axis, mode="constant")
    return image


def _erode(known: BoolArray, length: int) -> BoolArray:
    """Return where all that a filter looks at is known; the outside is not."""
    sound = known.astype(np.uint8)
    for axis in (0, 1):
        sound = minimum_filter1d(sound, length, axis, mode="constant")
    return sound.astype(bool)


@lru_cache(maxsize=8)
def _low_pass(scale: int) -> Float64Array:
    """Return the taps of a windowed sinc that ends at half a cycle in a source pixel."""
    radius = _LOW_PASS * scale
    taps = np.sinc(np.arange(-radius, radius + 1) / scale) * _hann(radius)
    return np.asarray(taps / taps.sum())


@lru_cache(maxsize=8)
def _hann(radius: int) -> Float64Array:
    taps = 1 + np.cos(np.pi * np.arange(-radius, radius + 1) / (radius + 1))
    return np.asarray(taps / taps.sum())
