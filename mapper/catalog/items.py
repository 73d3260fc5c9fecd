"""Items of a map: frozen once, ordered, without duplicates, identified by a digest.

An item is its STAC JSON as a dict, with unsigned absolute hrefs. Workers receive items, never a query.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from pathlib import PurePosixPath
from typing import Any

import shapely
from odc.geo.geobox import GeoBox

from mapper.access.admission import Document, is_remote
from mapper.access.tally import AssetName
from mapper.catalog.footprint import footprint, window_footprint
from mapper.markup.cards import show_footprints
from mapper.markup.html import Cell
from mapper.spec import LayerSpec

ItemDict = dict[str, Any]

_SHOWN = 5000
"""Number of items that a notebook draws; of more, evenly chosen ones."""


@dataclass(frozen=True, kw_only=True)
class Items:
    """A frozen list of STAC items, ordered by collection, time and id."""

    items: Sequence[ItemDict]
    """Items, as a tuple, or the many of a file, parsed on use
    (:class:`mapper.catalog.compressed_items.CompressedItems`)."""
    query: Mapping[str, Any] = field(default_factory=dict)
    """Query that found the items, and its time: provider, endpoint, collections, period, bbox, searched_at."""
    seal: str = field(default="", compare=False)
    """Sha256 of the text of all items as in their file; empty where they are not all of a file."""

    def __post_init__(self) -> None:
        if not isinstance(self.items, tuple):
            return  # whoever keeps them in another way has seen to it
        keys = [(item["collection"], item["id"]) for item in self.items]
        if len(set(keys)) != len(keys):
            raise ValueError("items are not unique; build Items with freeze_items")

    def __len__(self) -> int:
        return len(self.items)

    def __iter__(self) -> Iterator[ItemDict]:
        return iter(self.items)

    @cached_property
    def digest(self) -> str:
        """Return the sha256 over the digests of all items."""
        return hashlib.sha256("".join(map(item_digest, self.items)).encode()).hexdigest()

    @cached_property
    def _index(self) -> shapely.STRtree:
        return shapely.STRtree([footprint(item) for item in self.items])

    def touching(self, geobox: GeoBox) -> "Items":
        """Return the items whose footprint intersects a geobox."""
        return self.pick(sorted(self._index.query(window_footprint(geobox), predicate="intersects").tolist()))

    def of(self, collection: str) -> "Items":
        """Return the items of one collection."""
        return self.pick(k for k, item in enumerate(self.items) if item["collection"] == collection)

    def in_months(self, months: tuple[int, ...]) -> "Items":
        """Return the items whose (start) date falls in the given months (1 to 12)."""
        return self.pick(k for k, item in enumerate(self.items) if item_datetime(item).month in months)

    def on_orbit(self, orbit: str | None) -> "Items":
        """Return the items of one orbit direction; None selects all."""
        if orbit is None:
            return self
        return self.pick(k for k, item in enumerate(self.items) if flies(item, orbit))

    def for_layer(self, layer: LayerSpec, months: tuple[int, ...]) -> "Items":
        """Return the items that enter one layer of the guide in one season."""
        return self.pick(k for k, item in enumerate(self.items) if enters(item, layer, months))

    def clear_to(self, limit: float) -> "Items":
        """Return the items whose stated scene cloud cover is at most a limit in percent; 100 selects all."""
        return self.pick(k for k, item in enumerate(self.items) if is_clear(item, limit))

    def pick(self, indices: Iterable[int]) -> "Items":
        """Return the items with the given numbers."""
        return Items(items=tuple(self.items[k] for k in indices), query=self.query)

    def _repr_html_(self) -> str:
        """Return the HTML that a notebook shows."""
        step = max(1, -(-len(self) // _SHOWN))
        groups: dict[str, list[ItemDict]] = {}
        for k in range(0, len(self), step):
            groups.setdefault(self.items[k]["collection"], []).append(self.items[k])
        which = f" (table and map show one in {step})" if step > 1 else ""
        return show_footprints(
            f"{len(self):,} items{which}",
            ("collection", "items", "first", "last", "cloud cover, %"),
            {name: _summarise(group) for name, group in groups.items()},
            {name: [footprint(item) for item in group] for name, group in groups.items()},
        )


def enters(item: ItemDict, layer: LayerSpec, months: tuple[int, ...]) -> bool:
    """Return True for an item that enters one layer of the guide in one season."""
    return (
        item["collection"] == layer.collection
        and item_datetime(item).month in months
        and (layer.orbit is None or flies(item, layer.orbit))
        and is_clear(item, layer.cloud_limit)
    )


def flies(item: ItemDict, orbit: str) -> bool:
    """Return True for an item recorded in an orbit direction; archives write it in either case."""
    return str(item["properties"].get("sat:orbit_state")).lower() == orbit


def is_clear(item: ItemDict, limit: float) -> bool:
    """Return True for an item whose scene cloud cover is within a limit in percent; below 100 it must be stated."""
    if limit >= 100:
        return True
    try:
        return float(item["properties"]["eo:cloud_cover"]) <= limit
    except (KeyError, TypeError, ValueError, OverflowError):
        return False


def freeze_items(items: Iterable[ItemDict], *, query: Mapping[str, Any] | None = None) -> Items:
    """Order items, drop exact repeats, and return them frozen."""
    unique = {(item["collection"], item["id"]): item for item in items}
    ordered = sorted(unique.values(), key=lambda item: (item["collection"], item_datetime(item), item["id"]))
    return Items(items=tuple(ordered), query=dict(query or {}))


def item_datetime(item: ItemDict) -> datetime:
    """Return the nominal time of an item in UTC: ``datetime``, else ``start_datetime`` (annual maps)."""
    properties = item["properties"]
    return parse_datetime(properties.get("datetime") or properties["start_datetime"])


def parse_datetime(text: str) -> datetime:
    """Return a time as STAC writes it (RFC 3339), in UTC whatever its offset; one without a zone is UTC.

    Raises:
        ValueError: If it is no time, or in no year of the calendar.
        TypeError: If it is no text.
    """
    moment = datetime.fromisoformat(text.upper() if isinstance(text, str) else text)
    if moment.tzinfo is None:
        return moment.replace(tzinfo=UTC)
    try:
        return moment.astimezone(UTC)
    except OverflowError as error:
        raise ValueError(f"{text} lies outside the years 1 to 9999 in UTC") from error


def item_digest(item: ItemDict) -> str:
    """Return the sha256 of an item's pixel metadata; links and the host and folder of its files are left out."""
    content = {key: item.get(key) for key in ("id", "collection", "geometry", "properties")}
    content["assets"] = {
        key: {**asset, "href": _file_name(str(asset["href"]).split("?")[0])} for key, asset in item["assets"].items()
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()


DOCUMENT_KEY = "mapper:private"
"""Key of the link to the catalogue that an item was found in: True where that was reached on a private network."""


def link_document(document: Document) -> dict[str, Any]:
    """Return the link of an item to the catalogue that it was found in."""
    return {"rel": "root", "href": document.location, DOCUMENT_KEY: document.private}


def document_of(item: ItemDict) -> Document:
    """Return the document that names the files of an item: the catalogue it was found in, else its own address."""
    links = item.get("links") or ()
    root = next((link for link in links if link.get("rel") == "root" and DOCUMENT_KEY in link), None)
    if root is not None:
        return Document(location=str(root["href"]), private=root[DOCUMENT_KEY] is True)
    here = next((str(link["href"]) for link in links if link.get("rel") == "self"), "")
    return Document(location=here if is_remote(here) else "")


def name_asset(item: ItemDict, asset: str) -> AssetName:
    """Return the name of a file of an item, and the document that it comes from."""
    href = item["assets"][asset]["href"]
    return AssetName(item=item["id"], asset=asset, href=href, document=document_of(item))


def _file_name(path: str) -> str:
    """Return ``PurePosixPath(path).name``, ten times quicker where nothing has to be normalised."""
    name = path.rpartition("/")[2]
    return PurePosixPath(path).name if name in ("", ".") else name


def _summarise(items: Sequence[ItemDict]) -> tuple[Cell, ...]:
    """Return a row for one collection: number, first and last date, mean of the cloud cover where it is stated."""
    dates = [item_datetime(item) for item in items]
    clouds = [item["properties"].get("eo:cloud_cover") for item in items]
    stated = [float(cloud) for cloud in clouds if isinstance(cloud, int | float)]
    cloud = sum(stated) / len(stated) if stated else None
    return len(items), f"{min(dates):%Y-%m-%d}", f"{max(dates):%Y-%m-%d}", cloud
