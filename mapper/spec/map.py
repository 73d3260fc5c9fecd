"""The description of one map: one validated YAML file, and the digest that identifies it.

Everything that can change a pixel enters the digest; names and locations do not. Relative paths are relative to the
YAML file. Months are 1 to 12, units are CF strings, resolutions are in units of the grid's CRS and may be written as
fractions (``1/11250``), because decimal degrees are not exact.
"""

import hashlib
import json
from datetime import date
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import yaml
from pydantic import Field, ValidationError, model_validator

from mapper.description import Location, NameOrFile, Part, describe_faults, read_yaml
from mapper.errors import SpecError
from mapper.grid import MapGrid
from mapper.markup.cards import show_area
from mapper.presets import DEFAULT, fill_defaults
from mapper.redaction import redact_all
from mapper.spec.area import AreaSpec, GridSpec, PeriodSpec
from mapper.spec.inputs import CatalogSpec, GuideSpec, LayerSpec, SourceSpec, hash_grid
from mapper.spec.plausibility import GridRequest, make_grid
from mapper.spec.target import ConsistencySpec, ModelOptions, ModelSpec, TargetBand, TargetSpec


class MapSpec(Part):
    """One map, described completely. Read one with :func:`read_spec`."""

    preset: NameOrFile = DEFAULT
    """Kind of map whose defaults fill this description: a name from ``mapper presets``, or a YAML file."""
    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    """Name of the map; changes no pixel."""
    area: AreaSpec
    period: PeriodSpec
    grid: GridSpec
    catalog: CatalogSpec
    guide: GuideSpec = GuideSpec()
    source: SourceSpec
    model: ModelSpec
    target: TargetSpec
    consistency: ConsistencySpec = ConsistencySpec()
    store: Location
    """Directory, or s3://, gs://, az:// location."""

    @cached_property
    def targets(self) -> tuple[TargetBand, ...]:
        """Bands that are written, in the order of the store."""
        return self.target.resolve(self.source.band_names, source_has_sd=self.source.sd is not None)

    @cached_property
    def catalogs(self) -> dict[str, CatalogSpec]:
        """Archive of the items of each collection."""
        return {part.collection: part.catalog or self.catalog for part in self._parts}

    @property
    def _parts(self) -> tuple[LayerSpec | SourceSpec, ...]:
        """Return the layers of the guide, and the source at the end."""
        return (*self.guide.layers, self.source)

    @model_validator(mode="after")
    def _one_home(self) -> Self:
        """Check that a collection has one archive: items and rules are looked up by its name."""
        for part in self.guide.layers:
            if (part.catalog or self.catalog) != self.catalogs[part.collection]:
                raise ValueError(f"collection {part.collection!r} comes from two catalogues; one name, one catalogue")
        return self

    @model_validator(mode="after")
    def _pairs_bands(self) -> Self:
        """Check that each target band has a band of the source to be held against."""
        wanted, offered = len(self.targets), len(self.source.band_names)
        if wanted != offered:
            raise ValueError(
                f"{wanted} target bands ({', '.join(band.name for band in self.targets)}) are made from {offered} "
                f"bands of the source ({', '.join(self.source.band_names)}): expected one for each, in the same order"
            )
        unknown = sorted(self.consistency.bands.keys() - {band.name for band in self.targets})
        if unknown:
            raise ValueError(f"consistency.bands names {', '.join(unknown)}, which no target band is called")
        return self

    @model_validator(mode="after")
    def _shows_items(self) -> Self:
        """Check that a guide of the items of the source has a source that shows an item at each pixel."""
        for layer in self.guide.layers:
            if layer.items == "own":
                continue
            if not self.source.is_stack or self.source.anchor == "median" or layer.collection != self.source.collection:
                raise ValueError(
                    f"guide layer {layer.collection} takes the items of the source, which is a {self.source.kind} of "
                    f"{self.source.collection} with anchor {self.source.anchor}: expected a stack of the same "
                    "collection that shows single dates"
                )
        return self

    @model_validator(mode="after")
    def _shows_a_day_of_the_period(self) -> Self:
        """Check that a stack is asked for a day that it can have: the nearest one would be shown without a word."""
        anchor, period = self.source.anchor, self.period
        if isinstance(anchor, date) and not period.start <= anchor <= period.end:
            raise ValueError(
                f"source.anchor {anchor} lies outside the period {period.start} to {period.end}: expected a day of it"
            )
        return self

    @model_validator(mode="after")
    def _knows_quality(self) -> Self:
        """Check that there is something to say in each band of quality."""
        of_dates = [name for name in self.target.quality if name in ("n_dates", "anchor_days")]
        if of_dates and not self.source.is_stack:
            raise ValueError(f"target.quality: {', '.join(of_dates)} belongs to a stack of dates, the source is a map")
        units = sorted({band.units for band in self.targets})
        over_bands = [name for name in self.target.quality if name in _OVER_BANDS]
        if over_bands and len(units) > 1:
            raise ValueError(
                f"target.quality: {', '.join(over_bands)} is one band, those of the target have units "
                f"{', '.join(units)}: expected the same of all"
            )
        return self

    def catalog_of(self, collection: str) -> CatalogSpec:
        """Return the archive of a collection; the map's catalogue for one that the map does not read."""
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
        """Output grid.

        Raises:
            GridError: If it cannot be meant, the source does not nest in it, or the area cannot be projected.
        """
        asked = GridRequest(
            crs=self.grid.crs,
            resolution=self.grid.resolution,
            source_resolution=self.source.resolution,
            tile_px=self.grid.tile,
            chunk_px=self.grid.chunk,
        )
        return make_grid(self.area.geometry, asked)

    @cached_property
    def digest(self) -> str:
        """Sha256 of everything that can change a pixel; names, locations and the catalogue's address are left out."""
        content = self.model_dump(mode="json", exclude={"preset", "name", "area", "catalog", "store"})
        content["model"].pop("weights")  # the weights enter a task through their own sha256
        content["model"] = _without_defaults(content["model"], ModelSpec, "samples", "steps", "seed")
        if self.model.options in (None, ModelOptions()):
            del content["model"]["options"]
        content["source"] = _without_defaults(content["source"], SourceSpec, *_ADDED_TO_SOURCE)
        content["target"] = _identify_target(self.target)
        content["provider"] = Path(self.catalog.provider).stem
        for part, spec in zip((*content["guide"]["layers"], content["source"]), self._parts, strict=True):
            _identify_part(part, spec)
        content["catalogs"] = {
            name: [Path(home.provider).stem, home.override]
            for name, home in self.catalogs.items()
            if home != self.catalog or home.override
        }
        content["area"] = self.area.geometry.wkb_hex
        return _hash(content)

    @cached_property
    def guide_digest(self) -> str:
        """Sha256 of everything that can change a pixel of the guide, whatever is made of it.

        Source, model, target and consistency are left out, and so is the area: a stored guide has a grid of its own.
        """
        content = self.model_dump(mode="json", include={"period", "grid", "guide"})
        for layer, spec in zip(content["guide"]["layers"], self.guide.layers, strict=True):
            _identify_part(layer, spec)
        homes = {layer.collection: self.catalogs[layer.collection] for layer in self.guide.layers}
        content["catalogs"] = {name: [Path(home.provider).stem, home.override] for name, home in homes.items()}
        return _hash(content)

    def to_yaml(self, *, public: bool = False) -> str:
        """Return the description as YAML, defaults included.

        Args:
            public: True for what others read: addresses without secrets, of paths of this machine their names alone.
        """
        content = self.model_dump(mode="json")
        return yaml.safe_dump(redact_all(content, paths=True) if public else content, sort_keys=False)

    def _repr_html_(self) -> str:
        """Return what a notebook shows."""
        west, south, east, north = self.area.geometry.bounds
        source, seasons = self.source, ", ".join(self.guide.seasons)
        rows = {
            "area": f"{west:.4g} to {east:.4g} degrees east, {south:.4g} to {north:.4g} north",
            "period": f"{self.period.start} to {self.period.end}",
            "grid": f"{self.grid.crs}, pixels of {self.grid.resolution}, tiles of {self.grid.tile} px",
            "source": f"{source.collection} ({', '.join(source.band_names)}), pixels of {source.resolution}",
            "guide": "; ".join(f"{layer.collection}: {' '.join(layer.bands)}" for layer in self.guide.layers) or "none",
            **({"seasons": seasons} if seasons else {}),
            "model": f"{self.model.name}, consistency {self.consistency.mode}",
            "target": "; ".join(f"{band.long_name or band.name} ({band.units})" for band in self.targets),
            "store": self.store,
            "digest": self.digest[:12],
        }
        return show_area(f"Map {self.name}", rows, self.area.geometry, find_grid=lambda: self.map_grid)


