"""Small folders of heights on disk, as lidar tiles and as lone rasters."""

import numpy as np
import rasterio
from rasterio.transform import Affine

PX = 3.0


def write_raster(
    path, values, *, px=PX, west=500_000.0, north=6_000_000.0, crs="EPSG:32630", nodata=-9999, south_up=False
):
    """Write one band or several (band, y, x); rows from south to north on demand."""
    values = np.asarray(values)
    stack = values if values.ndim == 3 else values[None]
    transform = Affine(px, 0, west, 0, -px, north)
    if south_up:
        transform = Affine(px, 0, west, 0, px, north - px * stack.shape[1])
        stack = stack[:, ::-1]
    path.parent.mkdir(parents=True, exist_ok=True)
    profile = {"driver": "GTiff", "height": stack.shape[1], "width": stack.shape[2], "count": len(stack)}
    with rasterio.open(path, "w", **profile, dtype=stack.dtype, crs=crs, transform=transform, nodata=nodata) as file:
        file.write(stack)
    return path


def make_heights(rows=43, cols=50, seed=1):
    """Ground below zero in places, surface, and codes of what stands on it: 1 buildings, 2 trees, 3 water."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[:rows, :cols]
    ground = (4 * np.sin(y / 9) + 3 * np.cos(x / 7) - 1 + random.normal(0, 0.05, y.shape)).astype(np.float32)
    mask = np.zeros(y.shape, np.uint8)
    for index in range(10):
        mask[2 + 4 * index : 5 + 4 * index, 3:8] = 1
    mask[5:30:3, 20:22], mask[35:, 40:] = 2, 3
    height = np.choose(mask, [0, 6, 11, 0]).astype(np.float32)
    return ground, ground + height, mask


def write_lidar(folder, **options):
    """Write the layers of a lidar tile; returns ground, surface, codes and distance."""
    ground, surface, mask = make_heights()
    distance = np.full(mask.shape, 2, np.uint8)
    distance[12:15, 30:33] = 9
    for stem, values in (("dtm", ground), ("dsm", surface)):
        write_raster(folder / f"{stem}_3m.tif", values, **options)
    write_raster(folder / "mask_3m.tif", mask, nodata=None, **options)
    write_raster(folder / "truth_distance_3m.tif", distance, nodata=None, **options)
    return ground, surface, mask, distance
