"""Observations: items that make one image, of the same pass of the same satellite, calibrated alike.

Items of one pass are cut out of one recording; where they overlap, the first valid pixel wins, in the order of tile,
time and id: archives give the tiles of a pass the time of the pass or one of their own, and would differ otherwise.
Items of another day, satellite, orbit or calibration are observations of their own.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from mapper.catalog.items import ItemDict, Items, item_datetime
from mapper.catalog.provider import CollectionRule, name_pass
from mapper.catalog.uses import ItemUse, Role
from mapper.cube.calibrate import Calibration, decide
from mapper.cube.projection import declared_crs
from mapper.cube.witness import Witness
from mapper.errors import SpecError

_TILES = ("grid:code", "s2:mgrs_tile")
_SLANT = ("GRD", "SLC", "OCN", "RAW")
"""Types of Sentinel-1 products in the geometry of the radar."""

Numbers = tuple[tuple[str, float, float], ...]


@dataclass(frozen=True, kw_only=True)
class Observation:
    """Items that make one image."""

    id: str
    """Solar day, platform and orbit, for example ``2020-06-01 sentinel-2a descending 65``."""
    time: datetime
    """Time of the first item; UTC without time zone, as numpy wants it."""
    items: tuple[ItemDict, ...]
    """Items, ordered by tile, time and id."""
    calibrations: Mapping[str, Calibration]
    """Calibrations by our band name, for the bands that any of the items has."""


def group_items(
    items: Iterable[ItemDict],
    rule: CollectionRule,
    bands: Sequence[str],
    *,
    name: Callable[[ItemDict, CollectionRule], str] = name_pass,
) -> tuple[Observation, ...]:
    """Sort items into images and return them, ordered by time.

    Which image an item belongs to depends on that item alone, so that it is the same in every tile.

    Args:
        items: Items of one collection.
        rule: How the collection is read.
        bands: Our names of the bands that are asked for.
        name: Names the image of an item; items that are calibrated differently are never in one.

    Raises:
        SpecError: If the calibration of an item cannot be decided, or its pixels lie in the geometry of the radar.
    """
    groups: dict[tuple[str, Numbers], list[ItemDict]] = {}
    decided: dict[tuple[str, Numbers], dict[str, Calibration]] = {}
    for item in sorted(items, key=lambda item: (_utc(item), str(item["id"]))):
        calibrations = {band: decide(item, rule, band) for band in bands if rule.asset(item, band)}
        for band in calibrations:
            require_grid(item, rule.bands[band].asset)
        key = name(item, rule), _numbers_of(calibrations)
        groups.setdefault(key, []).append(item)
        decided[key] = calibrations | decided.get(key, {})
    return tuple(
        Observation(
            id=image,
            time=_utc(members[0]),
            items=tuple(sorted(members, key=_name_tile)),
            calibrations=decided[image, numbers],
        )
        for (image, numbers), members in groups.items()
    )


def select_band(group: Observation, rule: CollectionRule, band: str) -> Observation:
    """Return a group without the items that do not hold a band."""
    return replace(group, items=tuple(item for item in group.items if rule.asset(item, band)))


@dataclass(kw_only=True)
class HeldBands:
    """Bands and assets that the items of one collection hold, collected item by item."""

    rule: CollectionRule
    bands: Sequence[str]
    """Our names of the bands that are asked for."""
    count: int = 0
    found: set[str] = field(default_factory=set)
    """Bands that some item holds."""
    assets: set[str] = field(default_factory=set)

    def add(self, item: ItemDict) -> list[str]:
        """Add one more item; returns the bands that it holds."""
        held = [band for band in self.bands if self.rule.asset(item, band)]
        self.count += 1
        self.found.update(held)
        self.assets.update(item["assets"])
        return held

    def require(self, collection: str) -> None:
        """Check that every band exists in at least one item; without items there is nothing to check.

        Raises:
            SpecError: Naming the bands and the assets that were looked for.
        """
        absent = [f"{band} (asset {self.rule.bands[band].asset})" for band in self.bands if band not in self.found]
        if self.count and absent:
            raise SpecError(
                f"none of the {self.count} items of {collection} has band {', '.join(absent)}; "
                f"their assets are {', '.join(sorted(self.assets)) or 'none'}"
            )


def require_bands(items: Items, rule: CollectionRule, bands: Sequence[str]) -> None:
    """Check that every band is known and exists in at least one item; without items there is nothing to check.

    Raises:
        SpecError: Naming the bands and the assets that were looked for.
    """
    require_known(rule, bands)
    held_bands = HeldBands(rule=rule, bands=bands)
    for item in items:
        held_bands.add(item)
    held_bands.require(", ".join(sorted({item["collection"] for item in items})))


def require_known(rule: CollectionRule, bands: Sequence[str]) -> None:
    """Check that a collection has the bands that are asked for.

    Raises:
        SpecError: Naming those it has not.
    """
    unknown = [band for band in bands if band not in rule.bands]
    if unknown:
        raise SpecError(f"unknown band {', '.join(unknown)}: the collection has {', '.join(rule.bands)}")


def describe_use(
    item: ItemDict,
    rule: CollectionRule,
    bands: Iterable[str],
    *,
    role: Role,
    dropped: str = "",
    witness: Witness | None = None,
) -> ItemUse:
    """Return the provenance of one item in one tile, with what was taken from the headers of its files."""
    bands = tuple(bands)
    present = [band for band in bands if rule.asset(item, band)]
    absent = [band for band in bands if band not in present]
    notes = sorted({str(decide(item, rule, band)) for band in present}) + [f"no {band}" for band in absent]
    assets = [rule.bands[band].asset for band in present] + ([rule.mask.asset] if rule.mask else [])
    if witness is not None:
        places = {band: rule.bands[band].asset for band in present} | ({"": rule.mask.asset} if rule.mask else {})
        notes += dict.fromkeys(witness.notes(item, places))
    return ItemUse.of(
        item,
        role=role,
        hrefs=tuple(item["assets"][asset]["href"] for asset in assets if asset in item["assets"]),
        calibration="; ".join(notes),
        dropped=dropped,
    )


def _utc(item: ItemDict) -> datetime:
    return item_datetime(item).astimezone(UTC).replace(tzinfo=None)


def _name_tile(item: ItemDict) -> str:
    """Return the tile name of an item, for example ``33UUT``; empty if it names none."""
    tile = next((item["properties"][name] for name in _TILES if item["properties"].get(name)), "")
    return str(tile).removeprefix("MGRS-")


def _numbers_of(calibrations: Mapping[str, Calibration]) -> Numbers:
    """Return the numbers that make two calibrations the same; reasons may differ where the numbers do not.

    Where all bands of an item are calibrated alike, which of them it has is no difference.
    """
    numbers = {band: (each.rule, each.scale, each.offset) for band, each in calibrations.items()}
    distinct = sorted(set(numbers.values()))
    if len(distinct) > 1:
        return tuple((f"{band} {rule}", scale, offset) for band, (rule, scale, offset) in sorted(numbers.items()))
    return tuple(distinct)


def require_grid(item: ItemDict, asset: str) -> None:
    """Refuse radar images that are not on a grid: resampling them needs the terrain and the orbit."""
    kind = str(item["properties"].get("sar:product_type", "")).upper()
    if kind in _SLANT and declared_crs(item, asset) is None:
        raise SpecError(
            f"item {item['id']} is a {kind} product without a projection: its pixels lie in the geometry of the radar, "
            "with ground control points; use a terrain-corrected collection (Planetary Computer: sentinel-1-rtc)"
        )
