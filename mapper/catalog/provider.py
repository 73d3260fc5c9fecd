"""Descriptions of the archives: one YAML file each in ``catalogs/``, no code; and the JSON schema of these files.

A provider says where items are, how our band names map to its assets, how its files are reached, and which rule turns
stored numbers into physical units. The files ship inside the wheel; a path to a YAML file of one's own works wherever a
name does, and ``extends: NAME`` at its top makes it a few changes to another provider.
"""

import json
from collections.abc import Mapping
from datetime import UTC, date, timedelta
from fnmatch import fnmatchcase
from functools import cached_property
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import Field, PositiveInt, ValidationError, field_validator, model_validator

from mapper.access.admission import is_remote
from mapper.access.rules import AccessRule
from mapper.catalog.footprint import central_longitude
from mapper.catalog.items import ItemDict, item_datetime
from mapper.catalog.scene import SceneRule, spell_platform
from mapper.description import JsonDict, Part, describe_faults, drop_titles, parse_yaml
from mapper.errors import SpecError
from mapper.spec import CatalogSpec, MapSpec

_EXTENDS = "Provider that this one is, but for what is written here: a name, or a path from this file."
_LARGEST_CODE = 2**24
"""Largest whole number up to which single precision tells all apart: stored numbers are read as such."""
_ABOVE_GROUND = "canopy_height"
"""Our name of a band of heights that stand on the ground, whatever the datum."""
_LIKE = "Collection of the same provider that this one is, but for what is written here."


class MaskRule(Part):
    """Rule for the pixels of an item that are not to be used."""

    asset: str
    """Key of the asset that holds the mask."""
    band: PositiveInt | str | None = None
    """Number, from 1, or name of the band in its file, where the file has several."""
    rule: Literal["classes", "above", "bits"]
    """``classes``: a pixel whose value is listed is bad; ``above``: a pixel greater than ``limit`` is bad;
    ``bits``: a pixel with any of these bits set (0 is the lowest) is bad."""
    classes: tuple[int, ...] = ()
    """Values of bad pixels, for ``classes``."""
    limit: float = 0
    """Greatest value of a good pixel, for ``above``."""
    bits: tuple[int, ...] = ()
    """Positions of the bits of bad pixels, for ``bits``."""
    nodata: int | None = None
    """Value of the mask itself that means no data; such pixels are bad too."""


class BandRule(Part):
    """Rule that locates one band; in YAML a bare asset key will do."""

    asset: str
    """Key of the asset."""
    band: PositiveInt | str | None = None
    """Number, from 1, or name of the band in its file. Null: the only band of a file; where a file has several, that
    which the item or the file names as we do."""
    items: str = "*"
    """Pattern of the ids of the items that hold the band, where one collection holds different things."""
    classes: tuple[Annotated[int, Field(ge=-_LARGEST_CODE, le=_LARGEST_CODE)], ...] = ()
    """Stored codes that make the band an indicator, of units 1: 1 where the asset has one of these codes, 0 where it
    has another, missing where it has none. It is read by nearest neighbour and never averaged: of several items the
    first that has a code counts. Empty: the band is what is stored."""


