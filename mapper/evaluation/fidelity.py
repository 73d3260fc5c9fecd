"""Scores of an image of several bands against its truth: one definition each, on (band, y, x) with NaN gaps.

Pixels that either side lacks do not count. The range of the values is declared by whoever asks: one taken from an image
would make an image with one outlier look well mapped. Colours and whole-pixel displacement between two sensors are no
detail: what is corrected for before a score, is said by its name.
"""

import math
from collections.abc import Sequence
from typing import Protocol

import numpy as np

from mapper.arrays import Float64Array, FloatArray
from mapper.evaluation.image_metrics import ssim_map

CPSNR_SHIFT_PX = 3
"""Radius of the shifts, and border, of cPSNR as PROBA-V's challenge has it."""

Shift = tuple[int, int]
"""Whole pixels down and right: what the value shows at p, the truth shows at p + shift."""


class View(Protocol):
    """A way in which a sensor sees one band; an operator of a map is one."""

    @property
    def scale(self) -> int:
        """Source pixel / target pixel."""

    def apply(self, value: FloatArray) -> Float64Array:
        """Return what it sees, (y / scale, x / scale), of a target (y, x)."""


def psnr(value: FloatArray, truth: FloatArray, value_range: float) -> float:
    """Return the peak signal-to-noise ratio, 20 log10(range / RMSE) in dB, RMSE over the pixels of all bands.

    Args:
        value: (band, y, x), NaN where missing.
        truth: The same shape and units.
        value_range: Range of the values, in their units.

    Returns:
        Infinite without error; NaN where nothing was compared.
    """
    _check(value, truth, value_range)
    return _to_db(rmse(value, truth), value_range)


def rmse(value: FloatArray, truth: FloatArray) -> float:
    """Return the root of the mean squared error over the pixels of all bands; NaN where nothing was compared."""
    error = np.subtract(value, truth, dtype=np.float64)
    return math.sqrt(_mean(np.square(error)))


def mean_absolute_error(value: FloatArray, truth: FloatArray) -> float:
    """Return the mean absolute error over the pixels of all bands; NaN where nothing was compared."""
    return _mean(np.abs(np.subtract(value, truth, dtype=np.float64)))


def ssim(value: FloatArray, truth: FloatArray, value_range: float) -> float:
    """Return the structural similarity, see :func:`~mapper.evaluation.image_metrics.ssim_map`, averaged over bands.

    Returns:
        1 for the truth itself; NaN where no window of 11 x 11 pixels is without a gap.
    """
    _check(value, truth, value_range)
    bands = [_mean(ssim_map(one, other, value_range)) for one, other in zip(value, truth, strict=True)]
    return _mean(np.array(bands))


def cpsnr(value: FloatArray, truth: FloatArray, value_range: float, *, shift_px: int = CPSNR_SHIFT_PX) -> float:
    """Return the PSNR of PROBA-V's challenge in dB: bias removed, best of the whole-pixel shifts.

    The outer ``shift_px`` pixels of the value are left out; the truth moves beneath the rest. For each shift the mean
    difference of each band over clear pixels is taken off, and the shift of the least error counts, the same for all
    bands. Pixels concealed in the truth are NaN. M. Märtens, D. Izzo, A. Krzic, D. Cox: Super-resolution of PROBA-V
    images using convolutional neural networks. Astrodynamics 3 (2019), 387-402.

    Args:
        value: (band, y, x), NaN where missing.
        truth: The same shape and units; NaN where concealed.
        value_range: Range of the values, in their units: 65535 for the stored numbers of PROBA-V.
        shift_px: Radius of the shifts, in pixels.

    Returns:
        Infinite without error; NaN where nothing was compared.
    """
    _check(value, truth, value_range)
    number, value_sum, truth_sum, value_power, truth_power, product = _sum_by_shift(value, truth, shift_px)
    least = np.maximum(number, 1)
    squares = value_power - 2 * product + truth_power - (value_sum - truth_sum) ** 2 / least
    counted = number.sum(0)
    error = np.where(counted >= max(counted.max(initial=0) / 2, 1), squares.sum(0) / np.maximum(counted, 1), np.inf)
    if not np.isfinite(error).any():
        return math.nan
    inner, beneath = cut_to_shift(value, truth, _to_shift(int(error.argmin()), shift_px), shift_px)
    difference = np.subtract(beneath, inner, dtype=np.float64)
    bias = np.array([_mean(band) for band in difference])
    return _to_db(rmse(difference, np.broadcast_to(bias[:, None, None], difference.shape)), value_range)


