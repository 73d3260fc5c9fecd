"""Files whose headers say something, and the items that are about them."""

from pathlib import Path

import numpy as np
import rasterio
from affine import Affine
from rasterio.enums import ColorInterp
from scenes import HERE

from mapper.catalog.items import freeze_items
from mapper.catalog.provider import CollectionRule

PLAIN = CollectionRule(
    bands={"agb": "agb"}, units="Mg ha-1", calibration="identity", dtype="uint16", nodata=None, resampling="nearest"
)


def write_file(
    path,
    pixels,
    geobox=HERE,
    *,
    nodata=None,
    mask=None,
    sidecar=False,
    scales=None,
    offsets=None,
    names=None,
    kinds=None,
    **more,
):
    """Write (y, x) or (band, y, x) numbers with all that a header can say."""
    pixels = np.asarray(pixels)
    pixels = pixels[None] if pixels.ndim == 2 else pixels
    profile = {"driver": "GTiff", "crs": str(geobox.crs), "transform": geobox.transform, "nodata": nodata, **more}
    count, height, width = pixels.shape
    with (
        rasterio.Env(GDAL_TIFF_INTERNAL_MASK=not sidecar),
        rasterio.open(path, "w", count=count, height=height, width=width, dtype=pixels.dtype, **profile) as file,
    ):
        file.write(pixels)
        if kinds:
            file.colorinterp = [ColorInterp[kind] for kind in kinds]
        if scales:
            file.scales = scales
        if offsets:
            file.offsets = offsets
        if names:
            file.descriptions = names
        if mask is not None:
            file.write_mask(mask)
    return Path(path)


def item_of(path, assets=("agb",), *, geobox=HERE, item_id="the-item", collection="maps", asset=None, **properties):
    """Describe one file as the assets of an item that says nothing of it but where it is."""
    footprint = geobox.extent.to_crs("EPSG:4326", resolution=geobox.extent.boundingbox.span_x / 8)
    return {
        "type": "Feature",
        "stac_version": "1.0.0",
        "id": item_id,
        "collection": collection,
        "geometry": footprint.json,
        "bbox": list(footprint.boundingbox.bbox),
        "properties": {"datetime": "2020-06-01T10:00:00Z", **properties},
        "assets": {key: {"href": str(path), **(asset or {})} for key in assets},
        "links": [],
    }


def items_of(*items):
    return freeze_items(items)


def oracle(path, band=1):
    """Stored numbers of a band as GDAL masks them, NaN where missing; float32."""
    with rasterio.open(path) as file:
        pixels = file.read(band, masked=True)
    values = pixels.astype(np.float32).filled(np.nan)
    return np.where(np.isfinite(values), values, np.nan)


def north_up(x, y, step):
    return Affine(step, 0, x, 0, -step, y)
