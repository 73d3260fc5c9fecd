"""Folders of stacks as scenes: a folder for each place, in it an image for each date, perhaps masks and a truth.

::

    DIR/PLACE/20200831.tif          one date; its name holds the date (20200831, 2020-08-31, or 2020_08)
    DIR/PLACE/20200831_clear.tif    where it is clear: not 0; all of it where there is no such file
    DIR/PLACE/truth.tif             the finer truth, or truth_20200902.tif; none where there is no such file
    DIR/anchors.json                {"PLACE": "20200831"}, the date that the truth shows, by name or index

Dates lie on one lattice, or on lattices whose origins differ by less than two pixels, as those of aerial surveys do:
then the difference is given as a known shift, and no pixel is touched.
"""

from datetime import date
from pathlib import Path

import numpy as np

from mapper.arrays import BoolArray, Float64Array
from mapper.errors import InputError
from mapper.training.height_rasters import Raster
from mapper.training.scene import Scene
from mapper.training.scene_files import (
    GEOTIFF,
    count_days,
    find_day,
    find_known,
    find_places,
    read_anchors,
    read_image,
    read_mask,
    stack_images,
)

FURTHEST_PX = 2.0
"""Shift of a date, in its pixels, from which on the dates are not of one place."""
_CLEAR, _TRUTH = "_clear", "truth"
_NEAR_PX = 0.01


def read_stacks(folder: Path, *, value_range: float, units: str = "1") -> list[Scene]:
    """Read all places of a folder, or the one that it is, by name.

    Args:
        folder: The folder, see above.
        value_range: Range of the values that scores in decibels refer to, in their units.
        units: Units of the values, as stored.

    Raises:
        InputError: If there is none, or the files of a place do not fit together.
    """
    anchors = read_anchors(folder)
    places = find_places(folder, "*.tif*")
    return [_read_place(place, anchors.get(place.name), value_range, units) for place in places]


def _read_place(folder: Path, anchor: int | str | None, value_range: float, units: str) -> Scene:
    files = [path for path in sorted(folder.iterdir()) if path.suffix.lower() in GEOTIFF]
    paths = [path for path in files if not path.stem.endswith(_CLEAR) and not path.stem.startswith(_TRUTH)]
    paths.sort(key=lambda path: (find_day(path.stem) or date.max, path.name))
    truths = [path for path in files if path.stem.startswith(_TRUTH)]
    if not paths or len(truths) > 1:
        raise InputError(
            f"{folder} holds {len(paths)} dates and {len(truths)} truths, expected dates and one truth at most"
        )
    images = [read_image(path) for path in paths]
    dates = stack_images(images)
    truth = read_image(truths[0]) if truths else None
    at = _find_anchor(folder, paths, anchor)
    scale = _find_scale(images[at or 0], truth) if truth else 1
    days = [find_day(path.stem) for path in paths]
    return Scene(
        name=folder.name,
        dates=dates,
        clear=np.stack([_find_clear(image) for image in images]),
        days=count_days(days, (find_day(truth.path.stem) if truth else None) or (days[at] if at is not None else None)),
        anchor=at,
        truth=truth.values if truth else None,
        scale=scale,
        bands=tuple(f"band_{band + 1}" for band in range(dates.shape[1])),
        units=units,
        value_range=value_range,
        place=folder.name,
        shift=_measure_shifts(images, truth or images[at or 0], scale),
    )


def _find_clear(image: Raster) -> BoolArray:
    """Return where an image is clear by its mask, and known in all bands; (y, x)."""
    known = find_known(image.values)
    beside = [image.path.with_name(f"{image.path.stem}{_CLEAR}{suffix}") for suffix in GEOTIFF]
    mask = next((path for path in beside if path.is_file()), None)
    return known if mask is None else known & read_mask(mask, image.shape)


def _find_anchor(folder: Path, paths: list[Path], anchor: int | str | None) -> int | None:
    """Return the index of the date that is named by index or by a part of its name.

    Raises:
        InputError: If there is no such date, or several.
    """
    if anchor is None:
        return None
    found = [
        at for at, path in enumerate(paths) if (str(anchor) in path.stem if isinstance(anchor, str) else at == anchor)
    ]
    if len(found) != 1:
        raise InputError(
            f"{folder} has {len(found)} dates that are the anchor {anchor!r} of anchors.json, expected one"
        )
    return found[0]


def _find_scale(image: Raster, truth: Raster) -> int:
    """Return the pixels of the truth along an edge of one of the dates.

    Raises:
        InputError: If it is no whole number, or the bands differ.
    """
    scale = truth.shape[0] // image.shape[0]
    nests = truth.values.shape == (len(image.values), image.shape[0] * scale, image.shape[1] * scale)
    ratios = image.transform.a / truth.transform.a, image.transform.e / truth.transform.e
    placed = bool(image.crs and truth.crs)
    if not nests or (placed and max(abs(ratio / scale - 1) for ratio in ratios) > _NEAR_PX / image.shape[0]):
        raise InputError(
            f"{truth.path} has (band, y, x) {truth.values.shape} of {truth.transform.a:g}, expected a whole multiple "
            f"of {image.values.shape} of {image.transform.a:g} as {image.path.name}"
        )
    return scale


def _measure_shifts(images: list[Raster], reference: Raster, scale: int) -> Float64Array | None:
    """Return how far the dates lie from a reference (date, 2), down and right in their pixels; None without places.

    Raises:
        InputError: If only some have a place, or they are too far apart or of other pixels.
    """
    placed = [bool(image.crs) for image in (*images, reference)]
    if not any(placed):
        return None
    wanted = 1 if reference in images else scale
    shifts = np.empty((len(images), 2))
    for at, image in enumerate(images):
        right, down = ~image.transform * (reference.transform.c, reference.transform.f)
        ratios = image.transform.a / reference.transform.a, image.transform.e / reference.transform.e
        grown_px = max(abs(ratio / wanted - 1) for ratio in ratios) * max(image.shape)
        far = max(abs(down), abs(right)) >= FURTHEST_PX
        if not all(placed) or image.crs != reference.crs or grown_px > _NEAR_PX or far:
            raise InputError(
                f"{image.path} lies {down:.6g} px down and {right:.6g} px right of {reference.path.name}, in its own "
                f"pixels of {image.transform.a:.6g}; expected one CRS and pixel, less than {FURTHEST_PX:g} px away"
            )
        shifts[at] = down, right
    return shifts
