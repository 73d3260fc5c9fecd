"""Commands about catalogues: providers of items, and catalogues made from files."""

import json
from pathlib import Path
from typing import Annotated, Literal

import typer
import yaml
from rich.console import Console
from rich.progress import Progress

from mapper.catalog.cci_tiles import ARCHIVE
from mapper.catalog.provider import Provider, load_provider, provider_names
from mapper.cli.options import JsonOption
from mapper.cli.printing import print_json

catalog_app = typer.Typer(help="Providers of items, and catalogues made from files.", no_args_is_help=True)


@catalog_app.command("list")
def list_providers(*, as_json: JsonOption = False) -> None:
    """List the providers that ship with mapper."""
    from mapper.cli.inspection import print_providers

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
        typer.Option(metavar="ITEM.json", help="Show what is made of the items in this file or directory; repeatable."),
    ] = None,
    collection: Annotated[str | None, typer.Option(help="Read the items as if they were of this collection.")] = None,
    schema: Annotated[bool, typer.Option("--schema", help="Print the JSON schema of provider files.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Validate a provider's description and print it, defaults included; or show how it reads items.

    The exit code is 1 if an item is refused.
    """
    from mapper.catalog.schema import format_schema

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
    if not _inspect_items(provider, item, collection, as_json=as_json):
        raise typer.Exit(1)


def _inspect_items(provider: Provider, paths: list[Path], collection: str | None, *, as_json: bool) -> bool:
    """Print how items are read; whether all of them are."""
    from mapper.cli.inspection import list_facts, load_item_files, print_item_facts
    from mapper.cube.inspection import inspect_item

    named = {} if collection is None else {"collection": collection}
    facts = [inspect_item({**item, **named}, provider) for item in load_item_files(paths)]
    if as_json:
        print_json(list_facts(each for group in facts for each in group))
    else:
        for group in facts:
            print_item_facts(group)
    return not any(each.error for group in facts for each in group)


@catalog_app.command("biomassters")
def biomassters(
    source: Annotated[Path, typer.Argument(metavar="CHIPS", help="Directory with one folder of files per chip.")],
    out: Annotated[Path, typer.Argument(metavar="DIR", help="Where the catalogue and a MAP.yaml per chip go.")],
    *,
    chips: Annotated[list[str] | None, typer.Option("--chip", help="Take this chip; repeatable. Default: all.")] = None,
    seasons: Annotated[Literal["quarterly", "monthly"], typer.Option(help="Dates of each map's guide.")] = "quarterly",
) -> None:
    """Turn BioMassters chips into a STAC catalogue of COGs on a declared local grid, with a MAP.yaml for each."""
    from mapper.catalog.biomassters import make_biomassters_catalog

    catalog = make_biomassters_catalog(source, out, chips=chips, seasons=seasons)
    typer.echo(str(catalog))


@catalog_app.command("cci")
def cci(
    *,
    version: Annotated[str, typer.Option(help="Of the maps, for example 7.0.")],
    year: Annotated[int, typer.Option(help="Of the map.")],
    out: Annotated[Path, typer.Option(metavar="DIR", help="Where the catalogue goes.")],
    root: Annotated[str, typer.Option(metavar="PATH|URL", help="Where the files are; they stay there.")] = ARCHIVE,
    bbox: Annotated[
        tuple[float, float, float, float] | None,
        typer.Option(metavar="W S E N", help="Look for the cells on this box only, in degrees."),
    ] = None,
) -> None:
    """Describe the tiles of an ESA CCI biomass map as a STAC catalogue: the source of a map."""
    from mapper.catalog.cci import make_cci_catalog

    with Progress(console=Console(stderr=True), transient=True) as progress:
        cells = progress.add_task("cells", total=None)

        def report(done: int, total: int) -> None:
            progress.update(cells, completed=done, total=total)

        catalog = make_cci_catalog(out, version=version, year=year, root=root, bbox=bbox, report=report)
    typer.echo(str(catalog))
