"""Georeference of the pixels, in both dialects of spatial metadata.

xarray, rioxarray and CF tools read ``grid_mapping`` and the coordinates; GDAL from 3.13 and web viewers read the Zarr
conventions ``proj:`` and ``spatial:``. No reader understands both, so both are written. Coordinates are pixel centres;
transforms and boxes are pixel edges.
"""

from collections.abc import Mapping
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt
from odc.geo.geobox import GeoBox
from pyproj import CRS

from mapper.grid import MapGrid

GRID_MAPPING = "spatial_ref"
"""Name of the array that carries the CRS, as rioxarray expects it."""

_UNITS = {"metre": "m", "meter": "m", "kilometre": "km"}


AXES = ("y", "x")
"""Names of the dimensions of a map, and of their coordinates."""
LEVEL_AXES = ("yc", "xc")
"""Those of the levels of its pyramid. xarray gives the coordinates of a group to all groups below it and refuses others
of the same name, so that a tree could not be opened if levels named theirs as the map does. All levels have the same
names: neighbours inherit nothing. CF attributes and ``spatial:dimensions`` tell other tools what they are, and odc-geo
and rioxarray know them."""


def spatial_attributes(geobox: GeoBox, axes: tuple[str, str] = AXES) -> dict[str, Any]:
    """Return the Zarr conventions ``proj`` and ``spatial``, for an array or the group of a map or level.

    Args:
        geobox: Place of the pixels.
        axes: Names of the dimensions, (y, x).
    """
    crs = _crs_of(geobox)
    authority = crs.to_authority()
    box = geobox.boundingbox
    return {
        "zarr_conventions": [
            _convention("proj", "f17cb550-5864-4468-aeb7-f3180cfb622f"),
            _convention("spatial", "689b58e2-cf7b-45e0-9fff-9cfc0883d6b4"),
        ],
        **({"proj:code": ":".join(authority)} if authority else {}),
        "proj:wkt2": crs.to_wkt("WKT2_2019"),
        "spatial:dimensions": list(axes),
        "spatial:shape": [int(geobox.shape.y), int(geobox.shape.x)],
        "spatial:transform": list(geobox.transform)[:6],
        "spatial:bbox": [box.left, box.bottom, box.right, box.top],
        "spatial:registration": "pixel",
    }


def grid_mapping_attributes(geobox: GeoBox) -> dict[str, Any]:
    """Return the CF grid mapping; ``spatial_ref`` and ``GeoTransform`` are what GDAL and rioxarray add to CF."""
    crs = _crs_of(geobox)
    a, b, c, d, e, f = list(geobox.transform)[:6]
    return crs.to_cf() | {
        "crs_wkt": crs.to_wkt(),
        "spatial_ref": crs.to_wkt(),
        "GeoTransform": f"{c} {a} {b} {f} {d} {e}",
    }


def coordinate_attributes(geobox: GeoBox) -> dict[str, dict[str, Any]]:
    """Return the CF attributes of the coordinates x and y."""
    crs = _crs_of(geobox)
    if crs.is_geographic:
        return {
            "x": {"standard_name": "longitude", "long_name": "longitude", "units": "degrees_east", "axis": "X"},
            "y": {"standard_name": "latitude", "long_name": "latitude", "units": "degrees_north", "axis": "Y"},
        }
    unit = crs.axis_info[0].unit_name
    return {
        name: {
            "standard_name": f"projection_{name}_coordinate",
            "long_name": f"{name} coordinate of projection",
            "units": _UNITS.get(unit, unit),
            "axis": name.upper(),
        }
        for name in ("x", "y")
    }


def multiscales_attributes(geoboxes: Mapping[str, GeoBox]) -> dict[str, Any]:
    """Return the Zarr convention ``multiscales``, for the group of a map, beside :func:`spatial_attributes`.

    Args:
        geoboxes: By path of the group from this one, the finest first; each has pixels twice as long as the one before.
    """
    paths = list(geoboxes)
    layout: list[dict[str, Any]] = []
    for number, (path, geobox) in enumerate(geoboxes.items()):
        scale = 2.0 if number else 1.0
        entry = {
            "asset": path,
            "transform": {"scale": [scale, scale], "translation": [0.0, 0.0]},
            "spatial:shape": [int(geobox.shape.y), int(geobox.shape.x)],
            "spatial:transform": list(geobox.transform)[:6],
        }
        made = {"derived_from": paths[number - 1], "resampling_method": "average"} if number else {}
        layout.append(entry | made)
    finest = spatial_attributes(geoboxes[paths[0]])
    conventions = [*finest["zarr_conventions"], _convention("multiscales", "d35379db-88df-4056-af3a-620245f8e347")]
    return {"zarr_conventions": conventions, "multiscales": {"layout": layout, "resampling_method": "average"}}


def coordinate_values(grid: MapGrid, *, lattice: Fraction | None = None) -> dict[str, npt.NDArray[np.float64]]:
    """Return the pixel centres x and y, each rounded once: whole numbers of half steps times the exact step.

    Args:
        grid: Where the pixels lie.
        lattice: The step; divides the resolution, and the corner is a whole number of it. None: the resolution.
    """
    step = lattice or grid.resolution
    pixel = int(grid.resolution / step)
    left = round(grid.geobox.transform.c / float(step))
    top = round(grid.geobox.transform.f / float(step))
    rows, cols = np.arange(grid.shape[0], dtype=np.float64), np.arange(grid.shape[1], dtype=np.float64)
    halves = {"x": 2 * left + pixel * (2 * cols + 1), "y": 2 * top - pixel * (2 * rows + 1)}
    return {name: count * step.numerator / (2 * step.denominator) for name, count in halves.items()}


def _crs_of(geobox: GeoBox) -> CRS:
    return CRS.from_user_input(str(geobox.crs))


def _convention(name: str, uuid: str) -> dict[str, str]:
    home = "zarr-conventions"
    return {
        "name": name,
        "uuid": uuid,
        "spec_url": f"https://github.com/{home}/{name}/blob/v0.1/README.md",
        "schema_url": f"https://raw.githubusercontent.com/{home}/{name}/refs/tags/v0.1/schema.json",
    }
