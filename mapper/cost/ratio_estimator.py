"""Ratio estimator, from tiles that have run to those that have not: a factor for each quantity, and its uncertainty.

The ratio estimator of survey sampling: where a pilot of n tiles took in sum what its estimates say times r, the rest is
taken to do so too. Everything that is asked for (hours, bytes, money) is a weighted sum of the same few quantities, and
so are its residuals; the range of a sum thus knows that its parts go up and down together.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.special import stdtrit

from mapper.arrays import BoolArray, Float64Array

FEWEST_TILES = 3
_UPPER = 0.95
"""Quantile of the upper end of a range of 90 %."""


@dataclass(frozen=True, kw_only=True)
class Range:
    """An expected value, and where 90 % of the outcomes are to lie."""

    low: float
    mid: float
    high: float


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """Estimates of all tiles, what some of them took, and which of those tell of the others."""

    estimated: Float64Array
    """(tile, quantity)."""
    actual: Float64Array
    """(tile, quantity), 0 where a tile has not run."""
    known: BoolArray
    """(tile,): taken as it was; the other tiles are predicted."""
    pilot: BoolArray
    """(tile,): what the factors come from, a part of the known ones."""
    measured: BoolArray
    """(quantity,): False for what the pilot cannot tell, such as seconds on a device that it did not have."""

    @cached_property
    def factors(self) -> Float64Array:
        """Actual / estimated, by quantity; 1 where nothing was estimated or measured."""
        took, expected = self.actual[self.pilot].sum(axis=0), self.estimated[self.pilot].sum(axis=0)
        usable = self.measured & (expected > 0)
        return np.where(usable, took / np.where(expected > 0, expected, 1), 1.0)

    def is_measured(self, weights: Float64Array) -> bool:
        """Check whether a pilot measured some part of a weighted sum."""
        parts = self.measured & (weights != 0) & (self.estimated[self.pilot].sum(axis=0) > 0)
        return bool(parts.any())

    def total(self, weights: Float64Array) -> Range | None:
        """Sum weighted quantities over all tiles; None without a pilot that measured them.

        Args:
            weights: By quantity.
        """
        if self.pilot.sum() < FEWEST_TILES or not self.is_measured(weights):
            return None
        spent = float((self.actual[self.known] @ weights).sum())
        left = self.estimated[~self.known].sum(axis=0)
        rest = float((left * self.factors) @ weights)
        spread = self._spread(weights, left)
        return Range(low=spent + max(rest - spread, 0.0), mid=spent + rest, high=spent + rest + spread)

    def _spread(self, weights: Float64Array, left: Float64Array) -> float:
        """Return half a range: of the factors, which err for all tiles alike, and of the tiles themselves."""
        tiles = int(self.pilot.sum())
        mean = self.estimated[self.pilot].mean(axis=0)
        residuals = (self.actual - self.factors * self.estimated)[self.pilot] * np.where(self.measured, weights, 0)
        leverage = left / np.where(mean > 0, mean, 1)
        of_factors = np.var(residuals @ leverage, ddof=1) / tiles
        of_tiles = np.var(residuals.sum(axis=1), ddof=1) * np.sum(~self.known)
        return float(stdtrit(tiles - 1, _UPPER) * np.sqrt(of_factors + of_tiles))