_ADDED_TO_SOURCE = ("kind", "bands", "static", "resampling", "dates", "anchor", "cloud_limit", "orbit")
"""Keys that maps of before did not have: they enter a digest where they differ from their default."""
_OVER_BANDS = ("consistency_residual", "detail_gain", "risk")
"""Bands of quality that are of all bands of the target together."""
_NOT_OF_PIXELS = ("value_range", "classes", "sd_classes")
"""Keys of a target that no pixel depends on."""


def _identify_part(content: dict[str, Any], part: LayerSpec | SourceSpec) -> None:
    """Leave of a dumped layer or source what can change a pixel: no archive, and a grid of metres by its content.

    Raises:
        SpecError: If the grid cannot be read.
    """
    content.pop("catalog")
    if content.get("items") == "own":
        del content["items"]
    shift = content.pop("datum_shift")
    if isinstance(part.datum_shift, Path):
        content["datum_shift"] = hash_grid(part.datum_shift)
    elif shift is not None:
        content["datum_shift"] = shift


def _identify_target(target: TargetSpec) -> dict[str, Any]:
    """Return what of a target enters the digest, bounds that only say "not negative" as they were written before."""
    content = target.model_dump(mode="json", exclude=set(_NOT_OF_PIXELS))
    content = _without_defaults(content, TargetSpec, "heights", "vertical_datum", "quality", "samples")
    bounds = content.pop("bounds")
    if target.bounds in ((0, None), (None, None)):
        content["non_negative"] = target.non_negative
    else:
        content["bounds"] = bounds
    bands = content.pop("bands")
    if bands is not None:
        content["bands"] = bands if isinstance(bands, str) else [_strip(band, *_NOT_OF_PIXELS) for band in bands]
    return content if target.sd is not None else _strip(content, "sd")


