"""The pixels of a web tile, from the map or a level of its pyramid.

Chunks are kept as they are stored and decoded after sampling: a tile has fewer pixels than the chunks it touches.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from mapper.errors import InputError
from mapper.serve.cache import ByteCache
from mapper.serve.mercator import Positions, WebTile
from mapper.store.rasters import Raster, Rasters

Resampling = Literal["nearest", "bilinear"]

MOST_PIXELS = 1 << 22
"""Of the map that one tile may need."""

_Floats = npt.NDArray[np.float32]
_Doubles = npt.NDArray[np.float64]
_Integers = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class View:
    """One version of a map, ready to be looked at."""

    snapshot: str
    rasters: Rasters
    positions: Positions
    chunks: "ByteCache[npt.NDArray[Any]]"

    def level_of(self, tile: WebTile) -> int:
        """The level that the tiles of a zoom are made from."""
        return self.rasters.choose_level(self.positions.ratio(tile.z, tile.scale))


@dataclass(frozen=True, kw_only=True, eq=False)
class _Window:
    """A rectangle of stored pixels, and where in it the pixels of a tile lie."""

    rows: slice
    cols: slice
    row: _Doubles
    """(y, x) in pixels of the level, counted from the corner of the map; -1 where there is none."""
    col: _Doubles
    inside: npt.NDArray[np.bool_]
    """Whether the pixel of the tile has its centre in the map."""

    @property
    def pixels(self) -> int:
        return int(self.rows.stop - self.rows.start) * int(self.cols.stop - self.cols.start)


def render_values(view: View, name: str, tile: WebTile, resampling: Resampling) -> _Floats | None:
    """Values of a tile, (y, x), NaN where there are none; None if it lies outside the map.

    Raises:
        InputError: If it needs too many pixels of the map.
        StoreError: If the storage fails.
    """
    raster = view.rasters.find(name, view.level_of(tile))
    window = _find_window(view, raster, tile)
    if window is None:
        return None
    index = _index_nearest(window)
    stored = read_window(view, raster, window.rows, window.cols)
    if raster.kind != "values":
        values = raster.decode(stored.ravel()[index])
        return _blank(values, window.inside & _find_written(view, raster, window, index))
    if resampling == "nearest":
        return _blank(raster.decode(stored.ravel()[index]), window.inside)
    return _blank(_interpolate(stored, window, index, raster.decode), window.inside)


def render_flags(view: View, name: str, tile: WebTile) -> tuple[npt.NDArray[np.uint16], npt.NDArray[np.bool_]] | None:
    """Flags of a tile, (y, x), and where something was written; None if it lies outside the map.

    Raises:
        InputError: If it needs too many pixels of the map.
        StoreError: If the storage fails.
    """
    raster = view.rasters.find(name, view.level_of(tile))
    window = _find_window(view, raster, tile)
    if window is None:
        return None
    flags = read_window(view, raster, window.rows, window.cols).ravel()[_index_nearest(window)]
    return flags, window.inside & view.rasters.is_written(flags)


def read_window(view: View, raster: Raster, rows: slice, cols: slice) -> npt.NDArray[Any]:
    """A window as it is stored, from chunks that are known or read now.

    Raises:
        StoreError: If the storage fails.
    """
    edge = raster.chunk_px
    window = np.empty((rows.stop - rows.start, cols.stop - cols.start), raster.array.dtype)
    for row in range(rows.start // edge, -(-rows.stop // edge)):
        for col in range(cols.start // edge, -(-cols.stop // edge)):
            chunk = _read_chunk(view, raster, row, col)
            top, left = max(rows.start, row * edge), max(cols.start, col * edge)
            bottom, right = min(rows.stop, (row + 1) * edge), min(cols.stop, (col + 1) * edge)
            window[top - rows.start : bottom - rows.start, left - cols.start : right - cols.start] = chunk[
                top - row * edge : bottom - row * edge, left - col * edge : right - col * edge
            ]
    return window


def _read_chunk(view: View, raster: Raster, row: int, col: int) -> npt.NDArray[Any]:
    key = view.snapshot, raster.name, raster.level, row, col
    chunk = view.chunks.find(key)
    if chunk is None:
        edge = raster.chunk_px
        chunk = raster.read(slice(row * edge, (row + 1) * edge), slice(col * edge, (col + 1) * edge))
        view.chunks.keep(key, chunk, chunk.nbytes)
    return chunk


def _find_window(view: View, raster: Raster, tile: WebTile) -> _Window | None:
    """The stored pixels that a tile needs."""
    if not view.positions.may_show(tile):
        return None
    rows, cols = raster.shape
    lattice = view.positions.locate(tile)
    nodes = lattice.nodes / 2**raster.level
    if not _touches(nodes, rows, cols):
        return None
    row, col = lattice.expand(tile.size) / 2**raster.level
    with np.errstate(invalid="ignore"):  # NaN is nowhere
        inside = (row >= 0) & (row < rows) & (col >= 0) & (col < cols)
    if not inside.any():
        return None
    spans = [_span(places[inside], count) for places, count in ((row, rows), (col, cols))]
    window = _Window(
        rows=spans[0], cols=spans[1], row=np.where(inside, row, -1.0), col=np.where(inside, col, -1.0), inside=inside
    )
    if window.pixels > MOST_PIXELS:
        raise InputError(
            f"a tile at zoom {tile.z} needs {window.pixels:,} pixels of the map, at most {MOST_PIXELS:,} are read for "
            "one; zoom in, or have `mapper pyramid` make coarser levels"
        )
    return window


def _touches(nodes: _Doubles, rows: int, cols: int) -> bool:
    """Whether any of the map may lie between positions: without work for tiles far from it."""
    finite = nodes[:, np.isfinite(nodes).all(axis=0)]
    if finite.size == 0:
        return False
    low, high = finite.min(axis=1), finite.max(axis=1)
    return bool((high >= 0).all() and low[0] < rows and low[1] < cols)


def _span(places: _Doubles, count: int) -> slice:
    """Stored pixels under positions, with those beside them."""
    return slice(max(0, int(places.min() - 0.5)), min(count, int(places.max() + 0.5) + 1))


def _index_nearest(window: _Window) -> _Integers:
    """Index of the pixel that each position lies in, in the window laid out in a row; 0 outside the map."""
    width = window.cols.stop - window.cols.start
    rows, cols = (window.row.astype(np.int64) - window.rows.start), (window.col.astype(np.int64) - window.cols.start)
    return np.where(window.inside, rows * width + cols, 0)


def _interpolate(
    stored: npt.NDArray[Any], window: _Window, nearest: _Integers, decode: Callable[[npt.NDArray[Any]], _Floats]
) -> _Floats:
    """Bilinear: the weighted mean of the four pixels around a position that have a value.

    There is none where the nearest pixel has none, so that what is missing keeps its outline.
    """
    height, width = stored.shape
    row, col = window.row - (0.5 + window.rows.start), window.col - (0.5 + window.cols.start)
    top, left = np.floor(row), np.floor(col)
    down, right = (row - top).astype(np.float32), (col - left).astype(np.float32)
    rows = [np.clip(top + step, 0, height - 1).astype(np.int64) * width for step in (0, 1)]
    cols = [np.clip(left + step, 0, width - 1).astype(np.int64) for step in (0, 1)]
    flat = stored.ravel()
    corners = [decode(flat[row + col]) for row in rows for col in cols]
    if not any(np.isnan(corner).any() for corner in corners):
        return _mix(corners, down, right)
    known = [~np.isnan(corner) for corner in corners]
    total = _mix([np.where(*each, np.float32(0)) for each in zip(known, corners, strict=True)], down, right)
    weight = _mix([each.astype(np.float32) for each in known], down, right)
    centre = decode(flat[nearest])
    return np.where(np.isnan(centre), centre, total / np.maximum(weight, np.float32(1e-6)))


def _mix(corners: list[_Floats], down: _Floats, right: _Floats) -> _Floats:
    """Between upper left, upper right, lower left and lower right."""
    upper = corners[0] + (corners[1] - corners[0]) * right
    lower = corners[2] + (corners[3] - corners[2]) * right
    mixed: _Floats = upper + (lower - upper) * down
    return mixed


def _find_written(view: View, raster: Raster, window: _Window, index: _Integers) -> npt.NDArray[np.bool_]:
    """Where something was written: a count of 0 is stored where nothing was, too."""
    quality = view.rasters.find(view.rasters.written_by, raster.level)
    stored = read_window(view, quality, window.rows, window.cols)
    return view.rasters.is_written(stored.ravel()[index])


def _blank(values: _Floats, inside: npt.NDArray[np.bool_]) -> _Floats:
    return values if inside.all() else np.where(inside, values, np.float32(np.nan))
