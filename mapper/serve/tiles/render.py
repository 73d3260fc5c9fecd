"""The pixels of a web tile, from the map or a level of its pyramid.

Chunks are cached as they are stored and decoded after sampling: a tile has fewer pixels than the chunks it touches.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from mapper.arrays import BoolArray, Float32Array, Float64Array, IntArray
from mapper.errors import InputError
from mapper.serve.extent import Extent
from mapper.serve.tiles.cache import ByteCache
from mapper.serve.tiles.web_mercator import TileLocator, WebTile
from mapper.store.chunk_reader import ChunkIndex
from mapper.store.rasters import Raster, Rasters

Resampling = Literal["nearest", "bilinear"]

MOST_PIXELS = 1 << 22
"""Pixels of the map that one tile may need."""

_CORNERS = ((0, 0), (0, 1), (1, 0), (1, 1))


@dataclass(frozen=True, kw_only=True)
class MapView:
    """One version of a map, opened for drawing."""

    snapshot: str
    rasters: Rasters
    locator: TileLocator
    extent: Extent
    chunks: "ByteCache[npt.NDArray[Any]]"

    def level_of(self, tile: WebTile) -> int:
        """Return the level that the tiles of a zoom are made from."""
        return self.rasters.choose_level(self.locator.ratio(tile.z, tile.scale))


@dataclass(frozen=True, kw_only=True, eq=False)
class _Window:
    """A rectangle of stored pixels, and where in it the pixels of a tile lie."""

    rows: slice
    cols: slice
    positions: Float64Array
    """(2, y, x): rows and columns in pixels of the level, counted from the corner of the window."""
    inside: BoolArray | None
    """True where a pixel of the tile has its centre in the map; None if all have. Other positions mean nothing."""

    @property
    def width(self) -> int:
        return int(self.cols.stop - self.cols.start)

    @property
    def pixels(self) -> int:
        return int(self.rows.stop - self.rows.start) * self.width

    @property
    def nearest(self) -> IntArray:
        """Return the index of the pixel that each position lies in, in the window laid out in a row."""
        row, col = self.positions.astype(np.int64)
        index: IntArray = row * self.width + col
        return index

    def blank(self, values: Float32Array) -> Float32Array:
        """Return the values of a tile, NaN outside the map."""
        return values if self.inside is None else np.where(self.inside, values, np.float32(np.nan))


def render_values(view: MapView, name: str, tile: WebTile, resampling: Resampling) -> Float32Array | None:
    """Return the values of a tile, (y, x), NaN where there are none; None if it lies outside the map.

    Raises:
        InputError: If it needs too many pixels of the map.
        StoreError: If the storage fails.
    """
    raster = view.rasters.find(name, view.level_of(tile))
    window = _find_window(view, raster, tile)
    if window is None:
        return None
    stored = read_window(view, raster, window.rows, window.cols)
    if raster.kind == "values" and resampling == "bilinear":
        return window.blank(_interpolate(stored, window, raster.decode))
    index = window.nearest
    values = raster.decode(np.take(stored, index))
    if raster.kind != "values":  # a count of 0 is stored where nothing was written, too
        values[~_find_written(view, raster, window, index)] = np.nan
    return window.blank(values)


def render_flags(view: MapView, name: str, tile: WebTile) -> tuple[npt.NDArray[Any], BoolArray] | None:
    """Return the flags of a tile, (y, x), and where something was written; None if it lies outside the map.

    Raises:
        InputError: If it needs too many pixels of the map.
        StoreError: If the storage fails.
    """
    raster = view.rasters.find(name, view.level_of(tile))
    window = _find_window(view, raster, tile)
    if window is None:
        return None
    flags = np.take(read_window(view, raster, window.rows, window.cols), window.nearest)
    written = view.rasters.is_written(flags)
    return flags, written if window.inside is None else written & window.inside


def read_window(view: MapView, raster: Raster, rows: slice, cols: slice) -> npt.NDArray[Any]:
    """Return a window as it is stored, from chunks in the cache or read now.

    Raises:
        StoreError: If the storage fails.
    """
    edge = raster.chunk_px
    window = np.empty((rows.stop - rows.start, cols.stop - cols.start), raster.array.dtype)
    down, across = (range(span.start // edge, -(-span.stop // edge)) for span in (rows, cols))
    for (row, col), chunk in _find_chunks(view, raster, down, across).items():
        top, left = max(rows.start, row * edge), max(cols.start, col * edge)
        bottom, right = min(rows.stop, (row + 1) * edge), min(cols.stop, (col + 1) * edge)
        window[top - rows.start : bottom - rows.start, left - cols.start : right - cols.start] = chunk[
            top - row * edge : bottom - row * edge, left - col * edge : right - col * edge
        ]
    return window


def _find_chunks(view: MapView, raster: Raster, rows: range, cols: range) -> dict[ChunkIndex, npt.NDArray[Any]]:
    """Return chunks by row and column; those that are not in the cache are read all at once."""
    key = view.snapshot, raster.name, raster.level
    known = {(row, col): view.chunks.get((*key, row, col)) for row in rows for col in cols}
    found = {index: chunk for index, chunk in known.items() if chunk is not None}
    missing = [index for index in known if index not in found]
    if missing:
        for index, chunk in raster.read_chunks(missing).items():
            view.chunks.put((*key, *index), chunk, chunk.nbytes)
            found[index] = chunk
    return found


def _find_window(view: MapView, raster: Raster, tile: WebTile) -> _Window | None:
    """Return the stored pixels that a tile needs; None if it lies outside the map."""
    if not view.locator.may_show(tile):
        return None
    positions = view.locator.locate(tile).scale(1 / 2**raster.level)
    if not _touches(positions.nodes, raster.shape):
        return None
    pixels = positions.expand(tile.size)
    inside = _find_inside(positions.nodes, pixels, raster.shape)
    if inside is not None and not inside.any():
        return None
    spans = [
        _span(each if inside is None else each[inside], count) for each, count in zip(pixels, raster.shape, strict=True)
    ]
    pixels -= np.array([[[span.start]] for span in spans])
    if inside is not None:
        pixels[:, ~inside] = 0
    window = _Window(rows=spans[0], cols=spans[1], positions=pixels, inside=inside)
    if window.pixels > MOST_PIXELS:
        raise InputError(
            f"a tile at zoom {tile.z} needs {window.pixels:,} pixels of the map, at most {MOST_PIXELS:,} are read for "
            "one; zoom in, or have `mapper pyramid` make coarser levels"
        )
    return window


def _touches(nodes: Float64Array, shape: tuple[int, int]) -> bool:
    """Return True if any of the map may lie between positions: without work for tiles far from it."""
    finite = nodes[:, np.isfinite(nodes).all(axis=0)]
    if finite.size == 0:
        return False
    return bool((finite.max(axis=1) >= 0).all() and (finite.min(axis=1) < shape).all())


def _find_inside(nodes: Float64Array, positions: Float64Array, shape: tuple[int, int]) -> BoolArray | None:
    """Return which positions lie in the map; None if all do, as they do where the nodes around them do."""
    low, high = nodes.min(axis=(1, 2)), nodes.max(axis=(1, 2))
    if (low >= 0).all() and (high < shape).all():
        return None
    with np.errstate(invalid="ignore"):  # NaN is nowhere
        row, col = ((each >= 0) & (each < count) for each, count in zip(positions, shape, strict=True))
    inside: BoolArray = row & col
    return inside


def _span(positions: Float64Array, count: int) -> slice:
    """Return the stored pixels under positions, with those beside them."""
    return slice(max(0, int(positions.min() - 0.5)), min(count, int(positions.max() + 0.5) + 1))


def _interpolate(
    stored: npt.NDArray[Any], window: _Window, decode: Callable[[npt.NDArray[Any]], Float32Array]
) -> Float32Array:
    """Return the weighted mean of the four pixels around each position that have a value (bilinear).

    There is none where the nearest pixel has none, so that what is missing keeps its outline.
    """
    after = np.subtract(window.positions, 0.5, dtype=np.float32)
    first = np.floor(after)
    after -= first
    corners = _gather(stored, first, decode)
    if not any(np.isnan(corner).any() for corner in corners):
        return _mix(corners, after)
    known = [~np.isnan(corner) for corner in corners]
    total = _mix([np.where(*each, np.float32(0)) for each in zip(known, corners, strict=True)], after)
    weight = _mix([each.astype(np.float32) for each in known], after)
    centre = decode(np.take(stored, window.nearest))
    return np.where(np.isnan(centre), centre, total / np.maximum(weight, np.float32(1e-6)))


def _gather(
    stored: npt.NDArray[Any], first: Float32Array, decode: Callable[[npt.NDArray[Any]], Float32Array]
) -> list[Float32Array]:
    """Return the values of the upper left of four pixels, the upper right, the lower left and the lower right.

    Args:
        stored: Pixels of a window, as stored.
        first: (2, y, x): row and column in it of the upper left ones.
        decode: Function from stored numbers to values.
    """
    low, high = first.min(axis=(1, 2)), first.max(axis=(1, 2))
    if (low < 0).any() or (high + 1 >= stored.shape).any():  # beyond the edge of the map it goes on as it ends
        stored, first = np.pad(stored, 1, mode="edge"), first + 1
    width = stored.shape[1]
    index = (first[0] * np.float32(width) + first[1]).astype(np.int64)  # exact: a window has fewer than 2^24 pixels
    few = stored.size <= len(_CORNERS) * index.size
    flat = (decode(stored) if few else stored).ravel()
    corners = [np.take(flat[down * width + right :], index) for down, right in _CORNERS]
    return corners if few else [decode(corner) for corner in corners]


def _mix(corners: list[Float32Array], after: Float32Array) -> Float32Array:
    """Return the values between upper left, upper right, lower left and lower right."""
    down, right = after
    upper, lower = ((second - first) * right + first for first, second in (corners[:2], corners[2:]))
    mixed: Float32Array = (lower - upper) * down + upper
    return mixed


def _find_written(view: MapView, raster: Raster, window: _Window, index: IntArray) -> BoolArray:
    """Return which pixels of a tile were written, by the quality band."""
    quality = view.rasters.find(view.rasters.bands.quality.name, raster.level)
    return view.rasters.is_written(np.take(read_window(view, quality, window.rows, window.cols), index))
