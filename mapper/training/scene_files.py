"""Files of published scenes: images of any number of bands, masks, names of folders, lists of anchors."""

import re
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from warnings import catch_warnings, simplefilter

import numpy as np
import rasterio
from pydantic import StrictInt, StrictStr, TypeAdapter
from rasterio.errors import NotGeoreferencedWarning, RasterioError

from mapper.arrays import BoolArray, Float32Array
from mapper.errors import InputError
from mapper.training.height_rasters import Raster

GEOTIFF = ".tif", ".tiff"
_DATE = re.compile(r"(?<!\d)((?:19|20)\d\d)[-_]?(0[1-9]|1[0-2])(?:[-_]?(0[1-9]|[12]\d|3[01]))?(?!\d)")


def read_image(path: Path, *, fill: float | None = None, opacity: bool = False) -> Raster:
    """Read a GeoTIFF or PNG, rows as stored; without a georeference its transform is the identity.

    A pixel is missing where *all* bands hold the file's nodata value or the fill: a tag of 0 also marks bands of dark
    pixels. What a file calls opacity is an image's band like the others: files of four bands call infrared so.

    Args:
        path: The file.
        fill: Another value that stands for missing.
        opacity: True takes a fourth band as opacity: what is 0 in it is missing, and it is no band of the image.

    Raises:
        InputError: If it cannot be read, or its rows do not run from north to south.
    """
    driver = "PNG" if path.suffix.lower() == ".png" else "GTiff"
    try:
        with catch_warnings():
            simplefilter("ignore", NotGeoreferencedWarning)
            with rasterio.open(path, driver=driver) as file:
                stored, transform = file.read(), file.transform
                crs, tags = file.crs.to_wkt() if file.crs else "", {file.nodata, fill} - {None}
    except RasterioError as error:
        raise InputError(f"{path} cannot be read: {' '.join(str(error).split())}; expected {driver}") from error
    if not transform.is_identity and (transform.b or transform.d or transform.a <= 0 or transform.e >= 0):
        raise InputError(f"{path} is rotated or mirrored ({transform.to_gdal()}): warp it to a grid of its CRS first")
    values, seen = stored, np.ones(stored.shape[1:], np.bool_)
    if opacity and len(stored) == 4:
        values, seen = stored[:-1], stored[-1] > 0
    for tag in tags:
        seen = seen & ~((values == tag) | np.isnan(values)).all(0)
    values = np.where(seen, values, np.nan).astype(np.float32)
    return Raster(path=path, values=values, transform=transform, crs=crs)


def read_mask(path: Path, shape: tuple[int, int]) -> BoolArray:
    """Return where the first band of a file is not 0, (y, x).

    Raises:
        InputError: If it cannot be read or has another shape.
    """
    mask = read_image(path)
    if mask.shape != shape:
        raise InputError(
            f"{path} has {mask.shape[0]} x {mask.shape[1]} px, expected {shape[0]} x {shape[1]} as its image"
        )
    return np.asarray(np.nan_to_num(mask.band) != 0)


def stack_images(images: Sequence[Raster]) -> Float32Array:
    """Return images of one size as (date, band, y, x).

    Raises:
        InputError: If one has another size or other bands than the first.
    """
    for image in images:
        if image.values.shape != images[0].values.shape:
            raise InputError(
                f"{image.path} has (band, y, x) {image.values.shape}, "
                f"expected {images[0].values.shape} as {images[0].path.name}"
            )
    return np.stack([image.values for image in images])


def find_known(images: Float32Array) -> BoolArray:
    """Return where all bands of images (..., band, y, x) are known, (..., y, x)."""
    return np.asarray(np.isfinite(images).all(-3), np.bool_)


def find_day(text: str) -> date | None:
    """Return the first date in a name: 20200831, 2020-08-31, 2020_08_31, or the first of the month 2020_08."""
    for year, month, day in _DATE.findall(text):
        try:
            return date(int(year), int(month), int(day or 1))
        except ValueError:
            continue
    return None


def count_days(days: Sequence[date | None], since: date | None = None) -> Float32Array:
    """Return days since a date, by default the earliest of them; NaN where one is unknown."""
    known = [day for day in days if day is not None]
    start = since or (min(known) if known else None)
    return np.array([np.nan if day is None or start is None else (day - start).days for day in days], np.float32)


def find_places(folder: Path, pattern: str) -> list[Path]:
    """Return the folders that hold a file of some name: the folder itself, or else those in it, by name.

    Raises:
        InputError: If there is none.
    """
    if not folder.is_dir():
        raise InputError(f"{folder} is no folder")
    places = [place for place in (folder, *sorted(folder.iterdir())) if place.is_dir() and any(place.glob(pattern))]
    if not places:
        raise InputError(f"{folder} holds no {pattern}, nor does a folder in it")
    return places[:1] if places[0] == folder else places


def read_anchors(folder: Path) -> dict[str, int | str]:
    """Read ``anchors.json`` of a folder or of the one above: index, or part of the name, of a date by place.

    Returns:
        Empty where there is no such file.

    Raises:
        InputError: If it holds something else.
    """
    path = next((each / "anchors.json" for each in (folder, folder.parent) if (each / "anchors.json").is_file()), None)
    if path is None:
        return {}
    try:
        return TypeAdapter(dict[str, StrictInt | StrictStr]).validate_json(path.read_bytes())
    except (OSError, ValueError) as error:
        got = " ".join(str(error).split())
        raise InputError(f'{path} is no list of anchors: {got}; expected {{"PLACE": INDEX, ...}}') from error
