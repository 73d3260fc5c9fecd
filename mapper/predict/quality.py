"""Quality flags of a pixel: bits with CF flag meanings, each with a number of its own that never changes."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from mapper.arrays import BoolArray
from mapper.spec import MapSpec


@dataclass(frozen=True, kw_only=True)
class QualityBit:
    """One flag: a bit, or one of the classes that several bits hold."""

    name: str
    mask: int
    description: str
    code: int = 0
    """Value of the bits of the mask; 0 for all of them set."""

    @property
    def value(self) -> int:
        """Value that the bits of the mask have where the flag is set."""
        return self.code or self.mask


_CONFIDENCE = 3 << 16
"""Bits of the class of confidence; 0 is high. Or-ing classes, as pyramids do, gives the most cautious."""
MEDIUM_CONFIDENCE, LOW_CONFIDENCE = 0.05, 0.2
"""Standard deviation / value from which confidence is medium, and low."""
MOVED_SD = 2.0
"""Standard deviations by which consistency has to move a pixel to be flagged."""
CLEAR_DATES = 3
"""Clear dates below which several dates are few, whatever was asked for."""

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
    QualityBit(name="few_clear", mask=512, description=f"fewer than {CLEAR_DATES} dates are clear here"),
    QualityBit(
        name="cloud_shadow",
        mask=1024,
        description="the anchor is far darker in every band than the other dates: a shadow that the mask missed",
    ),
    QualityBit(
        name="out_of_domain",
        mask=2048,
        description="deviation, detail, difference to the source or dates are unlike all that the model was judged on",
    ),
    QualityBit(
        name="consistency_moved",
        mask=4096,
        description=f"agreement with the source moved a band by more than {MOVED_SD:g} standard deviations",
    ),
    QualityBit(name="fallback", mask=8192, description="the model added nothing: this is the source, interpolated"),
    QualityBit(
        name="saturated", mask=16384, description="the model's mean lay beyond the bounds of a band, or its numbers"
    ),
    QualityBit(
        name="confidence_medium",
        mask=_CONFIDENCE,
        code=1 << 16,
        description=f"the standard deviation of a band is {MEDIUM_CONFIDENCE:.0%} of its value or more",
    ),
    QualityBit(
        name="confidence_low",
        mask=_CONFIDENCE,
        description=f"the standard deviation of a band is {LOW_CONFIDENCE:.0%} of its value or more",
    ),
    QualityBit(
        name="confidence_unknown",
        mask=_CONFIDENCE,
        code=2 << 16,
        description="no standard deviation is known, or the values have no zero to hold it against",
    ),
)

BITS: Mapping[str, QualityBit] = {bit.name: bit for bit in _BITS}
"""Flag by name. Numbers are for good: stored maps hold them. The bit 1 << 15 is the store's."""

MAP_BITS = ("guide_gap", "source_missing", "source_disagrees", "outside_area", "item_dropped", "few_observations")
"""Flags of a map whose source is a map."""

STACK_BITS = (*MAP_BITS, "few_dates")
"""Flags of a map whose source is a stack of one date."""

DATES_BITS = (*STACK_BITS, "misregistered", "changed")
"""Flags of a map whose source is a stack of several dates."""

WIDE_BITS = (
    "consistency_moved",
    "fallback",
    "saturated",
    "confidence_medium",
    "confidence_low",
    "confidence_unknown",
)
"""Further flags of a map that asks for ``bqa``."""

WIDE_DATES_BITS = ("few_clear", "cloud_shadow")
"""Further flags of such a map whose source is a stack of several dates."""

DOMAIN_BITS = ("out_of_domain",)
"""Further flags of such a map whose model knows what it was judged on."""

CHANGE_REACH = 72
"""Source pixels around its own that ``changed`` of a pixel hangs on, shifts taken as they are."""

DETAIL_REACH = 12
"""Source pixels around its own that the detail of a pixel is measured on."""

APPRAISED = frozenset({"bqa", "detail_gain", "risk"})
"""Bands of quality that follow from all bands of the target together."""

Flags = Mapping[str, BoolArray | np.bool_ | bool]
"""Pixels (y, x) that a flag is set at, or True for all, by its name."""


def mask_of(*names: str) -> int:
    """Return the bits of some flags.

    Raises:
        KeyError: If a flag is not declared.
    """
    bits = 0
    for name in names:
        bits |= BITS[name].value
    return bits


def list_bands(quality: Sequence[str]) -> tuple[str, ...]:
    """Return the bands of quality that are arrays of their own: all but further flags, which ``qa`` holds."""
    return tuple(name for name in quality if name != "bqa")


def list_flags(spec: MapSpec, *, knows_domain: bool) -> tuple[str, ...]:
    """Return the flags that pixels of a map can have.

    Args:
        spec: The map.
        knows_domain: True where its model knows what it was judged on.
    """
    several = spec.source.is_stack and spec.source.dates > 1
    usual = DATES_BITS if several else STACK_BITS if spec.source.is_stack else MAP_BITS
    if "bqa" not in spec.target.quality:
        return usual
    return (*usual, *(WIDE_DATES_BITS if several else ()), *(DOMAIN_BITS if knows_domain else ()), *WIDE_BITS)


def choose_dtype(quality: Sequence[str]) -> str:
    """Return the type of the flags of a map, by the bands of quality that it asks for."""
    return "uint32" if "bqa" in quality else "uint16"


def combine(flags: Iterable[Flags], shape: tuple[int, int], *, dtype: str = "uint16") -> npt.NDArray[Any]:
    """Return the bits that several steps set, (y, x) of a type that holds them."""
    bits = np.zeros(shape, dtype)
    for name, where in (entry for step in flags for entry in step.items()):
        bits |= np.where(where, bits.dtype.type(mask_of(name)), bits.dtype.type(0))
    return bits


def cf_attributes(names: Iterable[str]) -> dict[str, Any]:
    """Return CF attributes of the band: ``flag_masks`` and ``flag_meanings`` of some flags in the same order.

    Where flags are classes that share bits, ``flag_values`` say what these bits hold.
    """
    chosen = [BITS[name] for name in names]
    masks = [bit.mask for bit in chosen]
    values = {"flag_values": [bit.value for bit in chosen]} if any(bit.code for bit in chosen) else {}
    return {
        "long_name": "quality flags",
        "flag_masks": masks,
        **values,
        "flag_meanings": " ".join(bit.name for bit in chosen),
        "valid_range": [0, int(np.bitwise_or.reduce(masks))],
    }


def read_flags(attributes: Mapping[str, Any]) -> dict[str, tuple[int, int]]:
    """Return mask and value of each flag by its meaning, as CF attributes have them.

    A flag is set where a stored number, under the mask, is the value. Numbers that are one of several values, without
    masks, are under all bits.
    """
    meanings = str(attributes["flag_meanings"]).split()
    values = [int(value) for value in attributes.get("flag_values", attributes.get("flag_masks", ()))]
    masks = [int(mask) for mask in attributes.get("flag_masks", [-1] * len(values))]
    return {name: (mask, value) for name, mask, value in zip(meanings, masks, values, strict=True)}
