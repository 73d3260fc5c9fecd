"""Which processing baseline made a Sentinel-2 item, as archives state it in one place or another."""

import re
from dataclasses import dataclass

from mapper.catalog.items import ItemDict
from mapper.errors import SpecError

FIRST_SHIFTED = (4, 0)
"""Sentinel-2 L2A products from this processing baseline on are shifted by +1000."""

_PROPERTIES = ("s2:processing_baseline", "sentinel:processing_baseline")
_GENERIC = "processing:version"
"""Of any processor; only what is written like a baseline is one."""
_NAMES = ("s2:product_uri", "sentinel:product_id", "s2:product_id", "title")
_STATED = re.compile(r"^[Nv]?(?:(\d{1,2})\.(\d{1,2})|(\d{2})(\d{2}))$")
_LIKE_BASELINE = re.compile(r"^N?\d{2}\.\d{2}$")
_IN_NAME = re.compile(r"^S2[A-D]_MSIL2A_\d{8}T\d{6}_N(\d{4})_R\d{3}_")


@dataclass(frozen=True, kw_only=True)
class Baseline:
    """A processing baseline of ESA's processor."""

    number: tuple[int, int]
    text: str
    """As stated, with where if that is not a property made for it."""


def stated_baseline(item: ItemDict) -> Baseline | None:
    """The processing baseline of an item; None if it does not state one.

    A property goes first, then the name of the product: ``S2A_MSIL2A_20231008T175231_N0509_R141_...``.

    Raises:
        SpecError: If it states something that is no number.
    """
    properties = item["properties"]
    for name in _PROPERTIES:
        if properties.get(name) is not None:
            text = str(properties[name])
            return Baseline(number=_parse(item, text), text=text)
    text = str(properties.get(_GENERIC) or "")
    if _LIKE_BASELINE.match(text):
        return Baseline(number=_parse(item, text), text=text)
    for product in (*(str(properties.get(name) or "") for name in _NAMES), str(item["id"])):
        found = _IN_NAME.match(product)
        if found:
            number = found[1]
            return Baseline(number=(int(number[:2]), int(number[2:])), text=f"{number[:2]}.{number[2:]} (by its name)")
    return None


def _parse(item: ItemDict, text: str) -> tuple[int, int]:
    """``05.10``, ``N0510`` or ``5.10`` to (5, 10)."""
    found = _STATED.match(text.strip())
    if found is None:
        raise SpecError(f"item {item['id']}: processing baseline {text!r} is not a number")
    major, minor = (found[1], found[2]) if found[1] else (found[3], found[4])
    return int(major), int(minor)
