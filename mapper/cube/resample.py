"""Resampling files onto the grid of a map so that no pixel depends on the window it was read in.

GDAL's warper approximates the projection inside the window it is given: the same pixel read in two windows differs by
up to 0.07 of a source pixel, and nearest neighbours flip. Here the exact position of every target pixel is computed
once for each source *grid* (CRS, pixel size, phase), shared by all files on it (every Sentinel-2 tile of a UTM zone),
and each file is then a plain window read followed by a few gathers of stored numbers, for the pixels that are wanted
and for some rows at a time: the same pixels in every window, many times quicker than an exact warp of each file.
Windows that need many more source pixels than they have are read in pieces, so that memory is bounded.

A target pixel is missing where the source pixel that holds its centre is missing; of the other neighbours only the
valid ones count. Nothing is averaged when the target is coarser than the source.
"""

import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import rasterio
from odc.geo.geobox import GeoBox
from rasterio.windows import Window

from mapper.access.files import Access
from mapper.access.rules import AccessRule
from mapper.access.tally import AssetName
from mapper.arrays import BoolArray, Float32Array
from mapper.cube.agreement import Decision
from mapper.cube.belief import Belief
from mapper.cube.header import read_bands
from mapper.cube.pixel_positions import Extent, PixelPositions, SourceGrid, cut_to_file, locate
from mapper.cube.witness import KeptKey, Witness

Resampling = Literal["nearest", "bilinear", "cubic"]
Reading = Resampling | Literal["copy"]
"""Way in which a file is read: resampled, or ``copy``, which refuses one whose pixels are not those of the geobox."""

_CACHED_POSITIONS = 4
_BLOCK_PX = 2**15
"""Number of target pixels that are resampled at a time: their arrays stay in the cache of a core."""


@dataclass(frozen=True, kw_only=True)
class SourcePixels:
    """Source pixels as they are stored, in the window that a geobox needs."""

    stored: npt.NDArray[Any]
    """(y, x) stored numbers: whole numbers of at most 16 bits, or float32."""
    missing: int | None
    """Stored number of a missing pixel; None where it is NaN."""

    def find_valid(self, values: npt.NDArray[Any]) -> BoolArray:
        """Return True where values taken from the window are measurements."""
        valid: BoolArray = np.isfinite(values) if self.missing is None else values != self.missing
        return valid


@dataclass(frozen=True, kw_only=True)
class _Request:
    """Request for one band of one file; see :meth:`Sampler.read`."""

    name: AssetName
    geobox: GeoBox
    resampling: Reading
    beliefs: Sequence[Belief]
    wanted: BoolArray | None

    def key_of(self, band: str) -> KeptKey:
        """Return the key under which a band of the file is kept."""
        return self.name, band, self.geobox, self.resampling == "copy"


