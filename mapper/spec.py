"""The description of one map: one validated YAML file, and the digest that identifies what it asks for.

Everything that can change a pixel enters the digest; names and locations do not. Relative paths are relative to the
YAML file. Months are 1 to 12, units are CF strings, resolutions are in units of the grid's CRS and may be written as
fractions (``1/11250``), because decimal degrees are not exact.
"""

import hashlib
import json
from datetime import date
from fractions import Fraction
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import shapely
import yaml
from pydantic import AfterValidator, BeforeValidator, Field, PlainSerializer, ValidationError, model_validator
from shapely.geometry.base import BaseGeometry

from mapper.description import Part, absolute_in, describe_faults, read_yaml
from mapper.errors import SpecError
from mapper.grid import MapGrid
from mapper.markup.cards import show_area


def _to_fraction(value: object) -> Fraction:
    return value if isinstance(value, Fraction) else Fraction(str(value))


def _check_months(months: tuple[int, ...]) -> tuple[int, ...]:
    if not months or not all(1 <= month <= 12 for month in months):
        raise ValueError(f"months are 1 to 12, got {list(months)}")
    return months


Resolution = Annotated[Fraction, BeforeValidator(_to_fraction), PlainSerializer(str), Field(gt=0)]
Months = Annotated[tuple[int, ...], AfterValidator(_check_months)]
_YEAR = tuple(range(1, 13))


class AreaSpec(Part):
    """What is mapped: a box (west, south, east, north; degrees) or the polygons of a GeoJSON file."""

    bbox: tuple[float, float, float, float] | None = None
    geojson: Path | None = None

    @model_validator(mode="after")
    def _exactly_one(self) -> Self:
        if (self.bbox is None) == (self.geojson is None):
            raise ValueError("give exactly one of bbox and geojson")
        if self.bbox is not None:
            west, south, east, north = self.bbox
            if not (-90 <= south < north <= 90):
                raise ValueError(f"bbox must be west, south, east, north with south < north, got {self.bbox}")
            if west >= east:
                raise ValueError(
                    f"bbox has west {west} >= east {east}: areas across the antimeridian are not supported; "
                    "split the map in two at 180 degrees"
                )
        return self

    @cached_property
    def geometry(self) -> BaseGeometry:
        """The area in longitude and latitude (EPSG:4326).

        Raises:
            SpecError: If the GeoJSON file cannot be read or holds no polygon.
        """
        if self.bbox is not None:
            return shapely.box(*self.bbox)
        try:
            geometry = shapely.from_geojson(Path(str(self.geojson)).read_text())
        except (OSError, shapely.errors.GEOSException) as error:
            raise SpecError(f"area.geojson {self.geojson} cannot be read: {error}") from error
        merged = shapely.union_all([g for g in shapely.get_parts(geometry) if g.geom_type.endswith("Polygon")])
        if merged.is_empty:
            raise SpecError(f"area.geojson {self.geojson} holds no polygon")
        return merged


class PeriodSpec(Part):
    """First and last day, both included."""

    start: date
    end: date

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.end < self.start:
            raise ValueError(f"period ends {self.end} before it starts {self.start}")
        return self


class GridSpec(Part):
    """The output grid: ``projected``, or ``native`` (the source's own geographic grid divided by the scale)."""

    kind: Literal["projected", "native"] = "projected"
    crs: str = "EPSG:3035"
    resolution: Resolution
    tile: int = Field(default=1024, gt=0)
    chunk: int = Field(default=256, gt=0)

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.tile % self.chunk:
            raise ValueError(f"tile {self.tile} must be a multiple of chunk {self.chunk}")
        return self


class CatalogSpec(Part):
    """Where items come from: a provider by name (or YAML path), and what to override of it."""

    provider: str
    href: str | None = None
    """STAC API root or static ``catalog.json``, instead of the provider's own endpoint."""
    override: dict[str, Any] = Field(default_factory=dict)
    """What to change of the provider's description, as nested mappings."""


class LayerSpec(Part):
    """Bands of one collection that enter the guide."""

    collection: str
    bands: tuple[str, ...] = Field(min_length=1)
    orbit: Literal["ascending", "descending"] | None = None
    """Keep one orbit direction only (Sentinel-1)."""
    cloud_limit: float = Field(default=100, ge=0, le=100)
    """Items with more scene cloud cover (percent) are not searched."""
    catalog: CatalogSpec | None = None
    """Where the items of this layer come from; None takes the map's catalogue."""
    static: bool = False
    """What does not change with time (elevation): items of any date, one channel for each band instead of seasons."""
    reducer: Literal["median", "mean"] | None = None
    """How dates become one image; None takes the collection's own (median for reflectance, mean power for radar)."""


