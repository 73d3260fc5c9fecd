"""Everything that is counted about heights of the ground: errors by land cover and by slope, slopes, water, seams."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Self

import numpy as np

from mapper.arrays import BoolArray, Float64Array, FloatArray, IntArray
from mapper.evaluation.drainage import compare_streams, drain
from mapper.evaluation.metric import HEIGHT_METRICS, Better, Metric, choose_metrics
from mapper.evaluation.relief import COVER, Ground, find_pits, find_slope, sum_steps
from mapper.evaluation.score import Score, rounded
from mapper.spec.target import BandSpec

SLOPE_EDGES = (0.0, 2.0, 5.0, 10.0, 20.0, 90.0)
"""Edges of the classes of true slope, in degrees."""
SLOPES = (*(f"{low:g}-{high:g}°" for low, high in pairwise(SLOPE_EDGES[:-1])), f"> {SLOPE_EDGES[-2]:g}°")
"""Names of these classes."""

TERRAIN_SCORES: Mapping[str, tuple[str, str, Better]] = {
    "slope_rmse": ("slope RMSE", "°", "lower"),
    "pits": ("pits", "", "zero"),
    "pits_true": ("true pits", "", "zero"),
    "filled_m3": ("filled", "m³", "zero"),
    "filled_true_m3": ("truly filled", "m³", "zero"),
    "streams_f1": ("streams F1", "", "higher"),
    "seam_ratio": ("seam ratio", "", "zero"),
}
"""Scores of the shape of the ground: title, units, and the end of the scale at which a map is better."""

_EMPTY = np.zeros(0)


@dataclass(frozen=True, kw_only=True, eq=False)
class Terrain:
    """Sums of one method over ground whose lie is known. Add two of them to pool them.

    Depressions and streams end at the edges of the blocks that are added; nothing else does not add up exactly, but
    for the 3 x 3 windows that lie across two blocks.
    """

    cover: Mapping[str, Score] = field(default_factory=dict)
    """Scores by land cover."""
    slope: Mapping[str, Score] = field(default_factory=dict)
    """Scores by class of true slope."""
    slopes: Float64Array = field(default_factory=lambda: _EMPTY)
    """Number of pixels, and sum of the squared differences of slope in square degrees."""
    pits: Float64Array = field(default_factory=lambda: _EMPTY)
    """Number of pixels, pits of the map, pits of the truth."""
    filled: Float64Array = field(default_factory=lambda: _EMPTY)
    """Volume that fills the depressions of the map, and of the truth, in cubic metres."""
    streams: Float64Array = field(default_factory=lambda: _EMPTY)
    """Pixels of the map's streams, of these near true ones, of true streams, of these near the map's."""
    steps: Float64Array = field(default_factory=lambda: _EMPTY)
    """Number and sum of squared second differences across edges, and elsewhere."""

    @classmethod
    def of(cls, value: FloatArray, truth: FloatArray, ground: Ground, *, target: BandSpec) -> Self:
        """Compare heights with true ones.

        Args:
            value: (y, x) in metres, NaN where missing.
            truth: (y, x), NaN where it is not to be scored.
            ground: What is known of these pixels.
            target: Band that is scored.
        """
        heights = truth if ground.heights is None else ground.heights
        scored = np.isfinite(truth) & np.isfinite(value)
        slope = find_slope(heights, ground.dy_m, ground.dx_m)
        error = np.where(scored, find_slope(value, ground.dy_m, ground.dx_m) - slope, np.nan)
        error = error[np.isfinite(error)]
        metrics = choose_metrics(target, HEIGHT_METRICS)
        cover = np.full(truth.shape, len(COVER)) if ground.cover is None else ground.cover
        known = np.isfinite(value) & np.isfinite(heights)
        one, other = (np.where(known, array, np.nan) for array in (value, heights))
        (level_one, streams_one), (level_other, streams_other) = drain(one), drain(other)
        area = (ground.dy_m * ground.dx_m)[:, None]
        return cls(
            cover=_score_classes(value, truth, cover.astype(np.int64), COVER, metrics),
            slope=_score_classes(value, truth, _classify(slope), SLOPES, metrics),
            slopes=np.array([error.size, np.square(error).sum()]),
            pits=_count_pits(one, other, scored=scored),
            filled=np.array([np.nansum((level - z) * area) for level, z in ((level_one, one), (level_other, other))]),
            streams=compare_streams(streams_one, streams_other),
            steps=sum_steps(value, ground.edges, period_px=ground.period_px),
        )

    def __add__(self, other: "Terrain") -> "Terrain":
        if not (self.slopes.size and other.slopes.size):
            return self if self.slopes.size else other
        return Terrain(
            cover={name: score + other.cover[name] for name, score in self.cover.items()},
            slope={name: score + other.slope[name] for name, score in self.slope.items()},
            slopes=self.slopes + other.slopes,
            pits=self.pits + other.pits,
            filled=self.filled + other.filled,
            streams=self.streams + other.streams,
            steps=self.steps + other.steps,
        )

    @property
    def counted(self) -> bool:
        """True where anything was compared."""
        return bool(self.slopes.size)

    def values(self) -> dict[str, float]:
        """Return the scores of :data:`TERRAIN_SCORES`, NaN where there is none; empty where nothing was compared."""
        if not self.counted:
            return {}
        found, found_near, true, true_near = self.streams.tolist()
        hits = _divide(found_near, found) + _divide(true_near, true)
        across, elsewhere = (_divide(square, n) for n, square in self.steps.reshape(2, 2).tolist())
        scores = (
            math.sqrt(_divide(self.slopes[1], self.slopes[0])),
            _divide(self.pits[1], self.pits[0]),
            _divide(self.pits[2], self.pits[0]),
            *self.filled.tolist(),
            _divide(2 * _divide(found_near, found) * _divide(true_near, true), hits) if hits else hits,
            math.sqrt(_divide(across, elsewhere)),
        )
        return dict(zip(TERRAIN_SCORES, scores, strict=True))

    def to_dict(self) -> dict[str, object]:
        """Return everything, for JSON; None where there is nothing, and no class without a pixel."""
        by_class = {
            name: {label: score.to_dict() for label, score in classes.items() if score.n}
            for name, classes in (("cover", self.cover), ("slope", self.slope))
        }
        return {**{name: rounded(score) for name, score in self.values().items()}, **by_class}


def _score_classes(
    value: FloatArray, truth: FloatArray, index: IntArray, names: tuple[str, ...], metrics: Mapping[str, Metric]
) -> dict[str, Score]:
    """Return the scores of the pixels of each class."""
    parts = ((name, index == number) for number, name in enumerate(names))
    return {name: Score.of(value[where], truth[where], metrics=metrics) for name, where in parts}


def _classify(slope: Float64Array) -> IntArray:
    """Return the class of each slope; one beyond all for a slope that is not known."""
    index = np.searchsorted(SLOPE_EDGES, slope, side="right") - 1
    return np.where(np.isfinite(slope), index.clip(0, len(SLOPES) - 1), len(SLOPES)).astype(np.int64)


def _count_pits(value: FloatArray, heights: FloatArray, *, scored: BoolArray) -> Float64Array:
    found, whole = find_pits(value)
    true, _ = find_pits(heights)
    return np.array([(whole & scored).sum(), (found & scored).sum(), (true & scored).sum()], np.float64)


def _divide(number: float, by: float) -> float:
    return number / by if by else math.nan
