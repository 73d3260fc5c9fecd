"""Dates of a scene that are simulated from a fine image, and classical ways back.

A Gaussian of 0.514 source pixels, means of 2 x 2 pixels, shifts of parts of a source pixel that are known, noise; the
first date is the anchor, on the grid of the fine image. Every step is separable, a sparse matrix along each axis.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy import sparse

from mapper.arrays import Float32Array, Float64Array

_SCALE = 2
_SIGMA_PX = 0.514
"""Of the Gaussian, in source pixels: transfer .17 at the coarse Nyquist frequency."""
_FARTHEST_PX = 0.5
"""Largest shift of a date along either axis, in source pixels."""
_NOISE_DN = 1.0
_CUBIC = -0.75
"""Parameter of Keys' cubic convolution."""
_ROUNDS = 5
"""Rounds of back-projection: more of them amplify noise of 1 DN."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Burst:
    """Simulated dates of a chip; the first is the anchor."""

    dates: Float32Array
    """(date, band, y / 2, x / 2), DN."""
    shifts: Float64Array
    """(date, 2) source pixels down and right: what the anchor shows at p the date shows at p + shift."""
    fine: Float32Array
    """(band, y, x), DN: what the dates were made from, which only the last input of a table may look at."""


def simulate_burst(fine: Float32Array, *, dates: int, seed: int, noise: float = _NOISE_DN) -> Burst:
    """Return dates of a fine image (band, y, x), its edges even; the first is on its own grid."""
    rng = np.random.default_rng(seed)
    shifts = rng.uniform(-_FARTHEST_PX, _FARTHEST_PX, (dates, 2))
    shifts[0] = 0
    seen = np.stack([degrade(fine, shift) for shift in shifts])
    noisy = seen + rng.normal(0, noise, seen.shape)
    return Burst(dates=noisy.astype(np.float32), shifts=shifts, fine=fine)


def degrade(fine: Float32Array | Float64Array, shift: Float64Array) -> Float64Array:
    """Return what a date sees of a fine image: (band, y, x) to (band, y / 2, x / 2), shifted by source pixels."""
    return _apply(_make_optics, fine, shift)


def enlarge(coarse: Float32Array | Float64Array, shift: Float64Array) -> Float64Array:
    """Return a date on the fine grid by bicubic interpolation, moved to where the anchor shows it: twice the size."""
    return _apply(_make_cubic, coarse, shift)


def _apply(
    make: Callable[[int, float], sparse.csr_array], image: Float32Array | Float64Array, shift: Float64Array
) -> Float64Array:
    """Return an image (band, y, x) whose rows and columns are combined by a matrix each."""
    rows, cols = (make(length, by) for length, by in zip(image.shape[1:], shift.tolist(), strict=True))
    return np.stack([(cols @ (rows @ band).T).T for band in image.astype(np.float64)])


def _make_optics(length: int, shift: float) -> sparse.csr_array:
    """Return the matrix (length / 2, length) of the sensor: a Gaussian around each fine pixel, means of two."""
    reach = math.ceil(4 * _SIGMA_PX * _SCALE) + 1
    offsets = np.arange(-reach, reach + 1)
    weights = np.exp(-0.5 * ((offsets + shift * _SCALE) / (_SIGMA_PX * _SCALE)) ** 2)
    period = 2 * length
    places = (np.arange(length)[:, None] + offsets) % period  # reflected, the edge repeated
    matrix = np.zeros((length, length))
    rows = np.broadcast_to(np.arange(length)[:, None], places.shape)
    np.add.at(matrix, (rows, np.minimum(places, period - 1 - places)), weights / weights.sum())
    return sparse.csr_array(matrix.reshape(length // _SCALE, _SCALE, length).mean(1))


def _make_cubic(length: int, shift: float) -> sparse.csr_array:
    """Return the matrix (2 length, length) of Keys' interpolation, edges repeated."""
    at = (np.arange(length * _SCALE) + 0.5) / _SCALE - 0.5 + shift
    first = np.floor(at).astype(int)
    matrix = np.zeros((at.size, length))
    for step in range(-1, 3):
        x = np.abs(at - first - step)
        near = ((_CUBIC + 2) * x - (_CUBIC + 3)) * x * x + 1
        far = _CUBIC * (((x - 5) * x + 8) * x - 4)
        np.add.at(matrix, (np.arange(at.size), np.clip(first + step, 0, length - 1)), np.where(x <= 1, near, far))
    return sparse.csr_array(matrix)


def project_back(dates: Float32Array, shifts: Float64Array, *, rounds: int = _ROUNDS) -> Float32Array:
    """Return the image that all dates are seen from, by iterated back-projection of their mean residual (band, y, x).

    M. Irani, S. Peleg: Improving resolution by image registration. CVGIP: Graphical Models and Image Processing 53
    (1991), 231-239. The order of the dates does not matter but for rounding.
    """
    pairs = list(zip(dates, shifts, strict=True))
    image: Float64Array = np.mean([enlarge(date, shift) for date, shift in pairs], 0)
    for _ in range(rounds):
        image = image + np.mean([enlarge(date - degrade(image, shift), shift) for date, shift in pairs], 0)
    return image.astype(np.float32)
