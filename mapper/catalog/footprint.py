"""Footprints of items and windows on the globe: those across the antimeridian are cut in two.

GeoJSON (RFC 7946, 3.1.9) asks for such footprints to be cut at 180 degrees, but archives also serve a ring that jumps
from one side to the other, or no geometry at all. Read at its word, such a ring is a band around the rest of the world;
so is the outline of a window, once it is projected.
"""

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import shapely
from odc.geo.geobox import GeoBox
from shapely.affinity import translate
from shapely.geometry.base import BaseGeometry

from mapper.errors import SpecError

Bounds = tuple[float, float, float, float]
_WORLDS = tuple((shapely.box(at - 180, -90, at + 180, 90), -at) for at in (-360.0, 0.0, 360.0))
"""The world and its repetitions on either side, and the degrees to the world."""
_HAIR = 0.01
"""Degrees that a footprint may extend beyond 180 without being cut."""
_LEAST_POINTS = 4
"""Points of a closed ring that encloses something."""
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


def window_footprint(geobox: GeoBox, *, buffer_px: float = 1) -> BaseGeometry:
    """Return the footprint of a window in longitude and latitude, within 180 degrees; empty where it has no image.

    Args:
        geobox: Pixels of the window.
        buffer_px: Pixels that are added on every side.
    """
    outline: BaseGeometry = geobox.footprint("EPSG:4326", buffer=buffer_px).geom
    return settle_outline(outline) if wraps(outline.bounds) else outline


def wraps(bounds: Sequence[float]) -> bool:
    """Return True for the bounds of a projected outline that may cross 180 degrees, or has points without an image."""
    west, _, east, _ = bounds
    return not (west >= -180 and east <= 180 and east - west <= 180)


def settle_outline(outline: BaseGeometry) -> BaseGeometry:
    """Return a projected outline, which jumps at 180 degrees, cut there; around a pole, the cap that it encloses.

    Its points are so near each other that none is half a turn from the next.
    """
    rings = [shapely.get_coordinates(part.exterior) for part in shapely.get_parts(outline) if not part.is_empty]
    return shapely.union_all([_settle_ring(ring[np.isfinite(ring).all(axis=1)]) for ring in rings])


def cut_box(west: float, south: float, east: float, north: float) -> BaseGeometry:
    """Return a box in longitude and latitude, cut at 180 degrees; its west or east may lie beyond."""
    return _cut(shapely.box(west, south, east, north))


def span(outline: BaseGeometry) -> Bounds:
    """Return west, south, east and north of a footprint; east beyond 180 for one that is cut there."""
    west, south, east, north = outline.bounds
    if east - west <= 180 or outline.geom_type == "Polygon":
        return west, south, east, north
    boxes = [part.bounds for part in shapely.get_parts(outline)]
    turned = [(box[0] + 360, box[2] + 360) if box[2] <= 0 else (box[0], box[2]) for box in boxes]
    first, last = min(each[0] for each in turned), max(each[1] for each in turned)
    return (first, south, last, north) if last - first < east - west else (west, south, east, north)


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
        with np.errstate(invalid="ignore"):
            outline: BaseGeometry = shapely.geometry.shape(item["geometry"])
    except (AttributeError, KeyError, TypeError, ValueError, shapely.errors.ShapelyError) as error:
        raise SpecError(f"item {item.get('id')} has a geometry that is none: {error}") from error
    if outline.is_empty:
        raise SpecError(f"item {item.get('id')} has an empty geometry: where it lies is unknown")
    if not np.isfinite(shapely.get_coordinates(outline)).all():
        raise SpecError(f"item {item.get('id')} has a geometry with coordinates that are no numbers")
    return outline


def _from_box(item: Mapping[str, Any], box: Sequence[float] | None) -> BaseGeometry:
    if not isinstance(box, Sequence) or len(box) not in (4, 6):
        raise SpecError(f"item {item.get('id')} has neither a geometry nor a box: where it lies is unknown")
    try:
        west, south, east, north = (float(box[k]) for k in (0, 1, len(box) // 2, len(box) // 2 + 1))
    except (TypeError, ValueError) as error:
        raise SpecError(f"item {item.get('id')} has a box that is none: {box}") from error
    if not all(map(math.isfinite, (west, south, east, north))):
        raise SpecError(f"item {item.get('id')} has a box that is none: {box}")
    return cut_box(west, south, east + 360 if east < west else east, north)


def _cut(outline: BaseGeometry) -> BaseGeometry:
    """Cut a footprint that extends beyond 180 degrees into one part on either side."""
    sound = outline if outline.is_valid else shapely.make_valid(outline)
    parts = [translate(shapely.intersection(sound, world), shift) for world, shift in _WORLDS]
    return shapely.union_all([part for part in parts if not part.is_empty and (part.area or not sound.area)])


def _settle_ring(points: npt.NDArray[np.float64]) -> BaseGeometry:
    """Return what a closed ring encloses on the globe."""
    if len(points) < _LEAST_POINTS:
        return shapely.Polygon()
    steps = (np.diff(points[:, 0]) + 180) % 360 - 180
    longitudes = points[0, 0] + np.concatenate([[0.0], np.cumsum(steps)])
    latitudes = points[:, 1]
    if abs(steps.sum()) > 180:  # once round: what lies between the ring and the pole
        longitudes = np.append(longitudes, longitudes[[-1, 0]])
        latitudes = np.append(latitudes, np.full(2, 90.0 if latitudes.mean() > 0 else -90.0))
    middle = (longitudes.min() + longitudes.max()) / 2
    return _cut(shapely.Polygon(np.column_stack([longitudes - 360 * np.round(middle / 360), latitudes])))


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
