"""Commands about catalogues: providers of items, and catalogues made from files."""

import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
import yaml
from rich.console import Console
from rich.progress import Progress
from rich.table import Table
from rich.text import Text

from mapper.catalog.importers.cci_file_names import ARCHIVE
from mapper.catalog.items import ItemDict
from mapper.catalog.provider import Provider, load_provider, provider_names
from mapper.cli.options import JsonOption
from mapper.cli.printing import print_json
from mapper.cli.rasters import describe_rasters
from mapper.cube.inspection import BandReading
from mapper.errors import SearchError

_WIDTH = 140


_COLUMNS = ("band", "asset", "CRS", "pixel", "type", "missing", "calibration")
_COMPARED = ("property", "item and collection", "file", "what counts")


def print_providers(providers: Iterable[Provider]) -> None:
    """Print one table of providers."""
    rows = ((p.name, _describe_collections(p), _describe_signing(p), p.licence) for p in providers)
    _print_table("providers", ("name", "collections", "signing", "licence"), rows, lines=True)


def load_item_files(paths: Sequence[Path]) -> list[ItemDict]:
    """Return the items in files that hold one, a feature collection or a list; of a directory, in all its JSON files.

    An item without a link to itself gets one to its file, which relative locations refer to.

    Raises:
        SearchError: If a file that is named holds no item, or cannot be read.
    """
    items = []
    for path in paths:
        if path.is_dir():
            found = [item for file in sorted(path.rglob("*.json")) for item in _items_of(file)]
        else:
            found = list(_items_of(path))
        if not found:
            raise SearchError(f"{path} holds no STAC item")
        items += found
    return items


def list_readings(readings: Iterable[BandReading]) -> list[dict[str, Any]]:
    """Return readings as JSON, without what is unknown."""
    known = [{key: value for key, value in asdict(each).items() if value not in ("", None)} for each in readings]
    return [{key: value for key, value in each.items() if key != "compared" or value} for each in known]


def print_readings(readings: Sequence[BandReading]) -> None:
    """Print one table for an item, or why it is refused."""
    first = readings[0]
    if first.image:
        title = f"{first.item} ({first.collection}), image {first.image}"
        _print_table(title, _COLUMNS, (_describe_band(each) for each in readings))
    for doubt in dict.fromkeys(each.place for each in readings if each.place):
        line = Text(f"{doubt}; pixels are read where the header of the file says", style="yellow")
        Console(soft_wrap=True, highlight=False).print(line)
    for each in readings:
        if each.compared:
            rows = ((row.property, row.believed, row.found, row.decision) for row in each.compared)
            _print_table(f"{each.band}: asset {each.asset} of {each.item}", _COMPARED, rows)
        if each.error:
            line = Text(f"{each.item or 'item'} refused: {each.error}", style="red")
            Console(soft_wrap=True, highlight=False).print(line)


def _describe_band(reading: BandReading) -> tuple[str, ...]:
    pixel = "" if reading.resolution is None else f"{reading.resolution:g}"
    missing = ", ".join(f"{value:g}" for value in reading.nodata) or "none"
    return reading.band, reading.asset, reading.crs, pixel, reading.dtype, missing, reading.calibration


def _describe_signing(provider: Provider) -> str:
    """Describe the access to a provider's files: signatures and keys."""
    access = provider.access
    if access.signing.kind == "token-service":
        return "tokens, no account"
    if access.storage.endpoint is not None and not access.storage.anonymous:
        return f"keys: {access.storage.key_env}, {access.storage.secret_env}"
    return "none"


def _describe_collections(provider: Provider) -> str:
    """Return the names of collections, those that are refused marked."""
    return ", ".join(name + (" (refused)" if rule.refused else "") for name, rule in provider.collections.items())


def _print_table(title: str, columns: Sequence[str], rows: Iterable[Sequence[str]], *, lines: bool = False) -> None:
    """Print a table of text in which nothing is cut off."""
    table = Table(title=title, title_justify="left", show_lines=lines)
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*row)
    Console(width=None if sys.stdout.isatty() else _WIDTH).print(table)


def _items_of(path: Path) -> Iterator[ItemDict]:
    for item in _items_in(_load(path)):
        links = [link for link in _listed(item.get("links")) if isinstance(link, dict)]
        here = next((str(link.get("href")) for link in links if link.get("rel") == "self"), str(path.absolute()))
        yield {**item, "links": [{"rel": "self", "href": here}]}


def _listed(content: Any) -> list[Any]:
    return content if isinstance(content, list) else []


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


catalog_app = typer.Typer(help="Providers of items, and catalogues made from files.", no_args_is_help=True)


@catalog_app.command("list")
def list_providers(*, as_json: JsonOption = False) -> None:
    """List the providers that ship with mapper."""
    providers = [load_provider(name) for name in provider_names()]
    if as_json:
        print_json([provider.model_dump(mode="json") for provider in providers])
        return
    print_providers(providers)


