"""Scenes: which items of a collection are the same acquisition, and which of them was processed last.

Archives keep what they processed before. Two items are taken for processings of one scene only where both say so, by
the part of their ids that names the acquisition, or by their tile with datatake, data strip or moment: a scene that is
counted twice does less harm than one that is missing.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

import shapely
from pydantic import field_validator

from mapper.catalog.items import ItemDict, item_datetime, parse_datetime
from mapper.catalog.query import sound_footprint
from mapper.description import Part

_COVERED = 0.98
"""Share of a footprint that another has to cover to stand for it, where nothing but the moment tells scenes apart."""
_SENSING_START = re.compile(r"(?:^|_)S(\d{8}T\d{6})(?:_|$)")
_DATATAKE_VERSION = re.compile(r"_N\d\d\.?\d\d$")
_SATELLITE = re.compile(r"^s(?:entinel)?-?(\d)-?([a-d])$")
_NEVER = datetime.min.replace(tzinfo=UTC)


class SceneRule(Part):
    """Rule that tells which items are processings of one scene, and which is the newest.

    Of every list of properties the first counts that an item states.
    """

    acquisition: tuple[str, ...] = ()
    """Regular expressions of the part of an id that names the acquisition: their groups, or all that they match. The
    first that matches counts, and then neither tile nor moment does; a group named ``produced`` is the time of the
    processing."""
    tile: tuple[str, ...] = ("s2:mgrs_tile", "grid:code")
    """Properties that name the tile or frame; an item that states none is no version of another, but for
    ``footprint``."""
    datatake: tuple[str, ...] = ("s2:datatake_id", "eopf:datatake_id")
    """Properties that name the datatake; with tile and strip it counts instead of the moment, which a new processing
    may move."""
    strip: tuple[str, ...] = ("s2:datastrip_id", "eopf:datastrip_id")
    """Properties that name the data strip: two strips of one datatake that share a tile are different pixels."""
    version: tuple[str, ...] = ("s2:processing_baseline", "processing:version")
    """Properties that state the version of the processing, as numbers with dots; a higher one is newer."""
    produced: tuple[str, ...] = ("s2:generation_time", "processing:datetime", "created")
    """Properties that state when an item was processed; of equal versions the later one is newer."""
    footprint: bool = False
    """True where platform and moment name a scene if nothing else does, as of a radar; items must cover each other."""

    @field_validator("acquisition")
    @classmethod
    def _check(cls, patterns: tuple[str, ...]) -> tuple[str, ...]:
        for pattern in patterns:
            try:
                re.compile(pattern)
            except re.error as error:
                raise ValueError(f"{pattern!r} is no regular expression: {error}") from error
        return patterns


@dataclass(frozen=True, kw_only=True)
class Scene:
    """The scene that an item shows, and the version of it."""

    key: tuple[object, ...]
    """Values that the items of one scene have in common."""
    certain: bool
    """True where the key tells all scenes apart; else footprints have to cover each other too."""
    version: tuple[tuple[int, ...], datetime, str]
    """Version, time of processing, and id: the greater is newer, and no two items are equal."""


def identify_scene(item: ItemDict, rule: SceneRule) -> Scene | None:
    """Return the scene of an item; None if it does not say what it shows."""
    properties = item["properties"]
    found = _match(str(item["id"]), rule.acquisition)
    named = {} if found is None else found.groupdict()
    version = _numbers(_first(properties, rule.version)), _produced(properties, rule, named), str(item["id"])
    platform = spell_platform(properties.get("platform"))
    if found is not None:
        parts = [part for number, part in enumerate(found.groups(), 1) if number != found.re.groupindex.get("produced")]
        return Scene(key=(item["collection"], *(parts or [found[0]])), certain=True, version=version)
    tile = _first(properties, rule.tile)
    if tile is None and not (rule.footprint and platform):
        return None
    datatake, strip = _first(properties, rule.datatake), _first(properties, rule.strip)
    certain = tile is not None and strip is not None
    moment = None if certain and datatake is not None else item_datetime(item)
    taken = None if datatake is None else _DATATAKE_VERSION.sub("", str(datatake))
    key = (item["collection"], platform, moment, taken, _spell_tile(tile), _sensing_start(strip))
    return Scene(key=key, certain=certain, version=version)


def covers(item: ItemDict, other: ItemDict) -> bool:
    """Return True if the footprint of an item covers that of another, but for a sliver."""
    ours, theirs = sound_footprint(item), sound_footprint(other)
    if shapely.area(theirs) == 0:
        return bool(shapely.covers(ours, theirs))
    return bool(shapely.area(shapely.intersection(ours, theirs)) >= _COVERED * shapely.area(theirs))


def spell_platform(value: Any) -> str:
    """Return a platform or orbit in one spelling: archives write ``SENTINEL-1A``, ``Sentinel-1A`` and ``S1A``."""
    text = re.sub(r"[\s_]+", "-", str("" if value is None else value).strip().lower())
    found = _SATELLITE.match(text)
    return f"sentinel-{found[1]}{found[2]}" if found else text


@lru_cache(maxsize=256)
def _compile(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern)


def _match(name: str, patterns: Iterable[str]) -> re.Match[str] | None:
    return next((found for pattern in patterns if (found := _compile(pattern).search(name))), None)


def _stated(properties: dict[str, Any], names: Iterable[str]) -> Iterator[Any]:
    yield from (value for name in names if (value := properties.get(name)) not in (None, ""))


def _first(properties: dict[str, Any], names: Iterable[str]) -> Any:
    return next(_stated(properties, names), None)


def _spell_tile(tile: object) -> str:
    """Return a tile without the name of its grid: ``MGRS-06VVN``, ``6VVN`` and ``06VVN`` are one."""
    return str("" if tile is None else tile).upper().removeprefix("MGRS-").lstrip("0")


def _sensing_start(strip: object) -> str | None:
    """Return the sensing start of a data strip, equal in every processing of it; the whole name where it has none."""
    found = None if strip is None else _SENSING_START.search(str(strip))
    return found[1] if found else None if strip is None else str(strip)


def _numbers(version: object) -> tuple[int, ...]:
    """Return the numbers of a version: ``05.10``, ``N0510`` and ``5.10`` are one."""
    text = str("" if version is None else version)
    joined = re.fullmatch(r"[NV](\d\d)(\d\d)", text.upper())
    return tuple(int(part) for part in (joined.groups() if joined else re.findall(r"\d{1,9}", text)))


def _produced(properties: dict[str, Any], rule: SceneRule, named: dict[str, str]) -> datetime:
    for value in (*_stated(properties, rule.produced), named.get("produced")):
        try:
            return parse_datetime(value)
        except (TypeError, ValueError):
            continue
    return _NEVER
