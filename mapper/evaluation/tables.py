"""Tables of scores: Markdown to read, grouped by what methods see, and CSV to compute with."""

import csv
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from mapper.evaluation.metric import Better, Metric
from mapper.evaluation.score import Score
from mapper.evaluation.uncertainty import LEVELS, Coverage

Cell = str | float | int | None
Row = Mapping[str, Cell]

GROUPS = ("guide + source", "source only", "guide only")
"""Inputs that methods see, in the order of tables; other groups follow."""
SEES_TRUTH = "sees the truth"
"""Group of a row that is no method, but a bound: it is never the best."""


@dataclass(frozen=True, kw_only=True)
class Column:
    """One entry of the rows, and how it is shown."""

    key: str
    title: str
    units: str = ""
    digits: int = 2
    """Decimals in Markdown; CSV keeps them all."""
    better: Better | None = None
    """End of the scale at which a value is better; the best is set in bold, where that end is not zero."""

    @property
    def header(self) -> str:
        """Title, with units where there are any."""
        return f"{self.title} ({self.units})" if self.units else self.title


def score_columns(metrics: Iterable[Metric]) -> tuple[Column, ...]:
    """Return a column for each metric."""
    return tuple(
        Column(
            key=metric.name,
            title=metric.title,
            units=metric.units,
            digits=2 if metric.units else 3,
            better=metric.better,
        )
        for metric in metrics
    )


def score_row(method: str, score: Score, *, group: str = "", **further: Cell) -> dict[str, Cell]:
    """Return the row of a method in a table: its name, group and scores, and whatever else is known of it."""
    row: dict[str, Cell] = {"group": group} if group else {}
    return row | {"method": method, "n": score.n} | score.values() | further


@dataclass(frozen=True, kw_only=True)
class Table:
    """Rows with their columns under a title."""

    title: str
    columns: tuple[Column, ...]
    rows: Sequence[Row]
    first: str = "method"
    """Title of the first column, which names the rows."""

    def to_markdown(self) -> str:
        """Return title and rows as Markdown that also reads well as plain text."""
        return f"{self.title}\n\n{to_markdown(self.rows, self.columns, first=self.first)}"


def coverage_table(coverage: Coverage, *, title: str) -> Table:
    """Return nominal and observed coverage, and the mean width of the intervals, a row for each level."""
    rows: list[dict[str, Cell]] = [
        {"method": f"{level:.0%}", "observed": 100 * coverage.share(level), "width": coverage.width(level)}
        for level in LEVELS
    ]
    columns = (
        Column(key="observed", title="observed", units="%", digits=1),
        Column(key="width", title="mean width", digits=3),
    )
    return Table(title=title, columns=columns, rows=rows, first="nominal")


def to_markdown(rows: Sequence[Row], columns: Sequence[Column], *, first: str = "method") -> str:
    """Return rows as a Markdown table that also reads well as plain text.

    Rows are gathered by their ``group``, in the order of :data:`GROUPS`; the name of a group stands at its first row.
    The best of a column is bold. Missing and undefined cells hold a dash.

    Args:
        rows: Each with ``method`` and, where there are groups, ``group``.
        columns: Columns that follow the method.
        first: Title of the column of methods.
    """
    ordered = _by_group(rows)
    grouped = any(row.get("group") for row in rows)
    leading = [Column(key="method", title=first)]
    if grouped:
        leading.insert(0, Column(key="group", title="group"))
    shown = [*leading, *columns]
    best = {column.key: _best(rows, column) for column in columns}
    lines = [[_escape(column.header) for column in shown]]
    previous = None
    for row in ordered:
        cells = [_format(row.get(column.key), column, best.get(column.key)) for column in shown]
        if grouped:
            cells[0] = "" if row.get("group") == previous else cells[0]
            previous = row.get("group")
        lines.append(cells)
    right = [column in columns for column in shown]
    widths = [max(3, *(len(line[index]) for line in lines)) for index in range(len(shown))]
    rule = [f"{'-' * (width - 1)}:" if aligned else "-" * width for width, aligned in zip(widths, right, strict=True)]
    padded = [
        [c.rjust(w) if aligned else c.ljust(w) for c, w, aligned in zip(line, widths, right, strict=True)]
        for line in lines
    ]
    return "\n".join("| " + " | ".join(line) + " |" for line in (padded[0], rule, *padded[1:])) + "\n"


def to_csv(rows: Sequence[Row], columns: Sequence[Column] = ()) -> str:
    """Return rows as CSV in full precision, to compute with.

    Args:
        rows: In the order they go out.
        columns: Their units are put into the header; entries without a column keep their key.
    """
    keys = list(dict.fromkeys(key for row in rows for key in row))
    units = {column.key: column.units for column in columns}
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow([f"{key} ({units[key]})" if units.get(key) else key for key in keys])
    for row in rows:
        writer.writerow(["" if _is_missing(row.get(key)) else row[key] for key in keys])
    return stream.getvalue()


def _by_group(rows: Sequence[Row]) -> list[Row]:
    names = list(dict.fromkeys([*GROUPS, *(str(row.get("group") or "") for row in rows)]))
    return sorted(rows, key=lambda row: names.index(str(row.get("group") or "")))


def _best(rows: Sequence[Row], column: Column) -> float | None:
    own = [row.get(column.key) for row in rows if row.get("group") != SEES_TRUTH]
    values = [value for value in own if isinstance(value, int | float) and math.isfinite(value)]
    if column.better not in ("lower", "higher") or len(values) < 2:
        return None
    return min(values) if column.better == "lower" else max(values)


def _format(cell: Cell, column: Column, best: float | None) -> str:
    if _is_missing(cell):
        return "-"
    if not isinstance(cell, float):
        text = f"{cell:,}" if isinstance(cell, int) else _escape(str(cell))
        return f"**{text}**" if best is not None and cell == best else text
    text = _decimals(cell, column)
    # equal as shown is equal to a reader
    return f"**{text}**" if best is not None and text == _decimals(best, column) else text


def _escape(text: str) -> str:
    return text.replace("|", "\\|")


def _decimals(number: float, column: Column) -> str:
    return f"{round(number, column.digits) + 0.0:.{column.digits}f}"  # + 0.0: there is no -0.0 to read


def _is_missing(cell: Cell) -> bool:
    return cell is None or (isinstance(cell, float) and math.isnan(cell))
