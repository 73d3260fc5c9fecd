"""Histograms of errors on fixed classes, for medians and quantiles: these do not add up over blocks, counts do.

Classes are even in asinh(error / unit): nearly even around zero, a fixed share of the error far from it. One set of
classes so serves a raster of centimetres and one of mountains. With the unit of 5 cm that heights have, a class is
0.25 mm wide at an error of zero and 0.5 % of the error beyond 20 cm; quantiles interpolate inside a class. Errors
beyond 11 km count as the outermost.
"""

from functools import cache

import numpy as np

from mapper.arrays import Float64Array, FloatArray

_STEP = 0.005
_CLASSES = 2600
"""Classes to either side of zero."""


def count_errors(error: FloatArray, unit: float) -> Float64Array:
    """Return the number of errors in each class, (2 * 2600 + 1,).

    Args:
        error: Any shape, finite.
        unit: Error at which classes turn from even to a share of the error.
    """
    step = np.rint(np.arcsinh(error.ravel().astype(np.float64) / unit) / _STEP)
    index = np.clip(step, -_CLASSES, _CLASSES).astype(np.int64) + _CLASSES
    return np.bincount(index, minlength=2 * _CLASSES + 1).astype(np.float64)


def find_median(counts: Float64Array, unit: float) -> float:
    """Return the median error; NaN where nothing was counted."""
    return _interpolate(*_classes(unit), counts, 0.5)


def find_nmad(counts: Float64Array, unit: float) -> float:
    """Return 1.4826 times the median absolute deviation from the median; NaN where nothing was counted.

    Robust standard deviation of J. Höhle, M. Höhle: Accuracy assessment of digital elevation models by means of robust
    statistical methods. ISPRS Journal of Photogrammetry and Remote Sensing 64 (2009), 398-406.
    """
    values, widths = _classes(unit)
    return 1.4826 * _interpolate(np.abs(values - find_median(counts, unit)), widths, counts, 0.5)


def find_linear_error(counts: Float64Array, unit: float, share: float) -> float:
    """Return the absolute error that a share of the errors does not exceed; NaN where nothing was counted."""
    values, widths = _classes(unit)
    return _interpolate(np.abs(values), widths, counts, share)


def _interpolate(values: Float64Array, widths: Float64Array, counts: Float64Array, share: float) -> float:
    """Return a quantile of values with their counts, those of a class spread evenly over its width."""
    order = np.argsort(values, kind="stable")
    order = order[counts[order] > 0]
    if not order.size:
        return float("nan")
    number = counts[order]
    spread = (widths[order] / 2) * (1 - 1 / number)
    last = np.cumsum(number) - 1
    ranks = np.stack([last - number + 1, last], 1).ravel()  # of the first and the last of each class
    ends = np.stack([values[order] - spread, values[order] + spread], 1).ravel()
    return float(np.interp(share * (number.sum() - 1), ranks, ends))


@cache
def _classes(unit: float) -> tuple[Float64Array, Float64Array]:
    """Return middle and width of each class."""
    steps = _STEP * np.arange(-_CLASSES, _CLASSES + 1)
    return np.asarray(unit * np.sinh(steps), np.float64), np.asarray(unit * _STEP * np.cosh(steps), np.float64)
