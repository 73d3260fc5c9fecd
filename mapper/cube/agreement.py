"""Headers held against beliefs: one declared rule for each property of a file, decided when it is first opened.

============  ====================================  ==================================================================
property      nobody contradicts                    the file contradicts item or collection
============  ====================================  ==================================================================
band          the only one, or the one that is      refused; a file of several bands, of which nothing says which is
              named                                 meant, is refused too
no data       all values that anyone declares       all of them are missing; with ``trust: declaration`` those of item
                                                    and collection only
masks         inside, alpha and beside the file:    the same: a masked pixel is missing, whatever its number
              pixels are missing there
scale,        the one that is said; where nobody    refused; ``trust: file`` takes the file's word, any other trust
offset        says, numbers are taken as they are   that of item and collection
type          that of the file                      whole numbers against fractions that are scaled: refused unless
                                                    there is a trust; else that of the file. Complex: refused
CRS, place    those of the file; with ``trust:      those of the file: its pixels lie where it says
              declaration`` the CRS of the item,
              where the file names none
datum         the collection's; a file's that is    refused, where the CRS of a file has a vertical part; with ``trust:
              alone in naming one is noted          declaration`` the collection's
============  ====================================  ==================================================================

What was taken from a header alone or against a belief is noted by property, and the notes stand in the record.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
from affine import Affine
from pyproj import CRS

from mapper.arrays import Float32Array
from mapper.catalog.heights import find_vertical, name_datum
from mapper.cube.belief import Belief
from mapper.cube.header import Header, StoredBand

_RELATIVE = 1e-6
"""Relative difference of two numbers that are the same: headers hold single precision too."""
_SHIFT = 0.05
"""Difference in pixels of two grids that are the same: positions in items are rounded."""


class ContradictionError(ValueError):
    """Contradiction of a file and of what is believed of it, for which there is no rule.

    Args:
        subject: Property that is contradicted.
        reason: What was got, what was expected, and what to do.
    """

    def __init__(self, subject: str, reason: str) -> None:
        super().__init__(reason)
        self.subject = subject


@dataclass(frozen=True, kw_only=True)
class Decision:
    """Decision on how one band of one file is read."""

    stored: StoredBand
    missing: tuple[float, ...]
    """Stored values that are no measurements."""
    gain: float = 1.0
    shift: float = 0.0
    """Factor of stored numbers, and the term that is added then, before the calibration of their item."""
    notes: Mapping[str, str] = field(default_factory=dict)
    """Facts that the file alone states, or states otherwise, by property."""

    def rescale(self, stored: Float32Array) -> Float32Array:
        """Return stored numbers as the calibration of their item expects them; may change its input."""
        if self.gain != 1:
            stored *= np.float32(self.gain)
        if self.shift:
            stored += np.float32(self.shift)
        return stored


def decide_reading(header: Header, belief: Belief) -> Decision:
    """Decide how one band of a file is read; returns the decision with its notes.

    Args:
        header: What the file says of itself.
        belief: What item and collection say of it.

    Raises:
        ContradictionError: Where they contradict each other and no rule decides.
    """
    notes: dict[str, str] = {}
    band = _choose_band(header, belief, notes)
    stored = _choose_masks(header, belief, band, notes)
    _check_type(header, belief, band, notes)
    scale = _agree(belief.scale, header.scales, band, "scale", belief, notes)
    offset = _agree(belief.offset, header.offsets, band, "offset", belief, notes)
    missing = _join_missing(header, belief, band, notes)
    _compare_place(header, belief, notes)
    _compare_datum(header, belief, notes)
    by_item = 1.0 if belief.scale is None else belief.scale
    gain, shift = scale / by_item, (offset - (belief.offset or 0.0)) / by_item
    return Decision(stored=stored, missing=missing, gain=gain, shift=shift, notes=notes)


def _choose_band(header: Header, belief: Belief, notes: dict[str, str]) -> int:
    """Return the number of the band that is meant."""
    held = [band for band in range(1, header.count + 1) if band != _alpha_of(header, belief)]
    if not held:
        raise ContradictionError("band", "the file has no band of numbers")
    band = _named_band(header, belief, held)
    if band is None and len(held) == 1 and not belief.neighbours and belief.wanted is None:
        band = held[0]
    if band is None:
        raise ContradictionError("band", _lament(header, belief, held))
    if band not in held:
        raise ContradictionError("band", f"{_count(header)}, band {band} is asked for ({belief.band or 'the mask'})")
    if header.count > 1:
        notes["band"] = f"{belief.band or 'the mask'} is band {band} of {header.count}"
    elif belief.listed.counts and header.count not in belief.listed.counts:
        notes["band"] = f"1 band by the file, {max(belief.listed.counts)} by the item"
    return band


def _named_band(header: Header, belief: Belief, held: list[int]) -> int | None:
    """Return the number of the band that the collection numbers, or that item or file call by its name."""
    if isinstance(belief.wanted, int):
        return belief.wanted
    name = belief.wanted or belief.band
    if not name:
        return None
    by_item = belief.listed.find(name) if len(belief.listed.names) in (header.count, len(held)) else None
    if by_item is not None:
        by_item = held[by_item] if len(belief.listed.names) == len(held) else by_item + 1
    own = [number for number, each in enumerate(header.names, start=1) if each == name and number in held]
    by_file = own[0] if len(own) == 1 else None
    if None not in (by_item, by_file) and by_item != by_file:
        raise ContradictionError(
            "band",
            f"{name} is its band {by_item} by the item and {by_file} by its header: the setting band of the "
            "collection's band rule decides (a number)",
        )
    return by_item or by_file


def _lament(header: Header, belief: Belief, held: list[int]) -> str:
    """Return the reason why the band of a file cannot be told."""
    listed = [names[0] if names else "?" for names in belief.listed.names]
    by_item = f"the item lists {', '.join(listed)}" if listed else "the item lists none"
    own = [name for name in header.names if name]
    by_file = f"the file names {', '.join(own)}" if own else "the file names none"
    wanted = belief.wanted or belief.band or "the mask"
    shared = f", which {' and '.join(belief.neighbours)} is read from too" if belief.neighbours else ""
    return (
        f"{_count(header, held)}{shared}, and nothing says which of them is {wanted} ({by_item}, {by_file}): "
        "the setting band of the collection's band rule says it (a number, or a name)"
    )


def _count(header: Header, held: list[int] | None = None) -> str:
    count = header.count if held is None else len(held)
    return f"the file has {count} band{'s' * (count > 1)}"


def _alpha_of(header: Header, belief: Belief) -> int:
    """Return the number of the band that is alpha; 0 if none is, or what is marked as alpha is said to be data.

    GDAL marks the fourth band of any file of bytes as alpha, be it infrared.
    """
    if not header.alpha or header.alpha in belief.data_bands:
        return 0
    listed = belief.listed.names
    told = [*(listed[header.alpha - 1] if len(listed) == header.count else ()), *header.names[header.alpha - 1 :][:1]]
    named = [name for name in told if name]
    return 0 if named and not any("alpha" in name.lower() for name in named) else header.alpha


def _choose_masks(header: Header, belief: Belief, band: int, notes: dict[str, str]) -> StoredBand:
    alpha = _alpha_of(header, belief)
    masked = band <= len(header.masked) and header.masked[band - 1]
    used = ["the file's internal mask"] * masked + [f"alpha in band {alpha}"] * bool(alpha)
    used += ["a mask beside the file"] * bool(header.beside)
    if used:
        notes["masks"] = f"missing by {', '.join(used)}"
    return StoredBand(band=band, masked=masked, alpha=alpha, beside=header.beside)


def _check_type(header: Header, belief: Belief, band: int, notes: dict[str, str]) -> None:
    """Refuse numbers that cannot be what they are taken for."""
    dtype = header.dtypes[band - 1]
    if dtype.startswith("complex"):
        raise ContradictionError("type", f"its numbers are complex ({dtype}): they are no values of a map")
    if belief.dtype in (None, "other", dtype):
        return
    scaled = belief.scale not in (None, 1) or belief.offset not in (None, 0)
    if scaled and ("int" in str(belief.dtype)) != ("int" in dtype) and belief.trust == "none":
        raise ContradictionError(
            "type",
            f"its numbers are {dtype}, the item declares {belief.dtype} with a scale: one of the two is stale; "
            "the collection's setting trust decides (declaration, file)",
        )
    notes["type"] = f"{dtype} by the file, {belief.dtype} by the item"


def _agree(
    believed: float | None, found: tuple[float, ...], band: int, name: str, belief: Belief, notes: dict[str, str]
) -> float:
    """Return the scale or offset that counts."""
    silent = 1.0 if name == "scale" else 0.0
    own = found[band - 1] if found else silent
    if not math.isfinite(own) or (name == "scale" and own == 0):
        raise ContradictionError(name, f"its header has {name} {own:g}: no number can be calibrated with it")
    if own == silent:
        return silent if believed is None else believed
    if believed is None:
        notes[name] = f"{name} {own:g} by the file"
        return own
    if math.isclose(own, believed, rel_tol=_RELATIVE, abs_tol=_RELATIVE * abs(belief.scale or 1)):
        return believed
    if belief.trust == "none":
        raise ContradictionError(
            name,
            f"its header has {name} {own:g}, item and collection say {believed:g}: the collection's setting trust "
            "decides (declaration, file)",
        )
    notes[name] = f"{name} {own:g} by the file, {believed:g} by item and collection: trust is {belief.trust}"
    return own if belief.trust == "file" else believed


def _join_missing(header: Header, belief: Belief, band: int, notes: dict[str, str]) -> tuple[float, ...]:
    """Return all stored values that mean no data."""
    own = header.nodata[band - 1]
    if own is None or math.isnan(own) or own in belief.missing:
        return belief.missing
    if not belief.takes_nodata:
        notes["no data"] = f"no data {own:g} by the file does not count"
        return belief.missing
    notes["no data"] = f"no data {own:g} by the file"
    return (*belief.missing, own)


def _compare_place(header: Header, belief: Belief, notes: dict[str, str]) -> None:
    """Note where a file lies elsewhere than its item says: its pixels are where it says."""
    if belief.trusted_crs is not None and header.crs is None:
        notes["CRS"] = f"none by the file, {name_crs(belief.trusted_crs)} by the item: trust is {belief.trust}"
    if belief.crs is not None and header.crs is not None and not _same_crs(belief.crs, header.crs):
        notes["CRS"] = f"{name_crs(header.crs)} by the file, {name_crs(belief.crs)} by the item"
    if belief.transform is None or belief.shape is None:
        return
    (a, b, c, d, e, f), (rows, cols) = header.transform[:6], header.shape
    there = belief.transform
    size = max(abs(there.a - a) * cols / abs(a or 1), abs(there.e - e) * rows / abs(e or 1))
    shift = max(abs(there.c - c) / abs(a or 1), abs(there.f - f) / abs(e or 1))
    if belief.shape != header.shape or size > _SHIFT or shift > _SHIFT or (there.b, there.d) != (b, d):
        own = describe_grid(header.transform, header.shape)
        notes["place"] = f"{own} by the file, {describe_grid(there, belief.shape)} by the item"


def _compare_datum(header: Header, belief: Belief, notes: dict[str, str]) -> None:
    """Refuse heights that are in another vertical datum than their collection says."""
    own = "" if header.crs is None else find_vertical(header.crs)
    if not own or (belief.vertical_datum and name_datum(belief.vertical_datum) == own):
        return
    if belief.vertical_datum and belief.trust != "declaration":
        raise ContradictionError(
            "vertical datum",
            f"its heights are in {own}, those of its collection in {belief.vertical_datum}: correct the collection's "
            "vertical_datum, or let trust: declaration take its word",
        )
    said = f", {belief.vertical_datum} by the collection" if belief.vertical_datum else ""
    notes["vertical datum"] = f"vertical datum {own} by the file{said}"


def describe_belief(belief: Belief) -> dict[str, str]:
    """Return what item and collection say, by property; empty where they are silent."""
    listed = ", ".join(names[0] if names else "?" for names in belief.listed.names)
    place = "" if belief.transform is None or belief.shape is None else describe_grid(belief.transform, belief.shape)
    return {
        "band": listed if belief.wanted is None else str(belief.wanted),
        "no data": ", ".join(f"{value:g}" for value in belief.missing),
        "masks": "",
        "scale": "" if belief.scale is None else f"{belief.scale:g}",
        "offset": "" if belief.offset is None else f"{belief.offset:g}",
        "type": belief.dtype or "",
        "CRS": "" if belief.crs is None else name_crs(belief.crs),
        "place": place,
        "vertical datum": belief.vertical_datum,
    }


def describe_header(header: Header) -> dict[str, str]:
    """Return what a file says of itself, by property; empty where it is silent."""
    masks = ["internal mask"] * any(header.masked) + [f"alpha in band {header.alpha}"] * bool(header.alpha)
    masks += ["mask beside it"] * bool(header.beside)
    names = ", ".join(name or "?" for name in header.names) if any(header.names) else ""
    datum = "" if header.crs is None else find_vertical(header.crs)
    return {
        "band": f"{header.count} ({names})" if names else f"{header.count}",
        "no data": _join("" if value is None else f"{value:g}" for value in header.nodata),
        "masks": ", ".join(masks),
        "scale": _join("" if value == 1 else f"{value:g}" for value in header.scales),
        "offset": _join("" if value == 0 else f"{value:g}" for value in header.offsets),
        "type": _join(header.dtypes),
        "CRS": "" if header.crs is None else name_crs(header.crs),
        "place": describe_grid(header.transform, header.shape),
    } | ({"vertical datum": datum} if datum else {})


def _join(texts: Iterable[str]) -> str:
    """Return one text for each band; one for all where they are alike."""
    each = list(texts)
    return each[0] if len(set(each)) == 1 else ", ".join(text or "none" for text in each)


def describe_grid(transform: Affine, shape: tuple[int, int]) -> str:
    """Describe pixels by size, number and corner, for example ``64 x 64 px of 10 x 10 from (600000, 5700000)``."""
    size = f"{abs(transform.a):.10g} x {abs(transform.e):.10g}"
    return f"{shape[0]} x {shape[1]} px of {size} from ({transform.c:.10g}, {transform.f:.10g})"


@lru_cache(maxsize=256)
def name_crs(text: str) -> str:
    """Return a CRS by its code, else by its name."""
    crs = CRS.from_user_input(text)
    code = crs.to_epsg()
    return crs.name if code is None else f"EPSG:{code}"


@lru_cache(maxsize=256)
def _same_crs(one: str, other: str) -> bool:
    """Return True for two CRS in which places have the same coordinates; what they say of heights is apart."""
    first, second = (CRS.from_user_input(text).to_2d() for text in (one, other))
    if first.equals(second, ignore_axis_order=True):
        return True
    code = first.to_epsg()
    return code is not None and code == second.to_epsg()
