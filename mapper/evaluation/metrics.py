"""What a score means: one definition each, pooled over pixels, NaN pixels of either side left out.

Values and truth are arrays of the same shape and units; scores keep those units. Sums are kept in float64 so that
scores of tiles add up to the score of the map.
"""

import math
from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.floating]


@dataclass(frozen=True, kw_only=True)
class Score:
    """Sums over compared pixels, and the scores they give. Add two of them to pool them."""

    n: int = 0
    """Pixels compared."""
    error_sum: float = 0.0
    absolute_sum: float = 0.0
    square_sum: float = 0.0
    truth_sum: float = 0.0
    truth_square_sum: float = 0.0
    residual_max: float = 0.0
    """Largest |block mean of the map - source| over source pixels."""
    residual_sum: float = 0.0
    blocks: int = 0

    @classmethod
    def of(cls, value: FloatArray, truth: FloatArray) -> Self:
        """Compare values with the truth.

        Raises:
            ValueError: If the shapes differ.
        """
        if value.shape != truth.shape:
            raise ValueError(f"value has shape {value.shape}, truth {truth.shape}")
        valid = np.isfinite(value) & np.isfinite(truth)
        expected = truth[valid].astype(np.float64)
        error = value[valid].astype(np.float64) - expected
        return cls(
            n=int(valid.sum()),
            error_sum=float(error.sum()),
            absolute_sum=float(np.abs(error).sum()),
            square_sum=float(np.square(error).sum()),
            truth_sum=float(expected.sum()),
            truth_square_sum=float(np.square(expected).sum()),
        )

    @classmethod
    def of_blocks(cls, block_means: FloatArray, source: FloatArray) -> Self:
        """Compare block means of a map with the source they should honour; both on the source grid."""
        residual = np.abs(block_means.astype(np.float64) - source.astype(np.float64))
        residual = residual[np.isfinite(residual)]
        return cls(
            residual_max=float(residual.max(initial=0.0)),
            residual_sum=float(residual.sum()),
            blocks=int(residual.size),
        )

    def __add__(self, other: "Score") -> "Score":
        return Score(
            n=self.n + other.n,
            error_sum=self.error_sum + other.error_sum,
            absolute_sum=self.absolute_sum + other.absolute_sum,
            square_sum=self.square_sum + other.square_sum,
            truth_sum=self.truth_sum + other.truth_sum,
            truth_square_sum=self.truth_square_sum + other.truth_square_sum,
            residual_max=max(self.residual_max, other.residual_max),
            residual_sum=self.residual_sum + other.residual_sum,
            blocks=self.blocks + other.blocks,
        )

    @property
    def rmse(self) -> float:
        """Root of the mean squared error, pooled over all pixels."""
        return math.sqrt(self.square_sum / self.n) if self.n else math.nan

    @property
    def mae(self) -> float:
        """Mean absolute error."""
        return self.absolute_sum / self.n if self.n else math.nan

    @property
    def bias(self) -> float:
        """Mean of value minus truth."""
        return self.error_sum / self.n if self.n else math.nan

    @property
    def r2(self) -> float:
        """1 - residual sum of squares / total sum of squares of the truth."""
        if not self.n:
            return math.nan
        total = self.truth_square_sum - self.truth_sum**2 / self.n
        return 1 - self.square_sum / total if total > 0 else math.nan

    @property
    def residual_mean(self) -> float:
        """Mean |block mean of the map - source|."""
        return self.residual_sum / self.blocks if self.blocks else math.nan

    def to_dict(self) -> dict[str, float]:
        """The scores, rounded to four decimals."""
        names = ("rmse", "mae", "bias", "r2", "residual_mean", "residual_max")
        return {"n": self.n} | {name: round(getattr(self, name), 4) for name in names}