def find_shift(value: FloatArray, truth: FloatArray, shift_px: int) -> Shift:
    """Return the whole-pixel shift with the greatest squared correlation, averaged over bands.

    It is blind to contrast, even a reversed one. Shifts at which less than half as many pixels meet as at others do
    not count; where nothing meets, or all is even, nothing is shifted.

    Args:
        value: (band, y, x), NaN where missing.
        truth: The same shape, any units.
        shift_px: Radius of the shifts, in pixels.
    """
    if not shift_px:
        return 0, 0
    number, value_sum, truth_sum, value_power, truth_power, product = _sum_by_shift(value, truth, shift_px)
    least = np.maximum(number, 1)
    covariance = product - value_sum * truth_sum / least
    power = (value_power - value_sum**2 / least) * (truth_power - truth_sum**2 / least)
    scale = np.maximum(value_power * truth_power, np.finfo(np.float64).tiny)
    known = (number >= np.maximum(number.max((1, 2), keepdims=True) / 2, 2)) & (power > 1e-18 * scale)
    squared = np.where(known, covariance**2 / np.where(known, power, 1), 0).mean(0)
    if not squared.any():
        return 0, 0
    return _to_shift(int(squared.argmax()), shift_px)


def cut_to_shift(value: FloatArray, truth: FloatArray, shift: Shift, border_px: int) -> tuple[FloatArray, FloatArray]:
    """Return the value without a border, and the pixels of the truth that a shift brings under it.

    Args:
        value: (band, y, x).
        truth: The same shape.
        shift: Whole pixels down and right, see :data:`Shift`.
        border_px: Pixels that are left out on each side, at least as many as the shift has.
    """
    rows, cols = value.shape[-2:]
    down, right = shift
    inner = value[..., border_px : rows - border_px, border_px : cols - border_px]
    beneath = truth[..., border_px + down : rows - border_px + down, border_px + right : cols - border_px + right]
    return inner, beneath


def fit_affine(value: FloatArray, truth: FloatArray) -> Float64Array:
    """Return each band as a + b value, by least squares against the truth: its colours without its detail.

    It leaks two numbers a band from the truth. A band with fewer than two different values becomes the truth's mean.
    """
    fitted = np.empty(value.shape)
    for band, (one, other) in enumerate(zip(value, truth, strict=True)):
        known = np.isfinite(one) & np.isfinite(other)
        x, y = one[known].astype(np.float64), other[known].astype(np.float64)
        centre, level = (_mean(x), _mean(y))
        power = np.square(x - centre).sum()
        slope = ((x - centre) * (y - level)).sum() / power if power > 0 else 0.0
        fitted[band] = level + slope * (one - centre)
    return fitted


def relative_error(value: FloatArray, truth: FloatArray) -> float:
    """Return RMSE / standard deviation of the truth, over the pixels that both have, averaged over bands."""
    ratios = []
    for one, other in zip(value, truth, strict=True):
        known = np.isfinite(one) & np.isfinite(other)
        spread = float(np.std(other[known], dtype=np.float64)) if known.any() else 0.0
        ratios.append(rmse(one, other) / spread if spread > 0 else math.nan)
    return _mean(np.array(ratios))


def angle_map(value: FloatArray, truth: FloatArray) -> Float64Array:
    """Return the angle between two spectra at each pixel, degrees (y, x); NaN where one is incomplete or 0.

    F. A. Kruse and others: The spectral image processing system (SIPS). Remote Sensing of Environment 44 (1993),
    145-163.
    """
    one, other = value.astype(np.float64), truth.astype(np.float64)
    lengths = np.sqrt(np.square(one).sum(0) * np.square(other).sum(0))
    with np.errstate(invalid="ignore", divide="ignore"):
        cosine = (one * other).sum(0) / lengths
    angle: Float64Array = np.degrees(np.arccos(np.clip(cosine, -1, 1)))
    return angle


def spectral_angle(value: FloatArray, truth: FloatArray) -> float:
    """Return the mean over pixels of the angle between two spectra, in degrees; NaN for a single band."""
    return _mean(angle_map(value, truth)) if len(value) > 1 else math.nan


def global_spectral_angle(value: FloatArray, truth: FloatArray) -> float:
    """Return the angle between two images taken as one vector each, in degrees: bright pixels count most.

    It needs no second band: where colours agree, it still sees differing patterns.
    """
    known = np.isfinite(value) & np.isfinite(truth)
    one, other = (np.where(known, array, 0).astype(np.float64) for array in (value, truth))
    lengths = math.sqrt(np.square(one).sum() * np.square(other).sum())
    return math.degrees(math.acos(min(max((one * other).sum() / lengths, -1.0), 1.0))) if lengths else math.nan


def gradient_ratio(value: FloatArray, truth: FloatArray) -> float:
    """Return how steep a value is beside the truth: 1 as steep, less is smooth, more is noisy.

    It is the ratio of the mean absolute differences of neighbours, down and right, of pairs of pixels that both have,
    averaged over bands; NaN where the truth is even. It does not see whether an edge lies where the truth has it.
    """
    ratios = []
    for one, other in zip(value, truth, strict=True):
        steps = [[np.diff(band.astype(np.float64), axis=axis).ravel() for axis in (0, 1)] for band in (one, other)]
        own, true = (np.abs(np.concatenate(each)) for each in steps)
        known = np.isfinite(own) & np.isfinite(true)
        total = true[known].sum()
        ratios.append(own[known].sum() / total if total > 0 else math.nan)
    return _mean(np.array(ratios))


