"""Commands about catalogues: providers of items, and catalogues made from files."""

from pathlib import Path
from typing import Annotated, Literal

import typer
import yaml

from mapper.catalog.provider import load_provider, provider_names
from mapper.cli.options import JsonOption
from mapper.cli.printing import print_json, print_table

catalog_app = typer.Typer(help="Providers of items, and catalogues made from files.", no_args_is_help=True)


@catalog_app.command("list")
def list_providers(*, as_json: JsonOption = False) -> None:
    """List the providers that ship with mapper."""
    providers = [load_provider(name) for name in provider_names()]
    if as_json:
        print_json([provider.model_dump(mode="json") for provider in providers])
        return
    rows = ((p.name, p.kind, ", ".join(p.collections), p.title) for p in providers)
    print_table("providers", ("name", "kind", "collections", "title"), rows)


@catalog_app.command("check")
def check_provider(name: Annotated[str, typer.Argument(help="A provider's name, or a YAML file.")]) -> None:
    """Validate a provider's description and print it, defaults included."""
    typer.echo(yaml.safe_dump(load_provider(name).model_dump(mode="json"), sort_keys=False))


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