class CollectionRule(Part):
    """Rule by which one collection is read."""

    bands: dict[str, BandRule] = Field(min_length=1)
    """Band rules by our band name (B02, vv, agb): an asset key, or a mapping; null removes an inherited band."""
    units: str
    """CF units after calibration: ``1`` for reflectance, ``dB``, ``Mg ha-1``."""
    calibration: Literal["sentinel-2", "linear-power", "decibel", "identity"]
    """``sentinel-2``: reflectance from digital numbers, the offset decided per item; ``linear-power``: gamma0 to dB;
    ``decibel``: already dB; ``identity``: physical after the scale and offset that an item declares."""
    scale: float = Field(default=1.0, gt=0)
    """Scale of items that declare none: stored * scale + offset is physical (``sentinel-2`` knows its own). Where it is
    1 and the item is silent, the header of a file counts."""
    offset: float = 0.0
    """Offset of items that declare none; where it is 0 and the item is silent, the header of a file counts."""
    dtype: str
    """Type of the stored numbers, for estimates; files know their own."""
    nodata: Annotated[float, Field(allow_inf_nan=True)] | None
    """Stored value that means no data, besides what an item and the header of a file declare; null: every value is real
    unless one of them says otherwise."""
    mask: MaskRule | None = None
    """Rule for the pixels that are not to be used; null: all are used."""
    zero_is_border: bool = False
    """True where stored zeros are borders, not measurements (Sentinel-1)."""
    reducer: Literal["median", "mean"] = "median"
    """Reducer of many dates to one image; the mean of decibels is that of their power."""
    resampling: Literal["nearest", "bilinear", "cubic"] = "bilinear"
    """Resampling of pixels onto the grid of a map."""
    mtf: dict[str, Annotated[float, Field(gt=0, lt=1)]] = Field(default_factory=dict)
    """Modulation of the instrument by our band name, at the Nyquist frequency of the band's own pixels; training by
    Wald's protocol imitates it. A band without one is taken as a mean over its pixels."""
    resampled: Literal["cubic-spline"] | None = None
    """Interpolation by which the archive laid the instrument's pixels onto the lattice of its files; null: none, or
    nobody says."""
    group_by: tuple[str, ...] = ("platform", "sat:orbit_state", "sat:relative_orbit")
    """Properties that separate passes, besides the solar day."""
    scene: SceneRule = SceneRule()
    """Rule that tells which items are processings of one scene: of these the newest counts."""
    vertical_datum: str | None = None
    """Vertical datum of its heights, a code such as ``EPSG:3855``; null: it holds none, or nobody says."""
    heights: Literal["surface", "ground"] | None = None
    """Heights of the ``surface``, with trees and buildings on it, or of the bare ``ground``; null: nobody says."""
    trust: Literal["none", "flag", "declaration", "baseline", "file"] = "none"
    """Evidence that decides where an item contradicts itself or the header of its file: the flag that its offset was
    applied, its declaration, its processing baseline, or the file; ``none`` refuses such an item. ``declaration`` takes
    the values that mean no data from item and collection alone."""
    refused: str | None = None
    """Reason not to use the collection; a map that knows better overrides it with null."""
    access: AccessRule = AccessRule()
    """Rule of access to its files."""

    @field_validator("bands", mode="before")
    @classmethod
    def _expand(cls, bands: object) -> object:
        if not isinstance(bands, Mapping):
            return bands
        return {
            name: {"asset": band} if isinstance(band, str) else band for name, band in bands.items() if band is not None
        }

    @model_validator(mode="after")
    def _check_scale(self) -> Self:
        if self.calibration == "sentinel-2" and (self.scale, self.offset) != (1, 0):
            raise ValueError("scale and offset of sentinel-2 are decided for every item: leave them out")
        lost = [name for name, band in self.bands.items() if self.nodata in band.classes]
        if lost:
            raise ValueError(f"classes of {', '.join(lost)} list {self.nodata:g}, the stored value that means no data")
        if self.mask is not None and self.mask.rule != "above" and not getattr(self.mask, self.mask.rule):
            raise ValueError(f"a mask by {self.mask.rule} has to list {self.mask.rule}")
        return self

    def units_of(self, band: str) -> str:
        """Return the CF units of one of our bands: those of the collection, ``1`` for an indicator of classes."""
        return "1" if self.bands[band].classes else self.units

    def may_be_height(self, band: str) -> bool:
        """Return True for a band that is a height above a datum where its collection has one.

        Indicators of classes are none, and a canopy height is above the ground.
        """
        return band != _ABOVE_GROUND and not self.bands[band].classes

    def asset(self, item: ItemDict, band: str) -> str | None:
        """Return the key of the asset of an item that holds one of our bands; None if the item does not hold it."""
        rule = self.bands[band]
        return rule.asset if rule.asset in item["assets"] and fnmatchcase(str(item["id"]), rule.items) else None


