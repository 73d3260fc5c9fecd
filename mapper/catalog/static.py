"""Static catalogues on disk: a ``catalog.json`` whose links lead to collections and items, read and written.

Written ones are STAC 1.0.0 with relative links, one folder per collection and one per item beside its files.
"""

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mapper.access.admission import is_remote
from mapper.catalog.items import ItemDict, item_datetime
from mapper.catalog.references import find_file, to_reference
from mapper.errors import SearchError

JsonDict = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class StaticCatalog:
    """Content of a catalogue: the items of the collections that were wanted."""

    collections: frozenset[str]
    """Names of all collections of the catalogue, wanted or not."""
    items: tuple[ItemDict, ...]
    """Items as they are on disk, with a ``self`` link that is an absolute path."""


def read_catalog(path: Path | str, *, collections: Collection[str]) -> StaticCatalog:
    """Walk a static catalogue and return the items of some collections.

    Raises:
        SearchError: If a file that a link leads to is missing or not STAC.
    """
    names: set[str] = set()
    items: list[ItemDict] = []
    seen: set[Path] = set()
    todo = [Path(path).absolute()]
    while todo:
        here = todo.pop()
        if here in seen:
            continue
        seen.add(here)
        node = _read_json(here)
        if node.get("type") == "Feature":
            items.append(_with_self(node, here))
            names.add(items[-1]["collection"])
            continue
        if node.get("type") == "Collection":
            names.add(str(node.get("id")))
            if str(node.get("id")) not in collections:
                continue
        todo += [_resolve(link, here) for link in _links(node) if link.get("rel") in ("child", "item")]
    wanted = tuple(item for item in items if item["collection"] in collections)
    return StaticCatalog(collections=frozenset(names), items=wanted)


def write_catalog(
    out_dir: Path,
    *,
    catalog: Mapping[str, Any],
    collections: Mapping[str, Mapping[str, Any]],
    items: Sequence[ItemDict],
) -> Path:
    """Write a static catalogue and return its path.

    Args:
        out_dir: Where ``catalog.json`` goes; an item goes to ``{collection}/{id}/{id}.json``, where its files are.
        catalog: ``id`` and ``description``.
        collections: By id: ``title``, ``description``, ``license`` and whatever else is to be said.
        items: STAC items whose hrefs are relative to their own file; links are written here.

    Returns:
        Path of ``catalog.json``.
    """
    for name, content in collections.items():
        members = [item for item in items if item["collection"] == name]
        for item in members:
            links = [_link("root", "../../catalog.json"), _link("parent", "../collection.json")]
            links.append(_link("collection", "../collection.json"))
            _write_json(out_dir / name / item["id"] / f"{item['id']}.json", {**item, "links": links})
        links = [_link("root", "../catalog.json"), _link("parent", "../catalog.json")]
        links += [_link("item", to_reference(f"{item['id']}/{item['id']}.json")) for item in members]
        head: JsonDict = {"type": "Collection", "id": name, "stac_version": "1.0.0", "stac_extensions": []}
        extent = {"spatial": {"bbox": [_bounds(members)]}, "temporal": {"interval": [_interval(members)]}}
        _write_json(out_dir / name / "collection.json", {**head, "extent": extent, **content, "links": links})
    links = [_link("child", to_reference(f"{name}/collection.json")) for name in collections]
    links.insert(0, _link("root", "catalog.json"))
    head = {"type": "Catalog", "stac_version": "1.0.0", **catalog, "links": links}
    _write_json(out_dir / "catalog.json", head)
    return out_dir / "catalog.json"


def _read_json(path: Path) -> JsonDict:
    try:
        node = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SearchError(f"catalogue file {path} cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise SearchError(f"catalogue file {path} is not JSON: {error}") from error
    if not isinstance(node, dict) or node.get("type") not in ("Catalog", "Collection", "Feature"):
        raise SearchError(f"catalogue file {path} is not a STAC catalogue, collection or item")
    return node


def _with_self(item: ItemDict, here: Path) -> ItemDict:
    links = [link for link in _links(item) if link.get("rel") != "self"]
    return {**item, "collection": str(item.get("collection")), "links": [*links, {"rel": "self", "href": str(here)}]}


def _links(node: JsonDict) -> list[JsonDict]:
    links = node.get("links")
    return [link for link in links if isinstance(link, dict)] if isinstance(links, list) else []


def _resolve(link: Mapping[str, Any], here: Path) -> Path:
    href = str(link.get("href", ""))
    if is_remote(href):
        raise SearchError(f"catalogue file {here} links to {href}: only catalogues wholly on disk are read")
    try:
        return find_file(href, here.parent).resolve()
    except (ValueError, OSError) as error:
        raise SearchError(f"catalogue file {here} links to {href!r}: {error}") from error


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=1))


def _link(rel: str, href: str) -> JsonDict:
    return {"rel": rel, "href": href, "type": "application/geo+json" if rel == "item" else "application/json"}


def _bounds(items: Sequence[ItemDict]) -> list[float]:
    if not items:
        return [-180.0, -90.0, 180.0, 90.0]
    west, south, east, north = zip(*(item["bbox"] for item in items), strict=True)
    return [min(west), min(south), max(east), max(north)]


def _interval(items: Sequence[ItemDict]) -> list[str | None]:
    moments = [
        str(item["properties"].get("datetime") or item["properties"].get("start_datetime"))
        for item in sorted(items, key=item_datetime)
    ]
    return [moments[0], moments[-1]] if moments else [None, None]
