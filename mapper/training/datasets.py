"""Samples of every kind that a training or a benchmark asks for."""

from collections.abc import Sequence

from mapper.training.biomassters import read_chips
from mapper.training.bursts import read_bursts
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
from mapper.training.dfc30 import read_cities
from mapper.training.elevation import read_places
from mapper.training.landscapes import read_landscapes
from mapper.training.maps import read_inputs, read_map
from mapper.training.sample import Sample
from mapper.training.scene_config import BurstData, SceneData, Sentinel2BandsData, StackData
from mapper.training.scenes import read_scenes
from mapper.training.sentinel2_bands import read_band_crops
from mapper.training.terrains import read_terrains
from mapper.training.wald import degrade


def read_samples(data: Sequence[DataConfig]) -> list[Sample]:
    """Read all sites of a description, in its order.

    Raises:
        InputError: If something is described wrongly, or not there; see the reader of each kind.
    """
    return [sample for part in data for sample in _read(part)]


def _read(part: DataConfig) -> list[Sample]:
    match part:
        case MapsData():
            samples = [read_map(path, part.truth) for path in part.maps]
        case WaldData():
            samples = [degrade(read_inputs(path)) for path in part.maps]
        case BioMasstersData():
            samples = read_chips(part)
        case ElevationData():
            samples = read_places(part)
        case Dfc30Data():
            samples = read_cities(part)
        case TerrainData():
            samples = read_terrains(part)
        case Sentinel2BandsData() | BurstData() | SceneData():
            samples = _read_stacks(part)
        case SyntheticData():
            samples = read_landscapes(part)
    return samples


def _read_stacks(part: StackData) -> list[Sample]:
    match part:
        case Sentinel2BandsData():
            samples = read_band_crops(part)
        case BurstData():
            samples = read_bursts(part)
        case SceneData():
            samples = read_scenes(part)
    return samples
