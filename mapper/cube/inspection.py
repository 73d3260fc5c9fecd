"""Inspection of an item without reading it: asset, grid and calibration of every band, or why it is refused."""

from collections.abc import Iterator
from dataclasses import dataclass

from mapper.catalog.items import ItemDict, item_datetime
from mapper.catalog.provider import CollectionRule, Provider, name_pass
from mapper.cube.calibrate import decide, missing_values
from mapper.cube.declaration import read_declaration
from mapper.cube.observations import group_items
from mapper.cube.projection import find_place
from mapper.errors import SpecError


@dataclass(frozen=True, kw_only=True)
class BandReading:
    """Reading of one band of one item; fields that are unknown are empty."""

    item: str
    collection: str
    band: str = ""
    asset: str = ""
    crs: str = ""
    resolution: float | None = None
    """Pixel size along x, in units of the CRS."""
    dtype: str = ""
    nodata: tuple[float, ...] = ()
    """Stored values that are taken for missing."""
    calibration: str = ""
    """Calibration, and the reason for it."""
    image: str = ""
    """Name of the pass that the item belongs to."""
    place: str = ""
    """Contradiction in what the item says of its place, decided by the header of its file; empty if there is none."""
    error: str = ""
    """Reason why the item is refused; empty if it can be read."""


def inspect_item(item: ItemDict, provider: Provider) -> tuple[BandReading, ...]:
    """Return how a reader would read each band of an item, without opening a file.

    Returns:
        One row for each band that the item holds; one with an error if it cannot be read.
    """
    name, collection = str(item.get("id", "")), str(item.get("collection", ""))
    try:
        rule = provider.rule(collection)
        _require_item(item, rule)
        return tuple(_inspect_bands(item, rule))
    except SpecError as error:
        return (BandReading(item=name, collection=collection, error=str(error)),)


def _inspect_bands(item: ItemDict, rule: CollectionRule) -> Iterator[BandReading]:
    held = [band for band in rule.bands if rule.asset(item, band)]
    group_items([item], rule, held)
    for band in held:
        asset = rule.bands[band].asset
        place = find_place(item, asset)
        grid, crs = place.grid, place.crs
        yield BandReading(
            item=item["id"],
            collection=item["collection"],
            band=band,
            asset=asset,
            crs="" if crs is None else crs.to_string() if crs.to_epsg() is None else f"EPSG:{crs.to_epsg()}",
            resolution=None if grid is None else abs(grid.transform.a),
            dtype=read_declaration(item, asset, trust=rule.trust).dtype or rule.dtype,
            nodata=missing_values(item, rule, band),
            calibration=str(decide(item, rule, band)),
            image=name_pass(item, rule),
            place=place.doubt,
        )


def _require_item(item: ItemDict, rule: CollectionRule) -> None:
    """Refuse anything that is not a readable item.

    Raises:
        SpecError: Saying what it lacks.
    """
    name = item.get("id")
    if not name:
        raise SpecError("the item has no id: it is a template")
    try:
        item_datetime(item)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise SpecError(f"item {name} has neither a datetime nor a start_datetime") from error
    assets = item.get("assets") or {}
    if not isinstance(assets, dict) or not all(isinstance(asset, dict) for asset in assets.values()):
        raise SpecError(f"item {name} has assets that are none")
    if not assets:
        raise SpecError(f"item {name} has no assets: there is nothing to read")
    if not any(rule.asset(item, band) for band in rule.bands):
        wanted = sorted({band.asset for band in rule.bands.values()})
        raise SpecError(
            f"item {name} holds none of the bands: assets {', '.join(wanted)} are looked for, it has "
            f"{', '.join(sorted(assets))}"
        )
    if rule.mask is not None and rule.mask.asset not in assets:
        raise SpecError(f"item {name} has no mask asset {rule.mask.asset}: which pixels are clear cannot be told")
    unplaced = [key for key in rule_assets(rule) if key in assets and not assets[key].get("href")]
    if unplaced:
        raise SpecError(f"item {name} gives no location for asset {', '.join(unplaced)}")


def rule_assets(rule: CollectionRule) -> tuple[str, ...]:
    """Return the asset keys that a rule reads, the mask's among them."""
    mask = [rule.mask.asset] if rule.mask else []
    return tuple(dict.fromkeys([*(band.asset for band in rule.bands.values()), *mask]))
