"""Text for people."""

import math

from mapper.redaction import redact

_SIGNIFICANT = 3


def describe_bytes(count: float) -> str:
    """A number of bytes for people."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} TiB"


def describe_seconds(seconds: float) -> str:
    """A duration for people: its two largest units."""
    if seconds < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes, left = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {left} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours < 48 else f"{hours // 24} d {hours % 24} h"


def describe_amount(value: float | None, unit: str) -> str:
    """A quantity for people; ``B`` and ``h`` are units, anything else is a currency, nothing a count."""
    if value is None:
        return "-"
    if unit == "B":
        return describe_bytes(value)
    if not unit:
        return f"{value:,.0f}"
    return f"{_round(value)} h" if unit == "h" else _round(value)


def _round(value: float) -> str:
    """Three significant digits, thousands in full."""
    if not value:
        return "0"
    decimals = max(0, _SIGNIFICANT - 1 - math.floor(math.log10(abs(value))))
    return f"{value:,.{decimals}f}"


def _percent(part: float | None) -> str:
    return "-" if part is None else f"{part:+.0%}".replace("%", " %")


def describe_error(error: BaseException) -> str:
    """An error as one line, its addresses without secrets."""
    return redact(f"{type(error).__name__}: {' '.join(str(error).split())}".rstrip(": "))
