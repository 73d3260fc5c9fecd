"""Sites of a suite: each is read once, with a description of it alone, so that it can be left out of a training."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from mapper.catalog.importers.biomassters_files import find_chips
from mapper.errors import InputError, SpecError
from mapper.training.config import (
    BioMasstersData,
    DataConfig,
    Dfc30Data,
    ElevationData,
    MapsData,
    SyntheticData,
    TerrainData,
    WaldData,
)
from mapper.training.datasets import read_samples
from mapper.training.dfc30 import find_cities
from mapper.training.elevation import choose_places
from mapper.training.sample import Sample
from mapper.training.scene_config import BurstData, SceneData, Sentinel2BandsData
from mapper.training.scenes import read_scenes
from mapper.training.sentinel2_bands import find_band_crops


@dataclass(frozen=True, kw_only=True)
class Site:
    """One site that is scored."""

    data: DataConfig
    """Description of this site and no other."""
    sample: Sample
    group: str = ""
    """Name of the sites that a table has the mean of; empty where it has each."""
    dates: int | None = None
    """Number of the dates that a method is shown; None where sites do not differ in it."""

    @property
    def name(self) -> str:
        """Name of the sample, and of a scene how many of its dates are shown."""
        if self.dates is None:
            return self.sample.name
        return f"{self.sample.name}, {self.dates} date{'s' if self.dates > 1 else ''}"

    @property
    def blind(self) -> Sample:
        """The site without its truth: all that a model that is scored here may see."""
        stack = self.sample.stack and replace(self.sample.stack, true_shift=None)
        truth = np.full_like(self.sample.truth, np.nan)
        return replace(self.sample, truth=truth, stack=stack, seen_through=None)

    @property
    def with_true_shifts(self) -> Sample:
        """The site without its truth, its dates with the shifts that they have.

        Raises:
            SpecError: If nobody knows them.
        """
        stack = self.sample.stack
        if stack is None or stack.true_shift is None:
            raise SpecError("the shifts of its dates are not known")
        shift = np.broadcast_to(stack.true_shift[:, :, None, None], stack.shift.shape).copy()
        return replace(self.blind, stack=replace(stack, shift=shift, true_shift=None))


def read_sites(
    data: Sequence[DataConfig], *, mixed: bool = False, notify: Callable[[str], None] = lambda _: None
) -> tuple[Site, ...]:
    """Read all sites of a suite.

    Args:
        data: Descriptions of the sites.
        mixed: True for sites that may differ in scale and bands.
        notify: Gets a line for what is left out.

    Raises:
        SpecError: If two sites have one name, or the sites differ in scale, bands or units.
        InputError: If something is described wrongly, or not there.
    """
    _check_folders(data)
    sites = tuple(site for part in data for site in _read_part(part, notify))
    names = [site.name for site in sites]
    double = sorted({name for name in names if names.count(name) > 1})
    if double:
        raise SpecError(f"sites appear twice: {', '.join(double)}")
    if not sites:
        raise SpecError("the suite has no site")
    scenes = all(isinstance(site.data, BurstData | SceneData) for site in sites)
    if scenes and mixed:
        return sites
    kinds = {(() if mixed else (p.sample.scale, p.sample.bands), p.sample.source_units) for p in sites}
    if len(kinds) > 1:
        raise SpecError(f"the sites {', '.join(names)} differ in scale, guide channels or units: make several suites")
    return sites


def _check_folders(data: Sequence[DataConfig]) -> None:
    """Check that a folder that holds data of several kinds, each of them optional, holds one of them.

    Raises:
        InputError: If it is no folder, or holds none.
    """
    optional = [part for part in data if isinstance(part, SceneData) and part.optional and part.folder is not None]
    for folder in dict.fromkeys(part.folder for part in optional):
        own = [part for part in optional if part.folder == folder]
        if folder is not None and not folder.is_dir():
            raise InputError(f"{folder} is no folder of data")
        if not any(part.path is not None and part.path.is_dir() for part in own):
            wanted = ", ".join(dict.fromkeys(part.subfolder for part in own))
            raise InputError(f"{folder} holds none of {wanted}: give the folder that does")


def show_dates(sites: Sequence[Site], numbers: Sequence[int]) -> tuple[Site, ...]:
    """Return scenes as one site for each number of dates that they have: the anchor first, then in their order.

    Args:
        sites: Scenes.
        numbers: Of dates; none shows all, as do numbers that are greater than all that a scene has.
    """
    shown = []
    for site in sites:
        stack = site.sample.stack
        if stack is None:
            raise SpecError(f"{site.name} has no dates")
        order = np.argsort(np.arange(len(stack.days)) != stack.own, kind="stable")
        for number in [each for each in numbers if each <= len(order)] or [len(order)]:
            part = replace(site.sample, stack=stack.take(order[:number]))
            shown.append(replace(site, sample=part, dates=number))
    return tuple(shown)


def _read_part(part: DataConfig, notify: Callable[[str], None]) -> list[Site]:
    if isinstance(part, SceneData):
        samples = read_scenes(part, notify)
        names = [sample.name.removesuffix(f" {part.label}") for sample in samples]
        each = [part.model_copy(update={"places": (name,), "leave_out": ()}) for name in names]
        return [Site(data=own, sample=s, group=s.name) for own, s in zip(each, samples, strict=True)]
    group = (part.label or "simulated dates") if isinstance(part, BurstData) else ""
    return [
        Site(data=single, sample=sample, group=group) for single in split(part) for sample in read_samples([single])
    ]


def split(part: DataConfig) -> list[DataConfig]:
    """Return descriptions of one site each; of scenes, whose names their files have, that of all."""
    updates: list[dict[str, Any]]
    match part:
        case MapsData() | WaldData():
            updates = [{"maps": (path,)} for path in part.maps]
        case SyntheticData() | TerrainData() | BurstData():
            updates = [{"seeds": (seed,)} for seed in part.seeds]
        case ElevationData():
            updates = [{"places": (place.name,), "leave_out": ()} for place in choose_places(part)]
        case Dfc30Data():
            updates = [{"cities": (city,), "leave_out": ()} for city in find_cities(part)]
        case Sentinel2BandsData() if part.seeds is not None:
            updates = [{"seeds": (seed,)} for seed in part.seeds]
        case Sentinel2BandsData():
            updates = [{"crops": (path.stem,), "leave_out": ()} for path in find_band_crops(part)]
        case SceneData():
            updates = [{}]
        case BioMasstersData():
            updates = [{"chips": (chip,), "leave_out": ()} for chip in _chips(part)]
    return [part.model_copy(update=update) for update in updates]


def slug(name: str) -> str:
    """Return a name as part of a file's name; where letters are replaced, a few digits keep names apart."""
    plain = "".join(letter if letter.isalnum() or letter in "._-" else "-" for letter in name)
    return plain if plain == name else f"{plain}-{hashlib.sha256(name.encode()).hexdigest()[:6]}"


def _chips(part: BioMasstersData) -> list[str]:
    if part.chips is not None:
        return [chip for chip in part.chips if chip not in part.leave_out]
    return [chip.name for chip in find_chips(part.folder) if chip.name not in part.leave_out]
