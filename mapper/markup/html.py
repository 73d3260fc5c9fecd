"""Pieces of HTML: text is escaped here and nowhere else."""

import html
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

_STYLE = "font-family:system-ui,sans-serif;font-size:13px;line-height:1.45;max-width:56em"
_ROW = "display:flex;flex-wrap:wrap;gap:1.2em;align-items:flex-start"


@dataclass(frozen=True)
class Markup:
    """Text that is HTML already."""

    text: str

    def __str__(self) -> str:
        return self.text


Cell = str | int | float | Markup | None
"""Values that can be shown; only :class:`Markup` is taken as it is."""


def to_html(cell: Cell) -> str:
    """Return one value as HTML."""
    if cell is None:
        return "&ndash;"
    if isinstance(cell, Markup):
        return cell.text
    if isinstance(cell, bool | str):
        return html.escape(str(cell))
    return f"{cell:,}" if isinstance(cell, int) else f"{cell:,.4g}"


def make_table(head: Sequence[str], rows: Iterable[Sequence[Cell]]) -> Markup:
    """Return a table; columns of numbers are aligned right."""
    lines = [list(row) for row in rows]
    sides = [_side(column) for column in zip(*lines, strict=True)] or ["left"] * len(head)
    cells = "".join(
        f'<th style="text-align:{side}">{html.escape(name)}</th>' for name, side in zip(head, sides, strict=True)
    )
    body = "".join(
        "<tr>"
        + "".join(f'<td style="text-align:{side}">{to_html(cell)}</td>' for cell, side in zip(line, sides, strict=True))
        + "</tr>"
        for line in lines
    )
    return Markup(f"<table><thead><tr>{cells}</tr></thead><tbody>{body}</tbody></table>")


def make_pairs(pairs: Mapping[str, Cell]) -> Markup:
    """Return a table of names and values; those without a value are left out."""
    rows = (
        f'<tr><th style="text-align:left">{html.escape(name)}</th><td style="text-align:left">{to_html(cell)}</td></tr>'
        for name, cell in pairs.items()
        if cell not in (None, "")
    )
    return Markup(f"<table><tbody>{''.join(rows)}</tbody></table>")


def make_card(title: str, *parts: Markup) -> str:
    """Return the HTML that a notebook shows of an object: a title, and parts beside each other."""
    inner = "".join(f"<div>{part}</div>" for part in parts)
    return f'<div style="{_STYLE}"><b>{html.escape(title)}</b><div style="{_ROW}">{inner}</div></div>'


def _side(column: Iterable[Cell]) -> str:
    known = [cell for cell in column if cell is not None]
    return "right" if known and all(type(cell) in (int, float) for cell in known) else "left"
