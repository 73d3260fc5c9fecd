"""Pixels counted by truth and value: a scatter plot that adds up, for maps of any size."""

from dataclasses import dataclass, field
from typing import Self

import numpy as np

from mapper.arrays import FloatArray, IntArray

_CELLS = 125


@dataclass(frozen=True, kw_only=True, eq=False)
class Density:
    """Pixels counted by truth and value. Add two of them to pool them."""

    low: float = 0.0
    """Lower end of both axes, in target units; what lies beyond counts at the edge."""
    high: float = 1.0
    """Upper end of both axes."""
    counts: IntArray = field(default_factory=lambda: np.zeros((_CELLS, _CELLS), np.int64), repr=False)
    """(value, truth) number of pixels in each cell."""

    @classmethod
    def of(cls, value: FloatArray, truth: FloatArray, *, low: float = 0.0, high: float) -> Self:
        """Count pixels that have both.

        Raises:
            ValueError: If the shapes differ, or the axes do not rise.
        """
        if value.shape != truth.shape:
            raise ValueError(f"value has shape {value.shape}, truth {truth.shape}")
        if not high > low:
            raise ValueError(f"axes must rise, got {low} to {high}")
        valid = np.isfinite(value) & np.isfinite(truth)
        row, col = (
            np.clip((array[valid].astype(np.float64) - low) / (high - low) * _CELLS, 0, _CELLS - 1).astype(np.int64)
            for array in (value, truth)
        )
        counts = np.bincount(row * _CELLS + col, minlength=_CELLS**2).reshape(_CELLS, _CELLS)
        return cls(low=low, high=high, counts=counts)

    def __add__(self, other: "Density") -> "Density":
        if not (self.n and other.n):
            return self if self.n else other
        if (self.low, self.high) != (other.low, other.high):
            raise ValueError(
                f"densities from {self.low:g} to {self.high:g} and from {other.low:g} to {other.high:g} do not add up"
            )
        return Density(low=self.low, high=self.high, counts=self.counts + other.counts)

    @property
    def n(self) -> int:
        """Number of pixels counted."""
        return int(self.counts.sum())
