"""Reads of every task, from metadata alone: files, requests, pixels, whole blocks, bytes that travel.

All tasks are worked through together, as arrays over pairs of a task and a file: a plan of a hundred thousand tasks has
millions of them. Files are taken to be tiled in blocks that are fetched and decoded whole; the blocks of a row that lie
beside each other are one request.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from pyproj import CRS, Transformer

from mapper.arrays import BoolArray, Float64Array, IntArray
from mapper.cost.asset_grids import Frame, Load, find_guide_reads, find_source_reads, frames_of
from mapper.plan.context import Context
from mapper.plan.memory import Pairs
from mapper.plan.task_table import TaskTable
from mapper.plan.windows import bounds_at

_BLOCK_PX = 512
"""Edge of a block; what COG drivers write unless told otherwise."""


_MARGIN_PX = 2
"""Pixels of a file that are read around a window, for the neighbours of its outermost pixels."""


_HEADER_BYTES = 32 << 10
"""Bytes of the first request for a file."""


_MERGED_BYTES = 10 << 20
"""Compressed bytes of one window that GDAL keeps until they are decoded; blocks beyond are a request each.

Measured with blocks of 512 px of 440 KB: a window of 700 px takes 3 requests, of 1400 px 5, of 2048 px 5 where it lies
on the edges of blocks and 8 where it does not; a window as wide as its file takes 2, as rows of blocks lie end to end.
"""


_CHUNK_TASKS = 4096
_LOST = 1e9
"""Degrees beyond which a window has no image in the CRS of a file."""


@dataclass(frozen=True, kw_only=True)
class ReadCounts:
    """Reads of each task; arrays over tasks."""

    files: Float64Array
    """Opened, an asset that enters two seasons twice."""
    requests: Float64Array
    """Requests for remote files."""
    bytes_read: Float64Array
    """Bytes of remote files, as they travel."""
    window_bytes: Float64Array
    """Decoded, of the pixels under the window."""
    block_bytes: Float64Array
    """Decoded, of the whole blocks under the window."""


def count_reads(context: Context, tasks: TaskTable, pairs: Mapping[str, Pairs]) -> ReadCounts:
    """Count what each task reads.

    Args:
        context: What all tasks share.
        tasks: Any number.
        pairs: Of tasks and items, by role: guide, source.
    """
    windows = bounds_at(context, tasks.indices, halo=True)
    totals = np.zeros((5, len(tasks)))
    for role, found in pairs.items():
        reads = find_guide_reads(context, found.items) if role == "guide" else find_source_reads(context, found.items)
        table = _FrameTable([frames_of(item, reads.get(n, {}), context) for n, item in enumerate(found.items)])
        for first in range(0, len(tasks), _CHUNK_TASKS):
            last = min(first + _CHUNK_TASKS, len(tasks))
            start, stop = np.searchsorted(found.task, (first, last))
            chunk = found.task[start:stop] - first, found.item[start:stop]
            totals[:, first:last] += table.count(*chunk, windows[first:last], context.grid.crs)
    files, requests, bytes_read, window_bytes, block_bytes = totals
    return ReadCounts(
        files=files, requests=requests, bytes_read=bytes_read, window_bytes=window_bytes, block_bytes=block_bytes
    )


class _FrameTable:
    """The frames of all items as arrays."""

    def __init__(self, frames: Sequence[Mapping[Frame, Load]]) -> None:
        flat = [(frame, load) for found in frames for frame, load in found.items()]
        self.count_of = np.array([len(found) for found in frames], np.int64)
        self.first_of = np.cumsum(self.count_of) - self.count_of
        self.names = list(dict.fromkeys(frame.crs for frame, _ in flat))
        number_of = {name: number for number, name in enumerate(self.names)}
        self.crs = np.array([number_of[frame.crs] for frame, _ in flat], np.int64)
        self.place = np.array([(*frame.origin, *frame.step, *frame.shape) for frame, _ in flat]).reshape(-1, 6)
        self.load = np.array(
            [(load.files, load.remote, load.pixel_bytes, load.travel_bytes) for _, load in flat]
        ).reshape(-1, 4)

    def count(self, task: IntArray, item: IntArray, windows: Float64Array, crs: str) -> Float64Array:
        """Sum over the files of each task, rows in the order of :class:`ReadCounts`."""
        frames = self.count_of[item]
        rows = np.repeat(task, frames)
        within = np.arange(len(rows)) - np.repeat(np.cumsum(frames) - frames, frames)
        frame = np.repeat(self.first_of[item], frames) + within
        px, block_px, rows_px, whole = self._overlap(frame, rows, windows, crs)
        files, remote, pixel_bytes, travel_bytes = self.load[frame].T
        requests = _count_requests(block_px, rows_px, whole, travel_bytes / np.maximum(remote, 1))
        values = (
            files,
            remote * requests,
            remote * _HEADER_BYTES + travel_bytes * block_px,
            pixel_bytes * px,
            pixel_bytes * block_px,
        )
        return np.array([np.bincount(rows, value, minlength=len(windows)) for value in values])

    def _overlap(
        self, frame: IntArray, task: IntArray, windows: Float64Array, crs: str
    ) -> tuple[Float64Array, Float64Array, Float64Array, BoolArray]:
        """Measure the pixels under the window and of its blocks, their height, and if they are as wide as the file."""
        bounds = np.empty((len(frame), 4))
        for number, name in enumerate(self.names):
            chosen = np.flatnonzero(self.crs[frame] == number)
            wanted, back = np.unique(task[chosen], return_inverse=True)
            bounds[chosen] = _project_bounds(windows[wanted], crs, name)[back]
            if CRS.from_user_input(name).is_geographic:
                _bring_round(bounds, self.place[frame], chosen, name)
        x, y, step_x, step_y, height, width = self.place[frame].T
        cols, col_blocks = _span((bounds[:, 0] - x) / step_x, (bounds[:, 2] - x) / step_x, width)
        rows, row_blocks = _span((bounds[:, 1] - y) / step_y, (bounds[:, 3] - y) / step_y, height)
        touched = (cols > 0) & (rows > 0)
        block_px = np.where(touched, row_blocks * col_blocks, 0)
        return np.where(touched, rows * cols, 0), block_px, row_blocks, col_blocks >= width


def _count_requests(
    block_px: Float64Array, rows_px: Float64Array, whole: BoolArray, pixel_bytes: Float64Array
) -> Float64Array:
    """Count the requests for a file: header, each row of blocks unless rows lie end to end, each block not merged.

    Args:
        block_px: Pixels of the blocks.
        rows_px: Their height.
        whole: Whether they are as wide as the file.
        pixel_bytes: Compressed.
    """
    blocks = np.maximum(block_px / _BLOCK_PX**2, 1)
    merged = np.minimum(_MERGED_BYTES / np.maximum(pixel_bytes, 1e-9) / _BLOCK_PX**2, blocks)
    in_rows = np.where(whole, 1, np.ceil(rows_px / _BLOCK_PX)) * merged / blocks + blocks - merged
    return 1 + np.where(block_px > 0, in_rows, 0)


def _span(one: Float64Array, other: Float64Array, size: Float64Array) -> tuple[Float64Array, Float64Array]:
    """Return the pixels of a file between two edges along one axis, and those of the blocks that hold them."""
    low, high = np.minimum(one, other), np.maximum(one, other)
    first = np.clip(np.floor(low) - _MARGIN_PX, 0, size)
    last = np.clip(np.ceil(high) + _MARGIN_PX, 0, size)
    blocks = np.minimum(np.ceil(last / _BLOCK_PX) * _BLOCK_PX, size) - np.floor(first / _BLOCK_PX) * _BLOCK_PX
    return last - first, blocks


def _bring_round(bounds: Float64Array, places: Float64Array, chosen: IntArray, crs: str) -> None:
    """Move boxes by whole turns to where the middles of their files are, in place."""
    turn, (x, _, step, _, _, width) = _measure_turn(crs), places[chosen].T
    away = (bounds[chosen, 0] + bounds[chosen, 2]) / 2 - (x + step * width / 2)
    shift = np.where(np.abs(away) < _LOST, turn * np.round(away / turn), 0)
    bounds[chosen, 0] -= shift
    bounds[chosen, 2] -= shift


def _measure_turn(crs: str) -> float:
    """Return the units of a geographic CRS in one turn around the earth."""
    return 2 * math.pi / float(CRS.from_user_input(crs).axis_info[0].unit_conversion_factor)


def _project_bounds(bounds: Float64Array, here: str, there: str) -> Float64Array:
    """Project boxes to boxes in another CRS, from their corners and the middles of their edges; (box, 4)."""
    if not len(bounds) or CRS.from_user_input(here) == CRS.from_user_input(there):
        return bounds
    left, bottom, right, top = bounds.T
    across, along = (left + right) / 2, (bottom + top) / 2
    x = np.stack([left, across, right, right, right, across, left, left])
    y = np.stack([bottom, bottom, bottom, along, top, top, top, along])
    east, north = Transformer.from_crs(here, there, always_xy=True).transform(x, y)
    if CRS.from_user_input(there).is_geographic:  # longitudes jump at 180 degrees
        turn, across = _measure_turn(there), np.ptp(east, axis=0) > _measure_turn(there) / 2
        with np.errstate(invalid="ignore"):
            east[:, across] -= turn * np.round((east - east[0])[:, across] / turn)
    projected = np.stack([east.min(axis=0), north.min(axis=0), east.max(axis=0), north.max(axis=0)], axis=1)
    # a window without an image in the CRS of a file holds nothing of it
    projected[~np.isfinite(projected).all(axis=1)] = np.finfo(np.float32).max
    return projected
