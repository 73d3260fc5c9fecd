"""Areas of the tiles of a map, for all tiles together."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import shapely
from pyproj import CRS, Transformer

from mapper.arrays import Float64Array
from mapper.grid import MapGrid

_EQUAL_AREA = "EPSG:6933"
_HALF_TURN = 17367530.445161372
"""Easting of 180 degrees in that projection, metres."""
_KM2 = 1e-6


@dataclass(frozen=True, kw_only=True)
class Extent:
    """The tiles of a map."""

    tiles: npt.NDArray[np.bool_]
    """(row, col): whether the area touches the tile."""
    km2: Float64Array
    """(row, col): square kilometres of the tile that lie in the area."""


def measure_areas(grid: MapGrid) -> Extent:
    """Find the tiles that the area touches, as :meth:`MapGrid.tiles` does, and their areas."""
    rows, cols = grid.tile_shape
    at, edge = grid.geobox.transform, grid.tile_px
    row, col = (index.ravel() for index in np.mgrid[:rows, :cols])
    left, top = at.c + at.a * edge * col, at.f + at.e * edge * row
    bounds = np.stack([left, top + at.e * edge, left + at.a * edge, top], axis=1)
    shapely.prepare(grid.area.geom)
    touched: npt.NDArray[np.bool_] = shapely.intersects(grid.area.geom, shapely.box(*bounds.T))
    km2 = np.zeros(rows * cols)
    km2[touched] = areas_km2(grid, bounds[touched])
    return Extent(tiles=touched.reshape(rows, cols), km2=km2.reshape(rows, cols))


def areas_km2(grid: MapGrid, bounds: Float64Array) -> Float64Array:
    """Return the square kilometres of boxes that lie in the area, on any grid.

    Args:
        grid: Whose CRS and area.
        bounds: (box, 4): left, bottom, right, top.
    """
    area = grid.area.geom
    shapely.prepare(area)
    parts: npt.NDArray[np.object_] = np.asarray(shapely.box(*bounds.T), object)
    cut = ~shapely.contains_properly(area, parts)
    parts[cut] = shapely.intersection(parts[cut], area)
    project = Transformer.from_crs(grid.crs, _EQUAL_AREA, always_xy=True)

    def flatten(points: Float64Array) -> Float64Array:
        return np.stack(project.transform(*points.T), axis=1)

    flat: npt.NDArray[np.object_] = np.asarray(shapely.transform(parts, flatten), object)
    if not CRS.from_user_input(grid.crs).is_geographic:
        west, _, east, _ = shapely.bounds(flat).T
        across = east - west > _HALF_TURN
        flat[across] = shapely.transform(flat[across], _bring_round)
    return np.asarray(shapely.area(flat) * _KM2)


def _bring_round(points: Float64Array) -> Float64Array:
    """Return points of the equal-area projection with those west of 180 degrees beyond it."""
    return np.stack([np.where(points[:, 0] < 0, points[:, 0] + 2 * _HALF_TURN, points[:, 0]), points[:, 1]], axis=1)
