"""Schemas of the answers in JSON: dataclasses that routes fill, and models of documents that they write."""

from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from mapper.serve.stats.sum_uncertainty import SumSd
from mapper.store.snapshots import Commit
from mapper.store.why import Answer


class _Closed:
    """Base of dataclasses that hold what their schema names and nothing else."""

    __pydantic_config__ = ConfigDict(extra="forbid")


class _Document(BaseModel):
    """Base of documents with keys that no field can be named after, or that are left out."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Health(_Document):
    """The store can be read."""

    status: Literal["ok"]
    snapshot: str


@dataclass(frozen=True, kw_only=True)
class FlagMeaning(_Closed):
    """A quality flag and its meaning in words."""

    flag: str
    meaning: str


@dataclass(frozen=True, kw_only=True)
class ServedPixel(_Closed, Answer):
    """A pixel and what made it, its flags in words."""

    channels: dict[str, float | None]
    quality: list[FlagMeaning]
    ref: str
    version: Annotated[str, Field(description="The snapshot that was asked")]


@dataclass(frozen=True, kw_only=True)
class PixelVersion(_Closed):
    """One version of a pixel: its values, and the attempt that made it."""

    snapshot: str
    written_at: datetime | None
    value: float | None
    sd: float | None
    units: str
    flags: tuple[str, ...]
    run_id: str
    task_id: str
    status: str
    reason: str
    model: str
    model_digest: str


@dataclass(frozen=True, kw_only=True)
class History(_Closed):
    """Versions of a pixel, the latest first."""

    versions: list[PixelVersion]
    ref: str
    version: str


@dataclass(frozen=True, kw_only=True)
class NamedCommit(_Closed, Commit):
    """The commit that a branch or a tag stands for."""

    name: str


@dataclass(frozen=True, kw_only=True)
class VersionList(_Closed):
    """Versions of the map."""

    ref: str
    version: str
    branches: list[NamedCommit]
    tags: list[NamedCommit]
    snapshots: list[Commit]


@dataclass(frozen=True, kw_only=True)
class FlagSwatch(FlagMeaning):
    """A flag and its colour."""

    colour: str


class TileJson(_Document):
    """TileJSON 3.0.0, and what a legend needs."""

    tilejson: Literal["3.0.0"]
    name: str
    version: str
    scheme: Literal["xyz"]
    tiles: list[str]
    minzoom: int
    maxzoom: int
    bounds: tuple[float, float, float, float]
    center: tuple[float, float, int]
    variable: str
    variables: list[str]
    units: str
    levels: int
    levels_up_to_date: bool = Field(description="False where `mapper pyramid` is due: the map was changed since")
    ref: str
    snapshot: str
    colormap: str = Field(default="", description="Of what is measured or counted")
    rescale: tuple[float, float] = Field(default=(0, 1), description="Values of the first and the last colour")
    colours: list[str] = []
    legend: list[FlagSwatch] = Field(default=[], description="Of flags, the gravest first")


@dataclass(frozen=True, kw_only=True)
class Quantity(_Closed):
    """A number with its units and standard deviation."""

    value: float | None
    units: str
    sd: SumSd | None


@dataclass(frozen=True, kw_only=True)
class Histogram(_Closed):
    """Areas by value."""

    edges: list[float]
    area_ha: list[float]
    below_ha: float
    above_ha: float


@dataclass(frozen=True, kw_only=True)
class FlagShare(FlagMeaning):
    """A flag and the part of the area that has it."""

    area_ha: float
    share: float


@dataclass(frozen=True, kw_only=True)
class StatsResolution(_Closed):
    """The level that was added up."""

    level: int
    pixel: float
    crs: str
    pixels: int
    total_tolerance: float
    edges: str
    up_to_date: bool


@dataclass(frozen=True, kw_only=True)
class PolygonStats(_Closed):
    """What lies inside a polygon."""

    ref: str
    version: str
    variable: str
    area_ha: float
    area_in_map_ha: float
    valid_area_ha: float
    valid_fraction: float
    total: Quantity
    mean: Quantity
    histogram: Histogram
    quality: list[FlagShare]
    resolution: StatsResolution


class StacLink(_Document):
    """A link of STAC."""

    rel: str
    href: str
    type: str
    title: str = ""


class StacCollection(_Document):
    """A STAC collection."""

    type: Literal["Collection"]
    stac_version: str
    stac_extensions: list[str]
    id: str
    title: str
    description: str
    license: str
    extent: dict[str, Any]
    summaries: dict[str, Any]
    links: list[StacLink]


class StacAsset(_Document):
    """An asset of STAC."""

    href: str
    type: str
    title: str
    roles: list[str]


class StacItem(_Document):
    """A STAC item."""

    type: Literal["Feature"]
    stac_version: str
    stac_extensions: list[str]
    id: str
    collection: str
    geometry: dict[str, Any]
    bbox: tuple[float, float, float, float]
    properties: dict[str, Any]
    links: list[StacLink]
    assets: dict[str, StacAsset]
