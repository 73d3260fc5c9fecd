"""WorldStrat as scenes: revisits of Sentinel-2 at 10 m with one image of SPOT 6/7.

Layout as published (J. Cornebise and others: Open high-resolution satellite imagery: the WorldStrat dataset, 2022)::

    lr_dataset/AREA/L2A/AREA-1-L2A_data.tiff    one revisit, 12 bands of reflectance
    hr_dataset/AREA/AREA_ps.tiff                red, green, blue, infrared, pansharpened to 1.5 m, 12 bits
    metadata.csv                                tile, n, lowres_date, highres_date of each revisit

Both images of an area cover the same rectangle, whose edges are no whole number of pixels of either: the truth is the
mean of its pixels on the pixels of the revisits divided by a whole scale. Its sensor is another one: colours differ. No
date is the anchor; revisits have no mask of clouds.
"""

import csv
from datetime import date
from pathlib import Path

import numpy as np
from affine import Affine
from rasterio.transform import from_bounds
from rasterio.warp import Resampling, reproject

from mapper.arrays import Float32Array
from mapper.errors import InputError
from mapper.training.height_rasters import Raster
from mapper.training.scene import Scene
from mapper.training.scene_files import count_days, find_day, find_known, read_image, stack_images

_BANDS = {"B04": 3, "B03": 2, "B02": 1, "B08": 7}
"""Bands that both sensors have, in the order of the truth, and their place among those of the revisits."""
_STORED_BANDS = 12
_TRUTH_BITS = 4096.0
_LEAST_KNOWN = 0.999
"""Share of a new pixel that the truth must know."""
_LATTICE = "EPSG:3857"
"""Stands for the CRS of both where the truth has none: they cover the same rectangle."""


def read_areas(folder: Path, *, scale: int = 4) -> list[Scene]:
    """Read all areas of a folder, by name; truth in parts of its 12 bits.

    Args:
        folder: The folder that holds ``lr_dataset`` and ``hr_dataset``.
        scale: Pixels of the truth along the edge of a pixel of a revisit.

    Raises:
        InputError: If there is none, or a file is not as expected.
    """
    places = sorted(path.parent for path in folder.glob("lr_dataset/*/L2A") if path.is_dir())
    if not places:
        raise InputError(f"{folder} holds no lr_dataset/AREA/L2A, as WorldStrat is published")
    days = _read_days(folder)
    return [_read_area(place, days, scale) for place in places]


def _read_area(folder: Path, days: dict[tuple[str, str], tuple[date | None, date | None]], scale: int) -> Scene:
    name = folder.name
    paths = sorted((folder / "L2A").glob(f"{name}-*-L2A_data.tif*"), key=lambda path: int(_number(path, name)))
    if not paths:
        raise InputError(f"{folder / 'L2A'} holds no revisit {name}-1-L2A_data.tiff")
    images = [read_image(path) for path in paths]
    stored = stack_images(images)
    if stored.shape[1] != _STORED_BANDS:
        raise InputError(f"{paths[0]} has {stored.shape[1]} bands, expected the {_STORED_BANDS} of L2A")
    taken = [days.get((name, _number(path, name)), (None, None)) for path in paths]
    truth_day = next((day for _, day in taken if day), None)
    dates = np.ascontiguousarray(stored[:, list(_BANDS.values())])
    return Scene(
        name=name,
        dates=dates,
        clear=find_known(dates),
        days=count_days([day for day, _ in taken], truth_day),
        anchor=None,
        truth=_read_truth(folder.parents[1] / "hr_dataset" / name / f"{name}_ps.tiff", images[0], scale),
        scale=scale,
        bands=tuple(_BANDS),
        units="1",
        value_range=1.0,
        place=name,
    )


def _read_truth(path: Path, revisit: Raster, scale: int) -> Float32Array | None:
    """Read the truth on the pixels of a revisit divided by the scale; None where there is none."""
    if not path.is_file():
        return None
    truth = read_image(path, fill=0)
    if len(truth.values) != len(_BANDS):
        raise InputError(f"{path} has {len(truth.values)} bands, expected {len(_BANDS)}: red, green, blue and infrared")
    rows, cols = revisit.shape
    onto, lattice = revisit.transform * Affine.scale(1 / scale), revisit.crs or _LATTICE
    placed = bool(truth.crs and revisit.crs)
    west, south = revisit.transform * (0, rows)
    east, north = revisit.transform * (cols, 0)
    own = from_bounds(west, south, east, north, truth.shape[1], truth.shape[0])
    known = find_known(truth.values)
    finer, _ = reproject(
        np.concatenate([truth.values / np.float32(_TRUTH_BITS), known[None].astype(np.float32)]),
        np.full((len(_BANDS) + 1, rows * scale, cols * scale), np.nan, np.float32),
        src_transform=truth.transform if placed else own,
        src_crs=truth.crs if placed else lattice,
        dst_transform=onto,
        dst_crs=lattice,
        src_nodata=np.nan,
        dst_nodata=np.nan,
        resampling=Resampling.average,
    )
    finer = np.where(finer[-1] > _LEAST_KNOWN, finer[:-1], np.float32(np.nan))
    if not np.isfinite(finer).any():
        raise InputError(f"{path} does not lie where {revisit.path.name} lies")
    return np.asarray(finer, np.float32)


def _read_days(folder: Path) -> dict[tuple[str, str], tuple[date | None, date | None]]:
    """Return dates of the revisit and of the truth by area and number; empty where ``metadata.csv`` is not there."""
    path = folder / "metadata.csv"
    if not path.is_file():
        return {}
    with path.open(newline="") as file:
        rows = csv.DictReader(file)
        names = list(rows.fieldnames or ())
        lacking = {"n", "lowres_date", "highres_date"} - set(names)
        if lacking:
            raise InputError(f"{path} has the columns {', '.join(names)}, expected also {', '.join(sorted(lacking))}")
        key = "tile" if "tile" in names else names[0]  # the first has no name as published
        return {(row[key], row["n"]): (find_day(row["lowres_date"]), find_day(row["highres_date"])) for row in rows}


def _number(path: Path, name: str) -> str:
    number = path.name.removeprefix(f"{name}-").split("-")[0]
    if not number.isdigit():
        raise InputError(f"{path} has no number of a revisit, expected {name}-1-L2A_data.tiff")
    return number
