"""Output of commands: JSON, tables, name-value pairs, and messages on standard error."""

import json
import sys
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import typer
from rich.console import Console
from rich.table import Table

from mapper.models.card import Card
from mapper.models.contract import Contract

if TYPE_CHECKING:
    from mapper.catalog.coverage import Coverage
    from mapper.evaluation.score_map import Comparison
    from mapper.plan.pending import Pending


def notify(text: str) -> None:
    """Print to standard error, in one line unless the text has more."""
    Console(stderr=True, soft_wrap=True, highlight=False).print(text)


def print_json(content: object) -> None:
    """Print one JSON document."""
    typer.echo(json.dumps(content, indent=2, default=str))


def print_table(title: str, columns: Iterable[str], rows: Iterable[Iterable[object]]) -> None:
    """Print a table; numbers with three decimals."""
    table = Table(title=title, title_justify="left")
    for column in columns:
        table.add_column(column, justify="left" if not table.columns else "right")
    for row in rows:
        table.add_row(*(f"{cell:.3f}" if isinstance(cell, float) else str(cell) for cell in row))
    Console(width=120 if not sys.stdout.isatty() else None).print(table)


def print_due(pending: "Pending") -> None:
    """Print tile, cause and reason of each task that is due, separated by tabs."""
    for due in pending.todo:
        typer.echo(f"{due.task.tile}\t{due.cause}\t{due.reason}")


def print_pairs(title: str, pairs: Mapping[str, Any]) -> None:
    """Print names and values."""
    print_table(title, ("", ""), ((key.replace("_", " "), value) for key, value in pairs.items()))


def print_months(title: str, coverage: "Coverage") -> None:
    """Print the passes, cloud cover and share of the area of each collection and month."""
    rows = [
        (
            str(row.view),
            row.month,
            row.items,
            row.passes,
            "-" if row.cloud is None else f"{row.cloud:.0f} %",
            f"{100 * row.share:.0f} %",
        )
        for row in coverage.months
    ]
    print_table(title, ("collection", "month", "items", "passes", "cloud", "area covered"), rows)


def describe_card(card: Card) -> dict[str, object]:
    """Return a row of a table of models."""
    contract = card.contract
    return {
        "architecture": contract.model,
        "guide": len(contract.guide),
        "scale": contract.scale or "any",
        "halo_px": _describe_halo(contract),
        "parameters": card.parameters,
        "units": contract.target_units,
        "sha256": card.sha256[:12],
    }


def _describe_halo(contract: Contract) -> int | str:
    """Return the halo in target pixels, or why there is no such number."""
    if not contract.tile_exact:
        return "whole patch"
    return contract.halo(contract.scale) if contract.scale else "by scale"


def describe_scores(card: Card) -> dict[str, object]:
    """Return the RMSE of a model on the sites that were not trained on."""
    scores = card.training.get("scores", {})
    return {f"RMSE, {name}": scores[name]["rmse"] for name in ("model", "bicubic") if name in scores}


def print_comparison(comparison: "Comparison") -> None:
    """Print the scores of a map."""
    for table in comparison.tables():
        typer.echo(table.to_markdown())
