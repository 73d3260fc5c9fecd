"""Folders of made-up images in published layouts."""

import warnings

import numpy as np
import rasterio
from affine import Affine
from rasterio.errors import NotGeoreferencedWarning


def write_image(path, values, *, origin=None, px=10.0, crs="EPSG:32633", nodata=None):
    """Write (band, y, x) as GeoTIFF or PNG by the name's ending; without an origin there is no georeference."""
    path.parent.mkdir(parents=True, exist_ok=True)
    values = np.atleast_3d(values) if values.ndim == 1 else values.reshape(-1, *values.shape[-2:])
    bands, rows, cols = values.shape
    place = {} if origin is None else {"crs": crs, "transform": Affine(px, 0, origin[0], 0, -px, origin[1])}
    driver = "PNG" if path.suffix == ".png" else "GTiff"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        profile = {"driver": driver, "count": bands, "height": rows, "width": cols, "dtype": values.dtype}
        with rasterio.open(path, "w", **profile, nodata=nodata, **place) as file:
            file.write(values)
    return path