class Channel(Part):
    """One band of the guide: what it is, and when."""

    name: str
    """``{season}_{band}`` and, where one orbit was asked for, ``_{orbit}``; of a static layer the band alone."""
    collection: str
    band: str
    season: str
    months: tuple[int, ...]
    orbit: str | None = None


class GuideSpec(Part):
    """The fine predictors: layers of bands, reduced to one image a season."""

    layers: tuple[LayerSpec, ...] = Field(min_length=1)
    seasons: dict[str, Months] = Field(min_length=1)
    """Season name to months; a channel exists for every season and band."""

    @cached_property
    def composites(self) -> tuple[tuple[str, Months, LayerSpec], ...]:
        """Season, months and layer of each composite: by season, then layer; what is static once, at the end."""
        seasonal = [
            (season, months, layer)
            for season, months in self.seasons.items()
            for layer in self.layers
            if not layer.static
        ]
        return (*seasonal, *(("", _YEAR, layer) for layer in self.layers if layer.static))

    @cached_property
    def channels(self) -> tuple[Channel, ...]:
        """Guide channels in the order of the array: by composite, then band."""
        return tuple(
            Channel(
                name="_".join(filter(None, (season, band, layer.orbit))),
                collection=layer.collection,
                band=band,
                season=season,
                months=months,
                orbit=layer.orbit,
            )
            for season, months, layer in self.composites
            for band in layer.bands
        )

    @model_validator(mode="after")
    def _unique(self) -> Self:
        names = [channel.name for channel in self.channels]
        double = sorted({name for name in names if names.count(name) > 1})
        if double:
            raise ValueError(f"guide channels appear twice: {', '.join(double)}")
        both = {layer.collection for layer in self.layers if layer.static}
        both &= {layer.collection for layer in self.layers if not layer.static}
        if both:
            raise ValueError(f"collection {', '.join(sorted(both))} is both static and not")
        return self


class SourceSpec(Part):
    """The coarse map to sharpen."""

    collection: str
    variable: str
    sd: str | None = None
    """Its standard deviation, per pixel, in the same units."""
    year: int | None = None
    """Year of the map; None takes every item in the period."""
    resolution: Resolution
    """Source pixel on the output grid; a multiple of the grid's resolution."""
    sd_correlation: float | None = Field(default=None, ge=0)
    """Distance in metres at which the errors of two stored pixels correlate by 1/e, for the standard deviation of an
    area average; None takes them as fully correlated, the cautious choice."""
    catalog: CatalogSpec | None = None
    """Where its items come from; None takes the map's catalogue."""


class ModelSpec(Part):
    """The network: a name from ``mapper models``, or any name with its own weights."""

    name: str
    weights: Path | None = None
    """A ``.safetensors`` file with its card beside it (``.json``)."""


class EncodingSpec(Part):
    """How the target is stored: integers times ``scale_factor``."""

    dtype: Literal["uint8", "uint16", "int16", "float32"] = "uint16"
    scale_factor: float = Field(default=0.1, gt=0)
    add_offset: float = 0.0


class TargetSpec(Part):
    """The map we write."""

    name: str = Field(default="agb", pattern=r"^[a-z][a-z0-9_]*$")
    long_name: str = "above-ground biomass"
    units: str = "Mg ha-1"
    non_negative: bool = True
    encoding: EncodingSpec = EncodingSpec()


