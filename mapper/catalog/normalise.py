"""Normal form of an item: absolute, unsigned locations of its files, and only the fields that are read.

Properties stay whole, since they are provenance. Of the assets only those that the provider reads stay, of the
links only ``self``: a task carries its items, and an archive's item is mostly previews.
"""

import json
import os.path
import posixpath
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from mapper.access.admission import PERSON, Document, find_refusal, is_remote
from mapper.access.rules import AccessRule
from mapper.access.sign import unsign
from mapper.catalog.footprint import mend_geometry
from mapper.catalog.items import ItemDict, document_of, item_datetime, link_document
from mapper.errors import SearchError, SpecError
from mapper.redaction import redact_all, redact_href

_FIELDS = ("type", "stac_version", "stac_extensions", "id", "collection", "geometry", "bbox", "properties")
_TILE_IDS = ("s2:mgrs_tile", "grid:code")
_BASELINES = ("s2:processing_baseline", "processing:version")
_PRODUCED = ("s2:generation_time", "processing:datetime", "created")


def normalise_item(
    item: ItemDict,
    *,
    assets: frozenset[str],
    document: Document = PERSON,
    harmless: tuple[str, ...] = (),
) -> ItemDict:
    """Return an item in its normal form.

    Args:
        item: STAC JSON, with a ``self`` link if its files have relative locations.
        assets: Keys of the assets that stay.
        document: Catalogue that the item was found in.
        harmless: Keys of the queries of addresses that stay; all others may be secrets.

    Raises:
        SearchError: If the item has no id, time, footprint or a file without a location.
    """
    here = ""
    try:
        here = next((str(link["href"]) for link in item.get("links") or () if link.get("rel") == "self"), "")
        if not (document.is_local or is_remote(here)):
            here = document.location  # whatever a remote catalogue says, it does not lie here
        normal = {key: item[key] for key in _FIELDS if key in item}
        # STAC asks for the key, some servers leave out what is null: the item is the same
        normal["properties"] = redact_all({"datetime": None, **item["properties"]})
        # databases write 49.0 as 49: the location is the same
        normal["geometry"] = json.loads(json.dumps(mend_geometry(item)), parse_int=float)
        item_datetime(item)
        normal["links"] = [{"rel": "self", "href": redact_href(here)}] if here else []
        if document.location:
            normal["links"].append(link_document(document))
        normal["assets"] = {
            key: redact_all({**asset, "href": ""})
            | {"href": redact_href(locate(unsign(str(asset["href"])), here), harmless=harmless)}
            for key, asset in item["assets"].items()
            if key in assets
        }
    except (KeyError, TypeError, ValueError, AttributeError, SpecError) as error:
        raise SearchError(f"item {item.get('id', here)!r} is not a usable STAC item: {error!r}") from error
    return normal


def find_refused(item: ItemDict, rule: AccessRule) -> str:
    """Return the first asset of an item whose file is not read, and the reason; empty if there is none."""
    document = document_of(item)
    for key, asset in item["assets"].items():
        refusal = find_refusal(str(asset["href"]), document, rule)
        if refusal:
            return f"asset {key} of item {item['id']} ({str(asset['href'])[:300]!r}): {refusal}"
    return ""


def drop_superseded(items: Iterable[ItemDict]) -> tuple[list[ItemDict], list[str]]:
    """Drop all but the newest processing of every scene; returns the others, and the ids that were dropped.

    A scene is one platform, moment and tile, and where it is stated one data strip: two strips of one overpass that
    share a tile are different pixels. Items that do not name their tile are never taken for another version.

    Returns:
        The items that stay, in order, and the ids of those that do not.
    """
    newest: dict[object, ItemDict] = {}
    dropped = []
    for item in items:
        key = _scene(item)
        rival = newest.get(key)
        if rival is None:
            newest[key] = item
        else:
            older, newest[key] = sorted((rival, item), key=_version)
            dropped.append(str(older["id"]))
    return list(newest.values()), sorted(dropped)


def locate(href: str, here: str) -> str:
    """Return an absolute location: ``href`` relative to the file or address ``here``."""
    if "://" in href or href.startswith("/") or not here:
        return href
    if "://" in here:
        root, path = here.split("://", 1)  # urljoin knows no s3, gs or az
        return f"{root}://{posixpath.normpath(posixpath.join(posixpath.dirname(path), href))}"
    return os.path.normpath(Path(here).absolute().parent / href)


def _scene(item: ItemDict) -> object:
    properties = item["properties"]
    tile = next((properties[key] for key in _TILE_IDS if key in properties), None)
    if tile is None:
        return item["collection"], item["id"]
    return item["collection"], properties.get("platform"), item_datetime(item), tile, _strip_start(properties)


def _strip_start(properties: dict[str, Any]) -> str | None:
    """Return the sensing start of the data strip, for example ``S20181231T235957``; equal in every processing of it."""
    parts = str(properties.get("s2:datastrip_id", "")).split("_")
    return next((part for part in parts if part.startswith("S") and part[1:9].isdigit()), None)


def _version(item: ItemDict) -> tuple[tuple[int, ...], str, str]:
    properties = item["properties"]
    baseline = next((str(properties[key]) for key in _BASELINES if key in properties), "")
    produced = next((str(properties[key]) for key in _PRODUCED if key in properties), "")
    return tuple(int(part) for part in baseline.split(".") if part.isdigit()), produced, str(item["id"])
