"""Checks of standard deviations and risks: coverage, reliability, the scale that makes intervals hold their share.

An error is value minus truth; intervals are value +- z sd with z the quantile of the normal distribution. Pixels
without error or deviation (NaN) do not count. Neighbouring pixels err together: coverage over many pixels of few
sites is far less certain than the number of pixels suggests.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Self

import numpy as np

from mapper.arrays import Float64Array, FloatArray
from mapper.evaluation.score import rounded

LEVELS = (0.68, 0.90, 0.95)
"""Nominal coverages that are reported."""

RELIABILITY_LEVELS = tuple(round(0.05 * step, 2) for step in range(1, 20))
"""Nominal coverages of a reliability diagram: 5 to 95 %."""


def gaussian_quantile(level: float) -> float:
    """Return the half-width of the central interval that holds a share of a normal distribution, in deviations.

    Raises:
        ValueError: If the level is not between 0 and 1.
    """
    if not 0 < level < 1:
        raise ValueError(f"level must lie between 0 and 1, got {level}")
    return NormalDist().inv_cdf((1 + level) / 2)


def calibrate_scale(error: FloatArray, sd: FloatArray, *, level: float = 0.9) -> float:
    """Find the factor by which deviations must grow so that intervals of a level hold that share of the errors.

    Split conformal prediction with normalised residuals: the ceil((n + 1) level)-th smallest |error| / sd of the n
    calibration pixels, over the normal quantile. J. Lei, M. G'Sell, A. Rinaldo, R. J. Tibshirani, L. Wasserman:
    Distribution-free predictive inference for regression. JASA 113 (2018), 1094-1111, section 5.2. The guarantee
    holds for pixels exchangeable with these: calibrate on sites like those to map, and not on those trained on.

    Args:
        error: Value minus truth on calibration pixels, any shape.
        sd: Predicted standard deviation, same shape and units.
        level: Share to be covered.

    Returns:
        The factor; above 1 where the deviations were too small.

    Raises:
        ValueError: If the shapes differ, a deviation is negative, or too few pixels have one above 0.
    """
    quantile = gaussian_quantile(level)
    ratio = np.sort(_ratio(error, sd)[0])
    rank = _ceil((ratio.size + 1) * level)
    if rank > ratio.size:
        needed = _ceil(level / (1 - level))
        raise ValueError(
            f"a level of {level} needs at least {needed} pixels with error and deviation, got {ratio.size}"
        )
    if not math.isfinite(ratio[rank - 1]):
        share = float(np.isinf(ratio).mean())
        raise ValueError(f"no scale covers {level:.0%}: {share:.0%} of the pixels err at a deviation of 0")
    return float(ratio[rank - 1]) / quantile


@dataclass(frozen=True, kw_only=True)
class Coverage:
    """Counts of the errors that lie within intervals of nominal levels. Add two of them to pool them."""

    levels: tuple[float, ...] = LEVELS
    hits: tuple[int, ...] = ()
    """Number of pixels within the interval, by level."""
    n: int = 0
    sd_sum: float = 0.0
    variance_sum: float = 0.0

    @classmethod
    def of(cls, error: FloatArray, sd: FloatArray, levels: Sequence[float] = LEVELS) -> Self:
        """Count the errors within value +- z sd.

        Args:
            error: Value minus truth, any shape.
            sd: Predicted standard deviation, same shape and units.
            levels: Nominal coverages, each between 0 and 1.

        Raises:
            ValueError: If the shapes differ, a deviation is negative, or a level is not between 0 and 1.
        """
        ratio, deviation = _ratio(error, sd)
        return cls(
            levels=tuple(levels),
            hits=tuple(int((ratio <= gaussian_quantile(level)).sum()) for level in levels),
            n=ratio.size,
            sd_sum=float(deviation.sum()),
            variance_sum=float(np.square(deviation).sum()),
        )

    def __add__(self, other: "Coverage") -> "Coverage":
        if not (self.n and other.n):
            return self if self.n else other
        if self.levels != other.levels:
            raise ValueError(f"coverages of the levels {self.levels} and {other.levels} do not add up")
        return Coverage(
            levels=self.levels,
            hits=tuple(a + b for a, b in zip(self.hits, other.hits, strict=True)),
            n=self.n + other.n,
            sd_sum=self.sd_sum + other.sd_sum,
            variance_sum=self.variance_sum + other.variance_sum,
        )

    def share(self, level: float) -> float:
        """Return the share of errors within the interval of a level.

        Raises:
            ValueError: If the level was not counted.
        """
        if level not in self.levels:
            raise ValueError(f"level {level} was not counted; there are {', '.join(map(str, self.levels))}")
        return self.hits[self.levels.index(level)] / self.n if self.n else math.nan

    def width(self, level: float) -> float:
        """Return the mean width of the interval of a level, in target units."""
        return 2 * gaussian_quantile(level) * self.mean_sd

    @property
    def mean_sd(self) -> float:
        """Mean predicted standard deviation."""
        return self.sd_sum / self.n if self.n else math.nan

    @property
    def sharpness(self) -> float:
        """Root of the mean predicted variance, the RMSE announced; of two that cover, the smaller tells more."""
        return math.sqrt(self.variance_sum / self.n) if self.n else math.nan

    @property
    def calibration_error(self) -> float:
        """Mean |observed - nominal| over the levels."""
        if not self.n:
            return math.nan
        return sum(abs(observed - nominal) for nominal, observed in self.table()) / len(self.levels)

    def table(self) -> tuple[tuple[float, float], ...]:
        """Return nominal and observed coverage, level by level."""
        return tuple((level, self.share(level)) for level in self.levels)

    def to_dict(self) -> dict[str, object]:
        """Return everything, rounded, for JSON; None where there is nothing."""
        return {
            "n": self.n,
            "mean_sd": rounded(self.mean_sd),
            "sharpness": rounded(self.sharpness),
            "calibration_error": rounded(self.calibration_error),
            "share": {f"{level:g}": rounded(self.share(level)) for level in self.levels},
            "width": {f"{level:g}": rounded(self.width(level)) for level in self.levels},
        }


@dataclass(frozen=True, kw_only=True)
class ErrorBySd:
    """Squared errors by class of predicted standard deviation: are pixels announced as worse worse? Add to pool."""

    edges: tuple[float, ...] = ()
    """Edges of the classes, rising, in target units; none where nothing was compared."""
    n: tuple[int, ...] = ()
    square_sum: tuple[float, ...] = ()
    variance_sum: tuple[float, ...] = ()

    @classmethod
    def of(cls, error: FloatArray, sd: FloatArray, edges: Sequence[float]) -> Self:
        """Sort errors by predicted deviation; classes hold their lower edge, deviations beyond all edges are left out.

        Raises:
            ValueError: If the shapes differ, a deviation is negative, or the edges do not rise.
        """
        if len(edges) < 2 or not (np.diff(edges) > 0).all():
            raise ValueError(f"edges must rise, got {tuple(edges)}")
        known, deviation = _known(error, sd)
        index = np.searchsorted(edges, deviation, side="right") - 1
        inside = (index >= 0) & (index < len(edges) - 1)
        index, known, deviation = index[inside], known[inside], deviation[inside]
        bins = len(edges) - 1
        return cls(
            edges=tuple(edges),
            n=tuple(np.bincount(index, minlength=bins).tolist()),
            square_sum=tuple(np.bincount(index, weights=known**2, minlength=bins).tolist()),
            variance_sum=tuple(np.bincount(index, weights=deviation**2, minlength=bins).tolist()),
        )

    def __add__(self, other: "ErrorBySd") -> "ErrorBySd":
        if not (self.n and other.n):
            return self if self.n else other
        if self.edges != other.edges:
            raise ValueError(f"classes with the edges {self.edges} and {other.edges} do not add up")
        return ErrorBySd(
            edges=self.edges,
            n=tuple(np.add(self.n, other.n).tolist()),
            square_sum=tuple(np.add(self.square_sum, other.square_sum).tolist()),
            variance_sum=tuple(np.add(self.variance_sum, other.variance_sum).tolist()),
        )

    def table(self) -> tuple[tuple[float, float, int], ...]:
        """Return announced deviation (root mean square), RMSE and number of pixels of each class that has any."""
        return tuple(
            (math.sqrt(variance / n), math.sqrt(square / n), n)
            for n, square, variance in zip(self.n, self.square_sum, self.variance_sum, strict=True)
            if n
        )


def cover_by_sd(
    error: FloatArray, sd: FloatArray, levels: Sequence[float] = LEVELS, *, classes: int = 10
) -> tuple[Coverage, ...]:
    """Count the errors within value +- z sd apart for each class of the deviation, by default its deciles, rising.

    One factor may hold 90 % over all pixels by holding too much where a map is sure and too little where it is not.

    Args:
        error: Value minus truth, any shape.
        sd: Predicted standard deviation, same shape and units.
        levels: Nominal coverages, each between 0 and 1.
        classes: Number of classes, between quantiles of the deviations; equal deviations lie in one class, so that
            others may be empty.

    Raises:
        ValueError: If the shapes differ, a deviation is negative, a level is not between 0 and 1, or there is no class.
    """
    if classes < 1:
        raise ValueError(f"expected one class or more, got {classes}")
    known, deviation = _known(error, sd)
    edges = np.quantile(deviation, np.arange(1, classes) / classes) if deviation.size else np.empty(0)
    index = np.searchsorted(edges, deviation, side="left")
    return tuple(Coverage.of(known[index == each], deviation[index == each], levels) for each in range(classes))


def find_worst_coverage(coverages: Sequence[Coverage], level: float) -> float:
    """Return the least share of errors within the interval of a level, of all classes that have a pixel; else NaN."""
    return min((coverage.share(level) for coverage in coverages if coverage.n), default=math.nan)


@dataclass(frozen=True, kw_only=True)
class RiskReliability:
    """Observed frequencies by class of a predicted probability, say of hallucination. Add two of them to pool them."""

    edges: tuple[float, ...] = ()
    """Edges of the classes, rising from 0 to 1; none where nothing was compared."""
    n: tuple[int, ...] = ()
    predicted_sum: tuple[float, ...] = ()
    observed_sum: tuple[float, ...] = ()

    @classmethod
    def of(cls, predicted: FloatArray, observed: FloatArray, *, classes: int = 10) -> Self:
        """Sort pixels by predicted probability; each class but the last is without its upper edge.

        Args:
            predicted: Probabilities 0 to 1, any shape; NaN where none is predicted.
            observed: What came to be, 0 or 1, or how far it did, between them; the same shape, NaN where unknown.
            classes: Number of classes, as wide as each other.

        Raises:
            ValueError: If the shapes differ, something is not between 0 and 1, or there is no class.
        """
        if predicted.shape != observed.shape:
            raise ValueError(f"predicted risks have shape {predicted.shape}, observed ones {observed.shape}")
        if classes < 1:
            raise ValueError(f"expected one class or more, got {classes}")
        known = np.isfinite(predicted) & np.isfinite(observed)
        risk, came = predicted[known].astype(np.float64), observed[known].astype(np.float64)
        for name, values in (("predicted", risk), ("observed", came)):
            if values.size and not (values.min() >= 0 and values.max() <= 1):
                raise ValueError(f"{name} risks must lie between 0 and 1, got {values.min():g} to {values.max():g}")
        index = np.minimum((risk * classes).astype(np.int64), classes - 1)
        return cls(
            edges=tuple((np.arange(classes + 1) / classes).tolist()),
            n=tuple(np.bincount(index, minlength=classes).tolist()),
            predicted_sum=tuple(np.bincount(index, weights=risk, minlength=classes).tolist()),
            observed_sum=tuple(np.bincount(index, weights=came, minlength=classes).tolist()),
        )

    def __add__(self, other: "RiskReliability") -> "RiskReliability":
        if not (self.n and other.n):
            return self if self.n else other
        if self.edges != other.edges:
            raise ValueError(f"risks in {len(self.n)} and {len(other.n)} classes do not add up")
        return RiskReliability(
            edges=self.edges,
            n=tuple(np.add(self.n, other.n).tolist()),
            predicted_sum=tuple(np.add(self.predicted_sum, other.predicted_sum).tolist()),
            observed_sum=tuple(np.add(self.observed_sum, other.observed_sum).tolist()),
        )

    def table(self, *, least_n: int = 1) -> tuple[tuple[float, float, int], ...]:
        """Return mean prediction, observed frequency and number of pixels of each class with so many pixels or more."""
        sums = zip(self.predicted_sum, self.observed_sum, self.n, strict=True)
        return tuple((predicted / n, observed / n, n) for predicted, observed, n in sums if n >= max(least_n, 1))

    def max_deviation(self, *, least_n: int = 1) -> float:
        """Return the largest |observed - predicted| of all classes with so many pixels or more; NaN where none is."""
        return max(
            (abs(observed - predicted) for predicted, observed, _ in self.table(least_n=least_n)), default=math.nan
        )

    @property
    def mean_deviation(self) -> float:
        """Mean |observed - predicted|, each class by its number of pixels: expected calibration error."""
        table = self.table()
        total = sum(n for _, _, n in table)
        return sum(abs(observed - predicted) * n for predicted, observed, n in table) / total if total else math.nan

    def to_dict(self) -> dict[str, object]:
        """Return the curve and how far it lies off, rounded, for JSON; None where there is nothing."""
        return {
            "n": sum(self.n),
            "max_deviation": rounded(self.max_deviation()),
            "mean_deviation": rounded(self.mean_deviation),
            "curve": [
                {"predicted": rounded(predicted), "observed": rounded(observed), "n": n}
                for predicted, observed, n in self.table()
            ],
        }


def _known(error: FloatArray, sd: FloatArray) -> tuple[Float64Array, Float64Array]:
    """Return errors and deviations where both are known, flat."""
    if error.shape != sd.shape:
        raise ValueError(f"error has shape {error.shape}, its deviation {sd.shape}")
    valid = np.isfinite(error) & np.isfinite(sd)
    known, deviation = error[valid].astype(np.float64), sd[valid].astype(np.float64)
    if (deviation < 0).any():
        raise ValueError(f"deviations must not be negative, got {deviation.min():g}")
    return known, deviation


def _ratio(error: FloatArray, sd: FloatArray) -> tuple[Float64Array, Float64Array]:
    """Return |error| in deviations, and the deviations; infinite where a deviation of 0 errs, 0 where it does not."""
    known, deviation = _known(error, sd)
    certain = deviation == 0
    ratio = np.abs(known) / np.where(certain, 1.0, deviation)
    return np.where(certain & (known != 0), np.inf, ratio), deviation


def _ceil(number: float) -> int:
    """Return the next whole number, where 9.000000000000002 is 9."""
    return math.ceil(round(number, 9))
