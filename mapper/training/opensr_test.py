"""Data sets of opensr-test as scenes: Sentinel-2 of one date with a truth that was fitted to it.

As published each is a pickle ``NAME.pkl``, a dictionary of arrays; reading one runs what is in it, so it is refused.
The same arrays are read from plain files, under the same names::

    NAME.npz  or  NAME.safetensors      L2A (image, 12 bands, y, x), L1C, HRharm (image, 4 bands, y', x'), HR
    NAME/L2A.npy    NAME/HRharm.npy     one array a file; the first version calls them lr.npy and hr.npy
    NAME/L2A/ID.tif NAME/HRharm/ID.tif  one image a file, pairs of one name

Bands of 12 or 13 are those of Sentinel-2 in their order, three or four are red, green, blue, infrared. Whole numbers
are reflectance x 10000 and 0 in all bands is missing; fractions are reflectance, NaN where missing. ``HRharm`` is the
truth in the colours of its source, as opensr-test takes it; ``HR`` is as it was measured.
"""

import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any
from warnings import catch_warnings, simplefilter

import numpy as np
import numpy.typing as npt
import rasterio
from rasterio.errors import NotGeoreferencedWarning
from safetensors import SafetensorError
from safetensors.numpy import load_file

from mapper.arrays import Float32Array
from mapper.errors import InputError
from mapper.training.scene import Scene
from mapper.training.scene_files import GEOTIFF, find_known, read_image

_BANDS = {"B04": 3, "B03": 2, "B02": 1, "B08": 7}
"""Bands of the truth in its order, and their place among all of Sentinel-2."""
_ALL_BANDS = 12, 13
_FIRST_NAMES = {"L2A": "lr", "HRharm": "hr"}
_ARCHIVES = ".npz", ".safetensors"
_PICKLES = ".pkl", ".pickle", ".pt", ".pth"
_SCALE = np.float32(1e-4)
_GREATEST = 20.0
"""Reflectance that nothing has."""

_Images = dict[str, npt.NDArray[Any]]
"""Images (band, y, x) as stored, by name."""


def read_pairs(folder: Path, *, source: str = "L2A", truth: str = "HRharm") -> list[Scene]:
    """Read all data sets of a folder, or the one that a path is, by name.

    Args:
        folder: Folder of data sets, folder of one, or archive.
        source: Array of the source: ``L2A`` or ``L1C``.
        truth: Array of the truth: ``HRharm`` or ``HR``.

    Raises:
        InputError: If there is none, one is a pickle, or something is not as expected.
    """
    sets = _find_sets(folder, source)
    if not sets:
        raise InputError(
            f"{folder} holds no data set of opensr-test: expected NAME.npz, NAME.safetensors or a folder NAME with "
            f"{source}.npy or {source}/*.tif"
        )
    return [scene for path in sets for scene in _read_set(path, source, truth)]


def _find_sets(folder: Path, source: str) -> list[Path]:
    """Return the archives and folders that are data sets.

    Raises:
        InputError: If one is a pickle and not there as a plain file as well, or is there twice.
    """
    inside = sorted(folder.iterdir()) if folder.is_dir() else [folder]
    plain = [folder] if _is_set(folder, source) else [path for path in inside if _is_set(path, source)]
    stems = [path.stem for path in plain]
    for path in inside:
        if path.suffix in _PICKLES and path.stem not in stems:
            raise InputError(f"{path} is a pickle, which runs what is in it: save its arrays as {path.stem}.npz first")
        if stems.count(path.stem) > 1:
            raise InputError(f"{folder} holds {path.stem} twice: keep one of the archives and folders of that name")
    return plain


def _is_set(path: Path, source: str) -> bool:
    names = source, _FIRST_NAMES.get(source, source)
    if path.is_dir():
        return any((path / f"{name}.npy").is_file() or (path / name).is_dir() for name in names)
    return path.suffix in _ARCHIVES and path.is_file()


def _read_set(path: Path, source: str, truth: str) -> list[Scene]:
    load = _choose_reader(path)
    sources, truths = (load(path, name) for name in (source, truth))
    if list(sources) != list(truths):
        odd = sorted(set(sources) ^ set(truths))
        raise InputError(f"{path} has {len(odd)} images without a partner ({odd[0]}), expected pairs of one name")
    return [_pair(f"{path.stem}_{name}", sources[name], truths[name]) for name in sources]


def _choose_reader(path: Path) -> Callable[[Path, str], _Images]:
    if path.is_dir():
        return _read_folder
    return _read_npz if path.suffix == ".npz" else _read_safetensors


