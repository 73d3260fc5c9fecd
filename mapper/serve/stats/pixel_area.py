"""Areas of pixels on the ellipsoid of the map's CRS.

Longitude, and the area between the equator and a latitude, together make an equal-area plane. A pixel is measured
there by its four corners, whatever the CRS. On a geographic grid that is exact and depends on the row alone; on a
projected one it is done at every 32nd pixel and interpolated, which is off by less than 1e-6.
"""

from functools import lru_cache

import numpy as np
import numpy.typing as npt
import shapely
from affine import Affine
from pyproj import CRS, Geod, Transformer

from mapper.arrays import Float64Array
from mapper.serve.stats.pixel_coverage import Area

_STEP_PX = 32
_CORNERS = ((0, 0), (0, 1), (1, 1), (1, 0))


class PixelAreas:
    """Areas of the pixels of one CRS, in square metres; for use by many threads."""

    def __init__(self, crs: str) -> None:
        known = CRS.from_user_input(crs)
        geodetic = known.geodetic_crs or known
        self._geod: Geod = geodetic.get_geod() or Geod(ellps="WGS84")
        self._geographic = known.is_geographic
        self._to_degrees = Transformer.from_crs(known, geodetic, always_xy=True)

    def measure(self, transform: Affine, shape: tuple[int, int]) -> Float64Array:
        """Return the areas of the pixels of a window, (y, x), or (y, 1) where all of a row are alike.

        Args:
            transform: Transform from columns and rows of the window to the CRS.
            shape: Rows and columns.
        """
        if self._geographic:
            edges = self._area_below(transform.f + transform.e * np.arange(shape[0] + 1))
            return np.asarray(np.abs(np.diff(edges)) * np.radians(abs(transform.a)))[:, None]
        steps = [np.arange(-(-size // _STEP_PX) + 1) * _STEP_PX for size in shape]
        return _interpolate(self._measure_pixels(transform, *steps), shape)

    def measure_step(self, x: float, y: float, step: float) -> tuple[float, float]:
        """Return the metres from a point to those that lie a step in y and in x from it, in units of the CRS."""
        lon, lat = self._to_degrees.transform(np.array([x, x, x + step]), np.array([y, y - step, y]))
        _, _, metres = self._geod.inv(lon[[0, 0]], lat[[0, 0]], lon[[1, 2]], lat[[1, 2]])
        return float(metres[0]), float(metres[1])

    def measure_polygon(self, area: Area) -> float:
        """Return the area of a polygon in longitude and latitude, its edges as short as they are given."""
        parts = [shapely.geometry.polygon.orient(part) for part in shapely.get_parts(area)]
        return float(sum(self._geod.geometry_area_perimeter(part)[0] for part in parts))

    def _measure_pixels(
        self, transform: Affine, rows: npt.NDArray[np.int64], cols: npt.NDArray[np.int64]
    ) -> Float64Array:
        """Return the areas of some pixels by their corners."""
        col, row = np.meshgrid(cols, rows)
        points = []
        for down, right in _CORNERS:
            x, y = transform.c + transform.a * (col + right), transform.f + transform.e * (row + down)
            lon, lat = self._to_degrees.transform(x, y)
            points.append((np.radians(lon), self._area_below(lat)))
        areas, first_below = np.zeros(col.shape), points[0][1]
        with np.errstate(invalid="ignore"):  # beyond the projection
            for (lon, below), (next_lon, next_below) in zip(points, [*points[1:], points[0]], strict=True):
                # counted from the first corner: differences of large numbers would lose the pixel
                areas += _turn(next_lon - lon) * ((below - first_below) + (next_below - first_below)) / 2
        return np.nan_to_num(np.abs(areas), nan=0.0, posinf=0.0)

    def _area_below(self, latitude: npt.ArrayLike) -> Float64Array:
        """Return the area between the equator and a latitude, for one radian of longitude."""
        e = np.sqrt(self._geod.es)
        with np.errstate(invalid="ignore"):
            sine = np.sin(np.radians(np.clip(latitude, -90.0, 90.0)))
        more = np.arctanh(e * sine) / e if e else sine
        return np.asarray(self._geod.b**2 / 2 * (sine / (1 - (e * sine) ** 2) + more))


def _turn(angle: Float64Array) -> Float64Array:
    """Return an angle within half a turn."""
    return np.where(np.abs(angle) > np.pi, angle - np.copysign(2 * np.pi, angle), angle)


@lru_cache(maxsize=8)
def find_pixel_areas(crs: str) -> PixelAreas:
    """Return the areas of the pixels of a CRS, prepared once."""
    return PixelAreas(crs)


def _interpolate(nodes: Float64Array, shape: tuple[int, int]) -> Float64Array:
    """Return the values of every pixel between nodes."""
    positions = [np.arange(size) / _STEP_PX for size in shape]
    first = [position.astype(np.int64) for position in positions]
    down, right = (position - start for position, start in zip(positions, first, strict=True))
    cols = nodes[:, first[1]] * (1 - right) + nodes[:, first[1] + 1] * right
    return np.asarray(cols[first[0]] * (1 - down)[:, None] + cols[first[0] + 1] * down[:, None])
