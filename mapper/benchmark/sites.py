"""Places of a suite: each is read once, and knows what alone describes it, so that it can be left out of a training."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from mapper.catalog.importers.biomassters_files import find_chips
from mapper.errors import SpecError
from mapper.training.config import BioMasstersData, DataConfig, MapsData, SyntheticData, WaldData
from mapper.training.datasets import read_samples
from mapper.training.sample import Sample


@dataclass(frozen=True, kw_only=True)
class Place:
    """One place that is scored."""

    data: DataConfig
    """Describes this place and no other."""
    sample: Sample

    @property
    def name(self) -> str:
        """Name of the sample."""
        return self.sample.name

    @property
    def blind(self) -> Sample:
        """The place without its truth: all that a model that is scored here may see."""
        return replace(self.sample, truth=np.full_like(self.sample.truth, np.nan))


def read_places(data: Sequence[DataConfig]) -> tuple[Place, ...]:
    """Read all places of a suite.

    Raises:
        SpecError: If two places have one name, or the places differ in scale, bands or units.
        InputError: If something is described wrongly, or not there.
    """
    places = tuple(
        Place(data=single, sample=sample)
        for part in data
        for single in split(part)
        for sample in read_samples([single])
    )
    names = [place.name for place in places]
    double = sorted({name for name in names if names.count(name) > 1})
    if double:
        raise SpecError(f"places appear twice: {', '.join(double)}")
    if len({(p.sample.scale, p.sample.bands, p.sample.source_units) for p in places}) > 1:
        raise SpecError(f"the places {', '.join(names)} differ in scale, guide channels or units: make several suites")
    return places


def split(part: DataConfig) -> list[DataConfig]:
    """Descriptions of one place each."""
    if isinstance(part, MapsData | WaldData):
        return [part.model_copy(update={"maps": (path,)}) for path in part.maps]
    if isinstance(part, SyntheticData):
        return [part.model_copy(update={"seeds": (seed,)}) for seed in part.seeds]
    return [part.model_copy(update={"chips": (chip,), "leave_out": ()}) for chip in _chips(part)]


def slug(name: str) -> str:
    """A name as part of a file's name; what is replaced is told apart by a few digits."""
    plain = "".join(letter if letter.isalnum() or letter in "._-" else "-" for letter in name)
    return plain if plain == name else f"{plain}-{hashlib.sha256(name.encode()).hexdigest()[:6]}"


def _chips(part: BioMasstersData) -> list[str]:
    if part.chips is not None:
        return [chip for chip in part.chips if chip not in part.leave_out]
    return [chip.name for chip in find_chips(part.folder) if chip.name not in part.leave_out]
