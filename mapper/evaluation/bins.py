"""Errors by class of the truth: a map that saturates is right on the average and wrong where it matters."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Self

import numpy as np

from mapper.arrays import FloatArray, IntArray
from mapper.evaluation.score import rounded

_ERROR_STEPS = 1000
"""Steps of the histogram of errors to either side; errors beyond count as the outermost."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Bins:
    """Sums of errors by class of the truth. Add two of them to pool them.

    Each class holds its lower edge and not its upper; truth outside the edges is left out.
    """

    edges: tuple[float, ...] = ()
    """Edges of the classes, rising, in target units; none where nothing was compared."""
    n: tuple[int, ...] = ()
    """Number of pixels by class; empty where nothing was compared."""
    error_sum: tuple[float, ...] = ()
    square_sum: tuple[float, ...] = ()
    truth_sum: tuple[float, ...] = ()
    error_step: float = 1.0
    """Resolution of the median error, in target units."""
    histogram: IntArray = field(default_factory=lambda: np.zeros((0, 2 * _ERROR_STEPS + 1), np.int64), repr=False)
    """Errors counted in steps, (class, step): medians do not add up, their histograms do."""

    @classmethod
    def of(cls, value: FloatArray, truth: FloatArray, edges: Sequence[float], *, error_step: float = 1.0) -> Self:
        """Sort the errors of values by their truth.

        Args:
            value: Any shape.
            truth: Same shape and units.
            edges: Rising; classes lie between two neighbours.
            error_step: Resolution of the median error, in these units; errors beyond 1000 steps count as 1000.

        Raises:
            ValueError: If the shapes differ, or the edges do not rise.
        """
        if value.shape != truth.shape:
            raise ValueError(f"value has shape {value.shape}, truth {truth.shape}")
        if len(edges) < 2 or not (np.diff(edges) > 0).all():
            raise ValueError(f"edges must rise, got {tuple(edges)}")
        classes = len(edges) - 1
        index = np.searchsorted(edges, truth, side="right") - 1
        inside = np.isfinite(value) & np.isfinite(truth) & (index >= 0) & (index < classes)
        index, expected = index[inside], truth[inside].astype(np.float64)
        error = value[inside].astype(np.float64) - expected
        step = np.clip(np.rint(error / error_step), -_ERROR_STEPS, _ERROR_STEPS).astype(np.int64) + _ERROR_STEPS
        steps = 2 * _ERROR_STEPS + 1
        return cls(
            edges=tuple(float(edge) for edge in edges),
            n=tuple(np.bincount(index, minlength=classes).tolist()),
            error_sum=tuple(np.bincount(index, weights=error, minlength=classes).tolist()),
            square_sum=tuple(np.bincount(index, weights=error**2, minlength=classes).tolist()),
            truth_sum=tuple(np.bincount(index, weights=expected, minlength=classes).tolist()),
            error_step=error_step,
            histogram=np.bincount(index * steps + step, minlength=classes * steps).reshape(classes, steps),
        )

    def __add__(self, other: "Bins") -> "Bins":
        if not (self.n and other.n):
            return self if self.n else other
        if (self.edges, self.error_step) != (other.edges, other.error_step):
            raise ValueError(
                f"classes with the edges {self.edges} and steps of {self.error_step} do not add up with "
                f"{other.edges} and {other.error_step}"
            )
        return Bins(
            edges=self.edges,
            n=tuple(np.add(self.n, other.n).tolist()),
            error_sum=tuple(np.add(self.error_sum, other.error_sum).tolist()),
            square_sum=tuple(np.add(self.square_sum, other.square_sum).tolist()),
            truth_sum=tuple(np.add(self.truth_sum, other.truth_sum).tolist()),
            error_step=self.error_step,
            histogram=self.histogram + other.histogram,
        )

    @property
    def bias(self) -> tuple[float, ...]:
        """Mean error by class; NaN where it is empty."""
        return tuple(total / n if n else math.nan for total, n in zip(self.error_sum, self.n, strict=True))

    @property
    def rmse(self) -> tuple[float, ...]:
        """Root mean squared error by class; NaN where it is empty."""
        return tuple(math.sqrt(total / n) if n else math.nan for total, n in zip(self.square_sum, self.n, strict=True))

    @property
    def mean_truth(self) -> tuple[float, ...]:
        """Mean truth by class; NaN where it is empty."""
        return tuple(total / n if n else math.nan for total, n in zip(self.truth_sum, self.n, strict=True))

    @property
    def median_error(self) -> tuple[float, ...]:
        """Median error by class (the lower one of an even number), right to half a step; NaN where it is empty."""
        cumulated = self.histogram.cumsum(axis=1)
        half = (np.array(self.n, np.int64)[:, None] + 1) // 2
        step = (cumulated < half).sum(axis=1) - _ERROR_STEPS
        return tuple(float(s) * self.error_step if n else math.nan for s, n in zip(step, self.n, strict=True))

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of the classes: ``0-25``, ..., ``≥ 400``."""
        return tuple(
            f"≥ {low:g}" if math.isinf(high) else f"< {high:g}" if math.isinf(low) else f"{low:g}-{high:g}"
            for low, high in pairwise(self.edges)
        )

    def to_dict(self) -> list[dict[str, object]]:
        """Return one entry for each class, for JSON."""
        n = self.n or (0,) * len(self.labels)
        columns = {"bias": self.bias, "rmse": self.rmse, "median_error": self.median_error}
        return [
            {"truth": label, "n": n[index]}
            | {name: rounded(values[index]) if values else None for name, values in columns.items()}
            for index, label in enumerate(self.labels)
        ]
