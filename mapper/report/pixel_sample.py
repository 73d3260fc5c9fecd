"""Distribution of the pixels of a map: counted over all of a small map, over even blocks of a large one."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mapper.arrays import Float32Array
from mapper.grid import Tile
from mapper.predict.quality import read_flags
from mapper.store.product import Band
from mapper.store.rasters import Raster, Rasters

_ALL_PX = 1 << 24
"""Most pixels of a map that is counted as a whole."""
_ALL_TILES = 256
"""Most tiles of a map that is counted as a whole: each is a read of every array."""
_SAMPLE_PX = 1 << 22
_BLOCKS = (64, 256)
"""Fewest and most blocks of a sample."""
_BINS = 48
_TOP = 99.8
"""Percentile of the values at which a histogram ends; one that does not begin at 0 begins at the rest to 100."""


@dataclass(frozen=True, kw_only=True)
class Histogram:
    """Count of pixels by value."""

    edges: Float32Array
    counts: npt.NDArray[np.int64]
    mean: float
    median: float


@dataclass(frozen=True, kw_only=True)
class PixelSample:
    """Pixels of the tiles of a map that have data."""

    pixels: int
    """Number of pixels in the sample."""
    is_whole: bool
    """True if the sample is all pixels."""
    histograms: Mapping[str, Histogram | None]
    """Histograms of all bands but the flags, by name; None if no pixel is valid."""
    flags: dict[str, int]
    """Pixels by flag; one may have several."""
    unflagged: int


def sample_pixels(rasters: Rasters, tiles: list[Tile]) -> PixelSample:
    """Count pixels of a map by value and by flag.

    Args:
        rasters: Bands of the map.
        tiles: Tiles that have data.
    """
    bands = rasters.bands
    qa, n_valid = rasters.find(bands.quality.name), rasters.find(bands.count.name)
    whole = len(tiles) <= _ALL_TILES and len(tiles) * rasters.grid.tile_px**2 <= _ALL_PX
    windows = list(_choose_windows(rasters, tiles, whole=whole))
    flags = _read(qa, windows).astype(np.uint32)
    written = rasters.is_written(flags)
    meanings = read_flags(qa.attributes).items()
    encoded = [band for band in bands.bands if band.encoding]
    histograms = {band.name: _count(_read(rasters.find(band.name), windows), _starts_at_0(band)) for band in encoded}
    histograms[n_valid.name] = _count_numbers(_read(n_valid, windows)[written])
    return PixelSample(
        pixels=int(written.sum()),
        is_whole=whole,
        histograms=histograms,
        flags={
            name: int((written & (flags & mask == value)).sum())
            for name, (mask, value) in meanings
            if value != qa.band.fill
        },
        unflagged=int((written & (flags == 0)).sum()),
    )


def _choose_windows(rasters: Rasters, tiles: list[Tile], *, whole: bool) -> Iterator[tuple[slice, slice]]:
    """Yield whole tiles, or one block in each of some that lie evenly."""
    if whole:
        yield from (rasters.grid.window(tile).slices for tile in tiles)
        return
    edge = rasters.grid.chunk_px
    wanted = min(max(_SAMPLE_PX // edge**2, _BLOCKS[0]), _BLOCKS[1])
    step, blocks = max(1, -(-len(tiles) // wanted)), rasters.grid.tile_px // edge
    for number, tile in enumerate(tiles[::step]):
        window = rasters.grid.window(tile)
        # another block in each tile, the same one at each call
        top = window.top + edge * (number * 5 % blocks)
        left = window.left + edge * (number * 3 % blocks)
        yield slice(top, top + edge), slice(left, left + edge)


def _read(raster: Raster, windows: list[tuple[slice, slice]]) -> Float32Array:
    parts = [raster.decode(raster.read(*window)).ravel() for window in windows]
    return np.concatenate(parts) if parts else np.empty(0, np.float32)


def _starts_at_0(band: Band) -> bool:
    return band.role == "sd" or band.bounds[0] == 0


def _count(values: Float32Array, starts_at_0: bool) -> Histogram | None:  # noqa: FBT001
    valid = values[np.isfinite(values)]
    if not valid.size:
        return None
    low = float(min(valid.min(), 0)) if starts_at_0 else float(np.percentile(valid, 100 - _TOP))
    high = float(np.percentile(valid, _TOP))
    return _make_histogram(valid, np.linspace(low, high if high > low else low + 1, _BINS + 1))


def _count_numbers(counts: Float32Array) -> Histogram | None:
    if not counts.size:
        return None
    low, high = float(min(counts.min(), 0)), float(np.percentile(counts, _TOP))
    step = max(1, -(-int(high - low + 1) // _BINS))
    edges = np.arange(low - 0.5, high + step + 0.5, step)
    return _make_histogram(counts, edges) if len(edges) >= 3 else None


def _make_histogram(valid: Float32Array, edges: npt.NDArray[np.float64]) -> Histogram:
    counts, _ = np.histogram(np.clip(valid, edges[0], edges[-1]), edges)
    return Histogram(
        edges=edges.astype(np.float32), counts=counts, mean=float(valid.mean()), median=float(np.median(valid))
    )
