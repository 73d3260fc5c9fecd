"""Rasters of heights and classes as arrays, north up, with what their files say of place and datum."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from warnings import catch_warnings, simplefilter

import numpy as np
import rasterio
from affine import Affine
from pyproj import CRS
from rasterio.errors import NotGeoreferencedWarning, RasterioError
from rasterio.features import rasterize
from rasterio.warp import transform_geom

from mapper.arrays import Float32Array, Float64Array
from mapper.errors import InputError
from mapper.grid import measure_pixels

_NEAR_PX = 0.01
"""Distance at which edges of pixels of two files are the same, in pixels."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Raster:
    """One file, all of it."""

    path: Path
    values: Float32Array
    """(band, y, x), rows from north to south, NaN where the file has no value."""
    transform: Affine
    """Of these rows."""
    crs: str
    """Well-known text; empty where the file names none."""

    @property
    def shape(self) -> tuple[int, int]:
        """Numbers of rows and columns."""
        return self.values.shape[1], self.values.shape[2]

    @property
    def band(self) -> Float32Array:
        """The first band, (y, x)."""
        return np.asarray(self.values[0], np.float32)

    @property
    def vertical_datum(self) -> str:
        """Code, or else name, of the vertical part of the CRS; empty where it has none."""
        parts = CRS.from_wkt(self.crs).sub_crs_list if self.crs else []
        vertical = next((part for part in parts if part.is_vertical), None)
        if vertical is None:
            return ""
        authority = vertical.to_authority()
        return ":".join(authority) if authority else str(vertical.name)

    def measure(self) -> tuple[Float64Array, Float64Array]:
        """Return height and width of the pixels of each row, in metres."""
        return measure_pixels(self.crs or None, self.transform, self.shape[0])

    def check_grid(self, others: Sequence["Raster"]) -> None:
        """Check that other files have the pixels of this one.

        Raises:
            InputError: If one has not.
        """
        for other in others:
            right, down = ~self.transform * (other.transform.c, other.transform.f)
            if other.shape != self.shape or count_pixels(self, other) != 1 or max(abs(right), abs(down)) > _NEAR_PX:
                raise InputError(
                    f"{other.path} {_describe(other)} is not on the grid of {self.path.name} {_describe(self)}"
                )


def read_raster(path: Path) -> Raster:
    """Read a GeoTIFF.

    Raises:
        InputError: If it cannot be read, or its rows do not run along parallels.
    """
    try:
        with catch_warnings():
            simplefilter("ignore", NotGeoreferencedWarning)
            with rasterio.open(path, driver="GTiff") as file:
                stored = file.read(masked=True)
                transform, crs = file.transform, file.crs.to_wkt() if file.crs else ""
    except RasterioError as error:
        raise InputError(f"{path} cannot be read: {error}") from error
    if transform.b or transform.d or transform.a <= 0:
        raise InputError(f"{path} is rotated or mirrored ({transform.to_gdal()}): warp it to a grid of its CRS first")
    values = np.where(np.ma.getmaskarray(stored), np.nan, stored.data).astype(np.float32)
    if transform.e > 0:  # rows from south to north
        values = values[:, ::-1]
        transform = Affine(transform.a, 0, transform.c, 0, -transform.e, transform.f + transform.e * values.shape[1])
    return Raster(path=path, values=np.ascontiguousarray(values), transform=transform, crs=crs)


def count_bands(path: Path) -> int:
    """Return the number of bands of a GeoTIFF; 0 for a file that is none."""
    try:
        with catch_warnings():
            simplefilter("ignore", NotGeoreferencedWarning)
            with rasterio.open(path, driver="GTiff") as file:
                return int(file.count)
    except RasterioError:
        return 0


def count_pixels(fine: Raster, coarse: Raster) -> int:
    """Return the pixels of one raster along an edge of a pixel of another; 0 where they do not divide it."""
    across, down = coarse.transform.a / fine.transform.a, coarse.transform.e / fine.transform.e
    scale = round(across)
    near = _NEAR_PX / max(*fine.shape, 1)
    return scale if max(abs(across - scale), abs(down - scale)) <= near * max(scale, 1) else 0


def overlap(fine: Raster, coarse: Raster, scale: int) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    """Return the pixels of both that make up the same whole coarse pixels: slices of the fine, of the coarse one.

    Raises:
        InputError: If their CRS differ, their edges do not meet, or they have no pixel in common.
    """
    if fine.crs and coarse.crs and CRS.from_wkt(fine.crs).to_2d() != CRS.from_wkt(coarse.crs).to_2d():
        raise InputError(f"{coarse.path} and {fine.path.name} differ in CRS: warp one of them")
    right, down = ~fine.transform * (coarse.transform.c, coarse.transform.f)
    of_fine, of_coarse = [], []
    for offset, length, wholes in zip((down, right), fine.shape, coarse.shape, strict=True):
        start = round(offset)
        first = max(0, -(start // scale))
        number = min(wholes - first, (length - start - first * scale) // scale)
        if abs(offset - start) > _NEAR_PX * scale or number < 1:
            raise InputError(f"{coarse.path} {_describe(coarse)} does not nest in {fine.path.name} {_describe(fine)}")
        top = start + first * scale
        of_fine.append(slice(top, top + number * scale))
        of_coarse.append(slice(first, first + number))
    return (of_fine[0], of_fine[1]), (of_coarse[0], of_coarse[1])


def burn_outlines(path: Path, onto: Raster) -> Float32Array:
    """Return 1 for pixels whose centre lies in a polygon of a GeoJSON file, 0 elsewhere; (y, x).

    Raises:
        InputError: If the file cannot be read or holds no polygon, or the raster has no CRS.
    """
    if not onto.crs:
        raise InputError(f"{onto.path} has no CRS: the outlines of {path.name} cannot be placed on it")
    try:
        content = json.loads(path.read_text())
        named = content.get("crs", {}).get("properties", {}).get("name", "OGC:CRS84")
        shapes = [feature["geometry"] for feature in content["features"] if feature["geometry"]]
        moved = transform_geom(CRS.from_user_input(named).to_wkt(), onto.crs, shapes)
        burnt = rasterize(moved, out_shape=onto.shape, transform=onto.transform, fill=0, default_value=1)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RasterioError) as error:
        raise InputError(f"{path} is no GeoJSON of polygons: {' '.join(str(error).split())}") from error
    return np.asarray(burnt, np.float32)


def _describe(raster: Raster) -> str:
    rows, cols = raster.shape
    return (
        f"({cols} x {rows} px of {raster.transform.a:.10g} from {raster.transform.c:.10g}, {raster.transform.f:.10g})"
    )
