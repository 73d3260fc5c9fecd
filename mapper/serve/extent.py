"""Extent of a map in longitude and latitude: the area that was asked for, not the whole tiles that cover it.

Longitudes lie within -180 and 180. An area across the antimeridian is cut there (RFC 7946, 3.1.9), and its box has its
west edge east of its east edge (5.2); formats that do not allow that get two boxes, or all longitudes.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import shapely
import yaml
from pyproj import Transformer
from shapely import affinity
from shapely.geometry import MultiPolygon, Polygon
from shapely.geometry.base import BaseGeometry
from shapely.geometry.polygon import orient

from mapper.arrays import Float64Array
from mapper.store.description import Description

Box = tuple[float, float, float, float]
"""West, south, east and north in degrees."""

_NEAR = 1e-6
"""Degrees by which a projection may miss the antimeridian; a tenth of a metre."""
_WORLD = 360.0


@dataclass(frozen=True, kw_only=True)
class Extent:
    """Area in longitude and latitude."""

    geometry: BaseGeometry
    """Polygons that do not cross the antimeridian."""
    box: Box
    """West, south, east and north; west is larger than east where the area crosses the antimeridian."""

    @property
    def boxes(self) -> list[Box]:
        """Return the same as one box or two, west smaller than east in each."""
        west, south, east, north = self.box
        return [(west, south, east, north)] if west <= east else [(west, south, 180, north), (-180, south, east, north)]

    @property
    def centre(self) -> tuple[float, float]:
        """Return longitude and latitude of the middle of the box."""
        west, south, east, north = self.box
        middle = west + (east - west) % _WORLD / 2 if west > east else (west + east) / 2
        return middle - _WORLD * (middle > 180), (south + north) / 2


def find_extent(description: Description) -> Extent:
    """Return the extent of a map: the box of its description, or its polygons from the CRS of the grid."""
    given = (yaml.safe_load(description.spec_yaml).get("area") or {}).get("bbox")
    if given and description.kind == "map":
        west, south, east, north = given
        parts = [shapely.box(west, south, east + _WORLD * (east < west), north)]
    else:
        to_degrees = Transformer.from_crs(description.grid.crs, "EPSG:4326", always_xy=True)
        parts = [_unwrap(part, to_degrees) for part in shapely.get_parts(description.grid.area.geom)]
    cut = [piece for part in parts for piece in _cut(part)]
    if len(cut) > 1:  # around a pole, the cut at one longitude has neighbours on both sides of another
        cut = [orient(piece) for piece in shapely.get_parts(shapely.union_all(cut))]
    return Extent(geometry=cut[0] if len(cut) == 1 else MultiPolygon(cut), box=_find_box(cut))


def _unwrap(part: Polygon, to_degrees: Transformer) -> BaseGeometry:
    """Return a polygon in degrees whose longitudes go on beyond 180 without a jump; one around a pole reaches it."""
    shell, *holes = (
        _unwrap_ring(np.stack(to_degrees.transform(*shapely.get_coordinates(ring).T), axis=1))
        for ring in (part.exterior, *part.interiors)
    )
    middle = shell[:, 0].mean()
    turns = [np.array([round((middle - hole[:, 0].mean()) / _WORLD) * _WORLD, 0.0]) for hole in holes]
    whole = Polygon(shell, [hole + turn for hole, turn in zip(holes, turns, strict=True)])
    return whole if whole.is_valid else shapely.make_valid(whole, method="structure", keep_collapsed=False)


def _unwrap_ring(points: Float64Array) -> Float64Array:
    points[:, 0] = np.unwrap(points[:, 0], period=_WORLD)
    if abs(points[-1, 0] - points[0, 0]) < _WORLD / 2:
        return points
    pole = math.copysign(90.0, points[:, 1].mean())
    return np.concatenate([points, [[points[-1, 0], pole], [points[0, 0], pole]], points[:1]])


def _cut(part: BaseGeometry) -> Iterator[Polygon]:
    """Yield the pieces of a polygon between -180 and 180, of which each other turn of the world is moved there."""
    west, south, east, north = part.bounds
    first = math.floor((west + _NEAR + 180) / _WORLD)
    last = math.ceil((east - _NEAR - 180) / _WORLD)
    for turn in range(first, max(first, last) + 1):
        moved = affinity.translate(part, -_WORLD * turn)
        clipped: Any = shapely.clip_by_rect(moved, -180.0, max(south, -90.0), 180.0, min(north, 90.0))
        yield from (orient(piece) for piece in shapely.get_parts(clipped) if piece.area > 0)


def _find_box(pieces: list[Polygon]) -> Box:
    """Return the box of pieces: across the antimeridian, without the widest gap, if they reach it from both sides."""
    bounds = shapely.bounds(pieces)
    (west, south), (east, north) = bounds[:, :2].min(axis=0).tolist(), bounds[:, 2:].max(axis=0).tolist()
    if west <= -180 + _NEAR and east >= 180 - _NEAR:
        spans = sorted(bounds[:, [0, 2]].tolist())
        reached, gap, ends = spans[0][1], _NEAR, (west, east)
        for start, stop in spans:
            if start - reached > gap:
                gap, ends = start - reached, (start, reached)
            reached = max(reached, stop)
        west, east = ends
    return west, south, east, north