class Provider(Part):
    """Description of one archive."""

    name: str
    """Name that maps use: that of its file, without ``.yaml``."""
    title: str
    """Title for people."""
    kind: Literal["api", "static"]
    """Kind of catalogue: a STAC API that is searched, or a static ``catalog.json``."""
    endpoint: str | None = None
    """Address of the STAC API, or of the static ``catalog.json``, also as a path from this file; a map's
    ``catalog.href`` goes first."""
    access: AccessRule = AccessRule()
    """Rule of access to files, unless a collection has its own."""
    licence: str
    """Licence of the data; where it differs by collection, the licence of each."""
    attribution: str
    """Attribution that a map made from the data must carry."""
    collections: dict[str, CollectionRule]
    """Collection rules by the archive's name of the collection."""

    @model_validator(mode="before")
    @classmethod
    def _inherit(cls, content: object) -> object:
        """Complete collections: first from the one that they are ``like``, then from the provider."""
        if not isinstance(content, Mapping) or not isinstance(content.get("collections"), Mapping):
            return content
        collections = {name: _resolve_like(content["collections"], name) for name in content["collections"]}
        if "access" in content:
            base = {"access": content["access"]}
            collections = {
                name: merge(base, rule) if isinstance(rule, Mapping) else rule for name, rule in collections.items()
            }
        return {**content, "collections": collections}

    def rule(self, collection: str) -> CollectionRule:
        """Return the rule of one collection.

        Raises:
            SpecError: If the provider does not describe it, or refuses it.
        """
        if collection not in self.collections:
            raise SpecError(f"unknown collection {collection!r}: {self.name} has {', '.join(sorted(self.collections))}")
        rule = self.collections[collection]
        if rule.refused:
            raise SpecError(f"collection {collection} of {self.name} is refused: {rule.refused}")
        return rule

    @cached_property
    def assets(self) -> dict[str, frozenset[str]]:
        """Return the asset keys that are ever read, by collection."""
        return {
            name: frozenset(band.asset for band in rule.bands.values()) | ({rule.mask.asset} if rule.mask else set())
            for name, rule in self.collections.items()
        }


def provider_names() -> list[str]:
    """Return the names of the providers that ship with mapper."""
    return sorted(path.name.removesuffix(".yaml") for path in _catalogs().iterdir() if path.name.endswith(".yaml"))


def load_provider(name: str, *, override: Mapping[str, Any] | None = None) -> Provider:
    """Load a provider by name, or from a path that ends in ``.yaml``.

    Args:
        name: Of the provider, or the path.
        override: What to change of its description, as nested mappings.

    Raises:
        SpecError: If there is no such provider or its description is wrong.
    """
    try:
        return Provider.model_validate(merge(_read_description(name, ()), override or {}))
    except ValidationError as error:
        raise SpecError(
            f"provider {name!r} is not valid: {' '.join(describe_faults(error, 'provider').split())}"
        ) from error


def merge(base: Mapping[str, Any], change: Mapping[str, Any]) -> dict[str, Any]:
    """Merge changes into a nested mapping: mappings are merged, everything else is replaced."""
    merged = dict(base)
    for key, value in change.items():
        old = merged.get(key)
        merged[key] = merge(old, value) if isinstance(old, Mapping) and isinstance(value, Mapping) else value
    return merged


def _read_description(name: str, above: tuple[str, ...]) -> dict[str, Any]:
    """Read the content of a provider's file, merged into the one that it extends."""
    path = Path(name) if name.endswith((".yaml", ".yml")) else _catalogs() / f"{name}.yaml"
    try:
        content = parse_yaml(path.read_bytes())
    except OSError as error:
        raise SpecError(f"unknown provider {name!r}: mapper ships {', '.join(provider_names())}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise SpecError(f"provider {name!r} is not valid: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict):
        raise SpecError(f"provider {name!r} is not valid: a mapping is expected, got {type(content).__name__}")
    endpoint = content.get("endpoint")
    if isinstance(endpoint, str) and not is_remote(endpoint) and (path.parent / endpoint).is_file():
        content["endpoint"] = str((path.parent / endpoint).absolute())
    parent = content.pop("extends", None)
    if parent is None:
        return content
    if parent in above:
        raise SpecError(f"provider {name!r} is not valid: {' extends '.join([*above, str(parent)])}")
    near = path.parent / str(parent)
    found = str(near) if str(parent).endswith((".yaml", ".yml")) else str(parent)
    return merge(_read_description(found, (*above, str(parent))), content)


