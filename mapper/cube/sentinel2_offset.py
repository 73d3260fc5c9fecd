"""Offset of Sentinel-2 reflectance: the evidence of an item that 1000 must be subtracted from its numbers.

It changed in January 2022, and archives reprocess: a scene of 2018 may carry the new offset, and a copy of it elsewhere
may have had it removed. So the date says nothing, and three evidence are stated: the flag that the offset was removed,
the offset that the item declares, and its processing baseline. Where they agree, or all but one are silent, the case is
clear; an item that says nothing or contradicts itself is refused, unless the collection says whom to ``trust``.
"""

import re
from dataclasses import dataclass

from mapper.catalog.items import ItemDict
from mapper.catalog.provider import CollectionRule
from mapper.cube.declaration import Declaration
from mapper.errors import SpecError

FIRST_SHIFTED = (4, 0)
"""First processing baseline of Sentinel-2 L2A products whose numbers are shifted by +1000."""


_PROPERTIES = ("s2:processing_baseline", "sentinel:processing_baseline")


_GENERIC = "processing:version"
"""Baseline fields of any processor; only what is written like a baseline is one."""


_NAMES = ("s2:product_uri", "sentinel:product_id", "s2:product_id", "title")


_STATED = re.compile(r"^[Nv]?(?:(\d{1,2})\.(\d{1,2})|(\d{2})(\d{2}))$")


_LIKE_BASELINE = re.compile(r"^N?\d{2}\.\d{2}$")


_IN_NAME = re.compile(r"^S2[A-D]_MSIL2A_\d{8}T\d{6}_N(\d{4})_R\d{3}_")


@dataclass(frozen=True, kw_only=True)
class Baseline:
    """Processing baseline of ESA's processor."""

    number: tuple[int, int]
    text: str
    """Text as stated, with its field if that is not a property made for it."""


def stated_baseline(item: ItemDict) -> Baseline | None:
    """Return the processing baseline of an item; None if it does not state one.

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
    """Parse ``05.10``, ``N0510`` or ``5.10`` to (5, 10)."""
    found = _STATED.match(text.strip())
    if found is None:
        raise SpecError(f"item {item['id']}: processing baseline {text!r} is not a number")
    major, minor = (found[1], found[2]) if found[1] else (found[3], found[4])
    return int(major), int(minor)


_SHIFT_DN = -1000.0


_REFLECTANCE_SCALE = 1e-4


_DECIMALS = 6
"""Decimals of an offset: archives write it as a number of single precision too."""


_COARSEST_SCALE = 0.01
"""Largest scale of whole numbers that can give reflectance: a larger one is a default that someone wrote down."""


_REMOVED = "offset already applied, says the item"


_APPLIED_FLAGS = ("earthsearch:boa_offset_applied", "sentinel:boa_offset_applied")


@dataclass(frozen=True, kw_only=True)
class _Evidence:
    """Evidence of one part of an item about the offset of its reflectance."""

    offset: float
    claim: str
    reason: str


def decide_reflectance(
    item: ItemDict, rule: CollectionRule, asset: str, declared: Declaration
) -> tuple[float, float, str]:
    """Decide how numbers of one asset become reflectance, stored * scale + offset; returns these and the reason.

    Args:
        item: STAC item of Sentinel-2 L2A.
        rule: How its collection is read.
        asset: Key of the asset.
        declared: What the item declares of it.

    Returns:
        Scale, offset, and what the decision rests on.

    Raises:
        SpecError: If the item does not say, or contradicts itself and the rule trusts no one.
    """
    scale = _REFLECTANCE_SCALE if declared.scale is None else declared.scale
    whole = "int" in (declared.dtype or rule.dtype)
    if whole and not 0 < scale < _COARSEST_SCALE:
        raise SpecError(
            f"item {item['id']} declares a scale of {scale:g} for asset {asset}, whose whole numbers then are no "
            "reflectance; if its numbers are reflectance as they are, the calibration of the collection is identity"
        )
    evidence = _find_evidence(item, asset, declared.offset, scale)
    if not evidence:
        raise SpecError(
            f"item {item['id']} declares neither raster:offset for {asset} nor a processing baseline "
            "(s2:processing_baseline, processing:version): its reflectance cannot be told"
        )
    # a removed offset is no contradiction to the baseline that came with it
    removed = "flag" in evidence and evidence["flag"].reason == _REMOVED
    offsets = {each.offset for kind, each in evidence.items() if not (removed and kind == "baseline")}
    if len(offsets) == 1:
        decisive = next(each for each in evidence.values() if each.offset in offsets)
        return scale, decisive.offset, decisive.reason
    claims = "; ".join(each.claim for each in evidence.values())
    trusted = evidence.get(rule.trust)
    if trusted is None:
        advice = (
            f"trust is {rule.trust}, of which the item says nothing"
            if rule.trust != "none"
            else f"the collection's setting trust decides ({', '.join(evidence)})"
        )
        raise SpecError(
            f"item {item['id']} contradicts itself about the offset of {asset}: {claims}; "
            f"which is true cannot be told: {advice}; "
            "or use a collection that is not ambiguous (Earth Search: sentinel-2-c1-l2a)"
        )
    return scale, trusted.offset, f"{trusted.reason}, trusted although {claims}"


def quote_evidence(item: ItemDict) -> str:
    """Return flag and baseline of an item as text: two items with the same text are read alike."""
    return repr(([*map(item["properties"].get, _APPLIED_FLAGS)], stated_baseline(item)))


def _find_evidence(item: ItemDict, asset: str, offset: float | None, scale: float) -> dict[str, _Evidence]:
    """Collect the offset implied by the declaration, the flag and the baseline; evidence that is absent is omitted."""
    applied, baseline = _read_flag(item), stated_baseline(item)
    evidence = {}
    if offset is not None:
        if not -1 <= offset <= 1:
            raise SpecError(
                f"item {item['id']} declares an offset of {offset:g} for {asset}: stored * scale + offset is no "
                "reflectance then (an offset in digital numbers has to be multiplied by the scale)"
            )
        evidence["declaration"] = _Evidence(
            offset=round(offset, _DECIMALS),
            claim=f"it declares an offset of {offset:g}",
            reason="offset declared by the item",
        )
    if applied is not None and applied[1]:
        name = applied[0]
        claim = f"{name} says that the offset was removed"
        evidence["flag"] = _Evidence(offset=0.0, claim=claim, reason=_REMOVED)
    if baseline is not None:
        by_baseline = round(_SHIFT_DN * scale, _DECIMALS) if baseline.number >= FIRST_SHIFTED else 0.0
        claim = f"processing baseline {baseline.text} means an offset of {by_baseline:g}"
        stated = _Evidence(offset=by_baseline, claim=claim, reason=f"processing baseline {baseline.text}")
        evidence["baseline"] = stated
        if applied is not None and not applied[1]:
            claim = f"{applied[0]} says that it was not removed"
            evidence["flag"] = _Evidence(offset=by_baseline, claim=claim, reason=stated.reason + ", not removed")
    return evidence


def _read_flag(item: ItemDict) -> tuple[str, bool] | None:
    """Return name and value of the flag that the offset was removed; None without one."""
    properties = item["properties"]
    name = next((flag for flag in _APPLIED_FLAGS if properties.get(flag) is not None), None)
    if name is None:
        return None
    value = {"true": True, "false": False}.get(str(properties[name]).lower())
    if value is None:
        raise SpecError(f"item {item['id']}: {name} is {properties[name]!r}, neither true nor false")
    return name, value