def _without_defaults(content: dict[str, Any], part: type[Part], *keys: str) -> dict[str, Any]:
    """Return a dumped part without those of some keys that are as they are by default."""
    plain = json.loads(json.dumps({key: part.model_fields[key].default for key in keys}))
    return {key: value for key, value in content.items() if key not in plain or value != plain[key]}


def _strip(content: dict[str, Any], *keys: str) -> dict[str, Any]:
    return {key: value for key, value in content.items() if key not in keys}


def _hash(content: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def parse_spec(content: object, *, base: Path) -> MapSpec:
    """Validate a map description, the gaps of which its preset fills.

    Args:
        content: Content of the YAML file.
        base: Directory that relative paths refer to.

    Raises:
        SpecError: With one line for each fault: where, what was got, what is allowed.
    """
    if not isinstance(content, dict):
        raise SpecError(f"a map description is a YAML mapping, got {type(content).__name__}")
    try:
        return MapSpec.model_validate(fill_defaults(content, base=base.absolute()), context=base.absolute())
    except ValidationError as error:
        raise SpecError(describe_faults(error, "map")) from error


def read_spec(path: Path | str) -> MapSpec:
    """Read and validate a map description.

    For example::

        spec = mapper.read_spec("map.yaml")
        spec.map_grid.shape

    Raises:
        SpecError: If the file cannot be read, is not YAML, or describes no valid map.
    """
    path = Path(path)
    content = read_yaml(path)
    try:
        return parse_spec(content, base=path.parent)
    except SpecError as error:
        raise SpecError(f"{path}: {error}") from error
