"""Polygons of a GeoJSON file as an area in longitude and latitude: made valid, or refused in one line.

RFC 7946 allows heights, collections in collections and features without a geometry, and knows no other coordinates than
degrees of WGS 84. Files of before it name another CRS in a ``crs`` member, which is honoured. Areas that cross
themselves are mended by ``shapely.make_valid``, which keeps all that their rings enclose.
"""

import json
import logging
import math
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt
import shapely
from pyproj import CRS, Transformer
from pyproj.exceptions import CRSError, ProjError
from shapely.affinity import translate
from shapely.geometry.base import BaseGeometry

from mapper.errors import SpecError

_DEGREES = "EPSG:4326"
_MOST_BYTES = 256 << 20
_MOST_VERTICES = 1_000_000
"""Vertices of an area: more than coastlines of continents have, fewer than make every tile slow."""
_EDGE_PARTS = 200
"""Parts of the longer side of an area between which edges in another CRS are taken for straight in degrees."""
_HAIR = 1e-9
"""Degrees beyond a pole that are rounding."""
_log = logging.getLogger(__name__)


def read_area(path: Path) -> BaseGeometry:
    """Read the polygons of a GeoJSON file; returns one valid polygon or multipolygon in longitude and latitude.

    Raises:
        SpecError: If the file cannot be read, holds no polygon, names a CRS that is none, or has coordinates that are
            no longitudes and latitudes.
    """
    try:
        content = _load(path)
        parts = [shapely.force_2d(each) for each in _find_polygons(content)]
        crs = _find_crs(content)
    except (
        TypeError,
        ValueError,
        KeyError,
        IndexError,
        AttributeError,
        RecursionError,
        shapely.errors.ShapelyError,
    ) as error:
        raise SpecError(f"area.geojson {path} is no GeoJSON: {' '.join(str(error).split()) or error!r:.200}") from error
    if not parts:
        held = Counter(str(kind) for kind in _list_types(content))
        listed = ", ".join(f"{number} {kind}" for kind, number in sorted(held.items())) or "nothing"
        raise SpecError(f"area.geojson {path} holds no polygon, but {listed}: an area is made of polygons")
    vertices = sum(map(shapely.get_num_coordinates, parts))
    if vertices > _MOST_VERTICES:
        raise SpecError(
            f"area.geojson {path} has {vertices:,} vertices, at most {_MOST_VERTICES:,} make an area: simplify it, for "
            "example to half a pixel of the map"
        )
    area = _merge([_to_degrees(part, crs, path) for part in parts], path)
    if not area.area:
        raise SpecError(f"area.geojson {path} holds no polygon with an area: its rings enclose nothing")
    return area


def _load(path: Path) -> Any:
    try:
        size = path.stat().st_size
        if size > _MOST_BYTES:
            raise SpecError(
                f"area.geojson {path} has {size >> 20} MiB, at most {_MOST_BYTES >> 20} are read: simplify it"
            )
        return json.loads(path.read_text(encoding="utf-8-sig"), parse_constant=_refuse_constant)
    except OSError as error:
        raise SpecError(f"area.geojson {path} cannot be read: {error}") from error


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no coordinate")


def _find_polygons(content: Any) -> Iterator[BaseGeometry]:
    """Yield polygons and multipolygons: those of a feature collection or geometry collection, or the parts of one."""
    for geometry in _find_geometries(content):
        if geometry["type"] == "Polygon" and geometry["coordinates"]:
            yield shapely.geometry.shape(geometry)
        elif geometry["type"] == "MultiPolygon" and geometry["coordinates"]:
            whole = shapely.geometry.shape(geometry)
            yield from shapely.get_parts(whole) if content.get("type") != "FeatureCollection" else [whole]


def _find_geometries(content: Any) -> Iterator[dict[str, Any]]:
    """Yield the geometries of any GeoJSON, at any depth; features without one have none."""
    if content is None:
        return
    if not isinstance(content, dict) or "type" not in content:
        raise ValueError(f"an object with a type is expected, got {content!r:.60}")
    members = {"FeatureCollection": "features", "GeometryCollection": "geometries"}.get(content["type"])
    if members is not None:
        for member in content[members]:
            yield from _find_geometries(member)
    elif content["type"] == "Feature":
        yield from _find_geometries(content.get("geometry"))
    else:
        yield content


