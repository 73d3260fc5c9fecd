"""Lines of a forecast, and how they are shown: what was expected beside what came."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from mapper.text import _percent, describe_amount

State = Literal["new", "pilot", "complete"]
"""No tile has run; some have; all have."""


@dataclass(frozen=True, kw_only=True)
class CostRow:
    """One quantity: of the whole plan, and of the tiles that have run."""

    name: str
    unit: str
    """``B``, ``h``, nothing for a count, or a currency, which is shown in the title alone."""
    estimated: float
    """Estimate from metadata alone, of all tiles."""
    calibrated: float | None
    """All tiles, by what the pilot took; None where no pilot can tell."""
    low: float | None
    high: float | None
    """Range in which 90 % of the outcomes are to lie."""
    actual: float | None
    """Amount that tiles took that have run; None if none has."""
    expected: float | None
    """Estimated from metadata, of the same tiles."""

    @property
    def error(self) -> float | None:
        """Estimate / actual - 1, of the tiles that have run."""
        return _off(self.expected, self.actual)

    def scaled(self, name: str, *, by: float, by_done: float) -> "CostRow":
        """Return the row for each of so many; ``by`` counts the whole plan, ``by_done`` what has run."""

        def divide(value: float | None, count: float) -> float | None:
            return None if value is None or not count else value / count

        return CostRow(
            name=name,
            unit=self.unit,
            estimated=self.estimated / by,
            calibrated=divide(self.calibrated, by),
            low=divide(self.low, by),
            high=divide(self.high, by),
            actual=divide(self.actual, by_done),
            expected=divide(self.expected, by_done),
        )


def tabulate(title: str, lines: Sequence[CostRow], *, state: State, done: str) -> str:
    """Return rows as aligned text.

    Args:
        title: Over the names.
        lines: Any number.
        state: How far the map is, which decides what can be told.
        done: Over the column of what has run, for example ``6 of 16 tiles``.
    """
    columns: list[tuple[str, Callable[[CostRow], str]]] = [
        ("estimated", lambda line: describe_amount(line.estimated, line.unit))
    ]
    if state == "complete":
        columns.append(("off by", lambda line: _percent(line.error)))
    if any(line.calibrated is not None for line in lines):
        columns.append(("calibrated", lambda line: describe_amount(line.calibrated, line.unit)))
        columns.append(("90 % range", _show_range))
        if state == "complete":
            columns.append(("off by", lambda line: _percent(_off(line.calibrated, line.actual))))
    if state != "new":
        columns.append((f"actual, {done}", lambda line: describe_amount(line.actual, line.unit)))
    if state == "pilot":
        columns.append(("off by", lambda line: _percent(line.error)))
    rows = [[title, *(head for head, _ in columns)]]
    rows += [[line.name, *(cell(line) for _, cell in columns)] for line in lines]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join([row[0].ljust(max(widths[0], 12)), *map(str.rjust, row[1:], widths[1:])]) for row in rows
    )


def _off(expected: float | None, actual: float | None) -> float | None:
    return expected / actual - 1 if expected is not None and actual else None


def _show_range(line: CostRow) -> str:
    if line.low is None or line.high is None:
        return "-"
    return f"{describe_amount(line.low, line.unit).removesuffix(' h')} - {describe_amount(line.high, line.unit)}"
