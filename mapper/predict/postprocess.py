"""Outputs of a network become the arrays of a tile: consistency, flags, standard deviation, crop."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from mapper.arrays import BoolArray, Float32Array, UInt16Array
from mapper.cube.composite import Guide
from mapper.cube.source import Source
from mapper.grid import Window, coarsen
from mapper.models.contract import Contract
from mapper.predict.consistency import block_mean, enforce, spread
from mapper.predict.predictor import Estimate
from mapper.predict.quality import Quality, flag_pixels
from mapper.spec import MapSpec


@dataclass(frozen=True, kw_only=True)
class Postprocessor:
    """Turns what a network says of a window into the pixels of its tile."""

    spec: MapSpec
    contract: Contract
    scale: int
    core: Window
    """The tile."""
    window: Window
    """What was read for it."""
    inside: BoolArray
    """(y, x) of the window: True inside the area of the map."""

    def finish(
        self, prediction: Estimate, guide: Guide, source: Source
    ) -> tuple[dict[str, npt.NDArray[Any]], float | None]:
        """Honour the source on the whole window, flag, and crop to the tile.

        Returns:
            Arrays (y, x) of the tile: ``value`` and ``sd`` float32 in target units, ``qa`` and ``n_valid`` uint16;
            and the largest |block mean - source| that is left, None where there is no source.
        """
        value = enforce(
            prediction.mean,
            source.mean,
            source.sd,
            mode=self.spec.consistency.mode,
            scale=self.scale,
            non_negative=self.spec.target.non_negative,
        )
        known = spread(np.isfinite(source.mean), self.scale) & self.inside
        flags = np.where(known, self._flag(prediction, guide, source), _bare_flags(self.inside))
        arrays = {
            "value": self._crop(np.where(known, value, np.float32(np.nan))),
            "sd": self._crop(np.where(known, self._deviation(prediction, source), np.float32(np.nan))),
            "qa": self._crop(flags),
            "n_valid": self._crop(np.where(known, guide.n_valid, np.uint16(0))),
        }
        return arrays, self._residual(value, source)

    def _flag(self, prediction: Estimate, guide: Guide, source: Source) -> UInt16Array:
        flags = flag_pixels(
            gaps=guide.gaps,
            n_valid=guide.n_valid,
            source=source.mean,
            source_sd=source.sd,
            block_means=block_mean(prediction.mean, self.scale),
            inside=self.inside,
            item_dropped=any(use.dropped for use in (*guide.uses, *source.uses)),
        )
        if not self.contract.guide:  # nobody looked: few observations are no flaw of the map
            flags &= ~np.uint16(Quality.FEW_OBSERVATIONS)
        return flags

    def _deviation(self, prediction: Estimate, source: Source) -> Float32Array:
        """Return the standard deviation of the target; that of the source alone where the model gives none."""
        source_sd: Float32Array = spread(source.sd, self.scale)
        total = prediction.total_sd(source_sd, sees_source_sd=self.contract.sees_source_sd)
        return source_sd if total is None else total

    def _residual(self, value: Float32Array, source: Source) -> float | None:
        """Return the largest |block mean - source| among the source pixels that the tile touches."""
        coarse = coarsen(self.core.grown(0, self.scale).inside(self.window), self.scale)
        left = np.abs(block_mean(value, self.scale) - source.mean)[coarse]
        return float(np.nanmax(left)) if np.isfinite(left).any() else None

    def _crop(self, array: npt.NDArray[Any]) -> npt.NDArray[Any]:
        return np.ascontiguousarray(array[self.core.inside(self.window)])


def blank_arrays(inside: BoolArray, flag: Quality) -> dict[str, npt.NDArray[Any]]:
    """Return the arrays of a tile without a pixel; inside the area the flag says why."""
    return {
        "value": np.full(inside.shape, np.nan, np.float32),
        "sd": np.full(inside.shape, np.nan, np.float32),
        "qa": np.where(inside, np.uint16(flag), np.uint16(Quality.OUTSIDE_AREA)),
        "n_valid": np.zeros(inside.shape, np.uint16),
    }


def _bare_flags(inside: BoolArray) -> UInt16Array:
    return np.where(inside, np.uint16(Quality.SOURCE_MISSING), np.uint16(Quality.OUTSIDE_AREA))
