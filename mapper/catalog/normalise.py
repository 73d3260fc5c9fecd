"""Normal form of an item: absolute, unsigned locations of its files, and only the fields that are read.

Properties stay whole, since they are provenance. Of the assets only those that the provider reads stay, of the
links only ``self``: a task carries its items, and an archive's item is mostly previews.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from shapely.errors import ShapelyError

from mapper.access.admission import PERSON, Document, find_refusal
from mapper.access.rules import AccessRule
from mapper.access.sign import unsign
from mapper.catalog.footprint import footprint, mend_geometry
from mapper.catalog.items import DOCUMENT_KEY, ItemDict, document_of, item_datetime, link_document
from mapper.catalog.provider import CollectionRule
from mapper.catalog.references import base_of, resolve
from mapper.catalog.scene import Scene, covers, identify_scene
from mapper.errors import SearchError, SpecError
from mapper.redaction import redact_all, redact_href

_FIELDS = ("type", "stac_version", "stac_extensions", "id", "collection", "geometry", "bbox", "properties")
_FARTHEST = 540.0, 91.0
"""Longitude and latitude in degrees beyond which no footprint lies, however it is wrapped and rounded."""
_UNUSABLE = (
    KeyError, TypeError, ValueError, AttributeError, ArithmeticError, RecursionError, ShapelyError, SpecError,
)  # fmt: skip
"""Errors of an item that is not what STAC says."""


def normalise_item(
    item: ItemDict,
    *,
    assets: frozenset[str],
    base: str = "",
    located: bool = False,
    document: Document = PERSON,
    harmless: tuple[str, ...] = (),
) -> ItemDict:
    """Return an item in its normal form.

    Args:
        item: STAC JSON.
        assets: Keys of the assets that stay.
        base: Location of the document that the item was in; the ``self`` link, relative to it, goes first. Empty where
            neither is there: relative locations then stay relative.
        located: True for an item whose locations are in normal form: paths in it are no references any more.
        document: Catalogue that the item was found in, see :func:`attribute_item`.
        harmless: Keys of the queries of addresses that stay; all others may be secrets.

    Raises:
        SearchError: If the item has no id, time, footprint or a file without a location.
    """
    try:
        _check_id(item["id"])
        base = base or document.location
        here = base_of(item, base)
        normal = {key: item[key] for key in _FIELDS if key in item}
        # STAC asks for the key, some servers leave out what is null: the item is the same
        normal["properties"] = redact_all({"datetime": None, **item["properties"]})
        # databases write 49.0 as 49: the location is the same
        normal["geometry"] = json.loads(json.dumps(mend_geometry(item)), parse_int=float)
        _check_bounds(footprint(normal).bounds)
        item_datetime(item)
        normal["links"] = [{"rel": "self", "href": redact_href(here)}] if here != base else []
        normal["links"] += [link for link in item.get("links") or () if located and DOCUMENT_KEY in link]
        normal["assets"] = {
            key: redact_all({**asset, "href": ""})
            | {"href": redact_href(_locate(key, asset, "" if located else here), harmless=harmless)}
            for key, asset in item["assets"].items()
            if key in assets
        }
    except _UNUSABLE as error:
        name = item.get("id", base) if isinstance(item, dict) else item
        raise SearchError(f"item {name!r} is not a usable STAC item: {error!r}") from error
    return attribute_item(normal, document)


def attribute_item(item: ItemDict, document: Document) -> ItemDict:
    """Return an item with a link to the catalogue that it was found in; as it is where a person names it."""
    if not document.location:
        return item
    return {**item, "links": [*(link for link in item["links"] if DOCUMENT_KEY not in link), link_document(document)]}


def find_refused(item: ItemDict, rule: AccessRule) -> str:
    """Return the first asset of an item whose file is not read, and the reason; empty if there is none."""
    document = document_of(item)
    for key, asset in item["assets"].items():
        refusal = find_refusal(str(asset["href"]), document, rule)
        if refusal:
            return f"asset {key} of item {item['id']} ({str(asset['href'])[:300]!r}): {refusal}"
    return ""


def drop_superseded(items: Iterable[ItemDict], rules: Mapping[str, CollectionRule]) -> tuple[list[ItemDict], list[str]]:
    """Drop what a newer processing of the same scene stands for; returns the others, and the ids that were dropped.

    Nothing is dropped that holds other pixels: the newer item has all bands of the older one, and where their scene is
    told by the moment alone, covers it.

    Args:
        items: Items of any collections.
        rules: Rules by collection; items of others stay.

    Returns:
        The items that stay, in order, and the ids of those that do not.
    """
    items, scenes = list(items), dict[tuple[object, ...], list[tuple[Scene, int]]]()
    for number, item in enumerate(items):
        rule = rules.get(item["collection"])
        scene = None if rule is None else identify_scene(item, rule.scene)
        if scene is not None:
            scenes.setdefault(scene.key, []).append((scene, number))
    dropped: set[int] = set()
    for versions in scenes.values():
        if len(versions) > 1:
            dropped.update(_find_superseded(items, versions, rules))
    return (
        [item for number, item in enumerate(items) if number not in dropped],
        sorted(str(items[number]["id"]) for number in dropped),
    )


def _find_superseded(
    items: Sequence[ItemDict], versions: list[tuple[Scene, int]], rules: Mapping[str, CollectionRule]
) -> Iterator[int]:
    """Yield the numbers of items that one of a newer version stands for."""
    kept: list[ItemDict] = []
    for scene, number in sorted(versions, key=lambda version: version[0].version, reverse=True):
        item = items[number]
        rule = rules[item["collection"]]
        held = {band for band in rule.bands if rule.asset(item, band)}
        if any(
            all(rule.asset(newer, band) for band in held) and (scene.certain or covers(newer, item)) for newer in kept
        ):
            yield number
        else:
            kept.append(item)


def _check_id(name: object) -> None:
    if not isinstance(name, str) or not name:
        raise ValueError(f"its id is {name!r}")


def _check_bounds(bounds: tuple[float, ...]) -> None:
    """Refuse a footprint of no numbers, or in other units than degrees: nothing would find it."""
    west, south, east, north = bounds
    if not (-_FARTHEST[0] <= west <= east <= _FARTHEST[0] and -_FARTHEST[1] <= south <= north <= _FARTHEST[1]):
        raise ValueError(f"its footprint is not in degrees of longitude and latitude: {bounds}")


def _locate(key: str, asset: Mapping[str, Any], here: str) -> str:
    href = asset["href"]
    if not isinstance(href, str):
        raise TypeError(f"asset {key} has no location")
    # what a catalogue may not name is refused by name where it is read, and costs no other item
    return resolve(unsign(href), here) if href.isprintable() else href
