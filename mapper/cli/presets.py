"""The commands about descriptions: kinds of map with their defaults, and the keys of MAP.yaml."""

from typing import Annotated

import typer
import yaml

from mapper.cli.options import JsonOption
from mapper.cli.printing import print_json, print_table
from mapper.presets import DEFAULT, list_presets, read_preset

presets_app = typer.Typer(rich_markup_mode="markdown")


@presets_app.command()
def presets(
    name: Annotated[str | None, typer.Argument(metavar="[NAME|FILE]", help="Print this one as YAML.")] = None,
    *,
    as_json: JsonOption = False,
) -> None:
    """List the kinds of map, or print the defaults of one.

    A description says **preset: elevation** and gives what differs; a preset of your own is a YAML file with the same
    sections, named by its path: **preset: my-kind.yaml**
    """
    if name:
        content = dict(read_preset(name).content)
        print_json(content) if as_json else typer.echo(yaml.safe_dump(content, sort_keys=False).rstrip())
        return
    found = list_presets()
    if as_json:
        print_json({each.name: {"title": each.title, **each.content} for each in found})
        return
    rows = [(f"{each.name} (default)" if each.name == DEFAULT else each.name, each.title) for each in found]
    print_table("presets", ("name", "kind of map"), rows)


@presets_app.command()
def schema(
    *,
    reference: Annotated[bool, typer.Option("--reference", help="Print a Markdown reference of all keys.")] = False,
) -> None:
    """Print the JSON schema of MAP.yaml, for editors and checks.

    An editor completes and checks a MAP.yaml whose first line is **# yaml-language-server: $schema=map.schema.json**
    """
    from mapper.spec.reference import make_reference, make_schema

    typer.echo(make_reference() if reference else make_schema(), nl=False)
