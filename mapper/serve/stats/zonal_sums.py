"""Sums over a polygon: area, total, histogram and flags, block by block, in memory that does not grow with it.

Each pixel counts with the share of it that lies inside times its area on the ellipsoid. All areas are in square metres,
all sums in units of the value times square metres.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import shapely
from affine import Affine

from mapper.arrays import Float64Array
from mapper.errors import InputError
from mapper.grid import MapGrid
from mapper.predict.quality import read_flags
from mapper.serve.stats.pixel_area import PixelAreas
from mapper.serve.stats.pixel_coverage import Area, cover_window
from mapper.serve.stats.sum_uncertainty import SumSd, compute_sum_sd
from mapper.store.product import Band
from mapper.store.rasters import Raster, Rasters

_BLOCK_PX = 1024
_MOST_CELLS = 1 << 20
"""Cells in which errors are added up, at most."""
_FLAGS = 1 << 18
"""Numbers that flags can make, at most."""
_MISSING = ("source_missing", "outside_area")
"""Flags of pixels without a value; at a level, of pixels that lack a part of their area."""


@dataclass(frozen=True, kw_only=True)
class HistogramBins:
    """Classes of a histogram, of equal width."""

    low: float
    high: float
    count: int

    @property
    def edges(self) -> list[float]:
        """Return the edges of all classes."""
        return [float(f"{edge:.7g}") for edge in np.linspace(self.low, self.high, self.count + 1)]


@dataclass(kw_only=True, eq=False)
class ZonalSums:
    """Sums over the blocks of a polygon that were read so far."""

    bins: HistogramBins
    cells: Float64Array
    pixels: int = 0
    """Pixels that were read, in blocks that the polygon touches."""
    inside: float = 0.0
    """Area inside polygon and map."""
    valid: float = 0.0
    """Area with a value."""
    known: float = 0.0
    """Area with a value and its standard deviation."""
    total: float = 0.0
    partial: float = 0.0
    """Sum of absolute values in pixels of a level that lack a part of their area."""
    flags: Float64Array = field(default_factory=lambda: np.zeros(_FLAGS))
    """Area by flags."""
    histogram: Float64Array = field(init=False)
    """Area by class, with the areas below the first and above the last at the ends."""

    def __post_init__(self) -> None:
        self.histogram = np.zeros(self.bins.count + 2)


@dataclass(frozen=True, kw_only=True)
class _Block:
    """A window of a level."""

    rows: slice
    cols: slice

    @property
    def shape(self) -> tuple[int, int]:
        return self.rows.stop - self.rows.start, self.cols.stop - self.cols.start


@dataclass(frozen=True, kw_only=True)
class PixelBounds:
    """Size of a polygon on a level, at most."""

    pixels: int
    """Pixels inside and on the outline."""
    outline: int
    """Length of the outline in pixels."""


class Zone:
    """A polygon on one level of a map.

    Args:
        rasters: Bands of the map.
        area: Polygon in the CRS of the map.
        pixel_areas: Areas of pixels of the map.
        bounds: Pixels of the polygon and of its outline at the level that is chosen: the finest that has no more.

    Raises:
        InputError: If even the coarsest has more, or the polygon does not touch the map.
    """

    def __init__(self, rasters: Rasters, area: Area, *, pixel_areas: PixelAreas, bounds: "PixelBounds") -> None:
        self._rasters = rasters
        self._pixel_areas = pixel_areas
        grid = rasters.grid
        self.area = _clip(area, grid)
        self.level = _choose_level(rasters, self.area, bounds)
        self.transform = grid.geobox.transform @ Affine.scale(2**self.level)
        self._scale = 2**self.level
        west, south, east, north = self.area.bounds
        rows, cols = grid.shape
        at = grid.geobox.transform
        self._top, self._left = max(0, int((north - at.f) / at.e)), max(0, int((west - at.c) / at.a))
        self._bottom = min(rows, math.ceil((south - at.f) / at.e))
        self._right = min(cols, math.ceil((east - at.c) / at.a))
        self.cell_px = _choose_cell(max(grid.scale, self._scale), self._bottom - self._top, self._right - self._left)
        """Edge of the cells on which errors are added up, in target pixels."""

    def accumulate(self, name: str, bins: HistogramBins, check: Callable[[], None]) -> ZonalSums:
        """Read all blocks and return the sums of a band.

        Args:
            name: Name of a value band.
            bins: Classes of the histogram.
            check: Called between pieces of the work; it raises to end it.

        Raises:
            StoreError: If the storage fails.
        """
        cells = [
            (stop - 1) // self.cell_px - start // self.cell_px + 1
            for start, stop in ((self._top, self._bottom), (self._left, self._right))
        ]
        sums = ZonalSums(bins=bins, cells=np.zeros(cells))
        values = self._rasters.find(name, self.level)
        shapely.prepare(self.area)
        for block in self._list_blocks(values, check):
            check()
            transform = self.transform @ Affine.translation(block.cols.start, block.rows.start)
            shares = self._cover(transform, block.shape, check)
            if shares is not None:
                self._add_block(sums, values, block, shares * self._pixel_areas.measure(transform, block.shape))
        return sums

    def _add_block(self, sums: ZonalSums, values: Raster, block: _Block, weights: Float64Array) -> None:
        bands = self._rasters.bands
        value = values.decode(values.read(block.rows, block.cols))
        flags = self._rasters.find(bands.quality.name, self.level).read(block.rows, block.cols)
        _add_values(sums, value, weights)
        _add_flags(sums, flags, weights)
        if self.level:
            is_partial = flags & _missing_masks(bands.quality) != 0
            sums.partial += _sum_products(np.abs(value), np.where(is_partial, weights, 0.0))
        sd_band = bands.sd_of(values.name)
        if sd_band:
            deviations = self._rasters.find(sd_band.name, self.level)
            sd = deviations.decode(deviations.read(block.rows, block.cols))
            self._add_errors(sums, np.where(np.isnan(value), np.float32(np.nan), sd), weights, block)

    def compute_sd(self, sums: ZonalSums, length_m: float | None) -> SumSd:
        """Return the standard deviations of the total; lengths are those in the middle of the polygon."""
        grid = self._rasters.grid
        middle = shapely.box(*self.area.bounds).centroid
        north, east = self._pixel_areas.measure_step(middle.x, middle.y, float(grid.resolution))
        parts = max(1, round(self.cell_px / grid.scale))
        step = north * self.cell_px, east * self.cell_px
        return compute_sum_sd(sums.cells, parts=parts, step_m=step, length_m=length_m)

    def _cover(self, transform: Affine, shape: tuple[int, int], check: Callable[[], None]) -> Float64Array | None:
        """Return the shares of the pixels of a block that lie inside; None if none does."""
        left, top = transform @ (0, 0)
        right, bottom = transform @ shape[::-1]
        if shapely.contains_properly(self.area, shapely.box(left, bottom, right, top)):
            return np.ones(shape)
        return cover_window(self.area, transform, shape, check)

    def _list_blocks(self, raster: Raster, check: Callable[[], None]) -> Iterator[_Block]:
        """Yield the blocks of whole chunks that the polygon touches, row by row."""
        edge = max(1, _BLOCK_PX // raster.chunk_px) * raster.chunk_px
        rows, cols = raster.shape
        top, left = (start // self._scale // edge * edge for start in (self._top, self._left))
        bottom, right = (-(-stop // self._scale) for stop in (self._bottom, self._right))
        starts, at = np.arange(left, min(right, cols), edge), self.transform
        west, east = at.c + at.a * starts, at.c + at.a * np.minimum(starts + edge, cols)
        for row in range(top, min(bottom, rows), edge):
            check()
            below = min(row + edge, rows)
            south, north = (np.full_like(west, at.f + at.e * edge_row) for edge_row in (below, row))
            boxes = shapely.box(west, south, east, north)
            for col in starts[shapely.intersects(self.area, boxes)].tolist():
                yield _Block(rows=slice(row, below), cols=slice(col, min(col + edge, cols)))

    def _add_errors(self, sums: ZonalSums, sd: npt.NDArray[np.float32], weights: Float64Array, block: _Block) -> None:
        known = ~np.isnan(sd)
        sums.known += float(weights[known].sum())
        products = np.where(known, sd, np.float32(0)) * weights
        begins, cells = zip(
            *(
                self._find_cells(span, first, count)
                for span, first, count in (
                    (block.rows, self._top, sums.cells.shape[0]),
                    (block.cols, self._left, sums.cells.shape[1]),
                )
            ),
            strict=True,
        )
        reduced = np.add.reduceat(np.add.reduceat(products, begins[0], axis=0), begins[1], axis=1)
        np.add.at(sums.cells, np.ix_(*cells), reduced)

    def _find_cells(self, span: slice, first: int, count: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Return the pixels at which cells begin along one side of a block, and these cells."""
        middles = (np.arange(span.start, span.stop) + 0.5) * self._scale
        cells = np.clip((middles // self.cell_px).astype(np.int64) - first // self.cell_px, 0, count - 1)
        begins = np.flatnonzero(np.diff(cells, prepend=cells[0] - 1))
        return begins, cells[begins]


def _add_values(sums: ZonalSums, value: npt.NDArray[np.float32], weights: Float64Array) -> None:
    valid = ~np.isnan(value)
    bins = sums.bins
    sums.pixels += value.size
    sums.inside += float(weights.sum())
    sums.valid += float(weights[valid].sum())
    sums.total += _sum_products(value, weights)
    width = (bins.high - bins.low) / bins.count
    classes = np.floor((value[valid].astype(np.float64) - bins.low) / width)
    classes = np.clip(classes, -1, bins.count).astype(np.int64) + 1
    sums.histogram += np.bincount(classes, weights[valid], bins.count + 2)


def _sum_products(value: npt.NDArray[np.float32], weights: Float64Array) -> float:
    """Return the sum of values times weights, missing values left out."""
    return float((np.nan_to_num(value, nan=0.0).astype(np.float64) * weights).sum())


def _add_flags(sums: ZonalSums, flags: npt.NDArray[Any], weights: Float64Array) -> None:
    sums.flags += np.bincount(flags.ravel(), weights.ravel(), _FLAGS)


def _missing_masks(quality: Band) -> int:
    """Return the bits of pixels that have no value, or lack a part of their area."""
    named = read_flags(quality.attributes)
    return sum(named[name][0] for name in _MISSING if name in named)


def _clip(area: Area, grid: MapGrid) -> Area:
    """Return the part of a polygon that lies in the map."""
    clipped = shapely.clip_by_rect(area, *grid.geobox.boundingbox.bbox)
    parts = [part for part in shapely.get_parts(clipped) if part.geom_type == "Polygon" and part.area > 0]
    if not parts:
        raise InputError("coordinates: the polygon lies outside the map")
    return parts[0] if len(parts) == 1 else shapely.MultiPolygon(parts)


def _choose_level(rasters: Rasters, area: Area, bounds: PixelBounds) -> int:
    """Return the finest level at which a polygon has few enough pixels, inside and along its outline."""
    step = float(rasters.grid.resolution)
    for level in range(rasters.levels):
        outline = area.length / (step * 2**level)
        pixels = area.area / (step * 2**level) ** 2 + outline
        if pixels <= bounds.pixels and outline <= bounds.outline:
            return level
    counted, most, smaller = (
        (f"has {pixels:,.0f} pixels", bounds.pixels, "a smaller one")
        if pixels > bounds.pixels
        else (f"has an outline of {outline:,.0f} pixels", bounds.outline, "a simpler one")
    )
    raise InputError(
        f"the polygon {counted} of the coarsest level there is, at most {most:,} are added up; "
        f"ask for {smaller}, or have `mapper pyramid` make coarser levels"
    )


def _choose_cell(smallest: int, rows: int, cols: int) -> int:
    """Return the edge of cells of which there are few enough, in target pixels."""
    cell = smallest
    while (rows // cell + 2) * (cols // cell + 2) > _MOST_CELLS:
        cell *= 2
    return cell
