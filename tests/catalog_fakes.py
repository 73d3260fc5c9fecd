"""STAC items and map descriptions for the tests of catalog/, without files behind them."""

import copy
import json
from pathlib import Path

import shapely

from mapper.spec import parse_spec

WEST, SOUTH = 11.9, 50.0

CONTENT = {
    "name": "region",
    "area": {"bbox": [WEST, SOUTH, WEST + 0.2, SOUTH + 0.1]},
    "period": {"start": "2020-04-01", "end": "2020-10-31"},
    "grid": {"crs": "EPSG:3035", "resolution": 10, "tile": 512, "chunk": 256},
    "catalog": {"provider": "demo"},
    "guide": {
        "layers": [
            {"collection": "sentinel-2-l2a", "bands": ["B04", "B08"], "cloud_limit": 80},
            {"collection": "sentinel-1-rtc", "bands": ["vv", "vh"], "orbit": "ascending"},
        ],
        "seasons": {"spring": [4, 5], "summer": [6, 7, 8]},
    },
    "source": {"collection": "esa-cci-biomass", "variable": "agb", "sd": "agb_sd", "year": 2019, "resolution": 100},
    "model": {"name": "bicubic"},
    "store": "map.icechunk",
}


def make_spec(href, *, base=Path(), **parts):
    """A map description; ``guide__seasons={...}`` replaces a part of it."""
    content = copy.deepcopy(CONTENT)
    content["catalog"]["href"] = str(href)
    for path, value in parts.items():
        *parents, key = path.split("__")
        part = content
        for parent in parents:
            part = part[parent]
        part[key] = value
    return parse_spec(content, base=base)


def make_item(name, collection="sentinel-2-l2a", *, when="2020-06-10T10:20:30.123456Z", bounds=None, **properties):
    """An item with one file per band and a preview that no one reads."""
    footprint = shapely.box(*(bounds or (WEST - 1, SOUTH - 1, WEST + 1, SOUTH + 1)))
    bands = {"sentinel-2-l2a": ("B04", "B08", "SCL"), "sentinel-1-rtc": ("vv", "vh")}.get(collection, ("agb", "agb_sd"))
    root = f"https://archive.test/{collection}/{name}"
    return {
        "type": "Feature",
        "stac_version": "1.0.0",
        "stac_extensions": [],
        "id": name,
        "collection": collection,
        "geometry": json.loads(shapely.to_geojson(footprint)),
        "bbox": list(footprint.bounds),
        "properties": {"datetime": when, "proj:epsg": 32633, **properties},
        "links": [{"rel": "self", "href": f"{root}.json"}, {"rel": "license", "href": "https://archive.test/terms"}],
        "assets": {
            **{band: {"href": f"{root}/{band}.tif", "gsd": 10, "proj:shape": [20, 20]} for band in bands},
            "preview": {"href": f"{root}/preview.png"},
        },
    }


def make_items(scenes=24):
    """Sentinel-2 and -1 scenes and a coarse map for the map of :func:`make_spec`; all of them are wanted."""
    optical = [
        make_item(f"s2-{k:03d}", when=f"2020-{4 + k % 5:02d}-{1 + k // 5:02d}T10:00:00.5Z", **{"eo:cloud_cover": k})
        for k in range(scenes)
    ]
    radar = [
        make_item(f"s1-{k}", "sentinel-1-rtc", when=f"2020-0{4 + k}-05T05:00:00Z", **{"sat:orbit_state": "ascending"})
        for k in range(5)
    ]
    year = {"start_datetime": "2019-01-01T00:00:00Z", "end_datetime": "2019-12-31T23:59:59Z"}
    return [*optical, *radar, make_item("agb-2019", "esa-cci-biomass", when=None, **year)]
