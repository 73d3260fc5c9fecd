"""Arguments and options that several commands take."""

from pathlib import Path
from typing import Annotated

import typer

from mapper.spec import read_spec

MapArgument = Annotated[Path, typer.Argument(metavar="MAP.yaml", help="The map description.")]
StoreArgument = Annotated[str, typer.Argument(metavar="STORE", help="A store, or the MAP.yaml that names it.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document instead of tables.")]
OnlyOption = Annotated[
    str | None, typer.Option(metavar="TILES", help="Tiles to take: **3,7**, **2-4,0-9**, **::10**, **failed**.")
]
EveryOption = Annotated[int | None, typer.Option(min=1, help="Take every Nth tile: a pilot.")]
RefreshOption = Annotated[bool, typer.Option("--refresh", help="Query again, even if items are frozen already.")]


def location_of(store: str) -> str:
    """Where a store is that was named by itself or by its MAP.yaml."""
    return read_spec(store).store if is_map(store) else store


def is_map(store: str) -> bool:
    """Whether what names a store is a MAP.yaml."""
    return store.endswith((".yaml", ".yml"))
