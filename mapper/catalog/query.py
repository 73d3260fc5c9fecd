"""Queries of a map to an archive: one per collection, and the test of an item against it.

The same test is put to every item, wherever it came from: an API may ignore a filter it does not know, a catalogue on
disk has none. Periods are half open, in UTC; areas are longitude and latitude, cloud cover is percent.
"""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from typing import Any

import shapely
from pyproj import CRS
from shapely.geometry.base import BaseGeometry

from mapper.catalog.footprint import footprint
from mapper.catalog.items import ItemDict, Items, flies, is_clear, item_datetime
from mapper.spec import LayerSpec, MapSpec

MARGIN_PX = 160
"""Target pixels around the area that are searched at least, so that the halo of a tile at the rim finds its items."""

_METRES_PER_DEGREE = 110_000.0
"""Metres in a degree, a little less than of latitude anywhere: the margin is never too small."""

_WORLD = shapely.box(-180, -90, 180, 90)
_ALL_MONTHS = frozenset(range(1, 13))
_EVER = datetime(1900, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, kw_only=True)
class CollectionQuery:
    """Query of one collection."""

    collection: str
    area: BaseGeometry
    """Area in longitude and latitude, margin included."""
    start: datetime
    """First moment of the period, UTC."""
    end: datetime
    """First moment after the period, UTC."""
    months: frozenset[int] = _ALL_MONTHS
    orbits: frozenset[str] | None = None
    """Orbit directions; None for any."""
    cloud_limit: float = 100
    """Limit of the scene cloud cover in percent; below 100 an item that does not state it is left out too."""

    def accepts(self, item: ItemDict) -> bool:
        """Return True for an item that answers the query."""
        moment = item_datetime(item)
        return (
            item["collection"] == self.collection
            and self.start <= moment < self.end
            and moment.month in self.months
            and (self.orbits is None or any(flies(item, orbit) for orbit in self.orbits))
            and is_clear(item, self.cloud_limit)
            and bool(shapely.intersects(sound_footprint(item), self.area))
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the query as it is stored with the items it found."""
        return {
            "collection": self.collection,
            "bbox": list(self.area.bounds),
            "start": self.start.isoformat(),
            "end": self.end.isoformat(),
            "months": sorted(self.months),
            "orbits": None if self.orbits is None else sorted(self.orbits),
            "cloud_limit": self.cloud_limit,
        }

    def __str__(self) -> str:
        west, south, east, north = self.area.bounds
        last = self.end - timedelta(days=1)
        parts = [
            f"{self.collection}, {self.start:%Y-%m-%d} to {last:%Y-%m-%d}",
            f"longitude {west:.3f} to {east:.3f}, latitude {south:.3f} to {north:.3f}",
        ]
        if self.months != _ALL_MONTHS:
            parts.append(f"months {', '.join(str(month) for month in sorted(self.months))}")
        if self.orbits is not None:
            parts.append(f"orbit {' or '.join(sorted(self.orbits))}")
        if self.cloud_limit < 100:
            parts.append(f"cloud cover up to {self.cloud_limit:g} %")
        return "; ".join(parts)


def searched_margin(items: Items) -> int:
    """Return the target pixels around the area that items were searched in."""
    return int(items.query.get("margin_px", MARGIN_PX))


def make_queries(spec: MapSpec, *, margin_px: int = MARGIN_PX) -> tuple[CollectionQuery, ...]:
    """Make the queries of a map: the collections of its guide, then that of its source.

    A guide collection is asked for the period, and within it for the months, orbits and cloud cover of the layers that
    read it. The source is asked for its year, whatever the period; without a year for the period.

    Raises:
        GridError: If the area crosses the antimeridian or has no image on the grid.
    """
    area = _widen(spec, margin_px)
    return (*_guide_queries(spec, area), make_source_query(spec, spec.source.collection, margin_px=margin_px))


def make_source_query(spec: MapSpec, collection: str, *, margin_px: int = MARGIN_PX) -> CollectionQuery:
    """Make the query of the source of a map for any collection, for example that of a truth of the same year.

    Raises:
        GridError: If the area crosses the antimeridian or has no image on the grid.
    """
    source = spec.source
    start, end = _EVER if source.static else _period(spec) if source.year is None else _year(source.year)
    return CollectionQuery(
        collection=collection,
        area=_widen(spec, margin_px),
        start=start,
        end=end,
        orbits=None if source.orbit is None else frozenset({source.orbit}),
        cloud_limit=source.cloud_limit,
    )


def _guide_queries(spec: MapSpec, area: BaseGeometry) -> Iterator[CollectionQuery]:
    layers: dict[str, list[LayerSpec]] = {}
    for layer in spec.guide.layers:
        if layer.items == "source":
            continue  # the query of the source finds them
        layers.setdefault(layer.collection, []).append(layer)
    seasons = frozenset(month for months in spec.guide.seasons.values() for month in months)
    for collection, group in layers.items():
        static = any(layer.static for layer in group)
        start, end = _EVER if static else _period(spec)
        yield CollectionQuery(
            collection=collection,
            area=area,
            start=start,
            end=end,
            months=_ALL_MONTHS if static else seasons,
            orbits=_orbits(group),
            cloud_limit=max(layer.cloud_limit for layer in group),
        )


def _period(spec: MapSpec) -> tuple[datetime, datetime]:
    start, end = (datetime.combine(day, time(), UTC) for day in (spec.period.start, spec.period.end))
    return start, end + timedelta(days=1)


def _year(year: int) -> tuple[datetime, datetime]:
    return datetime(year, 1, 1, tzinfo=UTC), datetime(year + 1, 1, 1, tzinfo=UTC)


def _orbits(layers: Iterable[LayerSpec]) -> frozenset[str] | None:
    named = [layer.orbit for layer in layers]
    return None if None in named else frozenset(orbit for orbit in named if orbit is not None)


def _widen(spec: MapSpec, margin_px: int) -> BaseGeometry:
    """Return the area with its margin; generous where the projection distorts, cut at the edges of the world."""
    grid = spec.map_grid  # refuses areas that cannot be mapped before anything is asked
    area = spec.area.geometry
    margin = float(grid.resolution) * (margin_px + grid.scale)
    crs = CRS.from_user_input(grid.crs)
    if not crs.is_geographic:
        latitude = min(max(abs(area.bounds[1]), abs(area.bounds[3])), 89.0)
        margin *= crs.axis_info[0].unit_conversion_factor / _METRES_PER_DEGREE / math.cos(math.radians(latitude))
    return shapely.intersection(shapely.buffer(area, margin, join_style="mitre"), _WORLD)


def sound_footprint(item: ItemDict) -> BaseGeometry:
    """Return the footprint of an item in longitude and latitude, mended where its rings cross themselves."""
    outline = footprint(item)
    return outline if outline.is_valid else shapely.make_valid(outline)
