"""What answers in JSON hold, for the page of the API and for programs that are made from it."""

from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from mapper.grid import Tile
from mapper.store.record import Record
from mapper.store.why import BandValue


class _Answer(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Health(_Answer):
    """The store can be read."""

    status: Literal["ok"]
    snapshot: str


class Quality(_Answer):
    """A flag, and what it says."""

    flag: str
    meaning: str


class PixelAnswer(_Answer):
    """What a pixel holds and what made it."""

    x: float
    y: float
    crs: str
    row: int
    col: int
    tile: Tile
    target: str
    units: str
    value: float | None
    sd: float | None
    qa: int
    flags: list[str]
    n_valid: int
    snapshot: str = Field(description="That wrote the tile; empty if it was never written or has expired")
    written_at: datetime | None
    record: Record | None = Field(description="null if the tile was never attempted")
    channels: dict[str, float | None] = Field(description="Of a guide")
    bands: list[BandValue] = Field(description="Target bands of a map")
    quality: list[Quality]
    ref: str
    version: str = Field(description="The snapshot that was asked")


class PastPixel(_Answer):
    """What a version held."""

    snapshot: str
    written_at: datetime | None
    value: float | None
    sd: float | None
    units: str
    flags: list[str]
    run_id: str
    task_id: str
    status: str
    reason: str
    model: str
    model_digest: str


class History(_Answer):
    """Versions of a pixel, the latest first."""

    versions: list[PastPixel]
    ref: str
    version: str


class Snapshot(_Answer):
    """A commit."""

    snapshot: str
    written_at: datetime
    message: str


class NamedSnapshot(Snapshot):
    """What a branch or a tag stands for."""

    name: str


class VersionList(_Answer):
    """Versions of the map."""

    ref: str
    version: str
    branches: list[NamedSnapshot]
    tags: list[NamedSnapshot]
    snapshots: list[Snapshot]


class Swatch(Quality):
    """A flag and its colour."""

    colour: str


class TileJson(_Answer):
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
    legend: list[Swatch] = Field(default=[], description="Of flags, the gravest first")


class Deviation(_Answer):
    """Standard deviation under three assumptions on how errors hang together."""

    independent: float
    correlated: float | None
    correlation_m: float | None
    fully_correlated: float


class Amount(_Answer):
    """A number with its units and standard deviation."""

    value: float | None
    units: str
    sd: Deviation | None


class Histogram(_Answer):
    """Areas by value."""

    edges: list[float]
    area_ha: list[float]
    below_ha: float
    above_ha: float


class Share(Quality):
    """How much of the area has a flag."""

    area_ha: float
    share: float


class Resolution(_Answer):
    """Which level was added up."""

    level: int
    pixel: float
    crs: str
    pixels: int
    total_tolerance: float
    edges: str
    up_to_date: bool


class Totals(_Answer):
    """What lies inside a polygon."""

    ref: str
    version: str
    variable: str
    area_ha: float
    area_in_map_ha: float
    valid_area_ha: float
    valid_fraction: float
    total: Amount
    mean: Amount
    histogram: Histogram
    quality: list[Share]
    resolution: Resolution


class StacLink(_Answer):
    """A link of STAC."""

    rel: str
    href: str
    type: str
    title: str = ""


class StacCollection(_Answer):
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


class StacAsset(_Answer):
    """An asset of STAC."""

    href: str
    type: str
    title: str
    roles: list[str]


class StacItem(_Answer):
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