def detail_correlation(value: FloatArray, truth: FloatArray, coarse: FloatArray) -> float:
    """Return the correlation of what value and truth add to a coarse image, averaged over bands.

    Args:
        value: (band, y, x), NaN where missing.
        truth: The same shape and units.
        coarse: The same: the source, enlarged.

    Returns:
        1 for the truth itself, -1 to 1; NaN where one of them adds nothing.
    """
    correlations = []
    for one, other, base in zip(value, truth, coarse, strict=True):
        added, true = (np.subtract(band, base, dtype=np.float64) for band in (one, other))
        known = np.isfinite(added) & np.isfinite(true)
        added, true = added[known] - _mean(added[known]), true[known] - _mean(true[known])
        power = np.square(added).sum() * np.square(true).sum()
        correlations.append((added * true).sum() / math.sqrt(power) if power > 0 else math.nan)
    return _mean(np.array(correlations))


def find_residual(value: FloatArray, source: FloatArray, operators: Sequence[View]) -> Float64Array:
    """Return source minus the value as the sensor would have seen it, (band, y / scale, x / scale), in units.

    Args:
        value: (band, y, x), NaN where missing.
        source: (band, y / scale, x / scale) in the same units, NaN where missing.
        operators: One for each band: their modulations differ.

    Raises:
        ValueError: If the shapes do not nest.
    """
    scales = {operator.scale for operator in operators}
    nests = [tuple(edge * scale for edge in source.shape[1:]) == value.shape[1:] for scale in scales]
    if len(value) != len(source) or len(operators) != len(source) or nests != [True]:
        raise ValueError(
            f"value {value.shape} and source {source.shape} do not nest for {len(operators)} operators of "
            f"scale {', '.join(map(str, sorted(scales)))}"
        )
    seen = np.stack([operator.apply(band) for operator, band in zip(operators, value, strict=True)])
    residual: Float64Array = source - seen
    return residual


def _sum_by_shift(value: FloatArray, truth: FloatArray, shift_px: int) -> tuple[Float64Array, ...]:
    """Return sums over the pixels that meet at each shift, each (band, 2 shift_px + 1, 2 shift_px + 1).

    They are the number of pixels, and the sums of value, truth, value^2, truth^2 and value x truth, both less the mean
    of their band, which no score that is made of them sees but for the bias of all shifts alike.

    Raises:
        ValueError: If the images are no larger than the borders that a shift takes.
    """
    rows, cols = value.shape[1:]
    if min(rows, cols) <= 2 * shift_px:
        raise ValueError(f"an image of {rows} x {cols} px is too small for shifts of {shift_px} px")
    sums = []
    for one, other in zip(value, truth, strict=True):
        inner, inside = _centre(one[shift_px : rows - shift_px, shift_px : cols - shift_px])
        outer, known = _centre(other)
        pairs = (known, inside), (known, inner), (outer, inside), (known, inner**2), (outer**2, inside), (outer, inner)
        sums.append([_multiply_by_shift(a, b) for a, b in pairs])
    return tuple(np.moveaxis(np.array(sums), 1, 0))


def _multiply_by_shift(outer: Float64Array, inner: Float64Array) -> Float64Array:
    """Return the sum of products of an image with each part of a larger one that is as large; few parts: no spectra."""
    parts = np.lib.stride_tricks.sliding_window_view(outer, inner.shape)
    return np.asarray(np.einsum("ijkl,kl->ij", parts, inner), np.float64)


def _centre(band: FloatArray) -> tuple[Float64Array, Float64Array]:
    """Return a band less its mean, 0 where missing, and 1 where it is known."""
    known = np.isfinite(band)
    middle = band[known].mean(dtype=np.float64) if known.any() else 0.0
    return np.where(known, band - middle, 0.0).astype(np.float64), known.astype(np.float64)


def _to_shift(at: int, shift_px: int) -> Shift:
    down, right = divmod(at, 2 * shift_px + 1)
    return down - shift_px, right - shift_px


def _mean(values: Float64Array) -> float:
    """Return the mean of what is finite; NaN where nothing is."""
    known = values[np.isfinite(values)]
    return float(known.mean()) if known.size else math.nan


def _to_db(error: float, value_range: float) -> float:
    return 20 * math.log10(value_range / error) if error > 0 else (math.nan if math.isnan(error) else math.inf)


def _check(value: FloatArray, truth: FloatArray, value_range: float) -> None:
    if value.ndim != 3 or value.shape != truth.shape:
        raise ValueError(f"value {value.shape} and truth {truth.shape} must have the same shape (band, y, x)")
    if not (math.isfinite(value_range) and value_range > 0):
        raise ValueError(f"the range of values must be above 0, got {value_range}")
