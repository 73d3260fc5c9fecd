"""Tables of scores: Markdown to read, grouped by what methods see, and CSV to compute with."""

import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from mapper.evaluation.metrics import METRICS, Score

Cell = str | float | int | None
Row = Mapping[str, Cell]

GROUPS = ("guide + source", "source only", "guide only")
"""What methods see, in the order of tables; other groups follow."""


@dataclass(frozen=True, kw_only=True)
class Column:
    """How one entry of the rows is shown."""

    key: str
    title: str
    units: str = ""
    digits: int = 2
    """Decimals in Markdown; CSV keeps them all."""
    best: Literal["low", "high"] | None = None
    """Which end is set in bold."""

    @property
    def header(self) -> str:
        """Title with units."""
        return f"{self.title} ({self.units})" if self.units else self.title


def score_columns(units: str, *, metrics: Sequence[str] = METRICS) -> tuple[Column, ...]:
    """Columns of the metrics of a score.

    Args:
        units: Of the target.
        metrics: Which of them.

    Raises:
        ValueError: If a metric is unknown.
    """
    columns = {
        "rmse": Column(key="rmse", title="RMSE", units=units, best="low"),
        "mae": Column(key="mae", title="MAE", units=units, best="low"),
        "bias": Column(key="bias", title="bias", units=units),
        "r2": Column(key="r2", title="R²", digits=3, best="high"),
        "psnr": Column(key="psnr", title="PSNR", units="dB", best="high"),
        "ssim": Column(key="ssim", title="SSIM", digits=3, best="high"),
        "gradient_rmse": Column(key="gradient_rmse", title="gradient RMSE", units=f"{units} / px", best="low"),
        "residual_mean": Column(key="residual_mean", title="block mean - source, mean", units=units),
        "residual_max": Column(key="residual_max", title="largest", units=units),
    }
    unknown = [name for name in metrics if name not in columns]
    if unknown:
        raise ValueError(f"no metrics {', '.join(unknown)}; there are {', '.join(columns)}")
    return tuple(columns[name] for name in metrics)


def score_row(method: str, score: Score, *, group: str = "", **further: Cell) -> dict[str, Cell]:
    """Row of a table: method, group, metrics, and whatever else is known of the method."""
    row: dict[str, Cell] = {"group": group, "method": method, "n": score.n}
    return row | score.metrics() | further


def to_markdown(rows: Sequence[Row], columns: Sequence[Column]) -> str:
    """Format rows as a Markdown table that also reads well as plain text.

    Rows are gathered by their ``group``, in the order of :data:`GROUPS`; the name of a group stands at its first row.
    The best of a column is bold. Missing and undefined cells hold a dash.

    Args:
        rows: Each with ``method`` and, where there are groups, ``group``.
        columns: What follows the method.
    """
    ordered = _by_group(rows)
    grouped = any(row.get("group") for row in rows)
    leading = [Column(key="method", title="method")]
    if grouped:
        leading.insert(0, Column(key="group", title="group"))
    shown = [*leading, *columns]
    best = {column.key: _best(rows, column) for column in columns}
    lines = [[column.header for column in shown]]
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
    """Format rows as CSV in full precision: what a reader computes with.

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
    values = [value for row in rows if isinstance(value := row.get(column.key), int | float) and math.isfinite(value)]
    if column.best is None or len(values) < 2:
        return None
    return min(values) if column.best == "low" else max(values)


def _format(cell: Cell, column: Column, best: float | None) -> str:
    if _is_missing(cell):
        return "-"
    if not isinstance(cell, float):
        text = f"{cell:,}" if isinstance(cell, int) else str(cell).replace("|", "\\|")
        return f"**{text}**" if best is not None and cell == best else text
    text = _decimals(cell, column)
    # equal as shown is equal to a reader
    return f"**{text}**" if best is not None and text == _decimals(best, column) else text


def _decimals(number: float, column: Column) -> str:
    return f"{round(number, column.digits) + 0.0:.{column.digits}f}"  # + 0.0: there is no -0.0 to read


def _is_missing(cell: Cell) -> bool:
    return cell is None or (isinstance(cell, float) and math.isnan(cell))