class MapSpec(Part):
    """One map, described completely. Read one with :func:`read_spec`."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    area: AreaSpec
    period: PeriodSpec
    grid: GridSpec
    catalog: CatalogSpec
    guide: GuideSpec
    source: SourceSpec
    model: ModelSpec
    target: TargetSpec = TargetSpec()
    consistency: Literal["none", "soft", "hard"] = "soft"
    store: str
    """Directory, or s3://, gs://, az:// location."""

    @cached_property
    def catalogs(self) -> dict[str, CatalogSpec]:
        """Where the items of each collection come from."""
        parts: tuple[LayerSpec | SourceSpec, ...] = (*self.guide.layers, self.source)
        return {part.collection: part.catalog or self.catalog for part in parts}

    @model_validator(mode="after")
    def _one_home(self) -> Self:
        """Items and rules are looked up by the name of their collection."""
        for part in self.guide.layers:
            if (part.catalog or self.catalog) != self.catalogs[part.collection]:
                raise ValueError(f"collection {part.collection!r} comes from two catalogues; one name, one catalogue")
        return self

    def catalog_of(self, collection: str) -> CatalogSpec:
        """Where the items of a collection come from; the map's catalogue for one that the map does not read."""
        return self.catalogs.get(collection, self.catalog)

    @property
    def scale(self) -> int:
        """Source pixel / target pixel.

        Raises:
            GridError: If it is not a whole number.
        """
        return self.map_grid.scale

    @cached_property
    def map_grid(self) -> MapGrid:
        """The output grid.

        Raises:
            GridError: If the source does not nest in it or the area cannot be projected.
        """
        return MapGrid.cover(
            self.area.geometry,
            crs=self.grid.crs,
            resolution=self.grid.resolution,
            source_resolution=self.source.resolution,
            tile_px=self.grid.tile,
            chunk_px=self.grid.chunk,
        )

    @cached_property
    def digest(self) -> str:
        """Sha256 of everything that can change a pixel; names, locations and the catalogue's address are left out."""
        content = self.model_dump(mode="json", exclude={"name", "area", "catalog", "store"})
        content["model"].pop("weights")  # the weights enter a task through their own sha256
        content["provider"] = Path(self.catalog.provider).stem
        for part in (*content["guide"]["layers"], content["source"]):
            part.pop("catalog")
        content["catalogs"] = {
            name: [Path(home.provider).stem, home.override]
            for name, home in self.catalogs.items()
            if home != self.catalog or home.override
        }
        content["area"] = self.area.geometry.wkb_hex
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()

    @cached_property
    def guide_digest(self) -> str:
        """Sha256 of everything that can change a pixel of the guide, whatever is made of it.

        Source, model, target and consistency are left out, and so is the area: a stored guide has a grid of its own.
        """
        content = self.model_dump(mode="json", include={"period", "grid", "guide"})
        for layer in content["guide"]["layers"]:
            layer.pop("catalog")
        homes = {layer.collection: self.catalogs[layer.collection] for layer in self.guide.layers}
        content["catalogs"] = {name: [Path(home.provider).stem, home.override] for name, home in homes.items()}
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()

    def to_yaml(self) -> str:
        """The description as YAML, defaults included."""
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False)

    def _repr_html_(self) -> str:
        """What a notebook shows."""
        west, south, east, north = self.area.geometry.bounds
        facts = {
            "area": f"{west:.4g} to {east:.4g} degrees east, {south:.4g} to {north:.4g} north",
            "period": f"{self.period.start} to {self.period.end}",
            "grid": f"{self.grid.crs}, pixels of {self.grid.resolution}, tiles of {self.grid.tile} px",
            "source": f"{self.source.collection} ({self.source.variable}), pixels of {self.source.resolution}",
            "guide": "; ".join(f"{layer.collection}: {' '.join(layer.bands)}" for layer in self.guide.layers),
            "seasons": ", ".join(self.guide.seasons),
            "model": f"{self.model.name}, consistency {self.consistency}",
            "target": f"{self.target.long_name} ({self.target.units})",
            "store": self.store,
            "digest": self.digest[:12],
        }
        return show_area(f"Map {self.name}", facts, self.area.geometry, find_grid=lambda: self.map_grid)


def parse_spec(content: object, *, base: Path) -> MapSpec:
    """Validate a map description.

    Args:
        content: What the YAML holds.
        base: Directory that relative paths refer to.

    Raises:
        SpecError: With one line for each fault: where, what was got, what is allowed.
    """
    if not isinstance(content, dict):
        raise SpecError(f"a map description is a YAML mapping, got {type(content).__name__}")
    try:
        return MapSpec.model_validate(_absolute_paths(content, base.absolute()))
    except ValidationError as error:
        raise SpecError(describe_faults(error, "map")) from error


def read_spec(path: Path | str) -> MapSpec:
    """Read and validate a map description.

    Raises:
        SpecError: If the file cannot be read, is not YAML, or describes no valid map.
    """
    path = Path(path)
    content = read_yaml(path)
    try:
        return parse_spec(content, base=path.parent)
    except SpecError as error:
        raise SpecError(f"{path}: {error}") from error


def _absolute_paths(content: dict[str, Any], base: Path) -> dict[str, Any]:
    """Make the paths of a description absolute; everything else is left for validation."""
    result = absolute_in(content, base, "store")
    for part, *keys in (("area", "geojson"), ("catalog", "href", "provider"), ("model", "weights")):
        result[part] = absolute_in(result.get(part), base, *keys)
    result["source"] = _absolute_catalog(result.get("source"), base)
    if isinstance(result.get("guide"), dict) and isinstance(result["guide"].get("layers"), list):
        layers = [_absolute_catalog(layer, base) for layer in result["guide"]["layers"]]
        result["guide"] = {**result["guide"], "layers": layers}
    return {key: value for key, value in result.items() if key in content}


def _absolute_catalog(part: Any, base: Path) -> Any:
    has_home = isinstance(part, dict) and "catalog" in part
    return {**part, "catalog": absolute_in(part["catalog"], base, "href", "provider")} if has_home else part
