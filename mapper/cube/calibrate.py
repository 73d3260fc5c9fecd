"""Calibration of stored numbers to physical units: decided for every item, never by date.

What an item declares goes first, then what is said of its collection; Sentinel-2 has a module of its own
(:mod:`mapper.cube.sentinel2_offset`). An item that contradicts itself or its collection is refused, unless the
collection says whom to ``trust``. The decision and its evidence are stored as text in the provenance.
"""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from mapper.arrays import Float32Array
from mapper.catalog.items import ItemDict
from mapper.catalog.provider import CollectionRule, MaskRule
from mapper.cube.declaration import quote_declaration, read_declaration
from mapper.cube.sentinel2_offset import decide_reflectance, quote_evidence
from mapper.errors import SpecError

_DECIBEL, _LINEAR = ("db", "decibel", "decibels"), ("linear", "power", "1", "m2/m2", "dn", "natural")

_VOIDS = (-32768.0, -32767.0, -9999.0)
"""Numbers of voids in elevation models, which many files do not declare."""

Kind = Literal["sentinel-2", "linear-power", "decibel", "identity", "classes"]


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """Conversion of one item's stored numbers to physical units: stored * scale + offset, then perhaps to decibels.

    Codes of classes become an indicator instead: 1 where the stored code is one of some, 0 where it is another.
    """

    rule: Kind
    scale: float = 1.0
    offset: float = 0.0
    reason: str = ""
    """Evidence for the decision, for example ``processing baseline 05.10``."""
    classes: tuple[int, ...] = ()
    """Codes that ``classes`` indicates."""

    @property
    def shift(self) -> float:
        """Return the offset in stored numbers: stored * scale + offset = (stored + shift) * scale."""
        return round(self.offset / self.scale, 6)

    def __str__(self) -> str:
        if self.rule == "classes":
            return f"1 where stored is {', '.join(map(str, self.classes))}, else 0: {self.reason}"
        sign = "-" if self.offset < 0 else "+"
        if self.rule == "sentinel-2":
            number = f"(DN {sign} {abs(self.shift):g})" if self.offset else "DN"
            text = f"{number} / {1 / self.scale:.10g}"
        else:
            text = "stored" if self.scale == 1 else f"stored * {self.scale:g}"
            text += f" {sign} {abs(self.offset):g}" if self.offset else ""
            text = f"10 log10({text})" if self.rule == "linear-power" else text
        return f"{text}: {self.reason}"


def decide(item: ItemDict, rule: CollectionRule, band: str) -> Calibration:
    """Decide how one band of one item is calibrated; returns the calibration.

    Args:
        item: STAC item.
        rule: How its collection is read.
        band: Our band name.

    Raises:
        SpecError: If the item does not say, or contradicts itself and the rule trusts no one.
    """
    asset, classes = rule.bands[band].asset, rule.bands[band].classes
    if classes:
        return Calibration(rule="classes", classes=classes, reason="classes by the collection")
    declared = read_declaration(item, asset, trust=rule.trust, band=rule.bands[band].band or band)
    if declared.scale == 0:
        raise SpecError(f"item {item['id']} declares a scale of 0 for asset {asset}")
    if rule.calibration == "sentinel-2":
        scale, offset, reason = decide_reflectance(item, rule, asset, declared)
        return Calibration(rule="sentinel-2", scale=scale, offset=offset, reason=reason)
    kind, note = _decide_kind(item, rule, asset, declared.unit)
    scale = rule.scale if declared.scale is None else declared.scale
    offset = rule.offset if declared.offset is None else declared.offset
    by_item = declared.scale is not None or declared.offset is not None
    return Calibration(
        rule=kind,
        scale=scale,
        offset=offset,
        reason=("declared by the item" if by_item else f"{kind} by the collection") + note,
    )


def quote_calibration(item: ItemDict, rule: CollectionRule, band: str) -> str:
    """Return all metadata that :func:`decide` reads, as text: two items with the same text are calibrated alike.

    Raises:
        SpecError: If the item states a processing baseline that is no number.
    """
    declared = quote_declaration(item, rule.bands[band].asset)
    return declared + (quote_evidence(item) if rule.calibration == "sentinel-2" else "")


