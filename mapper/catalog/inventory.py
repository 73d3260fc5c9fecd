"""Inventory of one map: its items, searched once and stored in a file beside the map.

Everything after the search works from that file, so that a map can be resumed, verified and explained long after the
archive has moved on. The file is used only for the question it answers.
"""

from collections.abc import Callable
from pathlib import Path

from mapper.catalog.freeze import load_items, open_items, save_items
from mapper.catalog.items import Items
from mapper.catalog.query import make_queries
from mapper.catalog.search import describe_queries, search
from mapper.spec import MapSpec


def inventory_path(map_path: Path) -> Path:
    """Return the path of the items of a map description: ``map.yaml`` -> ``map.items.parquet``."""
    return map_path.with_suffix(".items.parquet")


def take_inventory(spec: MapSpec, path: Path, *, refresh: bool = False) -> Items:
    """Load the items of a map; search and freeze them first if that was not done, or for another question.

    Args:
        spec: The map.
        path: Path of the file of its items.
        refresh: Search even if the file exists.

    Raises:
        SearchError: If the search fails; the file is left as it was.
        SpecError: If the file cannot be read.
    """
    return _take(spec, path, load_items, refresh=refresh)


def open_inventory(spec: MapSpec, path: Path, *, refresh: bool = False) -> Items:
    """Return the items as :func:`take_inventory`, in a fraction of the memory: for few items at a time, or one pass."""
    return _take(spec, path, open_items, refresh=refresh)


def _take(spec: MapSpec, path: Path, read: Callable[[Path], Items], *, refresh: bool) -> Items:
    if path.exists() and not refresh:
        items = read(path)
        if _answers(items, spec):
            return items
    save_items(search(spec), path)
    return read(path)


def _answers(items: Items, spec: MapSpec) -> bool:
    """Return True if items answer the query of a map at its present address: a moved catalogue has moved its files."""
    return bool(items.query.get("queries") == describe_queries(spec, make_queries(spec)))
