"""Terrain that is known everywhere, in tiles as the Copernicus DEM has them: posts on whole seconds of arc."""

import numpy as np
from affine import Affine
from odc.geo.geobox import GeoBox
from pyproj import Transformer
from scenes import box_at, write_item

from mapper.spec import parse_spec

CRS = "EPSG:32633"
SECOND = 1 / 3600
COLLECTION = "cop-dem-glo-30"
TO_MAP = Transformer.from_crs("EPSG:4326", CRS, always_xy=True)
TO_DEGREES = Transformer.from_crs(CRS, "EPSG:4326", always_xy=True)


def height(x, y):
    """Metres, some below the sea, at places of CRS: waves of 190 to 530 m on a slope."""
    x, y = x - 500_000, y - 5_539_000
    waves = 40 * np.sin(2 * np.pi * x / 410) * np.cos(2 * np.pi * y / 530) + 6 * np.sin(2 * np.pi * (x + y) / 190)
    return waves + 0.08 * x - 0.05 * y


def height_at(lon, lat):
    """The same at longitude and latitude."""
    return height(*TO_MAP.transform(lon, lat))


def posts(west, north, shape, step_x=SECOND, step_y=SECOND):
    """Geobox whose first pixel has its centre at a longitude and latitude."""
    place = Affine(step_x, 0, west - step_x / 2, 0, -step_y, north + step_y / 2)
    return GeoBox(shape, place, "EPSG:4326")


def centres(geobox):
    """Coordinates of all pixels of a geobox, each (y, x)."""
    rows, cols = np.mgrid[: geobox.shape[0], : geobox.shape[1]] + 0.5
    return geobox.transform * (cols, rows)


def write_tile(folder, name, geobox, *, values=None, nodata=None, when="2021-04-22T00:00:00Z", collection=COLLECTION):
    """Write a tile of the terrain, or of other values, and return its item."""
    if values is None:
        values = (height if str(geobox.crs) == CRS else height_at)(*centres(geobox)).astype(np.float32)
    return write_item(folder, name, when, {"data": (values, geobox)}, collection=collection, nodata=nodata)


def map_box(lon, lat, shape, step=30.0):
    """Source pixels whose upper left corner is near a place, on a lattice of whole steps."""
    x, y = (round(edge / step) * step for edge in TO_MAP.transform(lon, lat))
    return box_at(CRS, x, y, size=shape, step=step)


def elevation_spec(folder, *, resampling="cubic", crs=CRS, bbox=(15.0, 49.98, 15.05, 50.02), **source):
    """A map of elevation from 30 to 10 m."""
    content = {
        "preset": "elevation",
        "name": "terrain",
        "area": {"bbox": list(bbox)},
        "period": {"start": "2021-01-01", "end": "2021-12-31"},
        "grid": {"crs": crs, "resolution": 10, "tile": 60, "chunk": 20},
        "catalog": {"provider": "planetary-computer"},
        "source": {"resampling": resampling, **source},
        "model": {"name": "bicubic"},
        "store": "map.icechunk",
    }
    return parse_spec(content, base=folder)
