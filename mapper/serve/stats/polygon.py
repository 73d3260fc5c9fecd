"""Polygons of requests: GeoJSON in longitude and latitude, checked before anything is done with it."""

import math
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import numpy as np
import shapely
from pyproj import Transformer
from shapely.geometry import MultiPolygon, Polygon
from shapely.geometry.base import BaseGeometry

from mapper.arrays import Float64Array
from mapper.errors import InputError
from mapper.serve.stats.pixel_coverage import Area

MOST_VERTICES = 20_000
_STEP_DEGREES = 0.02
"""Edges are straight in longitude and latitude: cut into pieces of this before they are projected."""
_MOST_PIECES = 200_000


def read_polygon(content: Mapping[str, Any]) -> Area:
    """Return a polygon or several from GeoJSON, edges in short pieces.

    Args:
        content: A Polygon, a MultiPolygon, or a Feature with one, EPSG:4326.

    Raises:
        InputError: If it is none, is not valid, is too detailed, or crosses the antimeridian.
    """
    geometry = content.get("geometry") if content.get("type") == "Feature" else content
    kind, coordinates = (
        (geometry.get("type"), geometry.get("coordinates")) if isinstance(geometry, dict) else ("", None)
    )
    if kind not in ("Polygon", "MultiPolygon") or not isinstance(coordinates, list):
        raise InputError("expected GeoJSON: a Polygon, a MultiPolygon, or a Feature with one of them")
    polygons = [coordinates] if kind == "Polygon" else coordinates
    if not polygons:
        raise InputError("coordinates: the polygon is empty")
    left = MOST_VERTICES
    parts = []
    for rings in polygons:
        parts.append(_read_rings(rings, left))
        left -= int(shapely.get_num_coordinates(parts[-1]))
    return _check(parts[0] if len(parts) == 1 else MultiPolygon(parts))


def project_polygon(area: Area, crs: str) -> Area:
    """Return a polygon in another CRS.

    Raises:
        InputError: If it has no finite image there.
    """
    transformer = _find_transformer(crs)

    def move(points: Float64Array) -> Float64Array:
        return np.stack(transformer.transform(points[:, 0], points[:, 1]), axis=1)

    projected: BaseGeometry = shapely.transform(area, move)
    if not np.isfinite(shapely.get_coordinates(projected)).all():
        raise InputError(f"coordinates: the polygon reaches points that {crs}, the CRS of the map, does not have")
    if not shapely.is_valid(projected):
        projected = shapely.make_valid(projected, method="structure", keep_collapsed=False)
    if not isinstance(projected, Polygon | MultiPolygon):
        raise InputError("coordinates: nothing is left of the polygon in the CRS of the map")
    return projected


@lru_cache(maxsize=8)
def _find_transformer(crs: str) -> Transformer:
    """Return the transformer to a CRS; cached, since PROJ takes tens of milliseconds to choose an operation."""
    return Transformer.from_crs("EPSG:4326", crs, always_xy=True)


def _read_rings(rings: Any, left: int) -> Polygon:
    if not isinstance(rings, list) or not rings:
        raise InputError("coordinates: a polygon is a list of rings, the outer one first")
    shell, *holes = [_read_ring(ring, left) for ring in rings[: left // 4 + 1]]
    if len(rings) > left // 4 or sum(map(len, (shell, *holes))) > left:
        raise InputError(f"coordinates: more than {MOST_VERTICES} vertices; simplify the polygon")
    return Polygon(shell, holes)


def _read_ring(ring: Any, left: int) -> Float64Array:
    if not isinstance(ring, list) or not 4 <= len(ring) <= left:
        raise InputError(f"coordinates: a ring has 4 to {MOST_VERTICES} vertices, the first again as the last")
    try:
        points = np.array([[_read_number(point[0]), _read_number(point[1])] for point in ring], np.float64)
    except (TypeError, ValueError, IndexError, KeyError, OverflowError):
        raise InputError("coordinates: a vertex is [longitude, latitude] in degrees") from None
    if not (np.abs(points) <= (180.0, 90.0)).all():  # NaN neither
        raise InputError(
            "coordinates: longitudes go from -180 to 180 and latitudes from -90 to 90; a polygon across the "
            "antimeridian is given as a MultiPolygon of its two sides"
        )
    if (points[0] != points[-1]).any():
        raise InputError("coordinates: a ring ends where it begins")
    return points


def _read_number(value: Any) -> float:
    """Return a number of JSON; text and truth values, which Python turns into numbers too, are none."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError
    return float(value)


def _check(area: Area) -> Area:
    """Return a polygon with edges in short pieces, if it is valid and not too detailed."""
    west, _, east, _ = area.bounds
    if east - west > 180 and isinstance(area, Polygon):
        raise InputError(
            "coordinates: the polygon spans more than 180 degrees of longitude; if it crosses the antimeridian, give "
            "a MultiPolygon of its two sides"
        )
    if not area.is_valid:
        raise InputError(f"coordinates: the polygon is not valid: {shapely.is_valid_reason(area)}")
    if area.area == 0:
        raise InputError("coordinates: the polygon has no area")
    if math.ceil(area.length / _STEP_DEGREES) > _MOST_PIECES:
        raise InputError(
            f"coordinates: the outline is longer than {_STEP_DEGREES * _MOST_PIECES:g} degrees; simplify it"
        )
    dense = shapely.segmentize(area, _STEP_DEGREES)
    if not isinstance(dense, Polygon | MultiPolygon):
        raise InputError("coordinates: the polygon is not valid")
    return dense
