"""Footprints of items on the globe, as STAC means them: those across the antimeridian are cut in two.

GeoJSON asks for such footprints to be cut at 180 degrees, but archives also serve a ring that jumps from one side to
the other, or no geometry at all. Read at its word, such a ring is a band around the rest of the world.
"""

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import shapely
from shapely.affinity import translate
from shapely.geometry.base import BaseGeometry

from mapper.errors import SpecError

_EAST, _WEST = shapely.box(180, -90, 540, 90), shapely.box(-180, -90, 180, 90)
_HAIR = 0.01
"""Degrees that a footprint may extend beyond 180 without being cut."""
_GEOGRAPHIC = (4326, "4326", "EPSG:4326", "OGC:CRS84")


def footprint(item: Mapping[str, Any]) -> BaseGeometry:
    """Return the footprint of an item in longitude and latitude, within 180 degrees; its box if it has no geometry.

    Raises:
        SpecError: If the item has neither a geometry nor a box.
    """
    geometry, box = item.get("geometry"), item.get("bbox")
    if geometry is None:
        return _from_box(item, box)
    outline = _outline(item)
    if _jumps(outline, item):
        return _cut(shapely.transform(outline, _unwrap))
    if _goes_beyond(outline):
        return _cut(outline if outline.bounds[2] > 180 else translate(outline, 360))
    return outline


def mend_geometry(item: Mapping[str, Any]) -> dict[str, Any]:
    """Return the geometry of an item as GeoJSON: its own, unless it has none or crosses 180 degrees without a cut.

    Raises:
        SpecError: If the item has neither a geometry nor a box.
    """
    geometry = item.get("geometry")
    if geometry is not None:
        outline = _outline(item)
        if not (_jumps(outline, item) or _goes_beyond(outline)):
            return dict(geometry)
    mended: dict[str, Any] = json.loads(shapely.to_geojson(footprint(item)))
    return mended


def central_longitude(item: Mapping[str, Any]) -> float:
    """Return the longitude of the middle of an item's footprint, in degrees between -180 and 180."""
    outline = footprint(item)
    west, _, east, _ = outline.bounds
    if west > -180 or east < 180:
        return float((west + east) / 2)
    parts = [(part.bounds[0] + part.bounds[2]) / 2 for part in shapely.get_parts(outline)]
    if len(parts) == 1:
        return 0.0
    widths = [part.bounds[2] - part.bounds[0] for part in shapely.get_parts(outline)]
    pairs = list(zip(widths, map(math.radians, parts), strict=True))
    cosine, sine = (sum(width * turn(angle) for width, angle in pairs) for turn in (math.cos, math.sin))
    return math.degrees(math.atan2(sine, cosine))


def _outline(item: Mapping[str, Any]) -> BaseGeometry:
    """Return the geometry of an item, as it is."""
    try:
        outline: BaseGeometry = shapely.geometry.shape(item["geometry"])
    except (AttributeError, KeyError, TypeError, ValueError, shapely.errors.ShapelyError) as error:
        raise SpecError(f"item {item.get('id')} has a geometry that is none: {error}") from error
    if outline.is_empty:
        raise SpecError(f"item {item.get('id')} has an empty geometry: where it lies is unknown")
    return outline


def _from_box(item: Mapping[str, Any], box: Sequence[float] | None) -> BaseGeometry:
    if not isinstance(box, Sequence) or len(box) not in (4, 6):
        raise SpecError(f"item {item.get('id')} has neither a geometry nor a box: where it lies is unknown")
    try:
        west, south, east, north = (float(box[k]) for k in (0, 1, len(box) // 2, len(box) // 2 + 1))
    except (TypeError, ValueError) as error:
        raise SpecError(f"item {item.get('id')} has a box that is none: {box}") from error
    return _cut(shapely.box(west, south, east + 360 if east < west else east, north))


def _cut(outline: BaseGeometry) -> BaseGeometry:
    """Cut a footprint that extends beyond 180 degrees into one part on either side."""
    sound = outline if outline.is_valid else shapely.make_valid(outline)
    parts = [shapely.intersection(sound, _WEST), translate(shapely.intersection(sound, _EAST), -360)]
    return shapely.union_all([part for part in parts if not part.is_empty])


def _unwrap(points: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return longitudes from 0 to 360, so that a ring across 180 degrees is whole."""
    return np.column_stack([np.where(points[:, 0] < 0, points[:, 0] + 360, points[:, 0]), points[:, 1]])


def _jumps(outline: BaseGeometry, item: Mapping[str, Any]) -> bool:
    """Return True for a ring that crosses 180 degrees without a cut: no scene is wider than half the world."""
    west, _, east, _ = outline.bounds
    if east - west <= 180:
        return False
    box, properties = item.get("bbox"), item.get("properties", {})
    if isinstance(box, Sequence) and len(box) in (4, 6) and box[0] > box[len(box) // 2]:
        return outline.geom_type == "Polygon" or _has_wide_part(outline)
    stated = (properties.get("proj:code"), properties.get("proj:epsg"))
    whole = west <= -180 and east >= 180
    return not whole and not any(each in _GEOGRAPHIC for each in stated) and _has_wide_part(outline)


def _goes_beyond(outline: BaseGeometry) -> bool:
    """Return True for a footprint that extends beyond 180 degrees; half a pixel of a coarse map may."""
    west, _, east, _ = outline.bounds
    return bool(east - west <= 180 and (east > 180 + _HAIR or west < -180 - _HAIR))


def _has_wide_part(outline: BaseGeometry) -> bool:
    return any(part.bounds[2] - part.bounds[0] > 180 for part in shapely.get_parts(outline))