def _read_folder(path: Path, name: str) -> _Images:
    """Read an array from a file of its own, or images from a folder of its name."""
    for each in (name, _FIRST_NAMES.get(name, name)):
        if (path / f"{each}.npy").is_file():
            return _split(path / f"{each}.npy", _load_plain(path / f"{each}.npy"))
        files = sorted(file for file in (path / each).glob("*") if file.suffix.lower() in GEOTIFF)
        if files:
            return {file.stem: _read_stored(file) for file in files}
    raise InputError(f"{path} holds neither {name}.npy nor {name}/*.tif")


def _read_npz(path: Path, name: str) -> _Images:
    return _split(path, _pick(path, _load_plain(path), name))


def _read_safetensors(path: Path, name: str) -> _Images:
    try:
        arrays = load_file(path)
    except (OSError, SafetensorError) as error:
        raise InputError(f"{path} is no safetensors file: {' '.join(str(error).split())}") from error
    return _split(path, _pick(path, arrays, name))


def _load_plain(path: Path) -> Any:
    """Return an array of a file, or those of an archive by name; pickled objects are refused.

    Raises:
        InputError: If it cannot be read.
    """
    try:
        loaded = np.load(path, allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            return loaded
        with loaded as archive:
            return {name: archive[name] for name in archive.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        text = " ".join(str(error).split())
        raise InputError(f"{path} holds no plain arrays, pickled ones are not read: {text}") from error


def _pick(path: Path, arrays: Any, name: str) -> npt.NDArray[Any]:
    for each in (name, _FIRST_NAMES.get(name, name)):
        if isinstance(arrays, dict) and each in arrays:
            return np.asarray(arrays[each])
    raise InputError(f"{path} has the arrays {', '.join(sorted(arrays))}, expected also {name}")


def _split(path: Path, array: Any) -> _Images:
    """Return the images of an array (image, band, y, x) by number."""
    if not isinstance(array, np.ndarray) or array.ndim != 4:
        raise InputError(f"{path} has an array of shape {np.shape(array)}, expected (image, band, y, x)")
    return {f"{index:03d}": image for index, image in enumerate(array)}


def _read_stored(path: Path) -> Float32Array:
    """Return a GeoTIFF as reflectance, NaN where missing."""
    values = read_image(path).values
    with catch_warnings():
        simplefilter("ignore", NotGeoreferencedWarning)
        with rasterio.open(path) as file:
            whole = np.issubdtype(np.dtype(file.dtypes[0]), np.integer)
    return _from_whole(values) if whole else _from_fractions(path.name, values)


def _pair(name: str, source: npt.NDArray[Any], truth: npt.NDArray[Any]) -> Scene:
    """Return a pair as a scene of one date.

    Raises:
        InputError: If bands, sizes or numbers are not as expected.
    """
    number = len(truth)
    if number not in (3, 4) or len(source) not in (number, *_ALL_BANDS):
        raise InputError(
            f"{name} has {len(source)} bands with a truth of {number}, expected 12, 13 or as many as the truth, which "
            "has red, green, blue and perhaps infrared"
        )
    bands = tuple(_BANDS)[:number]
    if len(source) != number:
        source = source[[_BANDS[band] for band in bands]]
    dates = _measure(name, source)[None]
    return Scene(
        name=name,
        dates=dates,
        clear=find_known(dates),
        days=np.zeros(1, np.float32),
        anchor=0,
        truth=_measure(f"{name}, truth", truth),
        scale=max(truth.shape[-1] // max(source.shape[-1], 1), 1),
        bands=bands,
        units="1",
        value_range=1.0,
        place=name,
    )


def _measure(name: str, stored: npt.NDArray[Any]) -> Float32Array:
    """Return stored numbers as reflectance, NaN where missing.

    Raises:
        InputError: If they are no numbers, or no reflectance.
    """
    if np.issubdtype(stored.dtype, np.integer):
        return _from_whole(stored.astype(np.float32))
    if not np.issubdtype(stored.dtype, np.floating):
        raise InputError(f"{name} holds {stored.dtype}, expected numbers")
    return _from_fractions(name, stored.astype(np.float32))


def _from_whole(stored: Float32Array) -> Float32Array:
    return np.where((stored == 0).all(0), np.float32(np.nan), stored * _SCALE)


def _from_fractions(name: str, values: Float32Array) -> Float32Array:
    greatest = np.abs(values[np.isfinite(values)]).max(initial=0)
    if greatest > _GREATEST:
        raise InputError(f"{name} reaches {greatest:g}, expected reflectance: store x 10000 as whole numbers")
    return np.where(np.isfinite(values), values, np.float32(np.nan))
