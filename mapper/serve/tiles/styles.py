"""Default style of a band: its colour map, and the range of values that the colours span."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
import numpy.typing as npt

from mapper.errors import InputError
from mapper.serve.tiles.colours import Colormap
from mapper.store.product import Band, Role
from mapper.store.rasters import Raster, Rasters

RangeText = str | None
"""Two numbers with a comma between, as an address has them."""
_NUMBER = r"[-+]?[0-9]{1,15}(?:\.[0-9]{0,15})?(?:[eE][-+]?[0-9]{1,2})?"
_RANGE = re.compile(f"({_NUMBER}),({_NUMBER})")
_MOST = 1e30
_MOST_PIXELS = 1 << 22
"""Largest coarsest level that is read whole for a sample of values."""
_CHUNKS = 16
"""Chunks that are sampled of a map without a level that coarse."""
_HIGH, _LOW = 98, 2
"""Percentiles: a few extremes are not to take all colours."""
_COLORMAPS: Mapping[Role, Colormap] = MappingProxyType({"sd": "magma", "count": "cividis", "quality": "cividis"})
"""Colour maps of bands of a role; of any other it is viridis."""


def parse_range(text: RangeText, name: str) -> tuple[float, float] | None:
    """Return two rising numbers; None if nothing was given.

    Raises:
        InputError: If it is anything else.
    """
    if text is None:
        return None
    match = _RANGE.fullmatch(text)
    low, high = (float(part) for part in match.groups()) if match else (0.0, 0.0)
    if not -_MOST <= low < high <= _MOST or high - low < 1 / _MOST:
        raise InputError(f"{name}: expected two rising numbers, as 0,400")
    return low, high


@dataclass(frozen=True, kw_only=True)
class Style:
    """Colours of a band."""

    colormap: Colormap
    low: float
    """Value of the first colour."""
    high: float
    """Value of the last colour."""


def choose_style(rasters: Rasters, name: str, tiles: npt.NDArray[np.int64]) -> Style:
    """Return the style of a band, its range from a sample of its values.

    Args:
        rasters: Bands of a version of a map.
        name: Name of the band.
        tiles: Rows and columns of tiles with data, (tile, 2).

    Raises:
        StoreError: If the storage fails.
    """
    band = rasters.find(name).band
    colormap = _COLORMAPS.get(band.role, "viridis")
    values = _sample(rasters, name, tiles)
    values = values[np.isfinite(values)]
    if values.size == 0:
        low = band.bounds[0] or 0.0
        return Style(colormap=colormap, low=low, high=low + (band.value_range or 1.0))
    low, high = np.percentile(values, (_LOW, _HIGH)).tolist()
    if 0 <= low < high and _starts_at_zero(band):
        low = 0.0
    step = _round_step(max(high - low, abs(high) / 100))
    # rounded: 6 tenths are 0.6000000000000001, which no address takes
    low, high = (float(f"{edge * step:.10g}") for edge in (math.floor(low / step), math.ceil(high / step)))
    return Style(colormap=colormap, low=low, high=high if high > low else low + step)


def _starts_at_zero(band: Band) -> bool:
    """Return True where 0 is the least value there can be, so that colours begin there; heights go on below it."""
    return band.role not in ("value", "sample") or band.bounds[0] == 0


def _sample(rasters: Rasters, name: str, tiles: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
    """Return some values of a band: the coarsest level if that is small, else chunks from tiles that lie evenly."""
    coarsest = rasters.find(name, rasters.levels - 1)
    rows, cols = coarsest.shape
    if rows * cols <= _MOST_PIXELS:
        return coarsest.decode(coarsest.read(slice(0, rows), slice(0, cols))).ravel()
    fine = rasters.find(name)
    chosen = tiles[np.unique(np.linspace(0, len(tiles) - 1, _CHUNKS).astype(np.int64))] if len(tiles) else tiles
    chunks = [_read_middle(fine, rasters.grid.tile_px, row, col) for row, col in chosen.tolist()]
    return np.concatenate([fine.decode(chunk).ravel() for chunk in chunks]) if chunks else np.empty(0, np.float32)


def _read_middle(raster: Raster, tile_px: int, row: int, col: int) -> npt.NDArray[np.generic]:
    """Return a chunk from the middle of a tile, as it is stored."""
    offset = tile_px // 2 // raster.chunk_px * raster.chunk_px
    top, left = row * tile_px + offset, col * tile_px + offset
    return raster.read(slice(top, top + raster.chunk_px), slice(left, left + raster.chunk_px))


def _round_step(span: float) -> float:
    """Return a fifth or less of a span: 1, 2 or 5 times a power of ten."""
    raw = max(span, 1e-9) / 10
    power = 10.0 ** math.floor(math.log10(raw))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= raw * (1 - 1e-9))
