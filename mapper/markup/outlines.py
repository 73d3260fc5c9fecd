"""Outlines on the globe as small SVG maps, longitude to the right and latitude upwards."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import shapely
from shapely.geometry.base import BaseGeometry

from mapper.markup.html import Markup

PALETTE = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7f3c8d", "#666666")
_POINTS = 2000
"""Number of points of all outlines of a drawing together, approximately."""
_LABELS = 24
"""Pixels around the map for degrees."""


@dataclass(frozen=True, kw_only=True)
class _Projection:
    """Transform of degrees to pixels."""

    west: float
    north: float
    east: float
    south: float
    scale: float
    """Pixels in a degree of latitude."""
    squeeze: float
    """Length of a degree of longitude in degrees of latitude."""

    def project(self, lon: float, lat: float) -> tuple[float, float]:
        """Return pixels from the upper left corner."""
        return (lon - self.west) * self.squeeze * self.scale, (self.north - lat) * self.scale


def draw_outlines(
    groups: Mapping[str, Sequence[BaseGeometry]],
    *,
    area: BaseGeometry | None = None,
    width: int = 260,
    height: int = 220,
) -> Markup:
    """Draw a map of outlines, a colour for each group; of very many, some points are left out.

    Args:
        groups: Polygons in longitude and latitude, by what they are of.
        area: Drawn over them in black.
        width: Pixels that it may be wide.
        height: Pixels that it may be high.
    """
    shapes = [shape for group in groups.values() for shape in group] + ([area] if area is not None else [])
    shapes = [shape for shape in shapes if not shape.is_empty]
    if not shapes:
        return Markup("")
    projection = _fit(shapely.total_bounds(shapes).tolist(), width, height)
    points = max(8, _POINTS // len(shapes))
    parts = [
        f'<path fill="{colour}" fill-opacity="{_fade(len(group))}" stroke="{colour}" stroke-opacity="0.75" '
        f'd="{"".join(_draw(shape, projection, points) for shape in group)}"/>'
        for (_, group), colour in zip(groups.items(), _colours(), strict=False)
    ]
    if area is not None:
        parts.append(f'<path fill="none" stroke="#111" stroke-width="1.5" d="{_draw(area, projection, _POINTS)}"/>')
    right, bottom = projection.project(projection.east, projection.south)
    return Markup(
        f'<svg xmlns="http://www.w3.org/2000/svg" role="img" aria-label="map of outlines" width="{right + 2:.0f}" '
        f'height="{bottom + _LABELS:.0f}" viewBox="-1 -1 {right + 2:.1f} {bottom + _LABELS:.1f}">'
        f'<rect width="{right:.1f}" height="{bottom:.1f}" fill="#f5f7f9" stroke="#c5ccd3"/>{"".join(parts)}'
        f"{_label(projection, right, bottom)}</svg>"
    )


def draw_keys(names: Sequence[Markup]) -> Markup:
    """Draw the colours of groups, in their order."""
    parts = (
        f'<div><span style="display:inline-block;width:.8em;height:.8em;margin-right:.35em;background:{colour}"></span>'
        f"{name}</div>"
        for name, colour in zip(names, _colours(), strict=False)
    )
    return Markup("".join(parts))


def _colours() -> Sequence[str]:
    return PALETTE * 4


def _fade(count: int) -> str:
    """Return the opacity of a polygon as an attribute: many overlap."""
    return f"{max(0.04, 0.25 / math.sqrt(max(count, 1))):.2f}"


def _fit(bounds: Sequence[float], width: int, height: int) -> _Projection:
    west, south, east, north = bounds
    margin = max(0.03 * max(east - west, north - south), 1e-4)
    west, south, east, north = west - margin, south - margin, east + margin, north + margin
    squeeze = max(0.1, math.cos(math.radians((south + north) / 2)))
    scale = min(width / ((east - west) * squeeze), height / (north - south))
    return _Projection(west=west, north=north, east=east, south=south, scale=scale, squeeze=squeeze)


def _draw(shape: BaseGeometry, projection: _Projection, points: int) -> str:
    """Draw a polygon as a path, with at most so many points, approximately."""
    simple = shape.simplify(0.5 / projection.scale)
    coordinates = [ring for part in shapely.get_parts(simple) for ring in _rings_of(part)]
    step = max(1, sum(map(len, coordinates)) // points)
    return "".join(_draw_ring(ring[::step], projection) for ring in coordinates if len(ring[::step]) > 2)


def _rings_of(part: BaseGeometry) -> list[list[tuple[float, float]]]:
    if not isinstance(part, shapely.Polygon):
        return []
    return [[point[:2] for point in ring.coords] for ring in (part.exterior, *part.interiors)]


def _draw_ring(ring: Sequence[tuple[float, float]], projection: _Projection) -> str:
    projected = (projection.project(lon, lat) for lon, lat in ring)
    return "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in projected) + "z"


def _label(projection: _Projection, right: float, bottom: float) -> str:
    """Draw degrees of the corners, below the map."""
    digits = max(0, 2 - math.floor(math.log10(max(projection.east - projection.west, 1e-6))))
    digits = min(digits, 4)
    style = 'font-size="10" font-family="system-ui,sans-serif" fill="#555"'
    start = f"{projection.west:.{digits}f}, {projection.south:.{digits}f}"
    end = f"{projection.east:.{digits}f}, {projection.north:.{digits}f}"
    if right < 150:
        return f'<text x="0" y="{bottom + 14:.0f}" {style}>{start}</text>'
    return (
        f'<text x="0" y="{bottom + 14:.0f}" {style}>{start}</text>'
        f'<text x="{right:.0f}" y="{bottom + 14:.0f}" text-anchor="end" {style}>{end}</text>'
    )
