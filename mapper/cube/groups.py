"""Which items make one image: the same pass of the same satellite, calibrated alike.

Items of one pass are cut out of one recording; where they overlap, the first valid pixel in item order (time, id) wins.
Items of another day, satellite, orbit or calibration are observations of their own.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from shapely.geometry import shape

from mapper.catalog.items import ItemDict, Items, item_datetime
from mapper.catalog.provider import CollectionRule
from mapper.catalog.uses import ItemUse, Role
from mapper.cube.calibrate import Calibration, decide
from mapper.errors import SpecError


@dataclass(frozen=True, kw_only=True)
class Group:
    """Items that make one image."""

    id: str
    """Solar day, platform and orbit, for example ``2020-06-01 sentinel-2a descending 65``."""
    time: datetime
    """Of the first item; UTC without time zone, as numpy wants it."""
    items: tuple[ItemDict, ...]
    """Ordered by time and id."""
    calibrations: Mapping[str, Calibration]
    """By our band name, for the bands that any of the items has."""


def group_items(items: Iterable[ItemDict], rule: CollectionRule, bands: Sequence[str]) -> tuple[Group, ...]:
    """Sort items into images, ordered by time.

    Args:
        items: Items of one collection.
        rule: How the collection is read.
        bands: Our names of the bands that are asked for.

    Raises:
        SpecError: If the calibration of an item cannot be decided.
    """
    groups: dict[tuple[str, frozenset[tuple[float, float]]], list[ItemDict]] = {}
    decided: dict[tuple[str, frozenset[tuple[float, float]]], dict[str, Calibration]] = {}
    for item in sorted(items, key=lambda item: (_utc(item), item["id"])):
        calibrations = {band: decide(item, rule, band) for band in bands if rule.asset(item, band)}
        # reasons may differ where the numbers do not: such items are one observation
        numbers = frozenset((each.scale, each.offset) for each in calibrations.values())
        flown = [str(item["properties"].get(name, "")).lower() for name in rule.group_by]
        key = " ".join(filter(None, [_solar_day(item), *flown])), numbers
        groups.setdefault(key, []).append(item)
        decided[key] = calibrations | decided.get(key, {})
    return tuple(
        Group(id=name, time=_utc(members[0]), items=tuple(members), calibrations=decided[name, numbers])
        for (name, numbers), members in groups.items()
    )


def hold_band(group: Group, rule: CollectionRule, band: str) -> Group:
    """A group without the items that do not hold a band."""
    return replace(group, items=tuple(item for item in group.items if rule.asset(item, band)))


def require_bands(items: Items, rule: CollectionRule, bands: Sequence[str]) -> None:
    """Check that every band exists in at least one item; without items there is nothing to check.

    Raises:
        SpecError: Naming the bands and the assets that were looked for.
    """
    unknown = [band for band in bands if band not in rule.bands]
    if unknown:
        raise SpecError(f"unknown band {', '.join(unknown)}: the collection has {', '.join(rule.bands)}")
    found = {asset for item in items for asset in item["assets"]}
    absent = [
        f"{band} (asset {rule.bands[band].asset})"
        for band in bands
        if not any(rule.asset(item, band) for item in items)
    ]
    if len(items) and absent:
        collections = ", ".join(sorted({item["collection"] for item in items}))
        raise SpecError(
            f"none of the {len(items)} items of {collections} has band {', '.join(absent)}; "
            f"their assets are {', '.join(sorted(found)) or 'none'}"
        )


def describe_use(
    item: ItemDict, rule: CollectionRule, bands: Iterable[str], *, role: Role, dropped: str = ""
) -> ItemUse:
    """The provenance of one item in one tile."""
    present = [band for band in bands if rule.asset(item, band)]
    absent = [band for band in bands if band not in present]
    notes = sorted({str(decide(item, rule, band)) for band in present}) + [f"no {band}" for band in absent]
    assets = [rule.bands[band].asset for band in present] + ([rule.mask.asset] if rule.mask else [])
    return ItemUse.of(
        item,
        role=role,
        hrefs=tuple(item["assets"][asset]["href"] for asset in assets if asset in item["assets"]),
        calibration="; ".join(notes),
        dropped=dropped,
    )


def _utc(item: ItemDict) -> datetime:
    return item_datetime(item).astimezone(UTC).replace(tzinfo=None)


def _solar_day(item: ItemDict) -> str:
    """Day by the sun over the item: one pass must not fall on two days where it crosses midnight UTC."""
    west, _, east, _ = shape(item["geometry"]).bounds
    return (_utc(item) + timedelta(hours=(west + east) / 2 / 15)).date().isoformat()
