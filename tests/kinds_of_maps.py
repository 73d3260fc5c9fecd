"""Small maps of each kind on disk, from scenes to MAP.yaml: reflectance of one date, elevation, a stack of dates."""

import json
import zlib

import numpy as np
import yaml
from odc.geo.geobox import GeoBox
from rasterio import Affine
from scenes import box_at, write_item

CRS = "EPSG:32633"
SIZE = 144
ORIGIN = 499_980, 5_600_040
"""Upper left corner of the scenes: a granule's own lattice of 10 m."""
AREA = [15.003, 50.5416, 15.0145, 50.5499]
"""Longitude and latitude well inside the scenes."""
BANDS = ("B02", "B03", "B04", "B08")
PROVIDER = {
    "extends": "demo",
    "name": "kinds",
    "collections": {
        "cop-dem-glo-30": {
            "bands": {"elevation": "data"},
            "units": "m",
            "calibration": "identity",
            "dtype": "float32",
            "nodata": None,
            "resampling": "bilinear",
            "reducer": "mean",
            "group_by": [],
        }
    },
}


def write_catalog(folder, items, *, seed=None):
    """List items in a static catalogue, in any order."""
    order = list(items) if seed is None else np.random.default_rng(seed).permutation(len(items)).tolist()
    listed = items if seed is None else [items[k] for k in order]
    for item in listed:
        (folder / f"{item['id']}.json").write_text(json.dumps(item))
    links = [{"rel": "item", "href": f"{item['id']}.json"} for item in listed]
    catalog = {"type": "Catalog", "id": "kinds", "stac_version": "1.0.0", "description": "kinds", "links": links}
    (folder / "catalog.json").write_text(json.dumps(catalog))


def write_scene(folder, day, cloud, *, clear=None):
    """One date of Sentinel-2 with its mask; returns the item and the digital numbers (band, y, x)."""
    rng = np.random.default_rng(zlib.crc32(day.encode()))
    rows, cols = np.mgrid[:SIZE, :SIZE]
    waves = 900 * np.sin(rows / 9) * np.cos(cols / 7)
    numbers = np.stack(
        [2600 + 300 * k + waves * (1 + 0.2 * k) + rng.integers(-90, 90, (SIZE, SIZE)) for k in range(len(BANDS))]
    ).astype(np.uint16)
    box = box_at(CRS, *ORIGIN, size=SIZE)
    mask = np.full((SIZE, SIZE), 4, np.uint8) if clear is None else np.where(clear, 4, 9).astype(np.uint8)
    assets = {band: (numbers[k], box) for k, band in enumerate(BANDS)} | {"SCL": (mask, box)}
    facts = {"eo:cloud_cover": cloud, "s2:processing_baseline": "05.10", "platform": "sentinel-2a"}
    return write_item(folder, f"S2_{day}", f"{day}T10:00:00Z", assets, **facts), numbers


def write_surface(folder):
    """A surface model at one arc second with heights below the sea; returns the item and the heights."""
    step = 1 / 3600
    box = GeoBox((80, 110), Affine(step, 0, 14.99, 0, -step, 50.55), "EPSG:4326")
    rows, cols = np.mgrid[:80, :110]
    heights = (60 * np.sin(rows / 11) * np.cos(cols / 13) - 12).astype(np.float32)
    item = write_item(folder, "dem", "2021-04-22T00:00:00Z", {"data": (heights, box)}, collection="cop-dem-glo-30")
    return item, heights


def write_map(folder, name, **parts):
    """A MAP.yaml that reads the catalogue beside it; returns its path."""
    (folder / "provider.yaml").write_text(yaml.safe_dump(PROVIDER))
    content = {
        "name": name,
        "area": {"bbox": AREA},
        "period": {"start": "2024-06-01", "end": "2024-07-31"},
        "catalog": {"provider": "provider.yaml", "href": "catalog.json"},
        "store": f"{name}.icechunk",
        **parts,
    }
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(content))
    return path
