"""Single-band rasters as assets: written as cloud-optimised GeoTIFF, with the metadata that a reader needs.

The description follows the projection 1.1 and raster 1.1 extensions of STAC, which every reader understands; the
checksum makes a changed file a changed item.
"""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import rasterio
from odc.geo.geobox import GeoBox

EXTENSIONS = (
    "https://stac-extensions.github.io/projection/v1.1.0/schema.json",
    "https://stac-extensions.github.io/raster/v1.1.0/schema.json",
    "https://stac-extensions.github.io/file/v2.1.0/schema.json",
)

_MEDIA_TYPE = "image/tiff; application=geotiff; profile=cloud-optimized"
_SHA256_MULTIHASH = "1220"


def write_asset(path: Path, pixels: npt.NDArray[Any], geobox: GeoBox, *, nodata: float | None) -> dict[str, Any]:
    """Write one band and describe it as a STAC asset.

    Args:
        path: Of the file; the asset's href is its name, relative to an item in the same folder.
        pixels: (y, x), of the shape of ``geobox``.
        geobox: Where the pixels lie.
        nodata: Stored value that means no data.

    Raises:
        ValueError: If pixels and geobox differ in shape, or the CRS has no EPSG code.
    """
    if geobox.crs is None or geobox.crs.epsg is None:
        raise ValueError(f"the geobox needs a CRS with an EPSG code, got {geobox.crs}")
    if pixels.shape != tuple(geobox.shape):
        raise ValueError(f"pixels have shape {pixels.shape}, the geobox {tuple(geobox.shape)}")
    path.parent.mkdir(parents=True, exist_ok=True)
    predictor = 3 if np.issubdtype(pixels.dtype, np.floating) else 2
    height, width = pixels.shape
    with rasterio.open(
        path,
        "w",
        driver="COG",
        height=height,
        width=width,
        count=1,
        dtype=pixels.dtype,
        crs=str(geobox.crs),
        transform=geobox.transform,
        nodata=nodata,
        compress="deflate",
        predictor=predictor,
        blocksize=256,
    ) as file:
        file.write(pixels, 1)
    content = path.read_bytes()
    band: dict[str, Any] = {"data_type": pixels.dtype.name, "spatial_resolution": abs(geobox.transform.a)}
    return {
        "href": path.name,
        "type": _MEDIA_TYPE,
        "roles": ["data"],
        "proj:epsg": geobox.crs.epsg,
        "proj:shape": [height, width],
        "proj:transform": list(geobox.transform)[:6],
        "raster:bands": [band if nodata is None else {**band, "nodata": nodata}],
        "file:size": len(content),
        "file:checksum": _SHA256_MULTIHASH + hashlib.sha256(content).hexdigest(),
    }


def describe_footprint(geobox: GeoBox) -> dict[str, Any]:
    """Return the footprint of a geobox as the ``geometry`` and ``bbox`` of an item, in longitude and latitude."""
    longest = max(geobox.extent.boundingbox.span_x, geobox.extent.boundingbox.span_y)
    footprint = geobox.extent.to_crs("EPSG:4326", resolution=longest / 8)
    return {"geometry": footprint.json, "bbox": list(footprint.boundingbox.bbox)}
