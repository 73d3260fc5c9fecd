"""What `mapper catalog list` and `check` say of providers and items."""

import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from mapper.catalog.items import ItemDict
from mapper.catalog.provider import Provider
from mapper.cube.inspection import BandFacts
from mapper.errors import SearchError

_WIDTH = 140
_COLUMNS = ("band", "asset", "CRS", "pixel", "type", "missing", "calibration")


def print_providers(providers: Iterable[Provider]) -> None:
    """Print one table of providers."""
    rows = ((p.name, _describe_collections(p), _describe_signing(p), p.licence) for p in providers)
    _print_table("providers", ("name", "collections", "signing", "licence"), rows, lines=True)


def load_item_files(paths: Sequence[Path]) -> list[ItemDict]:
    """Items in files that hold one, a collection of features or a list; of a directory, in all its JSON files.

    Raises:
        SearchError: If a file that is named holds no item, or cannot be read.
    """
    items = []
    for path in paths:
        if path.is_dir():
            found = [item for file in sorted(path.rglob("*.json")) for item in _items_in(_load(file))]
        else:
            found = list(_items_in(_load(path)))
        if not found:
            raise SearchError(f"{path} holds no STAC item")
        items += found
    return items


def list_facts(facts: Iterable[BandFacts]) -> list[dict[str, Any]]:
    """Facts as JSON, without what is unknown."""
    return [{key: value for key, value in asdict(each).items() if value not in ("", None)} for each in facts]


def print_item_facts(facts: Sequence[BandFacts]) -> None:
    """Print one table for an item, or why it is refused."""
    first = facts[0]
    if first.error:
        line = Text(f"{first.item or 'item'} refused: {first.error}", style="red")
        Console(soft_wrap=True, highlight=False).print(line)
        return
    title = f"{first.item} ({first.collection}), image {first.image}"
    _print_table(title, _COLUMNS, (_describe_band(each) for each in facts))


def _describe_band(facts: BandFacts) -> tuple[str, ...]:
    pixel = "" if facts.resolution is None else f"{facts.resolution:g}"
    missing = ", ".join(f"{value:g}" for value in facts.nodata) or "none"
    return facts.band, facts.asset, facts.crs, pixel, facts.dtype, missing, facts.calibration


def _describe_signing(provider: Provider) -> str:
    """What one needs to read a provider's files."""
    access = provider.access
    if access.signing.kind == "token-service":
        return "tokens, no account"
    if access.storage.endpoint is not None and not access.storage.anonymous:
        return f"keys: {access.storage.key_env}, {access.storage.secret_env}"
    return "none"


def _describe_collections(provider: Provider) -> str:
    """Names of collections, those that are refused marked."""
    return ", ".join(name + (" (refused)" if rule.refused else "") for name, rule in provider.collections.items())


def _print_table(title: str, columns: Sequence[str], rows: Iterable[Sequence[str]], *, lines: bool = False) -> None:
    """Print a table of text in which nothing is cut off."""
    table = Table(title=title, title_justify="left", show_lines=lines)
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*row)
    Console(width=None if sys.stdout.isatty() else _WIDTH).print(table)


def _load(path: Path) -> Any:
    try:
        return json.loads(path.read_text())
    except OSError as error:
        raise SearchError(f"item file {path} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise SearchError(f"item file {path} is not JSON: {error}") from error


def _items_in(content: Any) -> Iterator[ItemDict]:
    if isinstance(content, list):
        for each in content:
            yield from _items_in(each)
    elif isinstance(content, dict) and content.get("type") == "FeatureCollection":
        yield from _items_in(content.get("features", []))
    elif isinstance(content, dict) and content.get("type") == "Feature":
        yield content
