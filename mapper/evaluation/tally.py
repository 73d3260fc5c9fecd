"""Everything that is counted about a method while its map passes by, block by block or site by site."""

from dataclasses import dataclass, field
from itertools import pairwise
from typing import Self

import numpy as np

from mapper.arrays import FloatArray
from mapper.evaluation.bins import Bins
from mapper.evaluation.density import Density
from mapper.evaluation.metric import choose_metrics
from mapper.evaluation.relief import Ground
from mapper.evaluation.score import Score
from mapper.evaluation.terrain import Terrain
from mapper.evaluation.uncertainty import LEVELS, RELIABILITY_LEVELS, Coverage, ErrorBySd
from mapper.spec.target import BandSpec

_NOTHING = np.empty((0, 0))
_ERROR_STEPS = 500
"""Steps of the median error within the range of values."""


@dataclass(frozen=True, kw_only=True)
class Tally:
    """Everything that is counted about one method. Add two of them to pool them."""

    score: Score = field(default_factory=Score)
    bins: Bins = field(default_factory=Bins)
    """Errors by class of the truth; without classes where the target names none."""
    density: Density = field(default_factory=Density)
    """Pixels by truth and value; without cells where the target has no range of values, or is heights."""
    terrain: Terrain = field(default_factory=Terrain)
    """Errors by land cover and slope, and the shape of the ground; nothing where the target is none of heights."""

    @classmethod
    def of(
        cls,
        value: FloatArray,
        truth: FloatArray,
        source: FloatArray = _NOTHING,
        *,
        target: BandSpec,
        ground: Ground | None = None,
    ) -> Self:
        """Compare values with the truth, and their block means with the source.

        Args:
            value: (y, x) in units of the target, NaN where missing.
            truth: Same shape and units, NaN where unknown or not to be scored.
            source: (y / scale, x / scale) in the same units, NaN where the map is not held against it.
            target: Band that is scored; its range of values and classes are fixed beforehand, so that blocks add up.
            ground: What is known of the pixels, where these are heights of the ground; None where they are not.
        """
        low, span = target.bounds[0] or 0.0, target.value_range
        bins = Bins.of(value, truth, target.classes, error_step=_find_step(target)) if target.classes else Bins()
        return cls(
            score=Score.of(value, truth, source, metrics=choose_metrics(target, heights=ground is not None)),
            bins=bins,
            density=Density.of(value, truth, low=low, high=low + span) if span and ground is None else Density(),
            terrain=Terrain() if ground is None else Terrain.of(value, truth, ground, target=target),
        )

    def __add__(self, other: "Tally") -> "Tally":
        return Tally(
            score=self.score + other.score,
            bins=self.bins + other.bins,
            density=self.density + other.density,
            terrain=self.terrain + other.terrain,
        )


@dataclass(frozen=True, kw_only=True)
class Uncertainty:
    """Everything that is counted about standard deviations. Add two of them to pool them."""

    coverage: Coverage = field(default_factory=Coverage)
    by_sd: ErrorBySd = field(default_factory=ErrorBySd)
    """Errors by class of standard deviation; without classes where the target names none."""

    @classmethod
    def of(cls, error: FloatArray, sd: FloatArray, *, target: BandSpec) -> Self:
        """Compare errors (value minus truth) with their standard deviations, in classes of the target."""
        levels = sorted({*LEVELS, *RELIABILITY_LEVELS})
        by_sd = ErrorBySd.of(error, sd, target.sd_classes) if target.sd_classes else ErrorBySd()
        return cls(coverage=Coverage.of(error, sd, levels), by_sd=by_sd)

    def __add__(self, other: "Uncertainty") -> "Uncertainty":
        return Uncertainty(coverage=self.coverage + other.coverage, by_sd=self.by_sd + other.by_sd)


def _find_step(target: BandSpec) -> float:
    """Return the resolution of median errors: a share of the range of values, or else of the widest class."""
    widths = [high - low for low, high in pairwise(target.classes) if np.isfinite(high - low)]
    return (target.value_range or max(widths, default=1.0)) / _ERROR_STEPS
