"""Scores of neighbourhoods: structural similarity and gradients, where all neighbours are known.

Both need neighbours: a window counts only if every pixel in it has a value on both sides, so that gaps and edges are
neither filled nor padded.
"""

from functools import cache

import numpy as np
from scipy import ndimage

from mapper.arrays import Float64Array, FloatArray

WINDOW_PX = 11
"""Edge of the window of structural similarity."""
_SIGMA_PX = 1.5
_K1, _K2 = 0.01, 0.03
_INNER = (slice(WINDOW_PX // 2, -(WINDOW_PX // 2)),) * 2
"""Middles of the windows that lie within an array."""


def ssim_map(value: FloatArray, truth: FloatArray, data_range: float) -> Float64Array:
    """Return the structural similarity of each window of 11 x 11 pixels under a Gaussian of sigma 1.5 pixels.

    Z. Wang, A. C. Bovik, H. R. Sheikh, E. P. Simoncelli: Image quality assessment: from error visibility to
    structural similarity. IEEE Transactions on Image Processing 13 (2004), 600-612. The constants are
    (0.01 range)^2 and (0.03 range)^2; variances are those of the weighted window, not sample estimates.

    Args:
        value: (y, x).
        truth: (y, x), same units.
        data_range: The range of the values, fixed beforehand: one taken from the data would differ from site to site.

    Returns:
        (y - 10, x - 10), NaN where the window has a gap; empty where the arrays are smaller than a window.
    """
    shape = (max(value.shape[0] - WINDOW_PX + 1, 0), max(value.shape[1] - WINDOW_PX + 1, 0))
    if 0 in shape:
        return np.empty(shape)
    valid = np.isfinite(value) & np.isfinite(truth)
    a, b = (np.where(valid, array, 0.0).astype(np.float64) for array in (value, truth))
    c1, c2 = (_K1 * data_range) ** 2, (_K2 * data_range) ** 2
    mean_a, mean_b = _weigh(a), _weigh(b)
    variances = _weigh(a * a) - mean_a**2 + _weigh(b * b) - mean_b**2
    covariance = _weigh(a * b) - mean_a * mean_b
    similarity = (2 * mean_a * mean_b + c1) * (2 * covariance + c2)
    similarity /= (mean_a**2 + mean_b**2 + c1) * (variances + c2)
    whole: Float64Array = np.where(ndimage.minimum_filter(valid, WINDOW_PX)[_INNER], similarity, np.nan)
    return whole


def gradient_error(value: FloatArray, truth: FloatArray) -> Float64Array:
    """Return the squared length of the difference between the gradients of two maps, in squared units per pixel.

    The gradient is Sobel's, divided by 8 so that a ramp of one unit per pixel has the gradient 1. It is linear, so this
    is the gradient of the error: misplaced edges count as much as missing ones.

    Returns:
        (y - 2, x - 2), NaN where one of the 3 x 3 neighbours is missing.
    """
    if min(value.shape) < 3:
        return np.empty((0, 0))
    error = value.astype(np.float64) - truth.astype(np.float64)
    down = error[2:] - error[:-2]
    right = error[:, 2:] - error[:, :-2]
    along_y = (down[:, :-2] + 2 * down[:, 1:-1] + down[:, 2:]) / 8
    along_x = (right[:-2] + 2 * right[1:-1] + right[2:]) / 8
    # the kernels do not see the middle, which must be there all the same
    squared: Float64Array = np.where(np.isfinite(error[1:-1, 1:-1]), along_x**2 + along_y**2, np.nan)
    return squared


@cache
def _gaussian() -> tuple[float, ...]:
    offsets = np.arange(WINDOW_PX) - WINDOW_PX // 2
    weights = np.exp(-0.5 * (offsets / _SIGMA_PX) ** 2)
    return tuple((weights / weights.sum()).tolist())


def _weigh(array: Float64Array) -> Float64Array:
    """Return the weighted mean of each whole window."""
    weights = _gaussian()
    rows = ndimage.correlate1d(array, weights, axis=0, mode="constant")
    whole: Float64Array = ndimage.correlate1d(rows, weights, axis=1, mode="constant")[_INNER]
    return whole
