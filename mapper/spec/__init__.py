"""The description of one map (MAP.yaml), validated, with the digest that identifies it."""

from mapper.spec.area import AreaSpec, GridSpec, PeriodSpec
from mapper.spec.inputs import CatalogSpec, Channel, GuideSpec, LayerSpec, SourceSpec
from mapper.spec.map import MapSpec, parse_spec, read_spec
from mapper.spec.target import (
    BandConsistency,
    ConsistencySpec,
    EncodingSpec,
    ModelOptions,
    ModelSpec,
    NamedBand,
    TargetBand,
    TargetSpec,
)

__all__ = [
    "AreaSpec",
    "BandConsistency",
    "CatalogSpec",
    "Channel",
    "ConsistencySpec",
    "EncodingSpec",
    "GridSpec",
    "GuideSpec",
    "LayerSpec",
    "MapSpec",
    "ModelOptions",
    "ModelSpec",
    "NamedBand",
    "PeriodSpec",
    "SourceSpec",
    "TargetBand",
    "TargetSpec",
    "parse_spec",
    "read_spec",
]