@dataclass(kw_only=True)
class Sampler:
    """Reader of files onto geoboxes, which remembers the pixel positions used last. May be shared by threads."""

    witness: Witness = field(default_factory=Witness)
    _positions: OrderedDict[tuple[GeoBox, SourceGrid], PixelPositions] = field(default_factory=OrderedDict)
    _lock: Any = field(default_factory=threading.Lock)

    def __reduce__(self) -> tuple[type["Sampler"], tuple[()]]:
        return Sampler, ()

    def __dask_tokenize__(self) -> str:
        return "mapper.Sampler"

    def read(
        self,
        name: AssetName,
        geobox: GeoBox,
        *,
        access: Access,
        rule: AccessRule,
        resampling: Reading,
        beliefs: Sequence[Belief],
        wanted: BoolArray | None = None,
    ) -> Float32Array | None:
        """Read one band of a file onto a geobox; returns None where the file has no pixel.

        Args:
            name: What the file is, and where.
            geobox: Target pixels.
            access: How files are reached, and who counts.
            rule: How the files of its collection are reached.
            resampling: How.
            beliefs: What item and collection say of the band, then of others that are decoded with it and read next.
            wanted: (y, x) True for the pixels that are asked for; None for all.

        Returns:
            Stored numbers (y, x), float32, NaN where missing or not wanted; None where the file has no pixel there.

        Raises:
            TransientAssetError: Throttling or network.
            CorruptAssetError: The file is missing, truncated, no georeferenced raster, cannot be copied, or contradicts
                its item.
        """
        request = _Request(name=name, geobox=geobox, resampling=resampling, beliefs=beliefs, wanted=wanted)
        kept = self.witness.take(request.key_of(beliefs[0].band))
        if kept is None:
            return access.read(name, rule, partial(self._read_pieces, request))
        placed, pixels, decision = kept
        rescaled: Float32Array = decision.rescale(resample(pixels, placed, resampling, wanted))
        return rescaled

    def _read_pieces(self, request: "_Request", dataset: rasterio.DatasetReader) -> Float32Array | None:
        decided = self.witness.decide(dataset, request.name, request.beliefs)
        decisions = [decision for _, decision in decided]
        grid, origin = SourceGrid.of(dataset, crs=request.beliefs[0].trusted_crs)
        extent = Extent(top=origin[0], left=origin[1], shape=dataset.shape)
        shape, values = tuple(request.geobox.shape), None
        located = self.positions(request.geobox, grid)
        if request.resampling == "copy" and not located.coincide():
            raise OSError(f"its pixels of {grid.step[0]:g} x {grid.step[1]:g} are not those of the native grid")
        for part, positions in cut_to_file(located, extent, grid.turn):
            needed = None if request.wanted is None else request.wanted[part]
            if needed is not None and not needed.any():
                continue
            whole = positions.corner.shape == shape
            # other bands are kept of whole windows only; each piece of one that is read in pieces is decoded anew
            raws = _read_window(dataset, origin, positions, decisions if whole else decisions[:1])
            if not raws:
                continue
            for (band, decision), raw in zip(decided[1:], raws[1:], strict=whole):
                self.witness.keep(request.key_of(band), (positions, raw, decision), raw.stored.nbytes)
            piece = decisions[0].rescale(resample(raws[0], positions, request.resampling, needed))
            if whole:
                return piece
            values = np.full(shape, np.nan, np.float32) if values is None else values
            values[part] = piece
        return values

    def positions(self, geobox: GeoBox, grid: SourceGrid) -> PixelPositions:
        """Locate the pixels of a geobox on a source grid, or return their remembered positions."""
        with self._lock:
            key = (geobox, grid)
            if key not in self._positions:
                self._positions[key] = locate(geobox, grid)
                if len(self._positions) > _CACHED_POSITIONS:
                    self._positions.popitem(last=False)
            self._positions.move_to_end(key)
            return self._positions[key]


def resample(
    raw: SourcePixels, positions: PixelPositions, resampling: Reading, wanted: BoolArray | None = None
) -> Float32Array:
    """Resample a window of source pixels to target pixels.

    Args:
        raw: Source pixels.
        positions: Positions of the target pixels on them.
        resampling: How.
        wanted: (y, x) True for the pixels that are asked for; None for all.

    Returns:
        Stored numbers (y, x), float32, NaN where missing or not wanted.
    """
    values = np.full(positions.corner.shape, np.nan, np.float32)
    flat = values.reshape(-1)
    for block in _blocks(positions, None if wanted is None else wanted.reshape(-1)):
        if resampling in ("nearest", "copy") or block.weights is None:
            pixels = _take_nearest(raw, block)
        else:
            pixels = _blend(raw, block, resampling)
        if block.chosen is None:
            flat[block.span] = pixels
        else:
            flat[block.span][block.chosen] = pixels
    return values


