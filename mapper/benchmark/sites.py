"""Sites of a suite: each is read once, with a description of it alone, so that it can be left out of a training."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from mapper.catalog.importers.biomassters_files import find_chips
from mapper.errors import SpecError
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
from mapper.training.scene_config import BurstData, Sentinel2BandsData
from mapper.training.sentinel2_bands import find_band_crops


@dataclass(frozen=True, kw_only=True)
class Site:
    """One site that is scored."""

    data: DataConfig
    """Description of this site and no other."""
    sample: Sample

    @property
    def name(self) -> str:
        """Name of the sample."""
        return self.sample.name

    @property
    def blind(self) -> Sample:
        """The site without its truth: all that a model that is scored here may see."""
        return replace(self.sample, truth=np.full_like(self.sample.truth, np.nan))


def read_sites(data: Sequence[DataConfig], *, mixed: bool = False) -> tuple[Site, ...]:
    """Read all sites of a suite.

    Args:
        data: Descriptions of the sites.
        mixed: True for sites that may differ in scale and bands.

    Raises:
        SpecError: If two sites have one name, or the sites differ in scale, bands or units.
        InputError: If something is described wrongly, or not there.
    """
    sites = tuple(
        Site(data=single, sample=sample) for part in data for single in split(part) for sample in read_samples([single])
    )
    names = [site.name for site in sites]
    double = sorted({name for name in names if names.count(name) > 1})
    if double:
        raise SpecError(f"sites appear twice: {', '.join(double)}")
    if not sites:
        raise SpecError("the suite has no site")
    kinds = {(() if mixed else (p.sample.scale, p.sample.bands), p.sample.source_units) for p in sites}
    if len(kinds) > 1:
        raise SpecError(f"the sites {', '.join(names)} differ in scale, guide channels or units: make several suites")
    return sites


def split(part: DataConfig) -> list[DataConfig]:
    """Return descriptions of one site each."""
    if isinstance(part, MapsData | WaldData):
        return [part.model_copy(update={"maps": (path,)}) for path in part.maps]
    if isinstance(part, SyntheticData | TerrainData | BurstData) or (
        isinstance(part, Sentinel2BandsData) and part.seeds is not None
    ):
        return [part.model_copy(update={"seeds": (seed,)}) for seed in part.seeds]
    if isinstance(part, ElevationData):
        return [part.model_copy(update={"places": (place.name,), "leave_out": ()}) for place in choose_places(part)]
    if isinstance(part, Dfc30Data):
        return [part.model_copy(update={"cities": (city,), "leave_out": ()}) for city in find_cities(part)]
    if isinstance(part, Sentinel2BandsData):
        return [part.model_copy(update={"crops": (path.stem,), "leave_out": ()}) for path in find_band_crops(part)]
    return [part.model_copy(update={"chips": (chip,), "leave_out": ()}) for chip in _chips(part)]


def slug(name: str) -> str:
    """Return a name as part of a file's name; where letters are replaced, a few digits keep names apart."""
    plain = "".join(letter if letter.isalnum() or letter in "._-" else "-" for letter in name)
    return plain if plain == name else f"{plain}-{hashlib.sha256(name.encode()).hexdigest()[:6]}"


def _chips(part: BioMasstersData) -> list[str]:
    if part.chips is not None:
        return [chip for chip in part.chips if chip not in part.leave_out]
    return [chip.name for chip in find_chips(part.folder) if chip.name not in part.leave_out]
