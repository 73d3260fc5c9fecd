"""Web tiles (WebMercatorQuad) and the positions of their pixels in a map.

Projecting every pixel of a tile takes longer than all the rest. So a lattice of points is projected exactly and what
lies between is interpolated; where that would be off by more than :data:`TOLERANCE` of a pixel, as on tiles that show a
continent or touch the edge of a projection, every pixel is projected.
"""

import math
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
from pyproj import Transformer
from pyproj.enums import TransformDirection

from mapper.arrays import Float64Array
from mapper.grid import MapGrid
from mapper.serve.tiles.cache import ByteCache

MAX_ZOOM = 24
EDGE_PX = 256
HALF_WORLD_M = 20037508.342789244
"""Half of the circumference of the sphere of EPSG:3857."""
MOST_LATITUDE = 85.051129
"""Latitude at which web tiles end."""
TOLERANCE = 0.1
"""Error of a position, in pixels of the level that is read; twice the points bound it, where it is a quarter."""

_STEPS = (32, 16, 8)
_CACHE_BYTES = 32 << 20
_MARGIN = 0.01


@dataclass(frozen=True, kw_only=True)
class WebTile:
    """One tile; ``x`` grows eastwards, ``y`` southwards."""

    z: int
    x: int
    y: int
    scale: int = 1
    """2 gives the same tile with pixels of half the size."""

    @property
    def size(self) -> int:
        """Return the edge in pixels."""
        return EDGE_PX * self.scale

    @property
    def pixel_m(self) -> float:
        """Return the edge of a pixel in metres of EPSG:3857."""
        return 2 * HALF_WORLD_M / (1 << self.z) / self.size

    @property
    def bounds(self) -> tuple[float, float, float, float]:
        """Return left, bottom, right and top in EPSG:3857."""
        edge = 2 * HALF_WORLD_M / (1 << self.z)
        left, top = self.x * edge - HALF_WORLD_M, HALF_WORLD_M - self.y * edge
        return left, top - edge, left + edge, top


@dataclass(frozen=True, kw_only=True, eq=False)
class TilePositions:
    """Positions on a tile, every ``step`` pixels from the outer upper-left corner, or of every pixel's centre."""

    nodes: Float64Array
    """(2, y, x): rows and columns in target pixels, counted from the corner of the map; NaN beyond the projection."""
    step: int
    """0 for the centres of all pixels."""

    def expand(self, size: int) -> Float64Array:
        """Return the positions of the centres of all pixels: (2, size, size)."""
        if not self.step:
            return self.nodes
        # not a product of matrices: BLAS would start threads for it
        after = (np.arange(self.step) + 0.5) / self.step
        cols = self.nodes[..., :-1, None] + np.diff(self.nodes)[..., None] * after
        cols = cols.reshape(2, -1, size)
        expanded: Float64Array = np.diff(cols, axis=1)[:, :, None] * after[:, None]
        expanded += cols[:, :-1, None]
        return expanded.reshape(2, size, size)

    def scale(self, factor: float) -> "TilePositions":
        """Return the same in pixels of another size."""
        return TilePositions(nodes=self.nodes * factor, step=self.step)


