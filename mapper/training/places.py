"""Places whose bare earth is known: which of the files in a folder is what, as their names or ``places.yaml`` say.

A folder is one place where it has a surface or a source, with ``dtm*`` as its truth. Rasters without either are bare
earth, each of them a place. ``places.yaml``, in the folder of all places or in that of one, says what names do not::

    places:
      harbour:
        surface: lidar/first_return.tif
        truth: lidar/ground.tif
        vertical_datum: EPSG:5720
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError

from mapper.description import FilePath, Part, describe_faults, read_yaml
from mapper.errors import InputError, SpecError
from mapper.training.config import ElevationData
from mapper.training.height_rasters import count_bands

_STEMS = {"source": "source", "dsm": "surface", "mask": "mask", "truth_distance": "truth_distance"}
"""Beginning of a file's name to what it is; any other raster of one band is bare earth."""
_TRUTH = "dtm"
_OVERRIDES = "places.yaml"


class PlaceConfig(Part):
    """One place: its files, where names do not tell them, and what no file says."""

    truth: FilePath | None = None
    """Heights of the ground."""
    surface: FilePath | None = None
    """Heights of the surface on the pixels of the truth; its block mean is the source."""
    source: FilePath | None = None
    """The coarse raster that is sharpened."""
    mask: FilePath | None = None
    """Codes of land cover on the pixels of the truth."""
    truth_distance: FilePath | None = None
    """Distance to the next ground return in metres, on the pixels of the truth."""
    outlines: FilePath | None = None
    """GeoJSON of buildings."""
    scale: int | None = Field(default=None, gt=1)
    """Source pixel / target pixel, where there is no source."""
    classes: dict[Literal["building", "tree", "water"], tuple[int, ...]] = Field(
        default={"building": (1,), "tree": (2,), "water": (3,)}
    )
    """Codes of the mask by channel; codes of none of them are bare ground."""
    vertical_datum: str = ""
    """Vertical datum of all heights."""
    border_source_px: int | None = Field(default=None, ge=0)
    """Rim that is not scored, in source pixels; None takes 2 where the source is made of the truth, else 0."""


class _Overrides(Part):
    """Content of ``places.yaml``."""

    places: dict[str, PlaceConfig]


@dataclass(frozen=True, kw_only=True)
class Place:
    """One place."""

    name: str
    ground: str
    """Name that places on the same ground share."""
    config: PlaceConfig
    """Its files; the truth is there."""


def find_places(data: ElevationData) -> list[Place]:
    """Find the places of a folder, those that are asked for, by name.

    Raises:
        InputError: If there is none, or one that is asked for is missing, or it is not clear what a file is.
    """
    if not data.folder.is_dir():
        raise InputError(f"{data.folder} is no folder of places")
    overrides = _read_overrides(data.folder)
    folders = [data.folder, *sorted(path for path in data.folder.iterdir() if path.is_dir())]
    places = {place.name: place for folder in folders for place in _find_in(folder, overrides)}
    for name in overrides.keys() - places.keys():
        if overrides[name].truth is None:
            raise InputError(f"{data.folder / _OVERRIDES}: place {name} has no truth, and no folder of that name")
        places[name] = Place(name=name, ground=name, config=overrides[name])
    if not places:
        raise InputError(
            f"{data.folder} holds no place: expected folders with a GeoTIFF of bare earth, for example dtm.tif"
        )
    missing = [name for name in (*(data.places or ()), *data.leave_out) if name not in places]
    if missing:
        raise InputError(f"{data.folder} has no place {', '.join(missing)}; it has {', '.join(sorted(places))}")
    wanted = places if data.places is None else dict.fromkeys(data.places)
    return [places[name] for name in sorted(wanted) if name not in data.leave_out]


def _find_in(folder: Path, overrides: dict[str, PlaceConfig]) -> Iterator[Place]:
    """Yield the places of one folder."""
    given = overrides | (_read_overrides(folder) if folder.name not in overrides else {})
    files = _sort_files(folder)
    bare = files.pop("bare", [])
    own = given.get(folder.name, PlaceConfig())
    if own.truth or own.surface or own.source or "surface" in files or "source" in files:
        truth = own.truth or _choose_truth(folder, bare)
        found = {role: paths[0] for role, paths in files.items() if getattr(own, role) is None}
        _refuse_doubles(folder, files, own)
        config = own.model_copy(update=found | {"truth": truth})
        yield Place(name=folder.name, ground=folder.name, config=config)
        return
    for path in bare:
        name = folder.name if len(bare) == 1 else f"{folder.name}/{path.stem}"
        found = {role: paths[0] for role, paths in files.items()} if len(bare) == 1 else {}
        _refuse_doubles(folder, files, own)
        config = given.get(name, PlaceConfig()).model_copy(update=found | {"truth": path})
        yield Place(name=name, ground=folder.name, config=config)


def _sort_files(folder: Path) -> dict[str, list[Path]]:
    """Return the rasters of one band in a folder by what their names say they are, and outlines of buildings."""
    files: dict[str, list[Path]] = {}
    for path in sorted(folder.iterdir()):
        name = path.name.lower()
        if name.endswith((".tif", ".tiff")) and count_bands(path) == 1:
            role = next((role for stem, role in _STEMS.items() if name.startswith(stem)), "bare")
            files.setdefault(role, []).append(path)
        elif name.startswith("buildings") and name.endswith((".geojson", ".json")):
            files.setdefault("outlines", []).append(path)
    return files


def _choose_truth(folder: Path, bare: list[Path]) -> Path:
    named = [path for path in bare if path.name.lower().startswith(_TRUTH)] or bare
    if len(named) != 1:
        found = ", ".join(path.name for path in named) or "none"
        raise InputError(
            f"place {folder} needs one raster of bare earth ({_TRUTH}*.tif), found {found}: {_OVERRIDES} can say"
        )
    return named[0]


def _refuse_doubles(folder: Path, files: dict[str, list[Path]], own: PlaceConfig) -> None:
    for role, paths in files.items():
        if len(paths) > 1 and getattr(own, role) is None:
            found = ", ".join(path.name for path in paths)
            raise InputError(f"place {folder} has several of {role}: {found}: say in {_OVERRIDES} which one")


def _read_overrides(folder: Path) -> dict[str, PlaceConfig]:
    path = folder / _OVERRIDES
    if not path.is_file():
        return {}
    content: Any = read_yaml(path)
    try:
        return _Overrides.model_validate(content, context=folder.absolute()).places
    except ValidationError as error:
        raise SpecError(f"{path}: {describe_faults(error, 'places')}") from error
