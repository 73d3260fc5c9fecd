"""Scenes of a synthetic landscape, their catalogue, and the description of a map to make of them.

The landscape lies around 12 degrees east and 51.4 north, where UTM zones 32 and 33 meet. Scenes reach beyond the map
on all sides, so that tiles at its edge have a halo like all others.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypedDict, Unpack

import pystac
import shapely
import yaml
from odc.geo.geobox import GeoBox
from odc.geo.geom import Geometry

from mapper.grid import Window, project_area
from mapper.spec import MapSpec, parse_spec
from mapper.synthetic import biomass, sentinel1, sentinel2
from mapper.synthetic.site import Site
from mapper.synthetic.stac import CollectionNote, write_catalog

_LOGGER = logging.getLogger(__name__)
_CENTRE = (4460000, 3147000)
"""Centre of the region: east and north in EPSG:3035, metres."""
_YEAR = 2020
_SEASON = datetime(_YEAR, 5, 5, tzinfo=UTC), datetime(_YEAR, 9, 22, tzinfo=UTC)
_TARGET_M = 10
SEASONS: Mapping[str, Sequence[int]] = MappingProxyType(
    {"may": (5,), "june": (6,), "july": (7,), "august": (8,), "september": (9,)}
)
"""Seasons of the demo's guide: name to months; scenes are of no other month."""
_NOTES = (
    CollectionNote(name=sentinel2.COLLECTION, description="Synthetic Sentinel-2 L2A granules"),
    CollectionNote(name=sentinel1.COLLECTION, description="Synthetic Sentinel-1 RTC scenes"),
    CollectionNote(name=biomass.SOURCE, description="Synthetic coarse above-ground biomass and its standard deviation"),
    CollectionNote(name=biomass.TRUTH, description="The above-ground biomass that the scenes were made from"),
)

_Job = Callable[[], pystac.Item | list[pystac.Item]]


class MapShape(TypedDict, total=False):
    """Shape of the map to describe; see :func:`describe_map` for the defaults."""

    size_px: int
    """Edge of the mapped area in pixels of 10 m."""
    tile_px: int
    """Tile edge of the map."""
    chunk_px: int
    """Chunk edge of the map; divides ``tile_px``."""
    scale: int
    """Ratio of source pixel to target pixel."""
    seasons: Mapping[str, Sequence[int]]
    """Seasons of the guide: name to months."""


def write_scenes(
    out_dir: Path, *, seed: int = 7, dates: int = 6, margin_px: int = 320, **shape: Unpack[MapShape]
) -> Path:
    """Write the scenes of one landscape as a static catalogue, and ``map.yaml`` beside its directory.

    Args:
        out_dir: Directory of the catalogue, made if absent; ``map.yaml`` goes to its parent.
        seed: Names the landscape.
        dates: Overpasses of Sentinel-2 in the season, and of Sentinel-1.
        margin_px: How far scenes reach beyond the tiles of the map on each side, in pixels of 10 m.
        **shape: Of the map.

    Returns:
        Path of ``catalog.json``.

    Raises:
        ValueError: If the map would be smaller than two source pixels, or without a date.
    """
    if dates < 1:
        raise ValueError(f"a map needs at least 1 date, got {dates} dates")
    out_dir = Path(out_dir)
    out_dir.mkdir(parents=True, exist_ok=True)
    spec = describe_map(href=f"{out_dir.name}/catalog.json", **shape)
    site = Site.of(seed, ground_box(parse_spec(spec, base=out_dir.parent), margin_px=margin_px))
    items = _take_all(_jobs(site, out_dir, dates))
    catalog = write_catalog(out_dir, items, _NOTES)
    (out_dir.parent / "map.yaml").write_text(yaml.safe_dump(spec, sort_keys=False, default_flow_style=None, width=110))
    _LOGGER.info("wrote %d items of landscape %d to %s", len(items), seed, out_dir)
    return catalog


