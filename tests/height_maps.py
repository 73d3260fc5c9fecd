"""Maps of heights in two vertical datums on disk: Los Angeles in GLO-30, above the geoid and above the ellipsoid."""

import numpy as np
import rasterio
import yaml
from kinds_of_maps import write_catalog
from odc.geo.geobox import GeoBox
from scenes import write_item
from shared import SHARED

from mapper.spec import parse_spec

PLACE = SHARED / "super_resolution" / "dem" / "glo30_los_angeles"
GEOID, ELLIPSOID = "EPSG:3855", "EPSG:4979"
TO_GEOID = 34.88
"""Metres from the ellipsoid to the geoid there, within 0.46 m."""
AREA = [-118.035, 34.02, -118.03, 34.024]
HEIGHTS = {
    "bands": {"elevation": "data"},
    "units": "m",
    "calibration": "identity",
    "dtype": "float32",
    "nodata": None,
    "resampling": "bilinear",
    "reducer": "mean",
    "group_by": [],
}


def write_places(folder):
    """A catalogue of both surfaces, and of the geoid's as a surface that names no datum; its folder."""
    items = []
    for name in ("geoid", "ellipsoid", "unnamed"):
        with rasterio.open(PLACE / f"{name.replace('unnamed', 'geoid')}.tif") as file:
            pixels, geobox = file.read(1), GeoBox(file.shape, file.transform, "EPSG:4326")
        items.append(write_item(folder, name, "2021-04-22T00:00:00Z", {"data": (pixels, geobox)}, collection=name))
    write_catalog(folder, items)
    surface = HEIGHTS | {"heights": "surface"}
    collections = {
        "geoid": surface | {"vertical_datum": GEOID},
        "ellipsoid": surface | {"vertical_datum": ELLIPSOID},
        "unnamed": HEIGHTS,
    }
    provider = {"extends": "demo", "name": "heights", "collections": collections}
    (folder / "provider.yaml").write_text(yaml.safe_dump(provider))
    return folder


def make_content(collection, **parts):
    """A MAP.yaml of one surface from 30 to 10 m, as its content; ``source``, ``target`` and more are merged into it."""
    content = {
        "preset": "elevation",
        "name": "heights",
        "area": {"bbox": AREA},
        "period": {"start": "2024-06-01", "end": "2024-07-31"},
        "grid": {"crs": "EPSG:32611", "resolution": 10, "tile": 48, "chunk": 24},
        "catalog": {"provider": "provider.yaml", "href": "catalog.json"},
        "source": {"collection": collection},
        "model": {"name": "bicubic"},
        "store": "heights.icechunk",
    }
    for name, part in parts.items():
        content[name] = content.get(name, {}) | part if isinstance(part, dict) else part
    return content


def make_map(folder, collection, **parts):
    """The map that :func:`make_content` describes."""
    return parse_spec(make_content(collection, **parts), base=folder)


def write_grid(path, geobox, metres):
    """A grid of metres on a geobox: a function of the longitudes and latitudes of its pixel centres, or a number."""
    lat, lon = np.meshgrid(geobox.coords["latitude"].values, geobox.coords["longitude"].values, indexing="ij")
    values = np.broadcast_to(metres(lon, lat) if callable(metres) else metres, geobox.shape).astype(np.float32)
    place = {"crs": "EPSG:4326", "transform": geobox.transform, "nodata": -9999}
    size = {"height": geobox.shape[0], "width": geobox.shape[1]}
    with rasterio.open(path, "w", driver="GTiff", count=1, dtype="float32", **size, **place) as file:
        file.write(values, 1)
    return path
