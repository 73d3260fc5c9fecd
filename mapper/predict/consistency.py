"""The coarse map is honoured: a target is moved, as little as possible, until its block means agree with the source.

A block is the ``scale`` x ``scale`` target pixels of one source pixel. Blocks are independent of each other, so the
result does not depend on tiling. "As little as possible" is meant exactly: the nearest map in the sense of least
squares, which for a target that may not be negative is the projection onto a simplex.
"""

from typing import Any, Literal

import numpy as np
import numpy.typing as npt

Mode = Literal["none", "soft", "hard", "below"]


def block_mean(value: npt.NDArray[np.floating], scale: int) -> npt.NDArray[np.float64]:
    """Mean of the valid target pixels of each source pixel.

    Args:
        value: (y, x), NaN where missing; both edges multiples of ``scale``.
        scale: Source pixel / target pixel.

    Returns:
        (y / scale, x / scale), NaN where no pixel is valid.
    """
    return _mean_of(_to_blocks(value, scale).astype(np.float64))


def spread(coarse: npt.NDArray[Any], scale: int) -> npt.NDArray[Any]:
    """The value of its source pixel at each target pixel: (y, x) to (y * scale, x * scale)."""
    return coarse.repeat(scale, 0).repeat(scale, 1)


def enforce(
    value: npt.NDArray[np.float32],
    source: npt.NDArray[np.float32],
    source_sd: npt.NDArray[np.float32],
    *,
    mode: Mode,
    scale: int,
    non_negative: bool,
) -> npt.NDArray[np.float32]:
    """Move a target until it honours its source.

    ``hard``: block means equal the source. ``soft``: they lie within one standard deviation of it; blocks that do
    already are left alone, the others are moved to the nearer end. An unknown standard deviation counts as 0. Where
    the source is missing, and with ``none``, nothing is moved.

    Args:
        value: (y, x) in target units, NaN where missing.
        source: (y / scale, x / scale) in the same units, NaN where missing.
        source_sd: Like ``source``, NaN where unknown.
        mode: none, soft or hard.
        scale: Source pixel / target pixel.
        non_negative: Whether the target may not be below 0; holds for every mode.

    Returns:
        (y, x) float32.

    Raises:
        ValueError: If the shapes do not nest.
    """
    if value.shape != (source.shape[0] * scale, source.shape[1] * scale) or source.shape != source_sd.shape:
        raise ValueError(f"shapes {value.shape}, {source.shape}, {source_sd.shape} do not nest at scale {scale}")
    clipped = np.maximum(value, np.float32(0)) if non_negative else value
    if mode == "none":
        return clipped
    means = block_mean(clipped, scale)
    goal = _goal(means, source, source_sd, soft=mode == "soft", non_negative=non_negative)
    moved = np.isfinite(goal) & np.isfinite(means) & (goal != means)
    blocks = _to_blocks(clipped, scale).copy()
    raw = _to_blocks(value, scale)[moved].astype(np.float64)
    blocks[moved] = _project(raw, goal[moved], non_negative=non_negative)
    return _from_blocks(blocks, scale)


def _goal(
    means: npt.NDArray[np.float64],
    source: npt.NDArray[np.float32],
    source_sd: npt.NDArray[np.float32],
    *,
    soft: bool,
    non_negative: bool,
) -> npt.NDArray[np.float64]:
    """The block means to reach; NaN where the source is missing."""
    tolerance = np.nan_to_num(source_sd.astype(np.float64), nan=0.0) if soft else 0.0
    floor = 0.0 if non_negative else -np.inf
    lowest, highest = np.maximum(source - tolerance, floor), np.maximum(source + tolerance, floor)
    goal: npt.NDArray[np.float64] = np.where(np.isfinite(source), np.clip(means, lowest, highest), np.nan)
    return goal


def _project(
    blocks: npt.NDArray[np.float64], goal: npt.NDArray[np.float64], *, non_negative: bool
) -> npt.NDArray[np.float64]:
    """The nearest blocks (block, pixel) with the given means; NaN pixels stay NaN."""
    shift = goal - _mean_of(blocks)
    result: npt.NDArray[np.float64] = blocks + shift[:, None]
    if non_negative:
        below = np.nanmin(result, axis=1, initial=0.0) < 0
        result[below] = np.maximum(blocks[below] - _simplex_shift(blocks[below], goal[below])[:, None], 0)
    return result


def _simplex_shift(blocks: npt.NDArray[np.float64], goal: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """The t for which max(block - t, 0) has the mean ``goal`` >= 0, by sorting."""
    count = np.isfinite(blocks).sum(1)
    ordered = -np.sort(-blocks, axis=1)  # largest first, NaN last
    rank = np.arange(1, blocks.shape[1] + 1)
    shifts = (np.cumsum(np.nan_to_num(ordered), axis=1) - (goal * count)[:, None]) / rank
    # the right t is that of the largest number of pixels that all stay positive under it
    kept = np.maximum((ordered > shifts).sum(1), 1)
    chosen: npt.NDArray[np.float64] = np.take_along_axis(shifts, kept[:, None] - 1, axis=1)[:, 0]
    return chosen


def _mean_of(blocks: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    valid = np.isfinite(blocks)
    count = valid.sum(-1)
    total = np.where(valid, blocks, 0.0).sum(-1)
    mean: npt.NDArray[np.float64] = np.where(count > 0, total / np.maximum(count, 1), np.nan)
    return mean


def _to_blocks(value: npt.NDArray[np.floating], scale: int) -> npt.NDArray[np.floating]:
    """(y, x) to (y / scale, x / scale, pixel)."""
    rows, cols = value.shape[0] // scale, value.shape[1] // scale
    return value.reshape(rows, scale, cols, scale).swapaxes(1, 2).reshape(rows, cols, scale * scale)


def _from_blocks(blocks: npt.NDArray[np.floating], scale: int) -> npt.NDArray[np.float32]:
    rows, cols = blocks.shape[:2]
    value = blocks.reshape(rows, cols, scale, scale).swapaxes(1, 2).reshape(rows * scale, cols * scale)
    return value.astype(np.float32, copy=False)
