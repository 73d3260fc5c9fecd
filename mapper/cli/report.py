"""Command that writes the page of a run: `mapper report`."""

from pathlib import Path
from typing import Annotated

import typer

from mapper.api import location_of
from mapper.cli.options import PricesOption, StoreArgument
from mapper.text import describe_bytes

report_app = typer.Typer(rich_markup_mode="markdown")


@report_app.command("report")
def report_command(
    store: StoreArgument,
    *,
    out: Annotated[Path, typer.Option(metavar="FILE.html", help="Page to write; an existing one is replaced.")] = Path(
        "report.html"
    ),
    prices: PricesOption = None,
) -> None:
    """Write a page about a map: what it looks like, how it came about, what is wrong with it, what it cost.

    One HTML file without scripts, that asks nothing of the network: mail it, archive it, print it. A run may be on
    meanwhile. Pictures come from the pyramid (`mapper pyramid`), of a small map without one from its pixels, of a
    large one from the means of its tiles.
    """
    from mapper.cost.prices import read_prices
    from mapper.report.page import write_report

    path = write_report(location_of(store), out, prices=read_prices(prices) if prices else None)
    typer.echo(f"{path}: {describe_bytes(path.stat().st_size)}")
