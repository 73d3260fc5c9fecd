"""Scenes in NumPy archives: dates and truth of one place with the names of their bands.

``s2`` (date, band, y, x) reflectance, ``hr`` (band, y', x') in units of its own, ``s2_dates`` and ``hr_date`` as ISO
text, ``bands``: the test data of several dates of Sentinel-2 against Deimos, without objects that would be pickles.
"""

import zipfile
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mapper.errors import InputError
from mapper.training.scene import Scene
from mapper.training.scene_files import count_days, find_known

_NAMES = "s2", "hr", "s2_dates", "hr_date", "bands"


def read_archives(folder: Path, *, value_range: float) -> list[Scene]:
    """Read all archives ``*.npz`` of a folder, by name.

    Args:
        folder: The folder.
        value_range: Range of the values of the truth that scores in decibels refer to, in its units.

    Raises:
        InputError: If there is none, or one is not as expected.
    """
    paths = sorted(folder.glob("*.npz"))
    if not paths:
        raise InputError(f"{folder} holds no *.npz")
    return [_read_archive(path, value_range) for path in paths]


def _read_archive(path: Path, value_range: float) -> Scene:
    stored = _load(path)
    dates, truth = (np.asarray(stored[name], np.float32) for name in ("s2", "hr"))
    if dates.ndim != 4 or truth.ndim != 3 or not dates.shape[-1]:
        raise InputError(
            f"{path} has s2 {dates.shape} and hr {truth.shape}, expected (date, band, y, x) and (band, y, x)"
        )
    try:
        taken, shown = ([date.fromisoformat(str(day)[:10]) for day in stored[name]] for name in ("s2_dates", "hr_date"))
    except ValueError as error:
        raise InputError(f"{path} has a date that is none: {error}; expected ISO text") from error
    return Scene(
        name=path.stem,
        dates=dates,
        clear=find_known(dates),
        days=count_days(list(taken), shown[0]),
        anchor=None,
        truth=truth,
        scale=truth.shape[-1] // dates.shape[-1],
        bands=tuple(str(band) for band in stored["bands"]),
        units="1",
        value_range=value_range,
        place=path.stem,
    )


def _load(path: Path) -> dict[str, npt.NDArray[Any]]:
    """Read the arrays of an archive; pickled objects are refused.

    Raises:
        InputError: If it cannot be read, or an array is not there.
    """
    try:
        with np.load(path, allow_pickle=False) as archive:
            missing = [name for name in _NAMES if name not in archive.files]
            if not missing:
                return {name: archive[name] for name in _NAMES}
            has = ", ".join(archive.files)
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise InputError(f"{path} is no archive of plain arrays: {error}") from error
    raise InputError(f"{path} has the arrays {has}, expected also {', '.join(missing)}")
