"""How many pixels have which truth and which value: a scatter plot that adds up, for maps of any size."""

from dataclasses import dataclass, field
from typing import Self

import numpy as np

from mapper.arrays import FloatArray, IntArray
from mapper.evaluation.metrics import DATA_RANGE

_CELLS = 125


@dataclass(frozen=True, kw_only=True, eq=False)
class Density:
    """Pixels counted by truth and value. Add two of them to pool them."""

    limit: float = DATA_RANGE
    """Upper end of both axes, in target units; what lies beyond counts at the edge."""
    counts: IntArray = field(default_factory=lambda: np.zeros((_CELLS, _CELLS), np.int64), repr=False)
    """(value, truth), both from 0 to the limit."""

    @classmethod
    def of(cls, value: FloatArray, truth: FloatArray, *, limit: float = DATA_RANGE) -> Self:
        """Count pixels that have both.

        Raises:
            ValueError: If the shapes differ, or the limit is not positive.
        """
        if value.shape != truth.shape:
            raise ValueError(f"value has shape {value.shape}, truth {truth.shape}")
        if not limit > 0:
            raise ValueError(f"limit must be positive, got {limit}")
        valid = np.isfinite(value) & np.isfinite(truth)
        row, col = (
            np.clip(array[valid].astype(np.float64) / limit * _CELLS, 0, _CELLS - 1).astype(np.int64)
            for array in (value, truth)
        )
        counts = np.bincount(row * _CELLS + col, minlength=_CELLS**2).reshape(_CELLS, _CELLS)
        return cls(limit=limit, counts=counts)

    def __add__(self, other: "Density") -> "Density":
        if not (self.n and other.n):
            return self if self.n else other
        if self.limit != other.limit:
            raise ValueError(f"densities up to {self.limit:g} and {other.limit:g} do not add up")
        return Density(limit=self.limit, counts=self.counts + other.counts)

    @property
    def n(self) -> int:
        """Pixels counted."""
        return int(self.counts.sum())