def describe_map(
    *,
    href: str,
    size_px: int = 1024,
    tile_px: int = 512,
    chunk_px: int = 256,
    scale: int = 10,
    seasons: Mapping[str, Sequence[int]] = SEASONS,
) -> dict[str, Any]:
    """Return the description of the demo's map, as YAML holds it; relative paths refer to the folder of ``map.yaml``.

    Raises:
        ValueError: If the map would be smaller than two source pixels.
    """
    if size_px < 2 * scale:
        raise ValueError(f"a map needs at least {2 * scale} px, got {size_px} px")
    return {
        "name": "demo",
        "area": {"bbox": fit_box(size_px, scale=scale)},
        "period": {"start": _SEASON[0].date(), "end": _SEASON[1].date()},
        "grid": {"kind": "projected", "crs": "EPSG:3035", "resolution": 10, "tile": tile_px, "chunk": chunk_px},
        "catalog": {"provider": "demo", "href": href},
        "guide": {
            "layers": [
                {"collection": sentinel2.COLLECTION, "bands": ["B02", "B03", "B04", "B05", "B08", "B11", "B12"]},
                {"collection": sentinel1.COLLECTION, "bands": ["vv", "vh"]},
            ],
            "seasons": {name: list(months) for name, months in seasons.items()},
        },
        "source": {
            "collection": biomass.SOURCE, "variable": "agb", "sd": "agb_sd", "year": _YEAR,
            "resolution": _TARGET_M * scale,
        },
        "model": {"name": "mtg-demo"},
        "consistency": "soft",
        "store": "map.icechunk",
    }  # fmt: skip


def fit_box(
    size_px: int, *, scale: int, px_m: float = _TARGET_M, crs: str = "EPSG:3035", centre: tuple[int, int] = _CENTRE
) -> list[float]:
    """Return a box in degrees whose image in a projection fills ``size_px`` pixels, cut to whole source pixels.

    Args:
        size_px: Edge in target pixels.
        scale: Source pixel / target pixel.
        px_m: Edge of a target pixel, metres.
        crs: The projection.
        centre: East and north in it, metres.
    """
    source = px_m * scale
    extent = size_px * px_m // source * source
    left = round((centre[0] - extent / 2) / source) * source
    top = round((centre[1] + extent / 2) / source) * source
    wanted = Geometry(shapely.box(left, top - extent, left + extent, top), crs)
    degrees = wanted.to_crs("EPSG:4326")
    (lon, lat), (west, south, east, north) = degrees.centroid.coords[0], degrees.boundingbox.bbox
    half_width, half_height = (east - west) / 2, (north - south) / 2
    while True:
        west, south, east, north = (
            round(v, 5) for v in (lon - half_width, lat - half_height, lon + half_width, lat + half_height)
        )
        if wanted.contains(project_area(shapely.box(west, south, east, north), crs)):
            return [west, south, east, north]
        half_width, half_height = half_width * 0.999, half_height * 0.999


def ground_box(spec: MapSpec, *, margin_px: int) -> GeoBox:
    """Return the ground that scenes of a map are taken of: all its tiles, and a margin for halos and searches."""
    grid = spec.map_grid
    rows, cols = grid.shape
    return grid.geobox_of(Window(top=-margin_px, left=-margin_px, bottom=rows + margin_px, right=cols + margin_px))


def _jobs(site: Site, out_dir: Path, dates: int) -> list[_Job]:
    start, end = _SEASON
    granules, frames = sentinel2.cut_granules(site.geobox), sentinel1.cut_frames(site.geobox)
    scenes: list[_Job] = [
        partial(sentinel2.take_scenes, site, overpass, granules, out_dir)
        for overpass in sentinel2.plan_overpasses(site, dates=dates, start=start, end=end)
    ]
    passes: list[_Job] = [
        partial(sentinel1.take_scene, site, acquisition, frames[acquisition.direction], out_dir)
        for acquisition in sentinel1.plan_passes(site, dates=dates, start=start, end=end)
    ]
    maps: list[_Job] = [
        partial(write, site, out_dir, year=_YEAR) for write in (biomass.write_source, biomass.write_truth)
    ]
    return scenes + passes + maps


def _take_all(jobs: Sequence[_Job]) -> list[pystac.Item]:
    """Run jobs on two threads; numpy and GDAL release the interpreter in what takes their time. Returns the items."""
    items: list[pystac.Item] = []
    with ThreadPoolExecutor(2) as pool:
        for made in pool.map(lambda job: job(), jobs):
            items += made if isinstance(made, list) else [made]
    return sorted(items, key=lambda item: (item.collection_id or "", item.id))
