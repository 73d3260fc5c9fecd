"""Small scenes for tests: one-band COGs and the STAC items that describe them."""

from pathlib import Path

import numpy as np
import rasterio
from odc.geo.geobox import GeoBox
from pyproj import Transformer

from mapper.catalog.items import freeze_items
from mapper.catalog.provider import CollectionRule

S2 = CollectionRule(
    bands={"B02": "B02", "B04": "B04", "B11": "B11"},
    units="1",
    calibration="sentinel-2",
    dtype="uint16",
    nodata=0,
    mask={"asset": "SCL", "rule": "classes", "classes": [0, 1, 3, 8, 9, 10, 11], "nodata": 0},
)
S1 = CollectionRule(
    bands={"vv": "vv", "vh": "vh"},
    units="dB",
    calibration="linear-power",
    dtype="float32",
    nodata=-32768,
    zero_is_border=True,
    reducer="mean",
)
MAP = CollectionRule(
    bands={"agb": "agb", "agb_sd": "agb_sd"},
    units="Mg ha-1",
    calibration="identity",
    dtype="uint16",
    nodata=65535,
    resampling="nearest",
)


def box_at(crs, x, y, *, size=128, step=10.0):
    """North-up geobox with its upper left corner at x, y."""
    return GeoBox((size, size) if isinstance(size, int) else size, rasterio.Affine(step, 0, x, 0, -step, y), crs)


def write_cog(path, pixels, geobox, *, nodata=None):
    """One band; stored as is."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    profile = {"driver": "COG", "count": 1, "height": pixels.shape[0], "width": pixels.shape[1], "blocksize": 128}
    place = {"crs": str(geobox.crs), "transform": geobox.transform, "nodata": nodata, "dtype": pixels.dtype}
    with rasterio.open(path, "w", **profile, **place, compress="deflate", overviews="NONE") as file:
        file.write(pixels, 1)
    return path


def write_item(folder, item_id, when, assets, *, collection="sentinel-2-l2a", nodata=None, **properties):
    """Write the assets, {key: (pixels, geobox)}, and return the item: STAC 1.0 with the projection on its assets."""
    described = {}
    footprint = None
    for key, (pixels, geobox) in assets.items():
        path = write_cog(Path(folder) / item_id / f"{key}.tif", pixels, geobox, nodata=nodata)
        footprint = footprint or geobox.extent.to_crs("EPSG:4326", resolution=geobox.extent.boundingbox.span_x / 8)
        described[key] = {
            "href": str(path),
            "proj:epsg": geobox.crs.epsg,
            "proj:shape": list(geobox.shape),
            "proj:transform": list(geobox.transform)[:6],
        }
    return {
        "type": "Feature",
        "stac_version": "1.0.0",
        "id": item_id,
        "collection": collection,
        "geometry": footprint.json,
        "bbox": list(footprint.boundingbox.bbox),
        "properties": {"datetime": when, **properties},
        "assets": described,
        "links": [],
    }


def reflectance(rng, shape, *, low=200, high=4000):
    """Digital numbers with texture from pixel to pixel."""
    return rng.integers(low, high, shape).astype(np.uint16)


HERE = box_at("EPSG:32633", 300000, 5700000, size=64)
SIDE = box_at("EPSG:32633", 300320, 5700000, size=64)
"""Beside HERE, overlapping it by half."""
OLD, NEW = {"s2:processing_baseline": "02.11"}, {"s2:processing_baseline": "05.00"}


def flat(value, geobox=HERE, dtype=np.uint16):
    return np.full(geobox.shape, value, dtype), geobox


def clear(geobox=HERE, value=4):
    """A mask of one class."""
    return flat(value, geobox, np.uint8)


def s2(folder, item_id, when="2020-06-01T10:00:00Z", *, value=1500, place=HERE, scl=4, **properties):
    """A scene of one number; of an old baseline, so 1500 is a reflectance of 0.15."""
    assets = {"B02": flat(value, place), "SCL": clear(place, scl)}
    return write_item(folder, item_id, when, assets, **(OLD | properties))


ZONE_BORDER = box_at("EPSG:3035", 4464400, 3001300, size=256)
"""Where the two tiles of :func:`write_passes` overlap, at longitude 12."""


def write_passes(folder):
    """Two dates of different baselines, each of two overlapping tiles in two UTM zones, half of the pixels cloudy."""
    rng = np.random.default_rng(3)
    x, y = ZONE_BORDER.extent.centroid.coords[0]
    items = []
    for day, baseline in ((10, OLD), (12, NEW)):
        for k, (crs, shift) in enumerate((("EPSG:32632", -2200), ("EPSG:32633", -400))):
            east, north = Transformer.from_crs("EPSG:3035", crs, always_xy=True).transform(x, y)
            place = box_at(crs, round(east, -1) + shift, round(north, -1) + 1300, size=256)
            mask = rng.choice(np.array([4, 9], np.uint8), place.shape), place
            assets = {"B02": (reflectance(rng, place.shape), place), "SCL": mask}
            items.append(write_item(folder, f"{day}-{crs[-5:]}", f"2020-06-{day}T10:00:0{k}Z", assets, **baseline))
    return freeze_items(items)
