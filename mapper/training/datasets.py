"""Samples of every kind that a training or a benchmark asks for."""

from collections.abc import Sequence

from mapper.training.biomassters import read_chips
from mapper.training.config import BioMasstersData, DataConfig, MapsData, WaldData
from mapper.training.landscapes import read_landscapes
from mapper.training.maps import read_inputs, read_map
from mapper.training.sample import Sample
from mapper.training.wald import degrade


def read_samples(data: Sequence[DataConfig]) -> list[Sample]:
    """Read all sites of a description, in its order.

    Raises:
        InputError: If something is described wrongly, or not there; see the reader of each kind.
    """
    return [sample for part in data for sample in _read(part)]


def _read(part: DataConfig) -> list[Sample]:
    if isinstance(part, MapsData):
        return [read_map(path, part.truth) for path in part.maps]
    if isinstance(part, WaldData):
        return [degrade(read_inputs(path)) for path in part.maps]
    if isinstance(part, BioMasstersData):
        return read_chips(part)
    return read_landscapes(part)
