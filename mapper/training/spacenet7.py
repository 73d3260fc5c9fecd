"""SpaceNet-7 as scenes: months of PlanetScope at 4.77 m, with buildings; fine images, whose sources are simulated.

Layout as published (A. Van Etten and others: The multi-temporal urban development SpaceNet dataset. CVPR 2021)::

    AREA/images_masked/global_monthly_2018_01_mosaic_AREA.tif              red, green, blue, opacity; or in images/
    AREA/labels_match/global_monthly_2018_01_mosaic_AREA_Buildings.geojson outlines; or in labels/

and as plain pictures, each a place of its own: ``01_rgb.png`` with ``01_gt.png``, not 0 where built.
"""

from pathlib import Path

import numpy as np

from mapper.arrays import BoolArray
from mapper.errors import InputError
from mapper.training.height_rasters import Raster, burn_outlines
from mapper.training.scene import Scene
from mapper.training.scene_files import count_days, find_day, find_known, read_image, read_mask, stack_images

VALUE_RANGE = 255.0
_IMAGES = "images_masked", "images"
_LABELS = "labels_match", "labels"
_BANDS = "red", "green", "blue"


def read_months(folder: Path) -> list[Scene]:
    """Read all areas of a folder, or the one that it is, or the pictures in it, by name.

    Raises:
        InputError: If there is none, or a file is not as expected.
    """
    areas = [area for area in (folder, *sorted(folder.glob("*"))) if any((area / part).is_dir() for part in _IMAGES)]
    if areas:
        return [_read_area(area) for area in areas]
    pictures = sorted(folder.glob("*_rgb.png"))
    if not pictures:
        raise InputError(f"{folder} holds no AREA/{_IMAGES[0]} and no *_rgb.png, as SpaceNet-7 is published or cut up")
    return [_read_picture(path) for path in pictures]


def _read_area(folder: Path) -> Scene:
    paths = next((found for part in _IMAGES if (found := sorted((folder / part).glob("*.tif")))), [])
    if not paths:
        raise InputError(f"{folder} holds no month *.tif in {' or '.join(_IMAGES)}")
    images = [read_image(path, opacity=True) for path in paths]
    built = [_find_buildings(folder, image) for image in images]
    known = [each for each in built if each is not None]
    if len(known) not in (0, len(images)):
        lacking = paths[next(at for at, each in enumerate(built) if each is None)]
        raise InputError(
            f"{lacking} has no outlines in {' or '.join(_LABELS)}, which other months of {folder.name} have"
        )
    return _make_scene(folder.name, images, np.stack(known) if known else None)


def _read_picture(path: Path) -> Scene:
    image, mask = read_image(path), path.with_name(path.name.replace("_rgb.", "_gt."))
    built = read_mask(mask, image.shape)[None] if mask.is_file() else None
    return _make_scene(path.name.removesuffix("_rgb.png"), [image], built)


def _make_scene(name: str, images: list[Raster], buildings: BoolArray | None) -> Scene:
    dates = stack_images(images)
    if dates.shape[1] != len(_BANDS):
        raise InputError(f"{images[0].path} has {dates.shape[1]} bands, expected {', '.join(_BANDS)}, and opacity")
    return Scene(
        name=name,
        dates=dates,
        clear=find_known(dates),
        days=count_days([find_day(image.path.stem) for image in images]),
        anchor=None,
        truth=None,
        scale=1,
        bands=_BANDS,
        units="DN",
        value_range=VALUE_RANGE,
        place=name,
        buildings=buildings,
    )


def _find_buildings(folder: Path, image: Raster) -> BoolArray | None:
    """Return where a month is built, by its outlines; None where there are none."""
    paths = [folder / part / f"{image.path.stem}_Buildings.geojson" for part in _LABELS]
    path = next((each for each in paths if each.is_file()), None)
    return None if path is None else np.asarray(burn_outlines(path, image) > 0)
