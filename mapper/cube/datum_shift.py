"""Shift of heights to another vertical datum: a number of metres, or a grid of metres that is read bilinearly."""

from pathlib import Path
from typing import Any

import numpy as np
import shapely
from affine import Affine
from odc.geo.geobox import GeoBox

from mapper.access.files import Access, gdal_environment
from mapper.access.rules import AccessRule
from mapper.access.tally import AssetName
from mapper.arrays import Float32Array
from mapper.cube.belief import Belief
from mapper.cube.resample import Sampler
from mapper.errors import AssetError, SpecError
from mapper.grid import MapGrid
from mapper.spec import MapSpec
from mapper.spec.inputs import DatumShift

_LOOKS = 65
"""Pixels along each edge of a map at which a grid is looked for before anything is read."""


def add_shift(heights: Float32Array, shift: DatumShift | None, geobox: GeoBox) -> Float32Array:
    """Return heights with a shift added, float32; missing where the grid of a shift has no value.

    Args:
        heights: (..., y, x) metres, NaN where missing.
        shift: Number or grid of metres; None adds nothing.
        geobox: Pixels of the heights.

    Raises:
        SpecError: If the grid cannot be read.
    """
    if shift is None:
        return heights
    metres: Any = _read_grid(shift, geobox).astype(np.float64) if isinstance(shift, Path) else shift
    shifted: Float32Array = (heights.astype(np.float64) + metres).astype(np.float32)
    return shifted


def check_shifts(spec: MapSpec, *, reach_px: int, truth: DatumShift | None = None) -> None:
    """Check that the grids of all shifts of a map cover its area and the context around it, before anything is read.

    Args:
        spec: The map.
        reach_px: Context around the area that is read, in target pixels.
        truth: Shift of its truth.

    Raises:
        SpecError: If a grid cannot be read or has no value at one of the pixels that are looked at.
    """
    shifts = [spec.source.datum_shift, *(layer.datum_shift for layer in spec.guide.layers), truth]
    for path in dict.fromkeys(shift for shift in shifts if isinstance(shift, Path)):
        _require_cover(path, spec.map_grid, reach_px)


def _require_cover(path: Path, grid: MapGrid, reach_px: int) -> None:
    rows, cols = (edge + 2 * reach_px for edge in grid.shape)
    spread = Affine.scale((cols - 1) / (_LOOKS - 1), (rows - 1) / (_LOOKS - 1))
    first = Affine.translation(0.5 - reach_px, 0.5 - reach_px)
    geobox = GeoBox(
        (_LOOKS, _LOOKS), grid.geobox.transform @ first @ spread @ Affine.translation(-0.5, -0.5), grid.geobox.crs
    )
    near = shapely.buffer(grid.area.geom, float(grid.resolution) * (reach_px + 1))
    wanted = shapely.contains_xy(near, *np.meshgrid(*(geobox.coords[axis].values for axis in geobox.dims[::-1])))
    lacking = int((np.isnan(_read_grid(path, geobox)) & wanted).sum())
    if lacking:
        raise SpecError(
            f"datum_shift {path} has no value at {lacking} of {int(wanted.sum())} pixels of the map and its context of "
            f"{reach_px} px that were looked at: give a grid of metres that covers it, or a number"
        )


def _read_grid(path: Path, geobox: GeoBox) -> Float32Array:
    """Read a grid of metres at pixels, bilinearly; (y, x) float32, NaN where it has no value."""
    name, belief = AssetName(item="datum_shift", asset=path.name, href=str(path)), Belief(band="datum_shift")
    try:
        with gdal_environment():
            metres = Sampler().read(
                name, geobox, access=Access(), rule=AccessRule(), resampling="bilinear", beliefs=(belief,)
            )
    except AssetError as error:
        raise SpecError(f"datum_shift {path} cannot be read: {error}; give metres, or a GeoTIFF of metres") from error
    return np.full(geobox.shape, np.nan, np.float32) if metres is None else metres
