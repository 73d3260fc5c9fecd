"""Displacement of two images below a pixel, and what opensr-test takes out of a result before it judges its detail.

Harmonisation looks at the truth: it gives a result the truth's histograms, and moves it onto the truth. That hides a
bias, and makes a fifth of plain interpolation a hallucination: figures of it are for comparison with published ones.
"""

import math

import numpy as np

from mapper.arrays import Float64Array, FloatArray

FURTHEST_PX = 5.0
"""Displacement, in pixels, beyond which an alignment has failed."""

_UPSAMPLING = 50  # the displacement is found in steps of .02 px


def harmonise(value: FloatArray, truth: FloatArray) -> Float64Array:
    """Return a result with the histograms of the truth, moved onto it; (band, y, x), NaN where missing.

    It is moved by the displacement of the means over all bands, bilinearly; beyond its edges it goes on as at them.
    Where the alignment fails it stays where it is.

    Args:
        value: (band, y, x), NaN where missing.
        truth: The same shape, in the units that come back.
    """
    matched = np.stack([match_histogram(one, other) for one, other in zip(value, truth, strict=True)])
    shift = find_translation(truth.mean(0, dtype=np.float64), matched.mean(0))
    return matched if shift is None else translate(matched, shift)


def match_histogram(band: FloatArray, reference: FloatArray) -> Float64Array:
    """Return a band whose values are distributed as those of another: its order with the other's numbers.

    R. C. Gonzalez, R. E. Woods: Digital Image Processing, section 3.3: equal values stay equal, and between the values
    of the reference the inverse of its cumulative distribution is linear.

    Args:
        band: (y, x), NaN where missing.
        reference: Any shape and units; NaN where missing.

    Returns:
        (y, x) in units of the reference, NaN where the band is missing, or nothing is known of the reference.
    """
    known, other = np.isfinite(band), reference[np.isfinite(reference)]
    matched = np.full(band.shape, np.nan)
    if known.any() and other.size:
        _, place, number = np.unique(band[known], return_inverse=True, return_counts=True)
        values, numbers = np.unique(other, return_counts=True)
        matched[known] = np.interp(np.cumsum(number) / place.size, np.cumsum(numbers) / other.size, values)[place]
    return matched


def find_translation(reference: FloatArray, moved: FloatArray) -> tuple[float, float] | None:
    """Return by how many pixels down and right an image must move to lie on another, to a fiftieth of a pixel.

    M. Guizar-Sicairos, S. T. Thurman, J. R. Fienup: Efficient subpixel image registration algorithms. Optics Letters
    33 (2008), 156-158, with the spectrum normalised to its phase. Gaps of either image become the mean of what both
    have.

    Args:
        reference: (y, x).
        moved: The same shape.

    Returns:
        None beyond :data:`FURTHEST_PX`, or where less than half of the pixels is known.
    """
    known = np.isfinite(reference) & np.isfinite(moved)
    if not known.any() or known.mean() < 0.5:
        return None
    first, second = (np.where(known, image, image[known].mean()).astype(np.float64) for image in (reference, moved))
    product = np.fft.fft2(first) * np.fft.fft2(second).conj()
    product /= np.maximum(np.abs(product), 100 * np.finfo(np.float64).eps)
    sizes = np.array(first.shape)
    whole = np.array(np.unravel_index(np.abs(np.fft.ifft2(product)).argmax(), first.shape), dtype=np.float64)
    whole -= np.where(whole > sizes // 2, sizes, 0)
    width = math.ceil(1.5 * _UPSAMPLING)
    steps = whole[:, None] + (np.arange(width) - width // 2) / _UPSAMPLING  # (axis, step), pixels
    waves = [np.exp(2j * np.pi * np.outer(at, np.fft.fftfreq(size))) for at, size in zip(steps, sizes, strict=True)]
    peaks = np.abs(waves[0] @ product @ waves[1].T)
    down, right = np.unravel_index(peaks.argmax(), peaks.shape)
    shift = float(steps[0, down]), float(steps[1, right])
    return shift if math.hypot(*shift) <= FURTHEST_PX else None


def find_displacement(reference: FloatArray, moved: FloatArray) -> float:
    """Return how far one image lies from another in pixels, see :func:`find_translation`; NaN where that fails."""
    shift = find_translation(reference, moved)
    return math.nan if shift is None else math.hypot(*shift)


def translate(image: FloatArray, shift: tuple[float, float]) -> Float64Array:
    """Return an image moved down and right by parts of a pixel, bilinearly, its edges repeated.

    Args:
        image: (band, y, x), NaN where missing.
        shift: Pixels down and right.

    Returns:
        (band, y, x), NaN where a pixel that counts is missing.
    """
    moved = image.astype(np.float64)
    for axis, distance in zip((1, 2), shift, strict=True):
        size = moved.shape[axis]
        place = np.arange(size) - distance
        before = np.floor(place)
        share = (place - before).reshape(-1, *(1,) * (2 - axis))
        first, second = (moved.take(np.clip(before + step, 0, size - 1).astype(np.int64), axis=axis) for step in (0, 1))
        moved = np.where(share > 0, first * (1 - share) + second * share, first)
    return moved