@dataclass(frozen=True, kw_only=True)
class _PixelBlock:
    """Target pixels in a row, and their positions on the source grid."""

    span: slice
    chosen: npt.NDArray[np.intp] | None
    """Indices into the span; None for all."""
    corner: npt.NDArray[np.intp]
    weights: tuple[Float32Array, Float32Array] | None


def _blocks(positions: PixelPositions, wanted: BoolArray | None) -> Iterator[_PixelBlock]:
    """Yield the wanted pixels, some at a time."""
    inside = None if positions.outside is None else ~positions.outside.reshape(-1)
    corner, weights = (
        positions.corner.reshape(-1),
        positions.weights and [each.reshape(-1) for each in positions.weights],
    )
    for first in range(0, corner.size, _BLOCK_PX):
        span = slice(first, min(first + _BLOCK_PX, corner.size))
        masks = [mask[span] for mask in (wanted, inside) if mask is not None]
        chosen = np.flatnonzero(np.logical_and.reduce(masks)) if masks else None
        if chosen is not None and chosen.size == span.stop - span.start:
            chosen = None
        if chosen is None:
            yield _PixelBlock(
                span=span,
                chosen=None,
                corner=corner[span].astype(np.intp),
                weights=(weights[0][span], weights[1][span]) if weights else None,
            )
        elif chosen.size:
            yield _PixelBlock(
                span=span,
                chosen=chosen,
                corner=corner[span].take(chosen).astype(np.intp),
                weights=(weights[0][span].take(chosen), weights[1][span].take(chosen)) if weights else None,
            )


def _take_nearest(raw: SourcePixels, block: _PixelBlock) -> Float32Array:
    """Return the source pixel that holds each target pixel."""
    index = block.corner
    if block.weights is not None:
        index = index + (block.weights[0] >= 0.5) * raw.stored.shape[1] + (block.weights[1] >= 0.5)
    stored = _take(raw, index)
    nearest: Float32Array = stored.astype(np.float32)
    nearest[~raw.find_valid(stored)] = np.nan
    return nearest


def _blend(raw: SourcePixels, block: _PixelBlock, resampling: Reading) -> Float32Array:
    """Return the weighted mean of the valid source pixels around each target pixel."""
    if block.weights is None:
        raise ValueError("coinciding grids need no blending")
    reach = range(2) if resampling == "bilinear" else range(-1, 3)
    mix = _mix_bilinear if resampling == "bilinear" else _mix_cubic
    width = raw.stored.shape[1]
    stored = [[_take(raw, block.corner + (row * width + col)) for col in reach] for row in reach]
    valid = [[raw.find_valid(values) for values in line] for line in stored]
    if all(each.all() for line in valid for each in line):
        return mix([[values.astype(np.float32) for values in line] for line in stored], block.weights)
    known = [[mask.astype(np.float32) for mask in line] for line in valid]
    values = [
        [np.where(mask, each, 0).astype(np.float32, copy=False) for each, mask in zip(*line, strict=True)]
        for line in zip(stored, valid, strict=True)
    ]
    with np.errstate(invalid="ignore", divide="ignore"):
        mixed = mix(values, block.weights)
        mixed /= mix(known, block.weights)
    (near, right), (below, across) = (line[reach.index(0) :][:2] for line in valid[reach.index(0) :][:2])
    lower, later = block.weights[0] >= 0.5, block.weights[1] >= 0.5
    mixed[~np.where(lower, np.where(later, across, below), np.where(later, right, near))] = np.nan
    return mixed


def _take(raw: SourcePixels, index: npt.NDArray[np.intp]) -> npt.NDArray[Any]:
    # no position lies beside the pixels that are read: "clip" only spares numpy a check of each
    return raw.stored.reshape(-1).take(index, mode="clip")


def _mix_bilinear(values: list[list[Float32Array]], weights: tuple[Float32Array, Float32Array]) -> Float32Array:
    """Return the weighted sum of 2 x 2 neighbours; changes its input."""
    (first, right), (second, across) = values
    _approach(first, right, weights[1])
    _approach(second, across, weights[1])
    _approach(right, across, weights[0])
    return across


