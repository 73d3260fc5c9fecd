"""Positions of the pixels of a geobox on the grid of a file, to a millionth of a pixel and alike in every window.

A projection is smooth: positions are computed at every 16th pixel corner of the *endless* target grid and interpolated
by cubics between them, which is ten times quicker than to project every pixel. Nodes of the endless grid, not of
the window, are what makes a position the same in every window. Where the interpolation is not exact to a millionth of
a source pixel (beside a seam of the source CRS), every pixel is projected.

The frame of a window is the rectangle of source pixels around all its positions. It may be far larger than the file
that is read, or than memory: a coarse window over a fine file, one that reaches beyond the source CRS, one across the
edge of a file in longitudes. Such a frame is narrowed to the file and cut into pieces; a pixel is the same in all.
Longitudes come round: 58 degrees west are column 302 of a file from 0 to 360 degrees.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
import rasterio
from odc.geo.geobox import GeoBox
from pyproj import CRS, Transformer

from mapper.arrays import Float32Array, Float64Array, IntArray

_SNAP_DECIMALS = 6
"""Decimals of positions in source pixels, so that ties fall alike in every window."""
_MARGIN = 2
"""Source pixels around the outermost centres, for the neighbours of a cubic kernel."""
_NODE_STEP = 16
"""Target pixels between two nodes."""
_BLOCK_ROWS = 32
"""Rows that are interpolated at a time, so that temporary arrays stay in the cache of a core."""
_FARTHEST = 2.0**40
"""Source pixels from the origin of a grid beyond which a position is none: projections blow up where they end."""
_LARGEST_INDEX = 2**62
_NEST = 1e-2
"""Part of a pixel that pixels of coinciding grids may be apart: positions in files are decimal."""
_WHOLE = 1e-3
"""Pixels that a turn around the earth may differ from a whole number, since steps are written as decimals."""
FRAME_PX = 2**22
"""Source pixels that may be read at once, however few target pixels there are; else twice as many as these."""


@dataclass(frozen=True, kw_only=True)
class SourceGrid:
    """Endless grid that the pixels of a file lie on."""

    crs: str
    """CRS as WKT."""
    step: tuple[float, float]
    """Pixel size along x and y, signed, in units of ``crs``."""
    phase: tuple[float, float]
    """Offset of the pixel corners along x and y, between 0 and the step."""

    @classmethod
    def of(cls, dataset: rasterio.DatasetReader, *, crs: str | None = None) -> tuple["SourceGrid", tuple[int, int]]:
        """Return the grid of a file, and the row and column of its first pixel on that grid.

        Args:
            dataset: The file.
            crs: CRS that counts where the file names none.

        Raises:
            OSError: If the file is not georeferenced along its rows and columns.
        """
        transform = dataset.transform
        sound = all(map(math.isfinite, transform[:6])) and transform.a and transform.e
        own = _to_wkt(crs) if dataset.crs is None and crs else dataset.crs and dataset.crs.to_wkt()
        if not own or transform.b or transform.d or not sound:
            raise OSError(f"{dataset.name} has no georeference along rows and columns")
        (col, x), (row, y) = _split(transform.c, transform.a), _split(transform.f, transform.e)
        return cls(crs=own, step=(transform.a, transform.e), phase=(x, y)), (row, col)

    @property
    def turn(self) -> float:
        """Return the columns of one turn around the earth; 0 where they do not come round."""
        turn = _measure_turn(self.crs) / abs(self.step[0])
        whole = round(turn)
        return float(whole) if abs(turn - whole) < _WHOLE else turn


@dataclass(frozen=True, kw_only=True)
class Extent:
    """Rows and columns of a source grid that a file has."""

    top: int
    left: int
    shape: tuple[int, int]


@dataclass(frozen=True, kw_only=True)
class PixelPositions:
    """Positions of the pixels of one geobox on a source grid."""

    top: int
    left: int
    shape: tuple[int, int]
    """First row and column, and size, of the frame: the source pixels that are needed, none where nothing has one."""
    corner: npt.NDArray[np.int32] | npt.NDArray[np.int64]
    """(y, x) flat index into the frame of the upper left of the four source pixels around each target pixel."""
    weights: tuple[Float32Array, Float32Array] | None
    """(y, x) distance from ``corner`` along y and x, 0 to 1; None where the grids coincide."""
    outside: npt.NDArray[np.bool_] | None
    """(y, x) True where a pixel has no image in the source CRS, or not in the file; None where all have."""

    @property
    def frame_px(self) -> int:
        """Return the number of source pixels in the frame."""
        return self.shape[0] * self.shape[1]

    def coincide(self) -> bool:
        """Return True if the target pixels are pixels of the source grid: as large, and no part of one away from it."""
        if not self.frame_px or self.outside is not None:
            return not self.frame_px
        sizes = (edge - 2 * _MARGIN - size for edge, size in zip(self.shape, self.corner.shape, strict=True))
        if any(abs(difference) > 1 for difference in sizes):
            return False
        return self.weights is None or all(float(np.abs(each - np.round(each)).max()) < _NEST for each in self.weights)

    def __getitem__(self, part: tuple[slice, slice]) -> "PixelPositions":
        """Return the positions of a part of the pixels, in the same frame."""
        return replace(
            self,
            corner=self.corner[part],
            weights=self.weights and (self.weights[0][part], self.weights[1][part]),
            outside=None if self.outside is None else self.outside[part],
        )


def locate(geobox: GeoBox, grid: SourceGrid) -> PixelPositions:
    """Locate the pixels of a geobox on a source grid.

    Raises:
        ValueError: If the frame has more source pixels than can be numbered.
    """
    cols, rows = _centres(geobox, grid)
    np.round(cols, _SNAP_DECIMALS, out=cols)
    np.round(rows, _SNAP_DECIMALS, out=rows)
    extremes = np.abs([cols.min(), cols.max(), rows.min(), rows.max()])
    outside = None if (extremes < _FARTHEST).all() else ~((np.abs(cols) < _FARTHEST) & (np.abs(rows) < _FARTHEST))
    return _frame(rows, cols, outside)


def most_pixels(target_px: int) -> int:
    """Return the number of source pixels that are read at once at most, for a number of target pixels."""
    return max(FRAME_PX, 2 * target_px)


def cut_to_file(
    positions: PixelPositions, extent: Extent, turn: float
) -> Iterator[tuple[tuple[slice, slice], PixelPositions]]:
    """Yield the parts of a window that lie in a file, each with a frame of few enough pixels to be read at once.

    Args:
        positions: Of all pixels of the window.
        extent: Pixels that the file has.
        turn: Columns of one turn around the earth; 0 where they do not come round.
    """
    most, whole = most_pixels(positions.corner.size), (slice(None), slice(None))
    shift = _find_shift(positions, extent, turn) if turn else 0
    if shift is not None and positions.frame_px <= most:
        yield whole, positions if not shift else replace(positions, left=positions.left + shift)
        return
    narrow = _narrow(positions, extent, turn)
    waiting = [] if narrow is None else [(whole, narrow)]
    while waiting:
        (rows, cols), part = waiting.pop()
        if part.frame_px <= most or part.corner.size == 1:
            yield (rows, cols), part
            continue
        for piece in _halves(part.corner.shape):
            narrow = _narrow(part[piece], extent, 0.0)
            if narrow is not None:
                waiting.append(((_within(rows, piece[0]), _within(cols, piece[1])), narrow))


def _frame(rows: Float64Array, cols: Float64Array, outside: npt.NDArray[np.bool_] | None) -> PixelPositions:
    """Return positions with the frame around those that are not outside; changes its input."""
    if outside is not None:
        if outside.all():
            nowhere = np.zeros(rows.shape, np.int32)
            return PixelPositions(top=0, left=0, shape=(0, 0), corner=nowhere, weights=None, outside=outside)
        # any position will do, the mask goes over it
        cols[outside], rows[outside] = cols[~outside][0], rows[~outside][0]
    top, left = int(np.floor(rows.min())) - _MARGIN, int(np.floor(cols.min())) - _MARGIN
    height, width = int(np.floor(rows.max())) + _MARGIN + 1 - top, int(np.floor(cols.max())) + _MARGIN + 1 - left
    if height * width > _LARGEST_INDEX:
        raise ValueError(f"the window spans {height} x {width} pixels of the file, more than can be numbered")
    number: type[Any] = np.int32 if height * width < 2**31 else np.int64
    rows -= top + 0.5
    cols -= left + 0.5
    row: npt.NDArray[Any]
    col: npt.NDArray[Any]
    row, col = rows.astype(number), cols.astype(number)
    rows -= row
    cols -= col
    weights = rows.astype(np.float32), cols.astype(np.float32)
    row *= number(width)
    row += col
    return PixelPositions(
        top=top,
        left=left,
        shape=(height, width),
        corner=row,
        weights=weights if weights[0].any() or weights[1].any() else None,
        outside=outside,
    )


def _narrow(positions: PixelPositions, extent: Extent, turn: float) -> PixelPositions | None:
    """Return positions with a frame around those whose source pixel a file has; None if it has none of them.

    Longitudes are brought into the turn that begins with the file, whatever the window.
    """
    if not positions.frame_px:
        return None
    row, col = np.divmod(positions.corner.astype(np.int64), positions.shape[1])
    row += positions.top
    col += positions.left
    weights = positions.weights
    if turn:
        col, weights = _bring_round(col, weights, extent.left, turn)
    near = (row, col) if weights is None else (row + (weights[0] >= 0.5), col + (weights[1] >= 0.5))
    outside = _lie_beyond(near[0], extent.top, extent.shape[0]) | _lie_beyond(near[1], extent.left, extent.shape[1])
    if positions.outside is not None:
        outside |= positions.outside
    if outside.all():
        return None
    row[outside], col[outside] = row[~outside][0], col[~outside][0]
    top, left = int(row.min()) - _MARGIN, int(col.min()) - _MARGIN
    height, width = int(row.max()) + _MARGIN + 1 - top, int(col.max()) + _MARGIN + 1 - left
    corner = (row - top) * width + (col - left)
    masked = outside if outside.any() else None
    return PixelPositions(top=top, left=left, shape=(height, width), corner=corner, weights=weights, outside=masked)


def _bring_round(
    col: IntArray, weights: tuple[Float32Array, Float32Array] | None, first: int, turn: float
) -> tuple[IntArray, tuple[Float32Array, Float32Array] | None]:
    """Return columns, and weights, by whole turns nearer: the pixel of each centre is the first column or follows."""
    apart = np.zeros(col.shape) if weights is None else weights[1].astype(np.float64)
    # of the centre itself: pixels of one turn are not those of the next where a turn holds no whole number of them
    turns = np.floor((np.round(col + apart + 0.5, _SNAP_DECIMALS) - first) / turn)
    if turn.is_integer():
        return col - (turns * turn).astype(np.int64), weights
    along = np.round(col + apart - turns * turn, _SNAP_DECIMALS)
    whole = np.floor(along)
    down = np.zeros(col.shape, np.float32) if weights is None else weights[0]
    return whole.astype(np.int64), (down, (along - whole).astype(np.float32))


def _find_shift(positions: PixelPositions, extent: Extent, turn: float) -> int | None:
    """Return the columns of the whole turns after which a frame meets a file; None if that differs between its pixels.

    A frame that meets it nowhere is left where it is.
    """
    first = math.ceil((extent.left - positions.left - positions.shape[1]) / turn)
    last = math.floor((extent.left + extent.shape[1] - positions.left) / turn)
    if last < first or (first == last == 0):
        return 0
    return int(first * turn) if first == last and turn.is_integer() else None


def _lie_beyond(index: IntArray, first: int, size: int) -> npt.NDArray[np.bool_]:
    return (index < first) | (index >= first + size)


def _halves(shape: tuple[int, ...]) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    """Return the two halves of an array, cut across its longer axis."""
    rows, cols = shape
    if rows >= cols:
        return (slice(0, rows // 2), slice(0, cols)), (slice(rows // 2, rows), slice(0, cols))
    return (slice(0, rows), slice(0, cols // 2)), (slice(0, rows), slice(cols // 2, cols))


def _within(outer: slice, inner: slice) -> slice:
    """Return a slice of a slice as one of the whole."""
    start = outer.start or 0
    return slice(start + inner.start, start + inner.stop)


@lru_cache(maxsize=64)
def _to_wkt(crs: str) -> str:
    wkt: str = CRS.from_user_input(crs).to_wkt()
    return wkt


@lru_cache(maxsize=64)
def _measure_turn(crs: str) -> float:
    """Return the units of a CRS, as WKT, in one turn around the earth; 0 for a projected one."""
    parsed = CRS.from_wkt(crs)
    return 2 * math.pi / float(parsed.axis_info[0].unit_conversion_factor) if parsed.is_geographic else 0.0


def _split(origin: float, step: float) -> tuple[int, float]:
    """Return the whole steps and the rest of an origin; rests that differ by rounding only become equal."""
    steps = origin / step
    whole = int(np.floor(steps + 10**-_SNAP_DECIMALS))
    return whole, float(round(steps - whole, _SNAP_DECIMALS) * step)


@dataclass(frozen=True, kw_only=True)
class _Axis:
    """Pixels along one axis of a geobox."""

    first: int
    """Number of the first pixel on the endless grid."""
    size: int
    step: float
    phase: float

    @classmethod
    def of(cls, origin: float, step: float, size: int) -> "_Axis":
        first, phase = _split(origin, step)
        return cls(first=first, size=size, step=step, phase=phase)

    @property
    def centres(self) -> Float64Array:
        """Return the coordinate of each pixel."""
        return (np.arange(self.first, self.first + self.size, dtype=np.float64) + 0.5) * self.step + self.phase

    @property
    def nodes(self) -> Float64Array:
        """Return the coordinate of each node that the pixels need."""
        first, last = self.first // _NODE_STEP - 1, (self.first + self.size - 1) // _NODE_STEP + 2
        return np.arange(first, last + 1, dtype=np.float64) * _NODE_STEP * self.step + self.phase

    @property
    def taps(self) -> tuple[npt.NDArray[np.intp], tuple[Float64Array, ...]]:
        """Return the first of the four nodes of each pixel, and the weights of the four (Lagrange)."""
        numbers = np.arange(self.first, self.first + self.size)
        u = (numbers % _NODE_STEP + 0.5) / _NODE_STEP
        weights = (
            -u * (u - 1) * (u - 2) / 6,
            (u + 1) * (u - 1) * (u - 2) / 2,
            -(u + 1) * u * (u - 2) / 2,
            (u + 1) * u * (u - 1) / 6,
        )
        return (numbers // _NODE_STEP - self.first // _NODE_STEP).astype(np.intp), weights


def _centres(geobox: GeoBox, grid: SourceGrid) -> tuple[Float64Array, Float64Array]:
    """Return column and row on a source grid of the centres of the pixels of a geobox; each (y, x)."""
    transform, (height, width) = geobox.transform, geobox.shape
    x, y = _Axis.of(transform.c, transform.a, width), _Axis.of(transform.f, transform.e, height)
    here, there = CRS.from_user_input(str(geobox.crs)), CRS.from_wkt(grid.crs)
    if here == there:
        return _on_grid(*np.meshgrid(x.centres, y.centres), grid)
    project = Transformer.from_crs(here, there, always_xy=True)
    nodes = _on_grid(*project.transform(*np.meshgrid(x.nodes, y.nodes)), grid)
    if np.isfinite(nodes).all():
        _join(nodes[0], grid.turn)
        cols, rows = (_interpolate(positions, y, x) for positions in nodes)
        if _agree((cols, rows), project, (x, y), grid):
            return cols, rows
    return _on_grid(*project.transform(*np.meshgrid(x.centres, y.centres), inplace=True), grid)


def _join(cols: Float64Array, turn: float) -> None:
    """Bring columns within half a turn of the middle one, in place: longitudes jump at 180 degrees."""
    if turn and np.ptp(cols) > turn / 2:
        cols -= turn * np.round((cols - cols[cols.shape[0] // 2, cols.shape[1] // 2]) / turn)


def _agree(
    found: tuple[Float64Array, Float64Array], project: Transformer, axes: tuple[_Axis, _Axis], grid: SourceGrid
) -> bool:
    """Return True if interpolated positions are exact, along a line through all rows and columns."""
    x, y = axes
    longest = np.arange(max(x.size, y.size))
    rows, cols = longest % y.size, longest % x.size
    exact = _on_grid(*project.transform(x.centres[cols], y.centres[rows]), grid)
    along, down = (near[rows, cols] - true for near, true in zip(found, exact, strict=True))
    if grid.turn:
        along -= grid.turn * np.round(along / grid.turn)
    return bool(max(np.abs(along).max(), np.abs(down).max()) <= 10**-_SNAP_DECIMALS)


def _on_grid(x: Float64Array, y: Float64Array, grid: SourceGrid) -> tuple[Float64Array, Float64Array]:
    """Convert coordinates in the CRS of a source grid to column and row on it."""
    return (x - grid.phase[0]) / grid.step[0], (y - grid.phase[1]) / grid.step[1]


def _interpolate(nodes: Float64Array, y: _Axis, x: _Axis) -> Float64Array:
    """Return values at all pixels from values at the nodes (y, x)."""
    (row, row_weights), (col, col_weights) = y.taps, x.taps
    values = np.empty((y.size, x.size))
    for first in range(0, y.size, _BLOCK_ROWS):
        block = slice(first, first + _BLOCK_ROWS)
        lines = np.zeros((len(row[block]), nodes.shape[1]))
        for k, weight in enumerate(row_weights):
            lines += nodes[row[block] + k] * weight[block, None]
        values[block] = 0
        for k, weight in enumerate(col_weights):
            values[block] += lines.take(col + k, axis=1) * weight
    return values
