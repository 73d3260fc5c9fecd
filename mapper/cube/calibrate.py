"""From stored numbers to physical units: decided for every item, never by date.

Sentinel-2 changed its zero in January 2022, and archives reprocess: a scene of 2018 may carry the new offset and a copy
of it elsewhere may have had it removed. So what the item declares goes first, then its processing baseline, and an item
that says neither, or contradicts itself, is refused. The decision is kept as text in the provenance.
"""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from mapper.catalog.items import ItemDict
from mapper.catalog.provider import CollectionRule, MaskRule
from mapper.errors import SpecError

_OFFSET_BASELINE = (4, 0)
"""Sentinel-2 L2A products from this processing baseline on are shifted by +1000."""
_APPLIED_FLAGS = ("earthsearch:boa_offset_applied", "sentinel:boa_offset_applied")

FloatArray = npt.NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """How the stored numbers of one item become physical units: stored * scale + offset, then perhaps to decibels."""

    rule: Literal["sentinel-2", "linear-power", "decibel", "identity"]
    scale: float = 1.0
    offset: float = 0.0
    reason: str = ""
    """What the decision rests on, for example ``processing baseline 05.10``."""

    @property
    def shift(self) -> float:
        """The offset in stored numbers: stored * scale + offset = (stored + shift) * scale."""
        return round(self.offset / self.scale, 6)

    def __str__(self) -> str:
        if self.rule == "sentinel-2":
            sign = "-" if self.shift < 0 else "+"
            number = f"(DN {sign} {abs(self.shift):g})" if self.shift else "DN"
            text = f"{number} / {1 / self.scale:.10g}"
        else:
            linear = "stored" if (self.scale, self.offset) == (1, 0) else f"stored * {self.scale:g} + {self.offset:g}"
            text = f"10 log10({linear})" if self.rule == "linear-power" else linear
        return f"{text}: {self.reason}"


def decide(item: ItemDict, rule: CollectionRule, band: str) -> Calibration:
    """Decide how one band of one item is calibrated.

    Args:
        item: STAC item.
        rule: How its collection is read.
        band: Our band name.

    Raises:
        SpecError: If the item does not say, or contradicts itself.
    """
    asset = item["assets"].get(rule.bands[band].asset, {})
    scale, offset = _declared(asset, "scale"), _declared(asset, "offset")
    if rule.calibration == "sentinel-2":
        return _decide_reflectance(item, rule.bands[band].asset, scale=scale, offset=offset)
    declared = scale is not None or offset is not None
    return Calibration(
        rule=rule.calibration,
        scale=1.0 if scale is None else scale,
        offset=offset or 0.0,
        reason="declared by the item" if declared else f"{rule.calibration} by the collection",
    )


def apply(raw: FloatArray, calibration: Calibration) -> FloatArray:
    """Turn stored numbers into physical units.

    Args:
        raw: Stored numbers, float32, NaN where missing; any shape.
        calibration: What was decided.

    Returns:
        Reflectance (clipped at 0), decibels or the stored quantity, float32, NaN where missing.
    """
    physical: FloatArray = (raw + np.float32(calibration.shift)) * np.float32(calibration.scale)
    if calibration.rule == "sentinel-2":
        np.maximum(physical, np.float32(0), out=physical)
    if calibration.rule == "linear-power":
        return to_decibel(physical)
    return physical


def missing_values(rule: CollectionRule) -> tuple[float, ...]:
    """Stored values that are no measurements, in every band of a collection.

    Digital number 0 of Sentinel-2 and zero power of radar mean no data whatever else is declared.
    """
    values = set() if rule.nodata is None else {float(rule.nodata)}
    if rule.zero_is_border or rule.calibration in ("sentinel-2", "linear-power"):
        values.add(0.0)
    return tuple(sorted(values))


def find_clear(mask: FloatArray, rule: MaskRule) -> npt.NDArray[np.bool_]:
    """True where a mask band lets a pixel pass.

    Args:
        mask: Values of the mask band, float32, NaN where missing; any shape.
        rule: Which values are bad.
    """
    if rule.rule == "above":
        return mask <= np.float32(rule.limit)
    return ~(np.isin(mask, np.asarray(rule.classes, np.float32)) | np.isnan(mask))


def to_decibel(power: FloatArray) -> FloatArray:
    """Linear power to decibels; NaN where there is no power."""
    with np.errstate(divide="ignore", invalid="ignore"):
        decibel = np.log(power) * np.float32(10 / np.log(10))
    decibel[~(power > 0)] = np.nan
    return decibel


def to_power(decibel: FloatArray) -> FloatArray:
    """Decibels to linear power."""
    power: FloatArray = np.exp(decibel * np.float32(np.log(10) / 10))
    return power


def _decide_reflectance(item: ItemDict, asset: str, *, scale: float | None, offset: float | None) -> Calibration:
    properties = item["properties"]
    applied = next((properties[flag] for flag in _APPLIED_FLAGS if flag in properties), None)
    if applied and offset:
        raise SpecError(
            f"item {item['id']} says that its offset was applied and declares an offset of {offset:g} for {asset}: "
            "which is true cannot be told; use a collection that is not ambiguous (Earth Search: sentinel-2-c1-l2a)"
        )
    if offset is not None:
        return _reflectance(scale, offset, "offset declared by the item")
    if applied:
        return _reflectance(scale, 0.0, "offset already applied, says the item")
    baseline = properties.get("s2:processing_baseline") or properties.get("processing:version")
    if baseline is None:
        raise SpecError(
            f"item {item['id']} declares neither raster:offset for {asset} nor a processing baseline "
            "(s2:processing_baseline, processing:version): its reflectance cannot be told"
        )
    shifted = _parse_baseline(item["id"], str(baseline)) >= _OFFSET_BASELINE
    return _reflectance(scale, -0.1 if shifted else 0.0, f"processing baseline {baseline}")


def _reflectance(scale: float | None, offset: float, reason: str) -> Calibration:
    return Calibration(rule="sentinel-2", scale=scale or 1e-4, offset=offset, reason=reason)


def _parse_baseline(item: str, text: str) -> tuple[int, int]:
    """``05.10``, ``N0510`` or ``5.10`` to (5, 10)."""
    digits = text.removeprefix("N")
    major, _, minor = digits.partition(".") if "." in digits else (digits[:2], "", digits[2:])
    if not (major.isdigit() and (minor or "0").isdigit()):
        raise SpecError(f"item {item}: processing baseline {text!r} is not a number")
    return int(major), int(minor or "0")


def _declared(asset: dict[str, Any], name: str) -> float | None:
    """``raster:scale`` or ``raster:offset`` of an asset: STAC 1.1 flat, in ``bands``, or ``raster:bands``."""
    places = (
        (asset, f"raster:{name}"),
        ((asset.get("bands") or [{}])[0], f"raster:{name}"),
        ((asset.get("raster:bands") or [{}])[0], name),
    )
    values = [float(place[key]) for place, key in places if place.get(key) is not None]
    return values[0] if values else None
