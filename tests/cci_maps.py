"""Tiles of a biomass map as they are published: whole cells of 11,250 px, of which only a window is written."""

import re
from pathlib import Path

import numpy as np
import rasterio
from rasterio import Affine
from rasterio.windows import Window

CELL_PX = 11_250
STEP = 1 / 1125


def corner_of(cell):
    """Longitude and latitude of the upper left corner, from the name."""
    ns, lat, ew, lon = re.fullmatch(r"([NS])(\d\d)([EW])(\d{3})", cell).groups()
    return int(lon) * (1 if ew == "E" else -1), int(lat) * (1 if ns == "N" else -1)


def tile_name(cell, kind="AGB", *, version="7.0", year=2020):
    return f"{cell}_ESACCI-BIOMASS-L4-{kind}-MERGED-100m-{year}-fv{version}.tif"


def pixel_of(lon, lat, cell):
    """Row and column of the pixel that holds a point."""
    west, north = corner_of(cell)
    return int((north - lat) / STEP), int((lon - west) / STEP)


def write_tile(folder, cell="N60E010", kind="AGB", *, pixels=None, at=(0, 0), nodata=None, place=None, **name):
    """One file: zeros, or ``nodata``, but for ``pixels`` at a row and column."""
    pixels = np.full((1, 1), 7, np.uint16) if pixels is None else pixels
    west, north = corner_of(cell)
    path = Path(folder) / tile_name(cell, kind, **name)
    path.parent.mkdir(parents=True, exist_ok=True)
    profile = {"driver": "GTiff", "count": 1, "dtype": pixels.dtype, "nodata": nodata, "sparse_ok": True}
    layout = {"tiled": True, "blockxsize": 256, "blockysize": 256, "compress": "deflate"}
    profile |= {"height": CELL_PX, "width": CELL_PX, "crs": "EPSG:4326"} | layout
    with rasterio.open(path, "w", **profile, transform=place or Affine(STEP, 0, west, 0, -STEP, north)) as file:
        file.write(pixels, 1, window=Window(at[1], at[0], pixels.shape[1], pixels.shape[0]))
    return path


def write_cell(folder, cell="N60E010", *, pixels=None, at=(0, 0), **options):
    """Biomass and its deviation, a third of it and 5 more."""
    write_tile(folder, cell, pixels=pixels, at=at, **options)
    sd = None if pixels is None else (pixels // 3 + 5).astype(pixels.dtype)
    write_tile(folder, cell, "AGB_SD", pixels=sd, at=at, **options)