class TileLocator:
    """Positions of the pixels of tiles in a map; for use by many threads."""

    def __init__(self, grid: MapGrid) -> None:
        # PROJ prepares a transformation anew in each thread, which takes longer than ten tiles: one thread projects
        self._projector = ThreadPoolExecutor(1, thread_name_prefix="projector")
        self._to_map = self._projector.submit(Transformer.from_crs, "EPSG:3857", grid.crs, always_xy=True).result()
        self._to_pixels = ~grid.geobox.transform
        self._grid = grid
        self._known: ByteCache[TilePositions] = ByteCache(_CACHE_BYTES)

    def locate(self, tile: WebTile) -> TilePositions:
        """Return the positions on a tile."""
        positions = self._known.get(tile)
        if positions is None:
            positions = self._find_positions(tile)
            self._known.put(tile, positions, positions.nodes.nbytes)
        return positions

    def ratio(self, z: int, scale: int = 1) -> float:
        """Return the edge of a tile's pixel in target pixels, in the middle of the map: one for all tiles of a zoom."""
        return WebTile(z=z, x=0, y=0, scale=scale).pixel_m / self._pixel_m

    @cached_property
    def bounds(self) -> tuple[float, float, float, float]:
        """Return west, south, east and north of the map in degrees, no farther than web tiles reach."""
        to_degrees = Transformer.from_crs(self._grid.crs, "EPSG:4326", always_xy=True)
        west, south, east, north = to_degrees.transform_bounds(*self._grid.geobox.boundingbox.bbox, densify_pts=51)
        if not (math.isfinite(west) and math.isfinite(east)) or west >= east:
            west, east = -180.0, 180.0
        south, north = (lat if math.isfinite(lat) else end for lat, end in ((south, -90.0), (north, 90.0)))
        return west, max(south, -MOST_LATITUDE), east, min(north, MOST_LATITUDE)

    def may_show(self, tile: WebTile) -> bool:
        """Return True if any of the map may lie on a tile: False without work for tiles far from it."""
        left, bottom, right, top = tile.bounds
        west, south, east, north = self._extent
        return right > west and left < east and top > south and bottom < north

    @cached_property
    def _extent(self) -> tuple[float, float, float, float]:
        """Return the extent of the map in EPSG:3857, with a margin: its edges are curved there."""
        west, south, east, north = self.bounds
        left, bottom = _to_mercator(west, south)
        right, top = _to_mercator(east, north)
        margin = _MARGIN * max(right - left, top - bottom)
        return left - margin, bottom - margin, right + margin, top + margin

    @cached_property
    def _pixel_m(self) -> float:
        """Return the edge of a target pixel in the middle of the map, in metres of EPSG:3857."""
        rows, cols = self._grid.shape
        x = np.array([0.0, 0.0, 1.0, 1.0]) + cols / 2 - 0.5
        y = np.array([0.0, 1.0, 1.0, 0.0]) + rows / 2 - 0.5
        at = self._grid.geobox.transform
        east, north = self._transform(at.c + at.a * x, at.f + at.e * y, TransformDirection.INVERSE)
        area = 0.5 * abs(np.dot(east, np.roll(north, 1)) - np.dot(north, np.roll(east, 1)))
        return math.sqrt(area)

    def _find_positions(self, tile: WebTile) -> TilePositions:
        tolerance = TOLERANCE * max(1.0, self.ratio(tile.z, tile.scale) / 2)
        for step in _STEPS:
            nodes = self._project(tile, np.arange(0, tile.size + 1, step // 2))
            if np.isfinite(nodes).all() and _find_error(nodes) <= tolerance:
                return TilePositions(nodes=nodes, step=step // 2)
        nodes = self._project(tile, np.arange(tile.size) + 0.5)
        nodes[:, ~np.isfinite(nodes).all(axis=0)] = np.nan
        return TilePositions(nodes=nodes, step=0)

    def _project(self, tile: WebTile, steps: npt.NDArray[Any]) -> Float64Array:
        """Return the rows and columns in the map of points of a tile, each counted in its pixels."""
        left, _, _, top = tile.bounds
        x, y = np.meshgrid(left + steps * tile.pixel_m, top - steps * tile.pixel_m)
        east, north = self._transform(x, y, TransformDirection.FORWARD)
        at = self._to_pixels
        return np.stack([at.f + at.e * north, at.c + at.a * east])

    def _transform(
        self, x: Float64Array, y: Float64Array, direction: TransformDirection
    ) -> tuple[Float64Array, Float64Array]:
        east, north = self._projector.submit(self._to_map.transform, x, y, direction=direction).result()
        return east, north


def _to_mercator(lon: float, lat: float) -> tuple[float, float]:
    """Return x and y in EPSG:3857 of a longitude and a latitude."""
    radius = HALF_WORLD_M / math.pi
    return radius * math.radians(lon), radius * math.log(math.tan(math.pi / 4 + math.radians(lat) / 2))


def _find_error(nodes: Float64Array) -> float:
    """Return how far every second point lies from where its neighbours put it."""
    coarse = nodes[:, ::2, ::2]
    rows = (coarse[:, 1:] + coarse[:, :-1]) / 2
    cols = (coarse[:, :, 1:] + coarse[:, :, :-1]) / 2
    middle = (rows[:, :, 1:] + rows[:, :, :-1]) / 2
    pairs = ((nodes[:, 1::2, ::2], rows), (nodes[:, ::2, 1::2], cols), (nodes[:, 1::2, 1::2], middle))
    return float(max(np.abs(found - expected).max() for found, expected in pairs))
