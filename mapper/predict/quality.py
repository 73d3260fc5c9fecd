"""Quality flags of a pixel: bits with CF flag meanings, each with a number of its own that never changes."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from mapper.arrays import BoolArray, UInt16Array


@dataclass(frozen=True, kw_only=True)
class QualityBit:
    """One flag."""

    name: str
    mask: int
    description: str


_BITS = (
    QualityBit(name="guide_gap", mask=1, description="a guide channel had no valid observation"),
    QualityBit(name="source_missing", mask=2, description="the source has no value here"),
    QualityBit(
        name="source_disagrees",
        mask=4,
        # seen as the source sees it; where the deviation is unknown, a tolerance takes its place
        # and where a map is to lie below its source, only above it counts, by the tolerance
        description="the network's mean was farther from the source than the source's standard deviation",
    ),
    QualityBit(name="outside_area", mask=8, description="not part of the map"),
    QualityBit(name="item_dropped", mask=16, description="an item of this tile could not be read and was left out"),
    QualityBit(name="few_observations", mask=32, description="few valid observations entered the guide"),
    QualityBit(name="few_dates", mask=64, description="the stack has fewer dates here than were asked for"),
    QualityBit(
        name="misregistered",
        mask=128,
        # with trust: a standard error of .1 source pixels; by models that register dates, as the next one
        description="a date that is used here could not be laid on the anchor, or lies more than 2 source pixels away",
    ),
    QualityBit(
        name="changed",
        mask=256,
        description="a date that is used here differs from the anchor by more than gain, offset and noise explain",
    ),
)

BITS: Mapping[str, QualityBit] = {bit.name: bit for bit in _BITS}
"""Flag by name. Numbers are for good: stored maps hold them. The highest bit, 1 << 15, is the store's."""

MAP_BITS = ("guide_gap", "source_missing", "source_disagrees", "outside_area", "item_dropped", "few_observations")
"""Flags of a map whose source is a map."""

STACK_BITS = (*MAP_BITS, "few_dates")
"""Flags of a map whose source is a stack of one date."""

DATES_BITS = (*STACK_BITS, "misregistered", "changed")
"""Flags of a map whose source is a stack of several dates."""

CHANGE_REACH = 72
"""Source pixels around its own that ``changed`` of a pixel hangs on, shifts taken as they are."""

Flags = Mapping[str, BoolArray | np.bool_ | bool]
"""Pixels (y, x) that a flag is set at, or True for all, by its name."""


def mask_of(*names: str) -> int:
    """Return the bits of some flags.

    Raises:
        KeyError: If a flag is not declared.
    """
    return sum(BITS[name].mask for name in set(names))


def combine(flags: Iterable[Flags], shape: tuple[int, int]) -> UInt16Array:
    """Return the bits that several steps set, (y, x)."""
    bits = np.zeros(shape, np.uint16)
    for name, where in (entry for step in flags for entry in step.items()):
        bits |= np.where(where, np.uint16(mask_of(name)), np.uint16(0))
    return bits


def cf_attributes(names: Iterable[str]) -> dict[str, Any]:
    """Return CF attributes of the band: ``flag_masks`` and ``flag_meanings`` of some flags in the same order."""
    chosen = [BITS[name] for name in names]
    return {
        "long_name": "quality flags",
        "flag_masks": [bit.mask for bit in chosen],
        "flag_meanings": " ".join(bit.name for bit in chosen),
        "valid_range": [0, sum(bit.mask for bit in chosen)],
    }
