"""A year of Sentinel-2 over one tile at the border of two UTM zones, as files: what reading is measured on.

Scenes are uint16 COGs of noisy fields (six bands at 10 and 20 m) with clouds in SCL, wedges without data and two
processing baselines. On even dates two zones see a part of the tile each; on odd dates one of them sees all of it.
"""

from datetime import UTC, datetime, timedelta

import numpy as np
import rasterio
from odc.geo.geobox import GeoBox
from pyproj import Transformer
from scipy import ndimage

from mapper.catalog.items import Items, freeze_items

BANDS = {"B02": 10, "B03": 10, "B04": 10, "B08": 10, "B11": 20, "B12": 20}
"""Pixel size in metres by band."""
MASKED = (0, 1, 3, 8, 9, 10, 11)
"""Classes of SCL that are not used: no data, saturated, shadow, cloud, cirrus, snow."""
FIRST_DAY = datetime(2021, 6, 3, 10, 10, tzinfo=UTC)
NEW_BASELINE = datetime(2022, 1, 25, tzinfo=UTC)

_ZONES = ("EPSG:32632", "EPSG:32633")
_CENTRE = (4461120.0, 3110400.0)
"""In EPSG:3035, where longitude is 12 degrees."""
_MARGIN = 100
_CLEAR, _CLOUD = 4, 9


def tile_of(size: int) -> GeoBox:
    """The tile that is read: ``size`` x ``size`` pixels of 10 m in EPSG:3035."""
    half = size * 5
    return GeoBox((size, size), rasterio.Affine(10, 0, _CENTRE[0] - half, 0, -10, _CENTRE[1] + half), "EPSG:3035")


def write_overpasses(folder, tile: GeoBox, *, dates: int = 24, seed: int = 0) -> Items:
    """Write the scenes of ``dates`` days spread over one year; three items for every two dates."""
    rng = np.random.default_rng(seed)
    items = []
    for k in range(dates):
        when = FIRST_DAY + timedelta(days=int(365 * k / dates))
        halves = {0: (0.0, 0.7), 1: (0.3, 1.0)} if k % 2 == 0 else {(k // 2) % 2: (0.0, 1.0)}
        cloud = 1.0 if k == dates // 2 else rng.uniform(0.05, 0.7)
        for zone, part in halves.items():
            items.append(_write_scene(folder, tile, when + timedelta(seconds=10 * zone), zone, part, cloud, rng))
    return freeze_items(items)


def _write_scene(folder, tile, when, zone, part, cloud, rng):
    new = when >= NEW_BASELINE
    name = f"S2_{when:%Y%m%d}_{_ZONES[zone][-2:]}"
    box = _frame(tile, _ZONES[zone], part)
    height, width = box.shape
    wedge = np.add.outer(np.arange(height) * 0.2, np.arange(width)) < rng.integers(0, width // 3)
    fields = ndimage.zoom(rng.random((height // 60 + 2, width // 60 + 2), np.float32), 60, order=0, prefilter=False)
    clouds = ndimage.zoom(rng.random((9, 9), np.float32), (height / 9, width / 9), order=3)[: height // 2, : width // 2]
    scl = np.where(clouds <= np.quantile(clouds, cloud), np.uint8(_CLOUD), np.uint8(_CLEAR))
    scl[wedge[: 2 * scl.shape[0] : 2, : 2 * scl.shape[1] : 2]] = 0
    assets = {"SCL": _write(folder / name / "SCL.tif", scl, box.zoom_out(2))}
    for level, (band, step) in enumerate(BANDS.items()):
        every = step // 10
        values = 400 + 400 * level + 1500 * fields[:height:every, :width:every]
        values += 60 * rng.standard_normal(values.shape, np.float32) + (1000 if new else 0)
        stored = values.clip(1, 20000).astype(np.uint16)
        stored[wedge[::every, ::every]] = 0
        assets[band] = _write(folder / name / f"{band}.tif", stored, box.zoom_out(every))
    footprint = box.footprint("EPSG:4326")
    return {
        "type": "Feature",
        "stac_version": "1.0.0",
        "id": name,
        "collection": "sentinel-2-l2a",
        "geometry": footprint.json,
        "bbox": list(footprint.boundingbox.bbox),
        "properties": {
            "datetime": f"{when:%Y-%m-%dT%H:%M:%SZ}",
            "platform": "sentinel-2a",
            "eo:cloud_cover": round(100 * cloud, 1),
            "s2:processing_baseline": "04.00" if new else "03.01",
        },
        "assets": assets,
        "links": [],
    }


def _frame(tile, crs, part):
    """The part of a tile, from left to right, with a margin, on the 10 m grid of a zone."""
    box = tile.boundingbox
    bounds = Transformer.from_crs("EPSG:3035", crs, always_xy=True).transform_bounds(*box.bbox, densify_pts=21)
    left, bottom, right, top = (round(edge / 20) * 20 for edge in bounds)
    first, last = (left + round(share * (right - left) / 20) * 20 for share in part)
    width, height = (last - first) // 10 + 2 * _MARGIN, (top - bottom) // 10 + 2 * _MARGIN
    return GeoBox((height, width), rasterio.Affine(10, 0, first - 10 * _MARGIN, 0, -10, top + 10 * _MARGIN), crs)


def _write(path, pixels, box):
    path.parent.mkdir(parents=True, exist_ok=True)
    profile = {"driver": "COG", "count": 1, "height": pixels.shape[0], "width": pixels.shape[1], "dtype": pixels.dtype}
    options = {"compress": "deflate", "predictor": 2, "level": 1, "blocksize": 512, "overviews": "NONE"}
    place = {"crs": str(box.crs), "transform": box.transform, "nodata": 0}
    with rasterio.open(path, "w", **profile, **options, **place) as file:
        file.write(pixels, 1)
    return {
        "href": str(path),
        "proj:epsg": box.crs.epsg,
        "proj:shape": list(box.shape),
        "proj:transform": list(box.transform)[:6],
    }
