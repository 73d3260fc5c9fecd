"""The target that most tests score: the band of the preset for biomass."""

from mapper.presets import read_preset
from mapper.spec.target import BandSpec

_SECTION = read_preset("biomass").content["target"]
BIOMASS = BandSpec.model_validate({name: _SECTION[name] for name in BandSpec.model_fields if name in _SECTION})
