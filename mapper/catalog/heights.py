"""Rules of heights: the vertical datum of a map, and what its inputs and its truth must share with it.

Heights in two datums differ by tens of metres, smoothly, so nothing in the pixels gives a mix away: it is refused from
what collections and the map declare. A collection that declares no datum is taken at the word of the map.
"""

import math
from functools import lru_cache
from pathlib import Path

from pyproj import CRS
from pyproj.exceptions import CRSError

from mapper.catalog.provider import CollectionRule, Provider
from mapper.errors import SpecError
from mapper.spec import MapSpec
from mapper.spec.inputs import DatumShift, LayerSpec

_HOW = "the metres to add (a number, or a GeoTIFF grid of metres)"


def find_datum(spec: MapSpec, provider: Provider) -> str:
    """Return the vertical datum of the heights of a map; empty where nobody says, or where it has no heights.

    It is that of the target, else that of the source's collection. A shift to a datum that has no name is named too:
    ``EPSG:3855 +0.3 m``.
    """
    own, shift = provider.rule(spec.source.collection).vertical_datum or "", spec.source.datum_shift
    if spec.target.vertical_datum or not own or shift is None:
        return spec.target.vertical_datum or own
    return f"{own} {describe_shift(shift)}"


def check_heights(spec: MapSpec, provider: Provider) -> None:
    """Check that source, guide and target of a map agree on what their heights are.

    Raises:
        SpecError: If heights in two vertical datums meet and no shift is declared, a shift is declared where there is
            nothing to shift, or the ground would be held against the mean of a surface.
    """
    rule, source = provider.rule(spec.source.collection), spec.source
    datum, own = find_datum(spec, provider), rule.vertical_datum or ""
    remedy = f"give source.datum_shift, {_HOW}, or leave target.vertical_datum out"
    if spec.target.vertical_datum:
        _compare(f"source {source.collection}", own, datum, source.datum_shift, remedy)
    for layer in spec.guide.layers:
        home = provider.rule(layer.collection)
        if list_heights(layer, home):
            named, remedy = f"guide layer {layer.collection}", f"give its datum_shift, {_HOW}"
            _compare(named, home.vertical_datum or "", datum, layer.datum_shift, remedy)
    modes = {spec.consistency.of(band.name).mode for band in spec.targets} & {"hard", "soft"}
    if modes and spec.target.heights == "ground" and rule.heights == "surface":
        raise SpecError(
            f"consistency {', '.join(sorted(modes))} holds the ground against the surface of {source.collection}: the "
            "mean of bare earth is not the mean of the surface; use below or none, or a bare-earth source"
        )


def check_truth(spec: MapSpec, provider: Provider, *, truth: str, datum: str, shift: DatumShift | None) -> None:
    """Check that a truth has heights in the datum of a map.

    Args:
        spec: The map.
        provider: Describes its source.
        truth: Name of the truth, for messages.
        datum: Vertical datum that it declares; empty for none.
        shift: Metres that are added to it.

    Raises:
        SpecError: If the datums differ and no shift is declared, or agree and one is.
    """
    if isinstance(shift, float) and not math.isfinite(shift):
        raise SpecError(f"datum_shift of {truth} is {shift}: expected metres")
    remedy = f"give truth.datum_shift of the training, or --datum-shift of mapper evaluate, {_HOW}"
    _compare(truth, datum, find_datum(spec, provider), shift, remedy)


def list_heights(layer: LayerSpec, rule: CollectionRule) -> tuple[str, ...]:
    """Return the bands of a guide layer that are heights above a vertical datum, and so are shifted."""
    declared = rule.vertical_datum is not None or layer.datum_shift is not None
    return tuple(band for band in layer.bands if declared and rule.may_be_height(band))


def describe_shift(shift: DatumShift) -> str:
    """Return a shift for people: ``+34.88 m``, or ``+ grid.tif``."""
    return f"+ {shift.name}" if isinstance(shift, Path) else f"{shift:+g} m"


def describe_heights(rule: CollectionRule, shift: DatumShift | None) -> str:
    """Return what a record says of heights that were read: datum, and what was added; empty if there is nothing."""
    datum = f"heights in {rule.vertical_datum}" if rule.vertical_datum else ""
    added = "" if shift is None else f"{describe_shift(shift)} added"
    return ", ".join(filter(None, (datum, added)))


def _compare(what: str, got: str, expected: str, shift: DatumShift | None, remedy: str) -> None:
    if not got or not expected:
        return
    if name_datum(got) != name_datum(expected):
        if shift is None:
            raise SpecError(f"{what} has heights in {got}, the map in {expected}: {remedy}")
    elif shift:
        added = describe_shift(shift)
        raise SpecError(f"{what} and the map both have heights in {got}, but datum_shift adds {added}: leave it out")


@lru_cache(maxsize=256)
def name_datum(datum: str) -> str:
    """Return the code of a vertical CRS, also of one that is part of a compound CRS; other texts in one spelling."""
    try:
        crs = CRS.from_user_input(datum)
    except CRSError:
        return " ".join(datum.casefold().split())
    return find_vertical(datum) or _name_crs(crs)


@lru_cache(maxsize=256)
def find_vertical(crs: str) -> str:
    """Return the code of the vertical part of a CRS, by its WKT or code; empty where it has none."""
    return next((_name_crs(part) for part in CRS.from_user_input(crs).sub_crs_list if part.is_vertical), "")


def _name_crs(crs: CRS) -> str:
    authority = crs.to_authority()
    return ":".join(authority) if authority else crs.name.casefold()