def _resolve_like(collections: Mapping[str, Any], name: str, above: tuple[str, ...] = ()) -> Any:
    """Return the description of a collection, merged into the one that it is like."""
    content = collections[name]
    if not isinstance(content, Mapping) or "like" not in content:
        return content
    parent = content["like"]
    if parent not in collections or parent in (*above, name):
        raise ValueError(f"collection {name} is like {parent!r}, which is not another collection of the provider")
    own = {key: value for key, value in content.items() if key != "like"}
    return merge(_resolve_like(collections, parent, (*above, name)), own)


def _catalogs() -> Path:
    """Return the catalogs directory: inside an installed wheel, else at the top of the checkout."""
    package = Path(str(resources.files("mapper")))
    installed = package / "catalogs"
    return installed if installed.is_dir() else package.parent / "catalogs"


def provider_of(spec: MapSpec) -> Provider:
    """Return one provider that describes every collection of a map, and those of its main catalogue besides.

    Raises:
        SpecError: If a provider is unknown, or does not describe what is asked of it.
    """
    main = provider_at(spec.catalog)
    others = {name: provider_at(home) for name, home in spec.catalogs.items() if home != spec.catalog}
    if not others:
        return main
    providers = {provider.name: provider for provider in (main, *others.values())}
    return main.model_copy(
        update={
            "name": " + ".join(providers),
            "title": " + ".join(provider.title for provider in providers.values()),
            "licence": "; ".join(f"{name}: {provider.licence}" for name, provider in providers.items()),
            "attribution": "; ".join(dict.fromkeys(provider.attribution for provider in providers.values())),
            "collections": main.collections | {name: provider.rule(name) for name, provider in others.items()},
        }
    )


def provider_at(home: CatalogSpec) -> Provider:
    """Return the provider of a catalogue, with the overrides of the map.

    Raises:
        SpecError: If it is unknown or not valid.
    """
    return load_provider(home.provider, override=home.override)


def location_of(home: CatalogSpec) -> str:
    """Return the location of a catalogue: its own href, else the provider's endpoint.

    Raises:
        SpecError: If there is neither.
    """
    provider = provider_at(home)
    location = home.href or provider.endpoint
    if location is None:
        raise SpecError(f"provider {provider.name} has no endpoint of its own: give catalog.href")
    return location


def name_pass(item: ItemDict, rule: CollectionRule) -> str:
    """Name the pass that an item is from: the solar day, and the values that the rule separates passes by."""
    flown = [spell_platform(item["properties"].get(name)) for name in rule.group_by]
    return " ".join(filter(None, [solar_day(item).isoformat(), *flown]))


def solar_day(item: ItemDict) -> date:
    """Return the day by the sun over the item: one pass must not fall on two days where it crosses midnight UTC."""
    moment = item_datetime(item).astimezone(UTC)
    return (moment + timedelta(hours=central_longitude(item) / 15)).date()


def provider_schema() -> JsonDict:
    """Return the schema of a provider file as it is written: with inheritance, and bands as bare asset keys."""
    schema = Provider.model_json_schema()
    definitions: JsonDict = schema["$defs"]
    for definition in definitions.values():
        drop_titles(definition)
    drop_titles(schema)
    collection = definitions["CollectionRule"]
    collection["properties"]["like"] = {"type": "string", "description": _LIKE}
    bands = collection["properties"]["bands"]
    bands.pop("minProperties", None)
    bands["additionalProperties"] = {
        "anyOf": [
            {"type": "string", "description": "Key of the asset."},
            {"$ref": "#/$defs/BandRule"},
            {"type": "null", "description": "Removes an inherited band."},
        ]
    }
    schema["properties"]["extends"] = {"type": "string", "description": _EXTENDS}
    whole = {"anyOf": [{"required": collection.pop("required")}, {"required": ["like"]}]}
    alone = {
        "required": schema.pop("required"),
        "properties": {"collections": {"additionalProperties": whole}},
    }
    schema |= {"if": {"not": {"required": ["extends"]}}, "then": alone}
    head = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Provider of mapper",
        "description": "One archive: where its items are, what their assets are called, how they are calibrated.",
    }
    return head | {key: value for key, value in schema.items() if key not in head}


def format_schema() -> str:
    """Return the schema as the text of ``provider.schema.json``."""
    return json.dumps(provider_schema(), indent=2) + "\n"
