"""Inventory of one map: its items, searched once and stored in a file beside the map.

Everything after the search works from that file, so that a map can be resumed, verified and explained long after the
archive has moved on. The file is used only for the question it answers.
"""

from collections.abc import Callable
from pathlib import Path

from mapper.catalog.freeze import load_items, open_items, save_items
from mapper.catalog.items import Items
from mapper.catalog.query import MARGIN_PX, make_queries, searched_margin
from mapper.catalog.search import describe_queries, search
from mapper.spec import MapSpec


def inventory_path(map_path: Path) -> Path:
    """Return the path of the items of a map description: ``map.yaml`` -> ``map.items.parquet``."""
    return map_path.with_suffix(".items.parquet")


def take_inventory(spec: MapSpec, path: Path, *, refresh: bool = False, margin_px: int = MARGIN_PX) -> Items:
    """Load the items of a map; search and freeze them first if that was not done, or for another question.

    Args:
        spec: The map.
        path: Path of the file of its items.
        refresh: Search even if the file exists.
        margin_px: Target pixels around the area that windows reach; items that were searched in less are not enough.

    Raises:
        SearchError: If the search fails; the file is left as it was.
        SpecError: If the file cannot be read.
    """
    return _take(spec, path, load_items, refresh=refresh, margin_px=margin_px)


def open_inventory(spec: MapSpec, path: Path, *, refresh: bool = False, margin_px: int = MARGIN_PX) -> Items:
    """Return the items as :func:`take_inventory`, in a fraction of the memory: for few items at a time, or one pass."""
    return _take(spec, path, open_items, refresh=refresh, margin_px=margin_px)


def _take(spec: MapSpec, path: Path, read: Callable[[Path], Items], *, refresh: bool, margin_px: int) -> Items:
    if path.exists() and not refresh:
        items = read(path)
        if searched_margin(items) >= margin_px and _answers(items, spec):
            return items
    save_items(search(spec, margin_px=margin_px), path)
    return read(path)


def _answers(items: Items, spec: MapSpec) -> bool:
    """Return True if items answer the query of a map at its present address: a moved catalogue has moved its files."""
    queries = make_queries(spec, margin_px=searched_margin(items))
    return bool(items.query.get("queries") == describe_queries(spec, queries))
