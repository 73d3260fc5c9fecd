"""Points on the tiles of a map, to measure by counting the share that a footprint covers.

Footprints have edges that are straight in longitude and latitude, tiles have edges that are straight in the CRS of the
map: a point is in or out of both without either being bent.
"""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import shapely
from pyproj import CRS, Transformer
from shapely.geometry.base import BaseGeometry

from mapper.catalog.footprint import cut_box
from mapper.grid import MapGrid, Tile

_POINTS = 1_000_000
"""Number of points of all tiles together, approximately."""
_FINEST, _COARSEST = 32, 8
"""Points along the edge of a tile: the most and the fewest."""
_SLIVER = 1e-9
"""Weight of the points of a tile that the area touches between them: they sample the tile, but have no area."""


@dataclass(frozen=True, kw_only=True)
class SamplePoints:
    """The same square points of points on every tile."""

    tiles: tuple[Tile, ...]
    """Tiles that the area touches."""
    longitude: npt.NDArray[np.float64]
    """(tile, point) longitude, degrees."""
    latitude: npt.NDArray[np.float64]
    """(tile, point) latitude, degrees."""
    weight: npt.NDArray[np.float64]
    """(tile, point) mapped area, next to nothing outside it."""
    boxes: npt.NDArray[np.object_]
    """(tile,) box around the points, degrees; cut in two at 180."""

    @classmethod
    def of(cls, grid: MapGrid) -> "SamplePoints":
        """Lay the points on the tiles of a map."""
        tiles = tuple(grid.tiles())
        edge = max(_COARSEST, min(_FINEST, math.isqrt(_POINTS // len(tiles))))
        steps = (np.arange(edge) + 0.5) / edge * grid.tile_px
        corners = np.array([(tile.row, tile.col) for tile in tiles]) * grid.tile_px
        rows = (corners[:, 0, None, None] + steps[:, None] + 0 * steps).reshape(len(tiles), -1)
        cols = (corners[:, 1, None, None] + 0 * steps[:, None] + steps).reshape(len(tiles), -1)
        at = grid.geobox.transform
        x, y = at.c + at.a * cols, at.f + at.e * rows
        longitude, latitude = Transformer.from_crs(grid.crs, "EPSG:4326", always_xy=True).transform(x, y)
        return cls(
            tiles=tiles,
            longitude=longitude,
            latitude=latitude,
            weight=_weigh(grid, x, y, latitude),
            boxes=_box_points(longitude, latitude),
        )

    def find_covered(self, footprints: npt.NDArray[np.object_]) -> list["CoveredPoints"]:
        """Find the points that each of several footprints (degrees) covers."""
        tree = shapely.STRtree(self.boxes)
        touched, whole = (tree.query(footprints, predicate=predicate) for predicate in ("intersects", "contains"))
        starts = [np.searchsorted(pairs[0], np.arange(len(footprints) + 1)) for pairs in (touched, whole)]
        return [
            self._select(
                footprint,
                touched[1, starts[0][k] : starts[0][k + 1]],
                whole[1, starts[1][k] : starts[1][k + 1]],
            )
            for k, footprint in enumerate(footprints)
        ]

    def _select(
        self, footprint: BaseGeometry, touched: npt.NDArray[np.intp], whole: npt.NDArray[np.intp]
    ) -> "CoveredPoints":
        inside = np.isin(touched, whole)
        covered = np.ones((len(touched), self.weight.shape[1]), bool)
        partly = touched[~inside]
        if len(partly):
            shapely.prepare(footprint)
            covered[~inside] = shapely.contains_xy(footprint, self.longitude[partly], self.latitude[partly])
        return CoveredPoints(tiles=touched, covered=covered)


@dataclass(frozen=True, kw_only=True)
class CoveredPoints:
    """Points that one footprint covers."""

    tiles: npt.NDArray[np.intp]
    """Positions of the tiles that it touches."""
    covered: npt.NDArray[np.bool_]
    """(tile, point) True where the footprint covers the point."""


def _box_points(longitude: npt.NDArray[np.float64], latitude: npt.NDArray[np.float64]) -> npt.NDArray[np.object_]:
    """Return the boxes around the points of each tile."""
    west, south, east, north = longitude.min(1), latitude.min(1), longitude.max(1), latitude.max(1)
    boxes: npt.NDArray[np.object_] = shapely.box(west, south, east, north)
    turned = longitude % 360
    first, last = turned.min(1), turned.max(1)
    for number in np.flatnonzero((east - west > 180) & (last - first < east - west)).tolist():
        boxes[number] = cut_box(first[number], south[number], last[number], north[number])
    return boxes


def _weigh(
    grid: MapGrid, x: npt.NDArray[np.float64], y: npt.NDArray[np.float64], latitude: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    shapely.prepare(grid.area.geom)
    inside = np.asarray(shapely.contains_xy(grid.area.geom, x, y))
    ground = np.cos(np.radians(latitude)) if CRS.from_user_input(grid.crs).is_geographic else np.ones(x.shape)
    outside = np.where(inside.any(axis=1, keepdims=True), 0.0, _SLIVER)
    return np.where(inside, ground, outside)
