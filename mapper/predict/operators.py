"""Operators from target to source, and the nearest target that agrees with its source through one.

An operator computes what the source would have seen of a target: the mean of a block, or a weighting by a point spread
function. To enforce it is to move a target, as little as possible in the sense of least squares, until the operator
gives what is asked for. All of it is local: a pixel hangs on source pixels up to ``reach`` away and on nothing else,
so that the result does not depend on tiling.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from mapper.arrays import BoolArray, Float32Array, Float64Array, FloatArray
from mapper.predict.ground import find_ground, spread_means
from mapper.spec.target import BandConsistency, Bounds, Mode

UNBOUNDED: Bounds = (None, None)


class Operator(ABC):
    """A map from the target to what the source saw.

    Args:
        scale: Source pixel / target pixel.
    """

    reach: int
    """Source pixels around its own that a target pixel hangs on, once the operator is enforced and looked at again."""
    reach_below = 1
    """Further ones with ``below``, which looks at the source pixels around each."""

    def __init__(self, scale: int) -> None:
        self.scale = scale

    @abstractmethod
    def apply(self, value: FloatArray) -> Float64Array:
        """Return what the source would see.

        Args:
            value: (y, x), NaN where missing; both edges multiples of the scale.

        Returns:
            (y / scale, x / scale), NaN where too few pixels are valid.
        """

    @abstractmethod
    def _move(self, value: Float32Array, clipped: Float32Array, goal: Float64Array, bounds: Bounds) -> Float32Array:
        """Return the target nearest to ``value`` that the operator takes to the goal; NaN goals ask for nothing."""

    def _lower(self, clipped: Float32Array, goal: Float64Array, bounds: Bounds) -> Float32Array:
        """Return a target that the operator takes to a goal of ``below``; NaN goals ask for nothing."""
        return self._move(clipped, clipped, goal, bounds)

    def reach_in(self, mode: Mode) -> int:
        """Return the source pixels around its own that a target pixel hangs on with a mode."""
        return self.reach + (self.reach_below if mode == "below" else 0)

    def enforce(
        self,
        value: Float32Array,
        source: Float32Array,
        sd: Float32Array,
        *,
        mode: Mode,
        bounds: Bounds = UNBOUNDED,
        tolerance: float | None = None,
    ) -> Float32Array:
        """Return a target moved until it agrees with its source.

        ``hard``: the operator gives the source. ``soft``: it gives the source within the tolerance; source pixels
        that agree already are left alone, the others are brought to the nearer end. ``below``: it gives at most the
        source and the tolerance, and the source where that is even and the target hardly below it, see
        :func:`mapper.predict.ground.find_ground`. Where the source is missing, and with ``none``, nothing is moved.

        Args:
            value: (y, x) in target units, NaN where missing.
            source: (y / scale, x / scale) in the same units, NaN where missing.
            sd: Like ``source``: its standard deviation, NaN where unknown.
            mode: none, soft, hard or below.
            bounds: Least and greatest value of the target; they hold for every mode.
            tolerance: In target units; None takes the standard deviation, 0 where that is unknown.

        Raises:
            ValueError: If the shapes do not nest.
        """
        scale = self.scale
        if value.shape != (source.shape[0] * scale, source.shape[1] * scale) or source.shape != sd.shape:
            raise ValueError(f"shapes {value.shape}, {source.shape}, {sd.shape} do not nest at scale {scale}")
        clipped = _clip(value, bounds)
        if mode == "none":
            return clipped
        means = self.apply(clipped)
        slack = np.nan_to_num(sd.astype(np.float64), nan=0.0) if tolerance is None else np.float64(tolerance)
        if mode == "below":
            return self._lower(clipped, _clip(find_ground(means, source.astype(np.float64), slack), bounds), bounds)
        goal = _find_goal(means, source, np.float64(0) if mode == "hard" else slack, bounds)
        return self._move(value, clipped, np.where(np.isfinite(means) & (goal != means), goal, np.nan), bounds)


class BlockMean(Operator):
    """Mean of the target pixels of a source pixel. Blocks are independent of each other, but for ``below``."""

    reach = 1  # a block that the edge of a tile cuts must be complete, and right, beyond it
    reach_below = 3  # the correction of blocks up to two away, which hang on the source around them

    def apply(self, value: FloatArray) -> Float64Array:
        """Return the mean of the valid target pixels of each source pixel, NaN where none is valid."""
        return block_mean(value, self.scale)

    def _move(self, value: Float32Array, clipped: Float32Array, goal: Float64Array, bounds: Bounds) -> Float32Array:
        moved = np.isfinite(goal)
        blocks = _to_blocks(clipped, self.scale).copy()
        raw = _to_blocks(value, self.scale)[moved].astype(np.float64)
        blocks[moved] = project(raw, goal[moved], bounds)
        return _from_blocks(blocks, self.scale)

    def _lower(self, clipped: Float32Array, goal: Float64Array, bounds: Bounds) -> Float32Array:
        # smoothly over the edges of blocks; in one with gaps, or cut by bounds, the rest is a shift of its own
        moved = _to_blocks(clipped + spread_means(goal - self.apply(clipped), self.scale), self.scale)
        blocks = _clip(moved, bounds)
        lacking = np.isfinite(goal) & (blocks != moved).any(-1)  # what is missing equals nothing
        blocks[lacking] = project(moved[lacking], goal[lacking], bounds)
        return _from_blocks(blocks, self.scale)


class GaussianPsf(Operator):
    """Weighting by a Gaussian point spread function around the centre of each source pixel.

    To reach a goal, the difference r is spread through the transpose of the operator A: target + A' h(r), where h is a
    finite filter that inverts A A'. It leaves less than 1e-4 of the largest difference. Where a bound cuts, what it
    takes is left as a difference; where target pixels are missing, the weights of the others count.

    Args:
        scale: Source pixel / target pixel.
        mtf: Modulation at the Nyquist frequency of the source, half a cycle in a source pixel.

    Raises:
        ValueError: If the modulation is not between 0 and 1.
    """

    def __init__(self, scale: int, *, mtf: float) -> None:
        if not 0 < mtf < 1:
            raise ValueError(f"mtf at the Nyquist frequency must lie between 0 and 1, got {mtf}")
        super().__init__(scale)
        self.weights, radius = _gaussian_weights(scale, mtf)
        self.inverse = _invert_gram(scale, mtf)
        self.reach = 3 * radius + len(self.inverse) // 2

    def apply(self, value: FloatArray) -> Float64Array:
        """Return the weighted mean of the valid pixels; NaN where they have less than half of the weight."""
        valid = np.isfinite(value)
        weight = self._gather(valid.astype(np.float64))
        total = self._gather(np.where(valid, value, 0).astype(np.float64))
        mean: Float64Array = np.where(weight >= 0.5, total / np.maximum(weight, 0.5), np.nan)
        return mean

    def _move(self, value: Float32Array, clipped: Float32Array, goal: Float64Array, bounds: Bounds) -> Float32Array:  # noqa: ARG002
        difference = np.nan_to_num(goal - self.apply(clipped), nan=0.0)
        for axis in (0, 1):
            difference = _correlate(difference, self.inverse, axis)
        moved = (clipped + self._scatter(difference)).astype(np.float32)
        return _clip(moved, bounds)

    def _gather(self, value: Float64Array) -> Float64Array:
        """Return the weighted sum around each source pixel; the outside counts as 0."""
        pad = (len(self.weights) - self.scale) // 2
        for axis in (0, 1):
            padded = np.moveaxis(np.pad(value, [(pad, pad) if at == axis else (0, 0) for at in (0, 1)]), axis, 0)
            rows = value.shape[axis] // self.scale * self.scale
            terms = (w * padded[at : at + rows : self.scale] for at, w in enumerate(self.weights))
            value = np.moveaxis(_add_in_order(terms), 0, axis)
        return value

    def _scatter(self, coarse: Float64Array) -> Float64Array:
        """Return the transpose of :meth:`_gather`: each source pixel spread over the target pixels it looks at."""
        taps = self.weights.reshape(-1, self.scale)  # (source pixel, pixel inside)
        radius = len(taps) // 2
        for axis in (0, 1):
            padded = np.moveaxis(np.pad(coarse, [(radius, radius) if at == axis else (0, 0) for at in (0, 1)]), axis, 0)
            number = coarse.shape[axis]
            terms = (
                padded[len(taps) - 1 - at : len(taps) - 1 - at + number, None] * tap[:, None]
                for at, tap in enumerate(taps)
            )
            fine = _add_in_order(terms)
            coarse = np.moveaxis(fine.reshape(number * self.scale, -1), 0, axis)
        return coarse


class NoOperator(Operator):
    """No tie at all: a target without anything to agree with."""

    reach = 0

    def apply(self, value: FloatArray) -> Float64Array:
        """Return NaN for every source pixel: nothing is known of what it saw."""
        return np.full((value.shape[0] // self.scale, value.shape[1] // self.scale), np.nan)

    def _move(self, value: Float32Array, clipped: Float32Array, goal: Float64Array, bounds: Bounds) -> Float32Array:  # noqa: ARG002
        return clipped


OPERATORS: Mapping[str, Callable[..., Operator]] = {
    "block-mean": BlockMean,
    "gaussian-psf": GaussianPsf,
    "none": NoOperator,
}
"""Operator by name; called with the scale and its own options."""


def make_operator(tie: BandConsistency, scale: int) -> Operator:
    """Return the operator of a target band.

    Args:
        tie: The operator's name and options.
        scale: Source pixel / target pixel.
    """
    options = {} if tie.mtf is None else {"mtf": tie.mtf}
    return OPERATORS[tie.operator](scale, **options)


def block_mean(value: FloatArray, scale: int) -> Float64Array:
    """Return the mean of the valid target pixels of each source pixel.

    Args:
        value: (y, x), NaN where missing; both edges multiples of ``scale``.
        scale: Source pixel / target pixel.

    Returns:
        (y / scale, x / scale), NaN where no pixel is valid.
    """
    return _mean_of(_to_blocks(value, scale).astype(np.float64))


def expand(coarse: npt.NDArray[Any], scale: int) -> npt.NDArray[Any]:
    """Return the value of its source pixel at each target pixel: (..., y, x) to (..., y * scale, x * scale)."""
    return coarse.repeat(scale, -2).repeat(scale, -1)


def project(blocks: Float64Array, goal: Float64Array, bounds: Bounds) -> Float64Array:
    """Return the nearest blocks with given means and values within bounds.

    Args:
        blocks: (block, pixel); NaN pixels stay NaN.
        goal: (block,) means, within the bounds.
        bounds: Least and greatest value.
    """
    low, high = bounds
    if low is None and high is not None:
        return -project(-blocks, -goal, (-high, None))
    result: Float64Array = blocks + (goal - _mean_of(blocks))[:, None]
    outside: BoolArray = np.zeros(len(blocks), bool)
    if low is not None:
        outside |= np.nanmin(result, axis=1, initial=low) < low
    if high is not None:
        outside |= np.nanmax(result, axis=1, initial=high) > high
    if outside.any():
        shift = (_simplex_shift if high is None else _box_shift)(blocks[outside], goal[outside], bounds)
        result[outside] = _clip(blocks[outside] - shift[:, None], bounds)
    return result


def _find_goal(
    means: Float64Array, source: Float32Array, slack: Float64Array | np.float64, bounds: Bounds
) -> Float64Array:
    """Return what the operator has to give; NaN where the source is missing."""
    lowest, highest = _clip(source - slack, bounds), _clip(source + slack, bounds)
    goal: Float64Array = np.where(np.isfinite(source), np.clip(means, lowest, highest), np.nan)
    return goal


def _clip(value: npt.NDArray[Any], bounds: Bounds) -> npt.NDArray[Any]:
    low, high = bounds
    value = value if low is None else np.maximum(value, value.dtype.type(low))
    return value if high is None else np.minimum(value, value.dtype.type(high))


def _simplex_shift(blocks: Float64Array, goal: Float64Array, bounds: Bounds) -> Float64Array:
    """Return the t for which max(block - t, low) has the mean ``goal`` >= low, by sorting."""
    low = bounds[0] or 0.0
    count = np.isfinite(blocks).sum(1)
    ordered = -np.sort(-blocks, axis=1)  # largest first, NaN last
    rank = np.arange(1, blocks.shape[1] + 1)
    # with k pixels above the bound their sum is goal * count less what the others, at the bound, hold
    rest = goal * count - low * count if low else goal * count
    shifts = (np.cumsum(np.nan_to_num(ordered - low if low else ordered), axis=1) - rest[:, None]) / rank
    # the right t is that of the largest number of pixels that all stay positive under it
    positive = np.maximum(((ordered - low if low else ordered) > shifts).sum(1), 1)
    chosen: Float64Array = np.take_along_axis(shifts, positive[:, None] - 1, axis=1)[:, 0]
    return chosen


def _box_shift(blocks: Float64Array, goal: Float64Array, bounds: Bounds) -> Float64Array:
    """Return the t for which clip(block - t, low, high) has the mean ``goal``, by sorting its breakpoints.

    The sum of the clipped pixels falls with t, linearly between breakpoints: block - high, from where on a pixel
    falls, and block - low, from where on it stays at the low bound.
    """
    low, high = float(bounds[0] or 0.0), float(bounds[1] or 0.0)
    valid = np.isfinite(blocks)
    points = np.concatenate([blocks - high, blocks - low], axis=1)
    turns = np.concatenate([valid, -valid.astype(np.int64)], axis=1)
    order = np.argsort(points, axis=1, kind="stable")  # NaN last
    points = np.take_along_axis(points, order, axis=1)
    points = np.where(np.isnan(points), np.nanmax(points, axis=1, keepdims=True), points)
    falling = np.cumsum(np.take_along_axis(turns, order, axis=1), axis=1)
    drops = falling * np.diff(points, axis=1, append=points[:, -1:])
    sums = valid.sum(1)[:, None] * high - np.concatenate([np.zeros((len(blocks), 1)), np.cumsum(drops, axis=1)], axis=1)
    wanted = goal * valid.sum(1)
    # the last breakpoint at which the sum is still at least what is wanted
    at = np.maximum((sums[:, :-1] >= wanted[:, None]).sum(1) - 1, 0)[:, None]
    start, above, slope = (np.take_along_axis(array, at, axis=1)[:, 0] for array in (points, sums[:, :-1], falling))
    shift: Float64Array = start + np.where(slope > 0, (above - wanted) / np.maximum(slope, 1), 0.0)
    return shift


@lru_cache(maxsize=16)
def _gaussian_weights(scale: int, mtf: float) -> tuple[Float64Array, int]:
    """Return the weights of the target pixels along one axis, and their radius in source pixels.

    The modulation exp(-2 (pi sd f)^2) at f = 1/2 gives the standard deviation in source pixels.
    """
    sd = math.sqrt(-2 * math.log(mtf)) / math.pi
    radius = max(1, math.ceil(_CUT_OFF * sd - 0.5))
    distance = (np.arange(scale * (2 * radius + 1)) + 0.5) / scale - (radius + 0.5)
    weights = np.exp(-((distance / sd) ** 2) / 2)
    return weights / weights.sum(), radius


_CUT_OFF = 3.5
"""Standard deviations at which the point spread function ends."""
_LEFT = 5e-5
"""Largest part of a difference that inverting leaves."""
_LONGEST = 64
"""Greatest radius of an inverse, in source pixels."""


@lru_cache(maxsize=16)
def _invert_gram(scale: int, mtf: float) -> Float64Array:
    """Return the shortest filter h, along one axis, for which A A' h is the identity but for a small part.

    Raises:
        ValueError: If the point spread function is so wide that no filter of a reasonable length does.
    """
    weights, radius = _gaussian_weights(scale, mtf)
    half = [weights[lag * scale :] @ weights[: len(weights) - lag * scale] for lag in range(2 * radius + 1)]
    gram = np.array([*half[:0:-1], *half])
    for length in range(1, _LONGEST + 1):
        columns = np.eye(2 * length + 1)
        matrix = np.stack([np.convolve(column, gram) for column in columns], axis=1)
        unit = np.zeros(len(matrix))
        unit[len(unit) // 2] = 1
        taps: Float64Array = np.linalg.lstsq(matrix, unit, rcond=None)[0]
        error = float(np.abs(matrix @ taps - unit).sum())
        if error * (2 + error) <= _LEFT:  # along both axes
            return taps
    raise ValueError(f"mtf {mtf} leaves too little at the Nyquist frequency to be inverted; expected at least 0.05")


def _correlate(value: Float64Array, taps: Float64Array, axis: int) -> Float64Array:
    """Return the correlation with a symmetric filter along an axis; the outside counts as 0."""
    radius = len(taps) // 2
    padded = np.moveaxis(np.pad(value, [(radius, radius) if at == axis else (0, 0) for at in (0, 1)]), axis, 0)
    terms = (tap * padded[at : at + value.shape[axis]] for at, tap in enumerate(taps))
    return np.moveaxis(_add_in_order(terms), 0, axis)


def _add_in_order(terms: Any) -> Float64Array:
    """Return a sum whose order, and so whose rounding, does not depend on where a window lies."""
    terms = iter(terms)
    total: Float64Array = next(terms).copy()
    for term in terms:
        total += term
    return total


def _mean_of(blocks: Float64Array) -> Float64Array:
    valid = np.isfinite(blocks)
    count = valid.sum(-1)
    total = np.where(valid, blocks, 0.0).sum(-1)
    mean: Float64Array = np.where(count > 0, total / np.maximum(count, 1), np.nan)
    return mean


def _to_blocks(value: FloatArray, scale: int) -> FloatArray:
    """Return (y, x) as (y / scale, x / scale, pixel)."""
    rows, cols = value.shape[0] // scale, value.shape[1] // scale
    return value.reshape(rows, scale, cols, scale).swapaxes(1, 2).reshape(rows, cols, scale * scale)


def _from_blocks(blocks: FloatArray, scale: int) -> Float32Array:
    rows, cols = blocks.shape[:2]
    value = blocks.reshape(rows, cols, scale, scale).swapaxes(1, 2).reshape(rows * scale, cols * scale)
    return value.astype(np.float32, copy=False)
