"""Scores: sums of the chosen metrics over what was compared, which pool over blocks, tiles and sites."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import reduce
from operator import add
from typing import Self

import numpy as np

from mapper.arrays import Float64Array, FloatArray
from mapper.evaluation.metric import Metric

_NO_SOURCE = np.empty((0, 0))


@dataclass(frozen=True, kw_only=True, eq=False)
class Score:
    """Sums of metrics over compared pixels. Add two of them to pool them; without metrics it is neutral."""

    metrics: Mapping[str, Metric] = field(default_factory=dict)
    """Metrics by name."""
    sums: Mapping[str, Float64Array] = field(default_factory=dict)
    """Sums by name of the metric."""
    n: int = 0
    """Number of pixels compared."""

    @classmethod
    def of(
        cls,
        value: FloatArray,
        truth: FloatArray,
        source: FloatArray = _NO_SOURCE,
        *,
        metrics: Mapping[str, Metric],
    ) -> Self:
        """Compare values with the truth, and their block means with the source.

        Args:
            value: (y, x) in target units, NaN where missing; other shapes have no windows and no blocks.
            truth: Same shape and units, NaN where unknown or not to be scored.
            source: (y / scale, x / scale) in the same units, NaN where the map is not held against it.
            metrics: Metrics to score, by name.

        Raises:
            ValueError: If the shapes differ.
        """
        if value.shape != truth.shape:
            raise ValueError(f"value has shape {value.shape}, truth {truth.shape}")
        return cls(
            metrics=metrics,
            sums={name: metric.sums(value, truth, source) for name, metric in metrics.items()},
            n=int((np.isfinite(value) & np.isfinite(truth)).sum()),
        )

    def __add__(self, other: "Score") -> "Score":
        if not (self.metrics and other.metrics):
            return self if self.metrics else other
        if self.metrics != other.metrics:
            raise ValueError(f"scores of {_describe(self.metrics)} and {_describe(other.metrics)} do not add up")
        sums = {name: metric.pool(self.sums[name], other.sums[name]) for name, metric in self.metrics.items()}
        return Score(metrics=self.metrics, sums=sums, n=self.n + other.n)

    def value(self, name: str) -> float:
        """Return the score of one metric, NaN where nothing was compared.

        Raises:
            ValueError: If it is not among the metrics.
        """
        if not self.metrics:
            return math.nan
        if name not in self.metrics:
            raise ValueError(f"{name} was not scored; there are {', '.join(self.metrics)}")
        return self.metrics[name].score(self.sums[name])

    def values(self) -> dict[str, float]:
        """Return all scores by name of the metric, NaN where there is none."""
        return {name: self.value(name) for name in self.metrics}

    def to_dict(self) -> dict[str, float | None]:
        """Return the scores, rounded to four decimals, for JSON; None where there is none."""
        ranges = (metric.target.value_range for metric in self.metrics.values())
        scores = {name: rounded(value) for name, value in self.values().items()}
        return {"n": self.n, "data_range": next(ranges, None)} | scores


@dataclass(frozen=True, kw_only=True)
class Scores:
    """Scores of one method by site: pooled over all pixels, and averaged over sites.

    Pooled, a large or rich site weighs more; averaged, each site counts once, as in scores per chip.
    """

    sites: Mapping[str, Score]

    @property
    def pooled(self) -> Score:
        """Score of all pixels of all sites together."""
        return pool(self.sites.values())

    def mean(self, metric: str = "rmse") -> float:
        """Return the mean of a metric over the sites that have it; NaN without any."""
        values = [value for score in self.sites.values() if math.isfinite(value := score.value(metric))]
        return sum(values) / len(values) if values else math.nan

    def to_dict(self) -> dict[str, object]:
        """Return pooled scores, means over sites, and the scores of each site, for JSON."""
        pooled = self.pooled
        return {
            "pooled": pooled.to_dict(),
            "mean": {name: rounded(self.mean(name)) for name in pooled.metrics},
            "places": {name: score.to_dict() for name, score in self.sites.items()},
        }


def pool(scores: Iterable[Score]) -> Score:
    """Return the score of all pixels together."""
    return reduce(add, scores, Score())


def rounded(number: float) -> float | None:
    """Return four decimals, or None for what is not finite: JSON knows no NaN."""
    return round(number, 4) if math.isfinite(number) else None


def _describe(metrics: Mapping[str, Metric]) -> str:
    ranges = {f"{metric.target.value_range} {metric.target.units}" for metric in metrics.values()}
    return f"{', '.join(metrics)} (range of values {', '.join(sorted(ranges))})"