def _list_types(content: Any) -> list[str]:
    return [geometry["type"] for geometry in _find_geometries(content)]


def _find_crs(content: Mapping[str, Any]) -> CRS | None:
    """Return the CRS that a file of before RFC 7946 names; None for longitude and latitude.

    Raises:
        ValueError: If it names none by a name that is known.
    """
    member = content.get("crs")
    if member is None:
        return None
    name = (member.get("properties") or {}).get("name") if isinstance(member, Mapping) else None
    try:
        crs = CRS.from_user_input(str(name))
    except CRSError:
        raise ValueError(f"its crs member {json.dumps(member)[:120]} names no coordinate reference system") from None
    return None if crs.equals(CRS(_DEGREES), ignore_axis_order=True) or crs.to_authority() == ("OGC", "CRS84") else crs


def _to_degrees(part: BaseGeometry, crs: CRS | None, path: Path) -> BaseGeometry:
    """Return a polygon in longitude and latitude, within 180 degrees if it lies on one side of them.

    Raises:
        SpecError: If its coordinates are none.
    """
    if crs is None:
        _require_degrees(part.bounds, path)
    else:
        part = _project(part, crs, path)
    west, _, east, _ = part.bounds
    if west >= 180 or east <= -180:
        return translate(part, -360 if west >= 180 else 360)
    return part


def _require_degrees(bounds: tuple[float, ...], path: Path) -> None:
    west, south, east, north = bounds
    if not (-360 <= west <= east <= 360 and -90 - _HAIR <= south <= north <= 90 + _HAIR):
        raise SpecError(
            f"area.geojson {path} has coordinates from ({west:.8g}, {south:.8g}) to ({east:.8g}, {north:.8g}): "
            "longitude and latitude in degrees are expected, in this order; reproject it to EPSG:4326, or name its CRS "
            "in a crs member"
        )


def _project(part: BaseGeometry, crs: CRS, path: Path) -> BaseGeometry:
    """Project a polygon whose edges are straight in its own CRS."""
    west, south, east, north = part.bounds
    longest = max(east - west, north - south)
    transformer = Transformer.from_crs(crs, _DEGREES, always_xy=True)

    def locate(points: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        return np.column_stack(transformer.transform(points[:, 0], points[:, 1]))

    try:
        dense = shapely.segmentize(part, longest / _EDGE_PARTS) if math.isfinite(longest) and longest else part
        located: BaseGeometry = shapely.transform(dense, locate)
    except ProjError as error:
        raise SpecError(f"area.geojson {path} cannot be projected from {crs.to_string():.80}: {error}") from error
    if not all(map(math.isfinite, located.bounds)) or not np.isfinite(shapely.get_coordinates(located)).all():
        raise SpecError(
            f"area.geojson {path} names the CRS {crs.to_string():.80}, in which ({west:.8g}, {south:.8g}) to "
            f"({east:.8g}, {north:.8g}) have no longitude and latitude: is it in that CRS?"
        )
    return located


def _merge(parts: list[BaseGeometry], path: Path) -> BaseGeometry:
    """Return the union of polygons, those that are not valid mended."""
    if all(part.is_valid for part in parts):
        return shapely.union_all(parts)
    reasons = {shapely.is_valid_reason(part) for part in parts if not part.is_valid}
    _log.warning("area.geojson %s is not valid and was mended: %s", path, "; ".join(sorted(reasons))[:200])
    mended = [shapely.make_valid(_order_rings(each)) for part in parts for each in shapely.get_parts(part)]
    polygons = [each for part in mended for each in shapely.get_parts(part) if each.geom_type.endswith("Polygon")]
    return shapely.union_all(polygons)


def _order_rings(polygon: shapely.Polygon) -> shapely.Polygon:
    """Return a polygon whose largest ring is its shell: RFC 7946 puts it first, some files do not."""
    rings = [shapely.Polygon(ring) for ring in (polygon.exterior, *polygon.interiors)]
    largest = max(range(len(rings)), key=lambda number: rings[number].area)
    if not largest:
        return polygon
    return shapely.Polygon(rings[largest].exterior, [ring.exterior for k, ring in enumerate(rings) if k != largest])