def apply(raw: Float32Array, calibration: Calibration) -> Float32Array:
    """Turn stored numbers into physical units.

    Args:
        raw: Stored numbers, float32, NaN where missing; any shape.
        calibration: What was decided.

    Returns:
        Reflectance (clipped at 0), decibels, an indicator or the stored quantity, float32, NaN where missing.
    """
    if calibration.rule == "classes":
        found = np.isin(raw, np.asarray(calibration.classes, np.float32)).astype(np.float32)
        return np.where(np.isnan(raw), np.float32(np.nan), found)
    if calibration.rule == "sentinel-2":
        physical: Float32Array = (raw + np.float32(calibration.shift)) * np.float32(calibration.scale)
        np.maximum(physical, np.float32(0), out=physical)
        return physical
    physical = raw * np.float32(calibration.scale) + np.float32(calibration.offset)
    return to_decibel(physical) if calibration.rule == "linear-power" else physical


def missing_values(item: ItemDict, rule: CollectionRule, band: str) -> tuple[float, ...]:
    """Return the stored values that are no measurements, in one band of one item.

    Those that the collection names and those that the item declares are missing: a gap too many can be seen, a fill
    value taken for a measurement cannot. Digital number 0 of Sentinel-2 and zero power of radar mean no data whatever
    else is declared, and so do the voids of elevation models, which are no heights in metres.

    Raises:
        SpecError: If what the item declares is no number.
    """
    where = rule.bands[band]
    declared = read_declaration(item, where.asset, trust="declaration", band=where.band or band)
    values = set(declared.nodata)
    if rule.nodata is not None:
        values.add(float(rule.nodata))
    if not where.classes and (rule.zero_is_border or rule.calibration in ("sentinel-2", "linear-power")):
        values.add(0.0)
    has_heights = rule.heights is not None or rule.vertical_datum is not None
    if has_heights and rule.may_be_height(band) and (rule.scale if declared.scale is None else declared.scale) == 1:
        # whole numbers may be thousandths of a metre, by the header of their file: -9999 is a height then
        values.update(_VOIDS if "float" in (declared.dtype or rule.dtype) else _VOIDS[:2])
    return tuple(sorted(values))


def find_clear(mask: Float32Array, rule: MaskRule) -> npt.NDArray[np.bool_]:
    """Return True where a mask band lets a pixel pass.

    Args:
        mask: Values of the mask band, float32, NaN where missing; any shape.
        rule: Which values are bad.
    """
    if rule.rule == "above":
        return mask <= np.float32(rule.limit)
    seen = ~np.isnan(mask)
    if rule.rule == "bits":
        flags = np.where(seen, mask, 0).astype(np.int64)
        good: npt.NDArray[np.bool_] = (flags & sum(1 << bit for bit in set(rule.bits))) == 0
        return seen & good
    return seen & ~np.isin(mask, np.asarray(rule.classes, np.float32))


def to_decibel(power: Float32Array) -> Float32Array:
    """Convert linear power to decibels; NaN where there is no power."""
    with np.errstate(divide="ignore", invalid="ignore"):
        decibel = np.log(power) * np.float32(10 / np.log(10))
    decibel[~(power > 0)] = np.nan
    return decibel


def to_power(decibel: Float32Array) -> Float32Array:
    """Convert decibels to linear power."""
    power: Float32Array = np.exp(decibel * np.float32(np.log(10) / 10))
    return power


def _decide_kind(item: ItemDict, rule: CollectionRule, asset: str, unit: Any) -> tuple[Kind, str]:
    """Decide if radar is linear or in decibels, as the collection has it, unless the item's unit contradicts."""
    said = str(unit).strip().lower() if unit is not None else ""
    other: Kind | None = None
    if rule.calibration == "linear-power" and said in _DECIBEL:
        other = "decibel"
    if rule.calibration == "decibel" and said in _LINEAR:
        other = "linear-power"
    if other is None:
        return rule.calibration, ""
    if rule.trust == "declaration":
        return other, f", trusted: its unit is {unit}, the collection has {rule.calibration}"
    raise SpecError(
        f"item {item['id']} declares the unit {unit} for {asset}, its collection the calibration {rule.calibration}: "
        f"trust: declaration takes the item's word, calibration: {other} makes it that of the collection"
    )
