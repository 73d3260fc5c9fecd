"""Ranges of values as they are written in addresses: ``0,400``."""

import re

from mapper.errors import InputError

_NUMBER = r"[-+]?[0-9]{1,15}(?:\.[0-9]{0,15})?(?:[eE][-+]?[0-9]{1,2})?"
_RANGE = re.compile(f"({_NUMBER}),({_NUMBER})")
_MOST = 1e30

Range = str | None


def read_range(text: Range, name: str) -> tuple[float, float] | None:
    """Two rising numbers; None if nothing was given.

    Raises:
        InputError: If it is anything else.
    """
    if text is None:
        return None
    match = _RANGE.fullmatch(text)
    low, high = (float(part) for part in match.groups()) if match else (0.0, 0.0)
    if not -_MOST <= low < high <= _MOST or high - low < 1 / _MOST:
        raise InputError(f"{name}: expected two rising numbers, 0,400 say")
    return low, high
