"""Arguments and options that several commands take."""

from pathlib import Path
from typing import Annotated

import typer

MapArgument = Annotated[Path, typer.Argument(metavar="MAP.yaml", help="The map description.")]
StoreArgument = Annotated[str, typer.Argument(metavar="STORE", help="A store, or the MAP.yaml that names it.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document instead of tables.")]
OnlyOption = Annotated[
    str | None, typer.Option(metavar="TILES", help="Tiles to take: **3,7**, **2-4,0-9**, **::10**, **failed**.")
]
EveryOption = Annotated[int | None, typer.Option(min=1, help="Take every Nth tile: a pilot.")]
RefreshOption = Annotated[bool, typer.Option("--refresh", help="Query again, even if items are frozen already.")]
