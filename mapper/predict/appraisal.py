"""Appraisal of the pixels of a window: what model, source and their agreement say of each, over all bands."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from mapper.arrays import BoolArray, Float32Array, Float64Array, UInt16Array
from mapper.models.risk import stack_features
from mapper.predict.detail import interpolate, measure_gain
from mapper.predict.operators import expand
from mapper.predict.quality import LOW_CONFIDENCE, MEDIUM_CONFIDENCE, MOVED_SD, Flags

_SAME = 1e-5
"""Relative difference within which a value is its source, interpolated: the rounding of a model in short floats."""
_FAR_DARKER = 0.7
"""Part of what other dates show below which an anchor is far darker."""
_OTHERS = 2
"""Other dates that it takes to tell."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Appraisal:
    """What is known of all bands of a window; the bands have one unit where detail and risk are asked for."""

    mean: Float32Array
    """(band, y, x) as the model gave it."""
    value: Float32Array
    """(band, y, x) once it agrees with the source."""
    sd: Float32Array
    """(band, y, x) standard deviation of the map; NaN where unknown."""
    image: Float32Array
    """(band, y / scale, x / scale) the source, NaN where missing."""
    residual: Float64Array
    """(band, y / scale, x / scale) difference of the mean to the source, seen through the operator."""
    scale: int

    @cached_property
    def interpolated(self) -> Float64Array:
        """Bicubic interpolation of the source, (band, y, x); NaN near what is missing."""
        return interpolate(self.image, self.scale)

    @cached_property
    def _detail(self) -> tuple[Float64Array, Float64Array]:
        known = np.asarray(np.isfinite(self.value).all(0) & np.isfinite(self.interpolated).all(0), bool)
        return measure_gain(self.value, self.interpolated, known, self.scale)

    @property
    def gain(self) -> Float64Array:
        """Gain in detail over the interpolation, (y, x); see :mod:`mapper.predict.detail`."""
        return self._detail[0]

    def describe(self, n_dates: UInt16Array | int) -> Float64Array:
        """Return the features that risk is estimated from, (feature, y, x); ``n_dates`` that agree, (y, x)."""
        gain, energy = self._detail
        return stack_features(
            sd=np.sqrt((self.sd.astype(np.float64) ** 2).mean(0)),
            detail=np.abs(self.value - self.interpolated).mean(0),
            gain=gain,
            residual=expand(np.fmax.reduce(self.residual), self.scale),
            n_dates=np.broadcast_to(np.asarray(n_dates, np.float64), gain.shape),
            energy=energy,
        )

    def flag(self, limits: Sequence[tuple[float, float]], *, has_zero: bool) -> Flags:
        """Return flags of pixels.

        Args:
            limits: Least and greatest value that each band can have, by its bounds and by the numbers it is stored as.
            has_zero: True for quantities whose deviation can be held against their value.
        """
        moved = np.abs(self.value - self.mean) > MOVED_SD * self.sd
        near = np.abs(self.mean - self.interpolated) <= _SAME * np.abs(self.interpolated)
        beyond = [(mean < low) | (mean > high) for mean, (low, high) in zip(self.mean, limits, strict=True)]
        return {
            "consistency_moved": moved.any(0),
            "fallback": near.all(0),
            "saturated": np.logical_or.reduce(beyond),
            **_class_confidence(self.value, self.sd, has_zero=has_zero),
        }


def _class_confidence(value: Float32Array, sd: Float32Array, *, has_zero: bool) -> Flags:
    """Return the class of each pixel by its worst band; no flag is high confidence."""
    if not has_zero:
        return {"confidence_unknown": True}
    ratio = np.fmax.reduce(np.where(np.isfinite(value), sd / np.maximum(np.abs(value), np.float32(1e-30)), np.nan))
    return {
        "confidence_unknown": np.isnan(ratio),
        "confidence_medium": (ratio >= MEDIUM_CONFIDENCE) & (ratio < LOW_CONFIDENCE),
        "confidence_low": ratio >= LOW_CONFIDENCE,
    }


def find_shadow(values: Float32Array, clear: BoolArray, anchor: Float32Array, own: BoolArray) -> BoolArray:
    """Find the pixels at which the anchor is far darker in every band than the median of other dates; returns (y, x).

    A shadow of a cloud leaves a fraction of the light; means over 3 x 3 source pixels are compared.

    Args:
        values: (date, band, y, x) of a quantity with a zero, NaN where missing.
        clear: (date, y, x) True where a date is used.
        anchor: (band, y, x), NaN where missing.
        own: (date, y, x) True where a date is the anchor itself.
    """
    others = clear & ~own & np.isfinite(values).all(1)
    if not others.any():
        return np.zeros(clear.shape[1:], bool)
    enough = others.sum(0) >= _OTHERS
    usual = np.stack([_median(band, others) for band in values.swapaxes(0, 1)])
    known = enough & np.isfinite(anchor).all(0)
    share = _sum_around(known.astype(np.float64)[None])
    shown, expected = (_sum_around(np.where(known, each, 0).astype(np.float64)) for each in (anchor, usual))
    darker = (shown < _FAR_DARKER * expected) & (expected > 0) & (share > 0)
    return np.asarray(darker.all(0) & known, bool)


def _median(band: Float32Array, chosen: BoolArray) -> Float32Array:
    """Return the median over chosen dates, (y, x) of (date, y, x); 0 where none is."""
    ordered = np.sort(np.where(chosen, band, np.float32(np.inf)), axis=0)
    count = chosen.sum(0)
    below, above = (np.maximum(count - 1, 0) // 2, np.minimum(count // 2, len(band) - 1))
    pair = [np.take_along_axis(ordered, at[None], 0)[0] for at in (below, above)]
    return np.where(count > 0, (pair[0] + pair[1]) / 2, np.float32(0))


def _sum_around(image: Float64Array) -> Float64Array:
    """Return the sum over 3 x 3 pixels around each, (band, y, x); the outside counts as 0."""
    wide = np.pad(image, ((0, 0), (1, 1), (1, 1)))
    rows, cols = image.shape[1:]
    total = np.zeros_like(image)
    for row in range(3):
        for col in range(3):
            total += wide[:, row : row + rows, col : col + cols]
    return total