@catalog_app.command("check")
def check_provider(
    name: Annotated[str | None, typer.Argument(help="A provider's name, or a YAML file.")] = None,
    *,
    item: Annotated[
        list[Path] | None,
        typer.Option(metavar="ITEM.json", help="Show how the items in this file or directory are read; repeatable."),
    ] = None,
    collection: Annotated[str | None, typer.Option(help="Read the items as if they were of this collection.")] = None,
    open_files: Annotated[
        bool, typer.Option("--open", help="Open their files too, and hold the headers against the items.")
    ] = False,
    schema: Annotated[bool, typer.Option("--schema", help="Print the JSON schema of provider files.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Validate a provider's description and print it, defaults included; or show how it reads items.

    The exit code is 1 if an item is refused.
    """
    from mapper.catalog.provider import format_schema

    if schema:
        typer.echo(format_schema(), nl=False)
        return
    if name is None:
        raise typer.BadParameter("give the name of a provider, or --schema")
    provider = load_provider(name)
    if not item:
        content = provider.model_dump(mode="json")
        typer.echo(json.dumps(content, indent=2) if as_json else yaml.safe_dump(content, sort_keys=False))
        return
    if not _inspect_items(provider, item, collection, open_files=open_files, as_json=as_json):
        raise typer.Exit(1)


def _inspect_items(
    provider: Provider, paths: list[Path], collection: str | None, *, open_files: bool, as_json: bool
) -> bool:
    """Print how items are read; returns True if all of them can be."""
    from mapper.cube.inspection import inspect_item, open_item

    named = {} if collection is None else {"collection": collection}
    items = [{**item, **named} for item in load_item_files(paths)]
    if open_files:
        readings = [open_item(_locate_files(item), provider) for item in items]
    else:
        readings = [inspect_item(item, provider) for item in items]
    if as_json:
        print_json(list_readings(each for group in readings for each in group))
    else:
        for group in readings:
            print_readings(group)
    return not any(each.error for group in readings for each in group)


def _locate_files(item: ItemDict) -> ItemDict:
    """Return an item with absolute locations of its files; what is no asset stays as it is."""
    from mapper.catalog.references import resolve

    here, assets = item["links"][0]["href"], item.get("assets")
    if not isinstance(assets, dict):
        return item
    located = {
        key: {**asset, "href": resolve(str(asset["href"]), here)}
        if isinstance(asset, dict) and asset.get("href")
        else asset
        for key, asset in assets.items()
    }
    return {**item, "assets": located}


@catalog_app.command("biomassters")
def biomassters(
    source: Annotated[Path, typer.Argument(metavar="CHIPS", help="Directory with one folder of files per chip.")],
    out: Annotated[Path, typer.Argument(metavar="DIR", help="Directory of the catalogue and of a MAP.yaml per chip.")],
    *,
    chips: Annotated[list[str] | None, typer.Option("--chip", help="Take this chip; repeatable. Default: all.")] = None,
    seasons: Annotated[Literal["quarterly", "monthly"], typer.Option(help="Dates of each map's guide.")] = "quarterly",
) -> None:
    """Turn BioMassters chips into a STAC catalogue of COGs on a declared local grid, with a MAP.yaml for each."""
    from mapper.catalog.importers.biomassters import make_biomassters_catalog

    catalog = make_biomassters_catalog(source, out, chips=chips, seasons=seasons)
    typer.echo(str(catalog))


@catalog_app.command("cci")
def cci(
    *,
    version: Annotated[str, typer.Option(help="Version of the maps, for example 7.0.")],
    year: Annotated[int, typer.Option(help="Year of the map.")],
    out: Annotated[Path, typer.Option(metavar="DIR", help="Directory of the catalogue; an earlier one is replaced.")],
    root: Annotated[
        str, typer.Option(metavar="PATH|URL", help="Folder or address of the files; they stay there.")
    ] = ARCHIVE,
    bbox: Annotated[
        tuple[float, float, float, float] | None,
        typer.Option(metavar="W S E N", help="Box of the wanted cells, in degrees; default: the globe."),
    ] = None,
) -> None:
    """Describe the tiles of an ESA CCI biomass map as a STAC catalogue: the source of a map."""
    from mapper.catalog.importers.cci import make_cci_catalog

    with Progress(console=Console(stderr=True), transient=True) as progress:
        cells = progress.add_task("cells", total=None)

        def report(done: int, total: int) -> None:
            progress.update(cells, completed=done, total=total)

        catalog = make_cci_catalog(out, version=version, year=year, root=root, bbox=bbox, report=report)
    typer.echo(str(catalog))


catalog_app.command("rasters")(describe_rasters)
