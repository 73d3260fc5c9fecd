"""Everything that is counted about a method while its map passes by, tile by tile or place by place."""

from dataclasses import dataclass, field
from typing import Self

from mapper.arrays import FloatArray
from mapper.evaluation.bins import BIOMASS_EDGES, Bins
from mapper.evaluation.density import Density
from mapper.evaluation.metrics import DATA_RANGE, Score
from mapper.evaluation.uncertainty import LEVELS, RELIABILITY_LEVELS, SD_EDGES, Coverage, ErrorBySd


@dataclass(frozen=True, kw_only=True)
class Tally:
    """Everything that is counted about one method. Add two of them to pool them."""

    score: Score = field(default_factory=Score)
    bins: Bins = field(default_factory=Bins)
    density: Density = field(default_factory=Density)

    @classmethod
    def of(cls, value: FloatArray, truth: FloatArray, *, data_range: float = DATA_RANGE) -> Self:
        """Compare values (y, x) with the truth.

        Args:
            value: (y, x).
            truth: Same shape and units.
            data_range: Range of the values, which classes and axes are scaled to; fixed, so that places add up.
        """
        step = data_range / DATA_RANGE
        return cls(
            score=Score.of(value, truth, data_range=data_range),
            bins=Bins.of(value, truth, [edge * step for edge in BIOMASS_EDGES], error_step=step),
            density=Density.of(value, truth, limit=data_range),
        )

    def __add__(self, other: "Tally") -> "Tally":
        return Tally(score=self.score + other.score, bins=self.bins + other.bins, density=self.density + other.density)


@dataclass(frozen=True, kw_only=True)
class Uncertainty:
    """What is counted about standard deviations. Add two of them to pool them."""

    coverage: Coverage = field(default_factory=Coverage)
    by_sd: ErrorBySd = field(default_factory=ErrorBySd)

    @classmethod
    def of(cls, error: FloatArray, sd: FloatArray, *, data_range: float = DATA_RANGE) -> Self:
        """Compare errors (value minus truth) with their deviations, in classes scaled to the range of the values."""
        levels = sorted({*LEVELS, *RELIABILITY_LEVELS})
        edges = [edge * data_range / DATA_RANGE for edge in SD_EDGES]
        return cls(coverage=Coverage.of(error, sd, levels), by_sd=ErrorBySd.of(error, sd, edges))

    def __add__(self, other: "Uncertainty") -> "Uncertainty":
        return Uncertainty(coverage=self.coverage + other.coverage, by_sd=self.by_sd + other.by_sd)
