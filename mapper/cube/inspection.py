"""Inspection of an item: asset, grid and calibration of every band, or why it is refused.

Nothing is opened unless it is asked for; then the header of each file is held against what item and collection say.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from mapper.access.files import Access, gdal_environment
from mapper.catalog.items import ItemDict, item_datetime, name_asset
from mapper.catalog.provider import CollectionRule, Provider, name_pass
from mapper.cube.agreement import ContradictionError, decide_reading, describe_belief, describe_header
from mapper.cube.belief import believe_band, believe_mask
from mapper.cube.calibrate import decide, missing_values
from mapper.cube.declaration import read_declaration
from mapper.cube.header import Header
from mapper.cube.observations import group_items
from mapper.cube.projection import find_place
from mapper.errors import AssetError, SpecError


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Comparison of a file's header with what is said of it, in one property."""

    property: str
    believed: str
    """Statement of item and collection; empty where they are silent."""
    found: str
    """Statement of the file; empty where it is silent."""
    decision: str
    """Value that counts, by the rules of :mod:`mapper.cube.agreement`."""


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
    compared: tuple[Comparison, ...] = ()
    """Facts of the file, by property; empty if it was not opened."""


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


def open_item(item: ItemDict, provider: Provider, *, access: Access | None = None) -> tuple[BandReading, ...]:
    """Return how a reader reads each band of an item, its mask among them, with the headers of their files.

    Args:
        item: STAC item with absolute locations.
        provider: How its collection is read.
        access: How files are reached, and who counts.
    """
    readings = inspect_item(item, provider)
    if readings[0].error:
        return readings
    rule, reach = provider.rule(item["collection"]), access or Access()
    opened = [replace(each, **_open_band(item, rule, each.band, reach)) for each in readings]
    if rule.mask is not None:
        mask = replace(readings[0], band="mask", asset=rule.mask.asset, nodata=(), calibration=rule.mask.rule, dtype="")
        opened.append(replace(mask, **_open_band(item, rule, "", reach)))
    return tuple(opened)


def _open_band(item: ItemDict, rule: CollectionRule, band: str, access: Access) -> dict[str, Any]:
    """Return the comparison of the file of one band, and why it is refused; of the mask if no band is given."""
    belief = believe_band(item, rule, band) if band else believe_mask(item, rule)
    asset = rule.bands[band].asset if band else (rule.mask.asset if rule.mask else "")
    name = name_asset(item, asset)
    try:
        with gdal_environment():
            header = access.read(name, rule.access, lambda dataset: Header.of(dataset, name.href))
    except AssetError as error:
        return {"error": str(error)}
    believed, found = describe_belief(belief), describe_header(header)
    notes, refused = {}, {}
    try:
        notes = dict(decide_reading(header, belief).notes)
    except ContradictionError as error:
        refused = {error.subject: f"refused: {error}"}
    compared = tuple(
        Comparison(
            property=subject,
            believed=believed[subject],
            found=found[subject],
            decision=refused.get(subject) or notes.get(subject) or _agree_on(believed[subject], found[subject]),
        )
        for subject in found
    )
    return {"compared": compared, "error": next(iter(refused.values()), "").removeprefix("refused: ")}


def _agree_on(believed: str, found: str) -> str:
    """Return what counts where nobody contradicts."""
    if believed and found:
        return "agree"
    return "item and collection" if believed else "the file" if found else ""


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
            dtype=read_declaration(item, asset, trust=rule.trust, band=rule.bands[band].band or band).dtype
            or rule.dtype,
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
