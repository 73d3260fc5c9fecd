"""How the pixels of a map are distributed: counted over all of a small map, over even blocks of a large one."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mapper.arrays import Float32Array
from mapper.grid import Tile
from mapper.store.rasters import Raster, Rasters

_ALL_PX = 1 << 24
"""A map of so many pixels is counted as a whole."""
_ALL_TILES = 256
"""And of so many tiles: each is a read of every array."""
_SAMPLE_PX = 1 << 22
_BLOCKS = (64, 256)
"""Fewest and most blocks of a sample."""
_BINS = 48
_TOP = 99.8
"""Percentile of the values where the histogram ends."""


@dataclass(frozen=True, kw_only=True)
class Histogram:
    """Pixels by value."""

    edges: Float32Array
    counts: npt.NDArray[np.int64]
    mean: float
    median: float


@dataclass(frozen=True, kw_only=True)
class Distributions:
    """Of the pixels of tiles with data."""

    pixels: int
    """That were looked at."""
    whole: bool
    """Whether these are all."""
    value: Histogram | None
    """None if no pixel is valid."""
    sd: Histogram | None
    n_valid: Histogram | None
    flags: dict[str, int]
    """Pixels by flag; one may have several."""
    unflagged: int


def sample_pixels(rasters: Rasters, tiles: list[Tile]) -> Distributions:
    """Look at the pixels of a map.

    Args:
        rasters: Of a map.
        tiles: That have data.
    """
    bands = rasters.bands
    value, qa, n_valid = (rasters.find(band.name) for band in (bands.values[0], bands.quality, bands.count))
    sd = bands.sd_of(value.name)
    whole = len(tiles) <= _ALL_TILES and len(tiles) * rasters.grid.tile_px**2 <= _ALL_PX
    windows = list(_choose_windows(rasters, tiles, whole=whole))
    flags = _read(qa, windows).astype(np.uint16)
    written = rasters.is_written(flags)
    meanings = zip(qa.attributes["flag_masks"], str(qa.attributes["flag_meanings"]).split(), strict=True)
    return Distributions(
        pixels=int(written.sum()),
        whole=whole,
        value=_count(_read(value, windows)),
        sd=_count(_read(rasters.find(sd.name), windows)) if sd else None,
        n_valid=_count(_read(n_valid, windows)[written], whole_numbers=True),
        flags={name: int((written & (flags & mask != 0)).sum()) for mask, name in meanings if mask != qa.band.fill},
        unflagged=int((written & (flags == 0)).sum()),
    )


def _choose_windows(rasters: Rasters, tiles: list[Tile], *, whole: bool) -> Iterator[tuple[slice, slice]]:
    """Whole tiles, or one block in each of some that lie evenly."""
    if whole:
        yield from (rasters.grid.window(tile).slices for tile in tiles)
        return
    edge = rasters.grid.chunk_px
    wanted = min(max(_SAMPLE_PX // edge**2, _BLOCKS[0]), _BLOCKS[1])
    step, blocks = max(1, -(-len(tiles) // wanted)), rasters.grid.tile_px // edge
    for number, tile in enumerate(tiles[::step]):
        window = rasters.grid.window(tile)
        # another place in each tile, the same whenever it is asked
        top = window.top + edge * (number * 5 % blocks)
        left = window.left + edge * (number * 3 % blocks)
        yield slice(top, top + edge), slice(left, left + edge)


def _read(raster: Raster, windows: list[tuple[slice, slice]]) -> Float32Array:
    parts = [raster.decode(raster.read(*window)).ravel() for window in windows]
    return np.concatenate(parts) if parts else np.empty(0, np.float32)


def _count(values: Float32Array, *, whole_numbers: bool = False) -> Histogram | None:
    valid = values[np.isfinite(values)]
    if not valid.size:
        return None
    low, high = float(min(valid.min(), 0)), float(np.percentile(valid, _TOP))
    if whole_numbers:
        step = max(1, -(-int(high - low + 1) // _BINS))
        edges = np.arange(low - 0.5, high + step + 0.5, step)
        if len(edges) < 3:
            return None
    else:
        edges = np.linspace(low, high if high > low else low + 1, _BINS + 1)
    counts, _ = np.histogram(np.clip(valid, edges[0], edges[-1]), edges)
    return Histogram(
        edges=edges.astype(np.float32), counts=counts, mean=float(valid.mean()), median=float(np.median(valid))
    )
