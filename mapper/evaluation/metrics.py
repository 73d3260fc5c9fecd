"""What a score means: one definition each, pooled over pixels, NaN pixels of either side left out.

Values and truth are arrays of the same shape and units; scores keep those units. Sums are kept in float64 so that
scores of tiles add up to the score of the map. Structural similarity and gradients need neighbours: windows that lie
across two tiles are in neither, everything else adds up exactly.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import reduce
from operator import add
from typing import Self

import numpy as np

from mapper.arrays import FloatArray
from mapper.evaluation.image_metrics import gradient_error, ssim_map

DATA_RANGE = 500.0
"""Range of values that PSNR and SSIM refer to, in target units: above-ground biomass of 0 to 500 Mg ha-1.

Fixed beforehand. A range taken from each truth would make a place with one outlier look well mapped.
"""

METRICS = ("rmse", "mae", "bias", "r2", "psnr", "ssim", "gradient_rmse", "residual_mean", "residual_max")
"""Properties of a score, in the order of tables."""


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
    ssim_sum: float = 0.0
    windows: int = 0
    """Windows of structural similarity, all pixels valid."""
    gradient_square_sum: float = 0.0
    gradients: int = 0
    """Pixels whose neighbours are all valid."""
    residual_max: float = 0.0
    """Largest |block mean of the map - source| over source pixels."""
    residual_sum: float = 0.0
    blocks: int = 0
    data_range: float | None = None
    """What PSNR and SSIM refer to; None where nothing was compared."""

    @classmethod
    def of(cls, value: FloatArray, truth: FloatArray, *, data_range: float = DATA_RANGE) -> Self:
        """Compare values with the truth.

        Args:
            value: Any shape; structural similarity and gradients are scored where it is (y, x).
            truth: Same shape and units.
            data_range: What PSNR and SSIM refer to, in these units.

        Raises:
            ValueError: If the shapes differ, or the range is not positive.
        """
        if value.shape != truth.shape:
            raise ValueError(f"value has shape {value.shape}, truth {truth.shape}")
        if not data_range > 0:
            raise ValueError(f"data range must be positive, got {data_range}")
        valid = np.isfinite(value) & np.isfinite(truth)
        expected = truth[valid].astype(np.float64)
        error = value[valid].astype(np.float64) - expected
        flat = np.empty((0, 0))
        similar = ssim_map(value, truth, data_range) if value.ndim == 2 else flat
        gradients = gradient_error(value, truth) if value.ndim == 2 else flat
        return cls(
            n=int(valid.sum()),
            error_sum=float(error.sum()),
            absolute_sum=float(np.abs(error).sum()),
            square_sum=float(np.square(error).sum()),
            truth_sum=float(expected.sum()),
            truth_square_sum=float(np.square(expected).sum()),
            ssim_sum=float(np.nansum(similar)),
            windows=int(np.isfinite(similar).sum()),
            gradient_square_sum=float(np.nansum(gradients)),
            gradients=int(np.isfinite(gradients).sum()),
            data_range=data_range,
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
        ranges = {self.data_range, other.data_range} - {None}
        if len(ranges) > 1:
            raise ValueError(f"scores of the data ranges {sorted(filter(None, ranges))} do not add up")
        summed = {
            field.name: getattr(self, field.name) + getattr(other, field.name)
            for field in fields(self)
            if field.name not in ("residual_max", "data_range")
        }
        return Score(
            residual_max=max(self.residual_max, other.residual_max), data_range=next(iter(ranges), None), **summed
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
    def psnr(self) -> float:
        """Peak signal-to-noise ratio, 20 log10(data range / RMSE), in dB; infinite without error."""
        if not self.n or self.data_range is None:
            return math.nan
        return 20 * math.log10(self.data_range / self.rmse) if self.rmse > 0 else math.inf

    @property
    def ssim(self) -> float:
        """Mean structural similarity over all windows; 1 is the truth itself."""
        return self.ssim_sum / self.windows if self.windows else math.nan

    @property
    def gradient_rmse(self) -> float:
        """Root of the mean squared difference of the gradients, in units per pixel."""
        return math.sqrt(self.gradient_square_sum / self.gradients) if self.gradients else math.nan

    @property
    def residual_mean(self) -> float:
        """Mean |block mean of the map - source|."""
        return self.residual_sum / self.blocks if self.blocks else math.nan

    def metrics(self) -> dict[str, float]:
        """All metrics by name, NaN where there is none."""
        values: dict[str, float] = {name: getattr(self, name) for name in METRICS}
        return values | {"residual_max": self.residual_max if self.blocks else math.nan}

    def to_dict(self) -> dict[str, float | None]:
        """The scores, rounded to four decimals; None where there is none, since JSON knows no NaN."""
        scores = {name: rounded(value) for name, value in self.metrics().items()}
        return {"n": self.n, "data_range": self.data_range} | scores


@dataclass(frozen=True, kw_only=True)
class Scores:
    """Scores of one method by place: pooled over all pixels, and averaged over places.

    Pooled, a large or rich place weighs more; averaged, each place counts once, as in scores per chip.
    """

    places: Mapping[str, Score]

    @property
    def pooled(self) -> Score:
        """All pixels of all places together."""
        return reduce(add, self.places.values(), Score())

    def mean(self, metric: str = "rmse") -> float:
        """Mean of a metric over the places that have it; NaN without any."""
        values = [value for score in self.places.values() if math.isfinite(value := score.metrics()[metric])]
        return sum(values) / len(values) if values else math.nan

    def to_dict(self) -> dict[str, object]:
        """Pooled scores, means over places, and the scores of each place."""
        return {
            "pooled": self.pooled.to_dict(),
            "mean": {name: rounded(self.mean(name)) for name in METRICS},
            "places": {name: score.to_dict() for name, score in self.places.items()},
        }


def rounded(number: float) -> float | None:
    """Four decimals, or None for what is not finite."""
    return round(number, 4) if math.isfinite(number) else None
