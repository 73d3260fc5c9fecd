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

from mapper.access.sign import unsign
from mapper.catalog.footprint import mend_geometry
from mapper.catalog.items import ItemDict, item_datetime
from mapper.errors import SearchError, SpecError

_FIELDS = ("type", "stac_version", "stac_extensions", "id", "collection", "geometry", "bbox", "properties")
_TILE_IDS = ("s2:mgrs_tile", "grid:code")
_BASELINES = ("s2:processing_baseline", "processing:version")
_PRODUCED = ("s2:generation_time", "processing:datetime", "created")


def normalise_item(item: ItemDict, *, assets: frozenset[str]) -> ItemDict:
    """Return an item in its normal form.

    Args:
        item: STAC JSON, with a ``self`` link if its files have relative locations.
        assets: Keys of the assets that stay.

    Raises:
        SearchError: If the item has no id, time, footprint or a file without a location.
    """
    here = ""
    try:
        here = next((str(link["href"]) for link in item.get("links") or () if link.get("rel") == "self"), "")
        normal = {key: item[key] for key in _FIELDS if key in item}
        # STAC asks for the key, some servers leave out what is null: the item is the same
        normal["properties"] = {"datetime": None, **item["properties"]}
        # databases write 49.0 as 49: the location is the same
        normal["geometry"] = json.loads(json.dumps(mend_geometry(item)), parse_int=float)
        item_datetime(item)
        normal["links"] = [{"rel": "self", "href": here}] if here else []
        normal["assets"] = {
            key: {**asset, "href": locate(unsign(str(asset["href"])), here)}
            for key, asset in item["assets"].items()
            if key in assets
        }
    except (KeyError, TypeError, ValueError, AttributeError, SpecError) as error:
        raise SearchError(f"item {item.get('id', here)!r} is not a usable STAC item: {error!r}") from error
    return normal


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
