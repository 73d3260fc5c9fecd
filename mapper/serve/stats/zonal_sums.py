"""Sums over a polygon: area, total, histogram and flags, block by block, in memory that does not grow with the polygon.

Each pixel counts with the share of it that lies inside times its area on the ellipsoid. All areas are in square metres,
all sums in units of the value times square metres.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import shapely
from affine import Affine

from mapper.arrays import Float64Array
from mapper.errors import InputError
from mapper.grid import MapGrid
from mapper.serve.stats.pixel_area import Ground
from mapper.serve.stats.pixel_coverage import Area, cover_window
from mapper.serve.stats.sum_uncertainty import SumSd, compute_sum_sd
from mapper.store.rasters import Rasters

_BLOCK_PX = 1024
_MOST_CELLS = 1 << 20
"""Of the lattice on which errors are added up."""
_FLAGS = 1 << 16
_MISSING = ("source_missing", "outside_area")
"""Flags of pixels without a value: of a level, those of pixels that lack a part of it."""


@dataclass(frozen=True, kw_only=True)
class HistogramBins:
    """Classes of a histogram, of equal width."""

    low: float
    high: float
    count: int

    @property
    def edges(self) -> list[float]:
        """Of all classes."""
        return [float(f"{edge:.7g}") for edge in np.linspace(self.low, self.high, self.count + 1)]


@dataclass(kw_only=True, eq=False)
class Sums:
    """What was added up."""

    bins: HistogramBins
    cells: Float64Array
    pixels: int = 0
    """Looked at, in blocks that the polygon touches."""
    inside: float = 0.0
    """Area inside polygon and map."""
    valid: float = 0.0
    """Area with a value."""
    known: float = 0.0
    """Area with a value and its standard deviation."""
    total: float = 0.0
    partial: float = 0.0
    """Part of the total in pixels of a level that lack a part of their area."""
    flags: Float64Array = field(default_factory=lambda: np.zeros(_FLAGS))
    """Area by flags."""
    histogram: Float64Array = field(init=False)
    """Area by class, what is below the first and above the last in front and at the end."""

    def __post_init__(self) -> None:
        self.histogram = np.zeros(self.bins.count + 2)


@dataclass(frozen=True, kw_only=True)
class _Block:
    """A window of a level, and where it lies on the lattice of cells."""

    rows: slice
    cols: slice

    @property
    def shape(self) -> tuple[int, int]:
        return self.rows.stop - self.rows.start, self.cols.stop - self.cols.start


class Zone:
    """A polygon on one level of a map.

    Args:
        rasters: The map.
        area: In its CRS.
        ground: Areas of its pixels.
        most_pixels: Choose the finest level at which the polygon has no more than these.

    Raises:
        InputError: If even the coarsest has more, or the polygon does not touch the map.
    """

    def __init__(self, rasters: Rasters, area: Area, *, ground: Ground, most_pixels: int) -> None:
        self._rasters = rasters
        self._ground = ground
        grid = rasters.grid
        self.area = _clip(area, grid)
        self.level = _choose_level(rasters, self.area, most_pixels)
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

    def add_up(self, bins: HistogramBins, check: Callable[[], None]) -> Sums:
        """Go through all blocks.

        Args:
            bins: Classes of the histogram.
            check: Called between blocks; it raises to end the work.

        Raises:
            StoreError: If the storage fails.
        """
        lattice = [
            (stop - 1) // self.cell_px - start // self.cell_px + 1
            for start, stop in ((self._top, self._bottom), (self._left, self._right))
        ]
        sums = Sums(bins=bins, cells=np.zeros(lattice))
        names = self._rasters.names
        rasters = [self._rasters.find(name, self.level) for name in names[:3]]
        masks = self._missing_masks()
        shapely.prepare(self.area)
        for block in self._list_blocks(rasters[0].chunk_px):
            check()
            transform = self.transform @ Affine.translation(block.cols.start, block.rows.start)
            shares = self._cover(transform, block.shape)
            if shares is None:
                continue
            weights = shares * self._ground.measure(transform, block.shape)
            stored = [raster.read(block.rows, block.cols) for raster in rasters]
            value, sd = (raster.decode(each) for raster, each in zip(rasters[:2], stored[:2], strict=True))
            _add_values(sums, value, weights)
            _add_flags(sums, stored[2], weights)
            if self.level:
                sums.partial += _add_products(value, np.where(stored[2] & masks != 0, weights, 0.0))
            self._add_errors(sums, np.where(np.isnan(value), np.float32(np.nan), sd), weights, block)
        return sums

    def deviate(self, sums: Sums, length_m: float | None) -> SumSd:
        """Standard deviation of the total; lengths are those in the middle of the polygon."""
        grid = self._rasters.grid
        middle = shapely.box(*self.area.bounds).centroid
        north, east = self._ground.measure_step(middle.x, middle.y, float(grid.resolution))
        parts = max(1, round(self.cell_px / grid.scale))
        step = north * self.cell_px, east * self.cell_px
        return compute_sum_sd(sums.cells, parts=parts, step_m=step, length_m=length_m)

    def _missing_masks(self) -> int:
        attributes = self._rasters.find(self._rasters.names[2]).attributes
        named = dict(zip(str(attributes["flag_meanings"]).split(), attributes["flag_masks"], strict=True))
        return sum(int(named.get(name, 0)) for name in _MISSING)

    def _cover(self, transform: Affine, shape: tuple[int, int]) -> Float64Array | None:
        rows, cols = shape
        corners = transform @ (0, 0), transform @ (cols, rows)
        box = shapely.box(corners[0][0], corners[1][1], corners[1][0], corners[0][1])
        if not shapely.intersects(self.area, box):
            return None
        return (
            np.ones(shape) if shapely.contains_properly(self.area, box) else cover_window(self.area, transform, shape)
        )

    def _list_blocks(self, chunk_px: int) -> Iterator[_Block]:
        """Blocks of whole chunks over the polygon's box, row by row."""
        edge = max(1, _BLOCK_PX // chunk_px) * chunk_px
        rows, cols = self._rasters.find(self._rasters.names[0], self.level).shape
        top, left = (start // self._scale // edge * edge for start in (self._top, self._left))
        bottom, right = (-(-stop // self._scale) for stop in (self._bottom, self._right))
        for row in range(top, min(bottom, rows), edge):
            for col in range(left, min(right, cols), edge):
                yield _Block(rows=slice(row, min(row + edge, rows)), cols=slice(col, min(col + edge, cols)))

    def _add_errors(self, sums: Sums, sd: npt.NDArray[np.float32], weights: Float64Array, block: _Block) -> None:
        known = ~np.isnan(sd)
        sums.known += float(weights[known].sum())
        products = np.where(known, sd, np.float32(0)) * weights
        begins, places = zip(
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
        np.add.at(sums.cells, np.ix_(*places), reduced)

    def _find_cells(self, span: slice, first: int, count: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Where cells begin along one side of a block, and which they are; pixels beside the polygon weigh nothing."""
        middles = (np.arange(span.start, span.stop) + 0.5) * self._scale
        cells = np.clip((middles // self.cell_px).astype(np.int64) - first // self.cell_px, 0, count - 1)
        begins = np.flatnonzero(np.diff(cells, prepend=cells[0] - 1))
        return begins, cells[begins]


def _add_values(sums: Sums, value: npt.NDArray[np.float32], weights: Float64Array) -> None:
    valid = ~np.isnan(value)
    bins = sums.bins
    sums.pixels += value.size
    sums.inside += float(weights.sum())
    sums.valid += float(weights[valid].sum())
    sums.total += _add_products(value, weights)
    width = (bins.high - bins.low) / bins.count
    places = np.floor((value[valid].astype(np.float64) - bins.low) / width)
    places = np.clip(places, -1, bins.count).astype(np.int64) + 1
    sums.histogram += np.bincount(places, weights[valid], bins.count + 2)


def _add_products(value: npt.NDArray[np.float32], weights: Float64Array) -> float:
    return float((np.nan_to_num(value, nan=0.0).astype(np.float64) * weights).sum())


def _add_flags(sums: Sums, flags: npt.NDArray[np.uint16], weights: Float64Array) -> None:
    sums.flags += np.bincount(flags.ravel(), weights.ravel(), _FLAGS)


def _clip(area: Area, grid: MapGrid) -> Area:
    clipped = shapely.clip_by_rect(area, *grid.geobox.boundingbox.bbox)
    parts = [part for part in shapely.get_parts(clipped) if part.geom_type == "Polygon" and part.area > 0]
    if not parts:
        raise InputError("coordinates: the polygon lies outside the map")
    return parts[0] if len(parts) == 1 else shapely.MultiPolygon(parts)


def _choose_level(rasters: Rasters, area: Area, most_pixels: int) -> int:
    step = float(rasters.grid.resolution)
    for level in range(rasters.levels):
        pixels = area.area / (step * 2**level) ** 2 + area.length / (step * 2**level)
        if pixels <= most_pixels:
            return level
    raise InputError(
        f"the polygon has {pixels:,.0f} pixels of the coarsest level there is, at most {most_pixels:,} are added up; "
        "ask for a smaller one, or have `mapper pyramid` make coarser levels"
    )


def _choose_cell(smallest: int, rows: int, cols: int) -> int:
    cell = smallest
    while (rows // cell + 2) * (cols // cell + 2) > _MOST_CELLS:
        cell *= 2
    return cell
