"""Metrics: one definition of each score, as sums that add up over the blocks of a map.

Value and truth have the same shape and units; pixels that either lacks do not count. Sums are float64, so that those of
tiles add up to that of the map. Structural similarity and gradients need neighbours: windows that lie across two tiles
are in neither, everything else adds up exactly.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from mapper.arrays import Float64Array, FloatArray
from mapper.evaluation.error_histogram import count_errors, find_linear_error, find_median, find_nmad
from mapper.evaluation.image_metrics import gradient_error, ssim_map
from mapper.predict.operators import block_mean
from mapper.registry import Registry
from mapper.spec.target import BandSpec

Better = Literal["lower", "higher", "zero"]


@dataclass(frozen=True)
class Metric(ABC):
    """One score of a map against the truth and the source.

    Another package adds one as a subclass that it names as an entry point of ``mapper.metrics``.
    """

    target: BandSpec
    """Properties of the band that is scored: its units, and the range of its values."""
    name: ClassVar[str]
    """Name in reports, and in the registry."""
    title: ClassVar[str]
    """Name in the head of a table."""
    better: ClassVar[Better]
    """End of the scale at which a map is better."""
    general: ClassVar[bool] = True
    """False for a score that is taken only where it is asked for by name, and for heights."""

    @property
    def units(self) -> str:
        """Units of the score; empty where it has none."""
        return self.target.units

    @abstractmethod
    def sums(self, value: FloatArray, truth: FloatArray, source: FloatArray) -> Float64Array:
        """Return what is added up over blocks.

        Args:
            value: Map, (y, x) or any other shape, in units of the target; NaN where missing.
            truth: Same shape and units; NaN where unknown or not to be scored.
            source: (y / scale, x / scale) in the same units, NaN where the map is not held against it; empty without.

        Returns:
            (n,), as many numbers for every block.
        """

    @abstractmethod
    def score(self, sums: Float64Array) -> float:
        """Return the score, NaN where nothing was compared."""

    def pool(self, one: Float64Array, other: Float64Array) -> Float64Array:
        """Return the sums of two blocks together."""
        return one + other


class _MeanOfErrors(Metric):
    """Mean over pixels of something that is made of the error."""

    def sums(self, value: FloatArray, truth: FloatArray, source: FloatArray) -> Float64Array:
        """Return number and total of the pixels."""
        del source
        error, _ = _compare(value, truth)
        return np.array([error.size, self._judge(error).sum()])

    def score(self, sums: Float64Array) -> float:
        """Return the mean."""
        n, total = sums.tolist()
        return total / n if n else math.nan

    @abstractmethod
    def _judge(self, error: Float64Array) -> Float64Array: ...


class _RootOfSquares(_MeanOfErrors):
    def score(self, sums: Float64Array) -> float:
        """Return the root of the mean squared error."""
        return math.sqrt(super().score(sums))

    def _judge(self, error: Float64Array) -> Float64Array:
        return np.square(error)


class Rmse(_RootOfSquares):
    """Root of the mean squared error."""

    name, title, better = "rmse", "RMSE", "lower"


class Mae(_MeanOfErrors):
    """Mean absolute error."""

    name, title, better = "mae", "MAE", "lower"

    def _judge(self, error: Float64Array) -> Float64Array:
        return np.abs(error)


class Bias(_MeanOfErrors):
    """Mean of value minus truth."""

    name, title, better = "bias", "bias", "zero"

    def _judge(self, error: Float64Array) -> Float64Array:
        return error


class _OfHistogram(Metric):
    """Quantile of the errors, from counts in fixed classes; see :mod:`mapper.evaluation.error_histogram`."""

    general = False

    def sums(self, value: FloatArray, truth: FloatArray, source: FloatArray) -> Float64Array:
        """Return the number of errors in each class."""
        del source
        return count_errors(_compare(value, truth)[0], self._unit)

    @property
    def _unit(self) -> float:
        """Error at which classes widen: 5 cm for heights, whose range of values is 100 m."""
        return (self.target.value_range or 100.0) / 2000


class MedianError(_OfHistogram):
    """Median of value minus truth."""

    name, title, better = "median_error", "median", "zero"

    def score(self, sums: Float64Array) -> float:
        """Return the median."""
        return find_median(sums, self._unit)


class Nmad(_OfHistogram):
    """Normalised median absolute deviation: 1.4826 median |error - median error|."""

    name, title, better = "nmad", "NMAD", "lower"

    def score(self, sums: Float64Array) -> float:
        """Return the deviation."""
        return find_nmad(sums, self._unit)


class Le90(_OfHistogram):
    """Linear error: 90 % of the absolute errors are not larger."""

    name, title, better = "le90", "LE90", "lower"
    share: ClassVar[float] = 0.90

    def score(self, sums: Float64Array) -> float:
        """Return the quantile of the absolute errors."""
        return find_linear_error(sums, self._unit, self.share)


class Le95(Le90):
    """Linear error: 95 % of the absolute errors are not larger."""

    name, title, share = "le95", "LE95", 0.95


class R2(Metric):
    """1 - residual sum of squares / total sum of squares of the truth."""

    name, title, better = "r2", "R²", "higher"
    units = ""

    def sums(self, value: FloatArray, truth: FloatArray, source: FloatArray) -> Float64Array:
        """Return number, squared errors, truth and squared truth of the pixels."""
        del source
        error, expected = _compare(value, truth)
        return np.array([error.size, np.square(error).sum(), expected.sum(), np.square(expected).sum()])

    def score(self, sums: Float64Array) -> float:
        """Return the share of the variance that is explained."""
        n, square_sum, truth_sum, truth_square_sum = sums.tolist()
        total = truth_square_sum - truth_sum**2 / n if n else 0.0
        return 1 - square_sum / total if total > 0 else math.nan


class Psnr(_RootOfSquares):
    """Peak signal-to-noise ratio, 20 log10(range of values / RMSE), infinite without error.

    The range is that of the target. One taken from each truth would make a site with one outlier look well mapped.
    """

    name, title, better = "psnr", "PSNR", "higher"
    units = "dB"

    def score(self, sums: Float64Array) -> float:
        """Return the ratio in decibels; NaN where the target has no range of values."""
        rmse = super().score(sums)
        if self.target.value_range is None or math.isnan(rmse):
            return math.nan
        return 20 * math.log10(self.target.value_range / rmse) if rmse > 0 else math.inf


class _MeanOfWindows(Metric):
    """Mean over the windows of a map that have no gap."""

    def sums(self, value: FloatArray, truth: FloatArray, source: FloatArray) -> Float64Array:
        """Return number and total of the windows."""
        del source
        known = self._judge(value, truth) if value.ndim == 2 else np.empty(0)
        return np.array([np.isfinite(known).sum(), np.nansum(known)])

    def score(self, sums: Float64Array) -> float:
        """Return the mean."""
        n, total = sums.tolist()
        return total / n if n else math.nan

    @abstractmethod
    def _judge(self, value: FloatArray, truth: FloatArray) -> Float64Array: ...


class Ssim(_MeanOfWindows):
    """Mean structural similarity; 1 is the truth itself. NaN where the target has no range of values."""

    name, title, better = "ssim", "SSIM", "higher"
    units = ""

    def _judge(self, value: FloatArray, truth: FloatArray) -> Float64Array:
        span = self.target.value_range
        return np.empty(0) if span is None else ssim_map(value, truth, span)


class GradientRmse(_MeanOfWindows):
    """Root of the mean squared difference of the gradients."""

    name, title, better = "gradient_rmse", "gradient RMSE", "lower"

    @property
    def units(self) -> str:
        """Units of the target per pixel."""
        return f"{self.target.units} / px"

    def score(self, sums: Float64Array) -> float:
        """Return the root of the mean."""
        return math.sqrt(super().score(sums))

    def _judge(self, value: FloatArray, truth: FloatArray) -> Float64Array:
        return gradient_error(value, truth)


class ResidualMean(Metric):
    """Mean |block mean of the map - source| over source pixels."""

    name, title, better = "residual_mean", "block residual", "lower"

    def sums(self, value: FloatArray, truth: FloatArray, source: FloatArray) -> Float64Array:
        """Return number and total of the source pixels."""
        del truth
        residual = _find_residuals(value, source)
        return np.array([residual.size, residual.sum()])

    def score(self, sums: Float64Array) -> float:
        """Return the mean."""
        n, total = sums.tolist()
        return total / n if n else math.nan


class ResidualMax(Metric):
    """Largest |block mean of the map - source| of all source pixels."""

    name, title, better = "residual_max", "largest residual", "lower"

    def sums(self, value: FloatArray, truth: FloatArray, source: FloatArray) -> Float64Array:
        """Return number and largest residual of the source pixels."""
        del truth
        residual = _find_residuals(value, source)
        return np.array([residual.size, residual.max(initial=0.0)])

    def score(self, sums: Float64Array) -> float:
        """Return the largest."""
        n, largest = sums.tolist()
        return largest if n else math.nan

    def pool(self, one: Float64Array, other: Float64Array) -> Float64Array:
        """Return the number of both and the larger of two."""
        return np.array([one[0] + other[0], max(one[1], other[1])])


_OF_ERRORS = (Rmse, Mae, Bias, MedianError, Nmad, Le90, Le95)
METRICS: Registry[type[Metric]] = Registry(
    "mapper.metrics",
    {each.name: each for each in (*_OF_ERRORS, R2, Psnr, Ssim, GradientRmse, ResidualMean, ResidualMax)},
    kind=type[Metric],
)
"""Metrics by name, in the order of tables; other packages add theirs as entry points of ``mapper.metrics``."""


HEIGHT_METRICS = tuple(each.name for each in _OF_ERRORS)
"""Names of the metrics of heights, beside the general ones; they are also those of classes of ground."""


def choose_metrics(target: BandSpec, names: Sequence[str] = (), *, heights: bool = False) -> dict[str, Metric]:
    """Return metrics for a target band, by name.

    Args:
        target: Band that is scored.
        names: Metrics to take; all general ones by default.
        heights: True adds the metrics of heights to the default.

    Raises:
        ValueError: If a metric is unknown.
    """
    unknown = [name for name in names if name not in METRICS]
    if unknown:
        raise ValueError(f"no metrics {', '.join(unknown)}; there are {', '.join(METRICS)}")
    default = (name for name in METRICS if METRICS[name].general or (heights and name in HEIGHT_METRICS))
    return {name: METRICS[name](target) for name in names or default}


def _compare(value: FloatArray, truth: FloatArray) -> tuple[Float64Array, Float64Array]:
    """Return error and truth of the pixels that have both, flat."""
    known = np.isfinite(value) & np.isfinite(truth)
    expected = truth[known].astype(np.float64)
    return value[known].astype(np.float64) - expected, expected


def _find_residuals(value: FloatArray, source: FloatArray) -> Float64Array:
    """Return |block mean - source| of the source pixels that have both, flat."""
    if not source.size:
        return np.empty(0)
    means = block_mean(value, value.shape[0] // source.shape[0])
    residual = np.abs(means - source.astype(np.float64))
    return residual[np.isfinite(residual)]
