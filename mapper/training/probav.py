"""PROBA-V's challenge as scenes: folders of low resolution images of 300 m with their truth of 100 m.

Layout as published (kelvins.esa.int, PROBA-V Super Resolution): a folder for each set of images with ``LR000.png``,
``LR001.png``, ... (128 x 128), a quality map ``QM000.png`` of each, the truth ``HR.png`` (384 x 384) and its status map
``SM.png``; maps are not 0 where clear. Numbers are of 14 bits in files of 16, without a date. Which date a truth shows
is not published with it; ``anchors.json`` may name it. Where a map is not there, all of its image counts as clear.
"""

from pathlib import Path

import numpy as np

from mapper.arrays import Float32Array
from mapper.errors import InputError
from mapper.training.scene import Scene
from mapper.training.scene_files import find_known, find_places, read_anchors, read_image, read_mask, stack_images

VALUE_RANGE = 65535.0
"""Range of the stored numbers that published scores in decibels refer to."""
_SCALE = 3


def read_image_sets(folder: Path) -> list[Scene]:
    """Read all sets of images of a folder, or the one that it is, by name.

    Raises:
        InputError: If there is none, or a file is not as expected.
    """
    places = find_places(folder, "LR*.png")
    anchors = read_anchors(folder)
    return [_read_image_set(place, anchors.get(place.name)) for place in places]


def _read_image_set(folder: Path, anchor: int | str | None) -> Scene:
    paths = sorted(folder.glob("LR*.png"))
    dates = stack_images([read_image(path) for path in paths])
    shape = dates.shape[2], dates.shape[3]
    masks = [path.with_name(path.name.replace("LR", "QM", 1)) for path in paths]
    clear = [read_mask(path, shape) if path.is_file() else np.ones(shape, np.bool_) for path in masks]
    known = isinstance(anchor, int) and 0 <= anchor < len(paths)
    return Scene(
        name=folder.name,
        dates=dates,
        clear=np.stack(clear) & find_known(dates),
        days=np.full(len(dates), np.nan, np.float32),
        anchor=anchor if known and isinstance(anchor, int) else None,  # the list also names dates that are not at hand
        truth=_read_truth(folder, shape),
        scale=_SCALE,
        bands=(_find_band(folder),),
        units="DN",
        value_range=VALUE_RANGE,
        place=folder.name,
    )


def _find_band(folder: Path) -> str:
    """Return the band that a set is of, by its name or that of the folder above, as in ``train/RED/imgset0000``."""
    named = {folder.name.split("_")[0].lower(), folder.parent.name.lower()} & {"red", "nir"}
    return named.pop() if len(named) == 1 else "band_1"


def _read_truth(folder: Path, shape: tuple[int, int]) -> Float32Array | None:
    """Read the truth, NaN where concealed; None where there is none."""
    path = folder / "HR.png"
    if not path.is_file():
        return None
    image = read_image(path)
    if image.values.shape != (1, shape[0] * _SCALE, shape[1] * _SCALE):
        raise InputError(
            f"{path} has (band, y, x) {image.values.shape}, "
            f"expected one band of {_SCALE} times {shape[0]} x {shape[1]} px"
        )
    status = folder / "SM.png"
    if not status.is_file():
        return image.values
    return np.where(read_mask(status, image.shape), image.values, np.float32(np.nan))