def _approach(start: Float32Array, end: Float32Array, share: Float32Array) -> None:
    """Move ``end`` to a share of the way from ``start`` to it."""
    end -= start
    end *= share
    end += start


def _mix_cubic(values: list[list[Float32Array]], weights: tuple[Float32Array, Float32Array]) -> Float32Array:
    """Return the weighted sum of 4 x 4 neighbours."""
    rows, cols = (cubic_weights(weight) for weight in weights)
    total = np.zeros_like(weights[0])
    for row, line in zip(rows, values, strict=True):
        partial = np.zeros_like(total)
        for col, value in zip(cols, line, strict=True):
            partial += col * value
        total += row * partial
    return total


def cubic_weights(t: Float32Array) -> tuple[Float32Array, Float32Array, Float32Array, Float32Array]:
    """Return Catmull-Rom weights of the pixels at -1, 0, 1 and 2."""
    return (
        ((-0.5 * t + 1) * t - 0.5) * t,
        (1.5 * t - 2.5) * t * t + 1,
        ((-1.5 * t + 2) * t + 0.5) * t,
        (0.5 * t - 0.5) * t * t,
    )


def read_values(dataset: rasterio.DatasetReader, window: Window, decision: Decision) -> Float32Array:
    """Read one band of a file in a window that lies in it; returns (y, x) stored numbers, NaN where missing.

    Raises:
        OSError: If a mask beside the file is none of it.
    """
    ((stored, hidden),) = read_bands(dataset, window, [decision.stored])
    pixels = _mark_missing(stored, decision.missing, hidden)
    values = pixels.stored.astype(np.float32)
    values[~pixels.find_valid(pixels.stored)] = np.nan
    return decision.rescale(values)


def _read_window(
    dataset: rasterio.DatasetReader, origin: tuple[int, int], positions: PixelPositions, decisions: Sequence[Decision]
) -> list[SourcePixels]:
    """Read bands of a file in a source window, missing where it has no pixel; returns none if it has none at all."""
    top, left = positions.top - origin[0], positions.left - origin[1]
    row, col = max(top, 0), max(left, 0)
    height = min(top + positions.shape[0], dataset.height) - row
    width = min(left + positions.shape[1], dataset.width) - col
    if height <= 0 or width <= 0:
        return []
    bands = read_bands(dataset, Window(col, row, width, height), [decision.stored for decision in decisions])
    parts = [
        _mark_missing(stored, decision.missing, hidden)
        for (stored, hidden), decision in zip(bands, decisions, strict=True)
    ]
    if parts[0].stored.shape == positions.shape:
        return parts
    found = []
    for part in parts:
        stored = np.full(positions.shape, np.nan if part.missing is None else part.missing, part.stored.dtype)
        stored[row - top : row - top + height, col - left : col - left + width] = part.stored
        found.append(SourcePixels(stored=stored, missing=part.missing))
    return found


def _mark_missing(stored: npt.NDArray[Any], missing: Sequence[float], hidden: BoolArray | None = None) -> SourcePixels:
    """Replace all missing pixels by one number; small whole numbers stay as they are, others become float32."""
    if stored.dtype.kind in "iu" and stored.dtype.itemsize <= 2:
        limits = np.iinfo(stored.dtype)
        codes = [int(value) for value in missing if float(value).is_integer() and limits.min <= value <= limits.max]
        for code in codes[1:]:
            stored[stored == code] = codes[0]
        if codes:
            if hidden is not None:
                stored[hidden] = codes[0]
            return SourcePixels(stored=stored, missing=codes[0])
    pixels: Float32Array = stored.astype(np.float32)
    for value in missing:
        pixels[stored == value] = np.nan
    if hidden is not None:
        pixels[hidden] = np.nan
    return SourcePixels(stored=pixels, missing=None)
