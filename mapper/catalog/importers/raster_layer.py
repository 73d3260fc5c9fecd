"""One layer of rasters: what a person says of it, what the headers of its files say, and the rule by which it is read.

All files of a layer have the same bands of the same type, heights above one datum in one unit. Where a header speaks,
its word is held against the person's; where neither does, a guess is made that can be read off the notes.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from pyproj import CRS
from pyproj.exceptions import CRSError

from mapper.catalog.importers.raster_files import RasterHeader
from mapper.errors import InputError

JsonDict = dict[str, Any]
Kind = Literal["elevation", "image", "classes"]
Nodata = float | Literal["none"] | None

_METRES = {
    "m": 1.0, "metre": 1.0, "meter": 1.0, "metres": 1.0, "meters": 1.0,
    "ft": 0.3048, "foot": 0.3048, "feet": 0.3048, "international foot": 0.3048,
    "us survey foot": 1200 / 3937, "us-ft": 1200 / 3937, "ftus": 1200 / 3937, "foot_us": 1200 / 3937,
    "cm": 0.01, "centimetre": 0.01, "centimeter": 0.01, "mm": 0.001, "millimetre": 0.001,
}  # fmt: skip
"""Metres in a unit of heights, by its spellings in lower case."""
_RESAMPLING = {"elevation": "cubic", "image": "bilinear", "classes": "nearest"}
_SILENT = (1.0, 0.0)


@dataclass(frozen=True, kw_only=True)
class LayerRequest:
    """What a person says of a layer; what is None or empty is asked of the files, or guessed."""

    kind: Kind | None = None
    bands: Mapping[str, int | None] = field(default_factory=dict)
    """Number of the band in its file by our name; None counts from the first."""
    units: str | None = None
    vertical_datum: str | None = None
    heights: Literal["surface", "ground"] | None = None
    classes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    """Codes by name of the class."""
    nodata: Nodata = None
    """Stored value that means no data; ``none``: not even the one that the files name."""
    is_trusted: bool = False
    """True where this counts, and not the files, which name no CRS."""


@dataclass(frozen=True, kw_only=True)
class Layer:
    """One layer of rasters."""

    kind: Kind
    bands: tuple[str, ...]
    """Our names of the bands."""
    rule: JsonDict
    """Rule of its collection, as a provider holds it."""
    notes: tuple[str, ...]
    """What was taken from the files or guessed, one line each."""
    nodata: Nodata
    scale: float
    """Factor to metres of heights in another unit."""

    def describe_band(self, header: RasterHeader, band: int) -> JsonDict:
        """Return one band of a file, from 1, as STAC describes it (raster extension 1.1)."""
        number = band - 1
        content: JsonDict = {
            "data_type": header.dtypes[number],
            "sampling": "point" if header.is_point else "area",
            "unit": self.rule["units"],
        }
        nodata = header.nodata[number] if self.nodata is None else self.nodata
        if nodata is not None and nodata != "none":
            content["nodata"] = _write_number(float(nodata))
        scale, offset = header.scales[number], header.offsets[number]
        if self.scale != 1 or (scale, offset) != _SILENT:
            content |= {"scale": scale * self.scale, "offset": offset * self.scale}
        return content


def describe_layer(headers: Sequence[RasterHeader], said: LayerRequest) -> Layer:
    """Decide how files are read as one layer.

    Args:
        headers: What the files say, at least one.
        said: What a person says.

    Raises:
        InputError: If the files are not of one layer, or contradict what is said.
    """
    _require_one_layer(headers)
    notes = _note_files(headers)
    first = headers[0]
    kind = said.kind or _guess_kind(first, said.classes, notes)
    _check_options(kind, said)
    rules = _write_bands(first, kind, _choose_bands(first, kind, said.bands, notes), said.classes)
    factor, unit = _decide_units(headers, kind, said.units, notes)
    datum = _decide_datum(headers, said.vertical_datum, notes) if kind == "elevation" else None
    _note_nodata(headers, said.nodata, notes)
    rescaled = factor != 1 and any(scale != 1 for scale in first.scales)
    trusted = said.is_trusted or said.nodata == "none" or rescaled
    rule: JsonDict = {"bands": rules, "units": unit}
    if kind == "elevation":
        rule |= {"vertical_datum": datum, "heights": said.heights}
    rule |= {
        "calibration": "identity",
        "dtype": first.dtypes[0],
        "nodata": None if said.nodata is None or said.nodata == "none" else _write_float(said.nodata),
        "resampling": _RESAMPLING[kind],
        "reducer": "median" if kind == "image" else "mean",
        "group_by": [],
        **({"trust": "declaration"} if trusted else {}),
    }
    return Layer(kind=kind, bands=tuple(rules), rule=rule, notes=tuple(notes), nodata=said.nodata, scale=factor)


def _require_one_layer(headers: Sequence[RasterHeader]) -> None:
    """Refuse files of different bands or types.

    Raises:
        InputError: Naming a file of each kind.
    """
    groups: dict[str, list[str]] = {}
    for header in headers:
        types = sorted(set(header.dtypes))
        count = len(header.dtypes)
        groups.setdefault(f"{count} band{'s' * (count > 1)} of {'/'.join(types)}", []).append(header.file.label)
    if len(groups) > 1:
        parts = [f"{len(names)} of {what} ({names[0]})" for what, names in groups.items()]
        raise InputError(
            f"the files are of different layers: {', '.join(parts)}; choose one with --pattern, and give each layer a "
            "--collection"
        )


def _note_files(headers: Sequence[RasterHeader]) -> list[str]:
    notes = []
    points = sum(header.is_point for header in headers)
    if points:
        notes.append(
            f"{points} of {len(headers)} files say that their pixels are points (AREA_OR_POINT): their transform "
            "allows for that already, centres are used as they are"
        )
    upside = [header.file.label for header in headers if header.geobox.transform.e > 0]
    if upside:
        notes.append(f"rows of {len(upside)} files go from south to north ({upside[0]}): read as they lie")
    feet = {header.crs.axis_info[0].unit_name for header in headers if header.crs.is_projected} - {"metre"}
    if feet:
        notes.append(f"coordinates are in {' and '.join(sorted(feet))}; positions are converted, values stay")
    return notes


def _guess_kind(first: RasterHeader, classes: Mapping[str, Any], notes: list[str]) -> Kind:
    if classes:
        return "classes"
    if len(first.data_bands) > 1:
        kind: Kind = "image"
    elif first.dtypes[0] in ("uint8", "int8"):
        raise InputError(
            f"{first.file.label} has one band of {first.dtypes[0]}, which may be classes or an image: say --kind "
            "image, or what its codes mean, --classes building=1 tree=2"
        )
    else:
        kind = "elevation"
    notes.append(f"kind {kind}, since files have {_count(first)} of {first.dtypes[0]}: else say --kind")
    return kind


def _check_options(kind: Kind, said: LayerRequest) -> None:
    """Refuse options of another kind.

    Raises:
        InputError: Naming the option.
    """
    if kind == "classes" and not said.classes:
        raise InputError("--kind classes needs what the codes mean: --classes building=1 tree=2,3")
    if kind != "classes" and said.classes:
        raise InputError(f"--classes is for --kind classes, the kind is {kind}")
    options = {"--vertical-datum": said.vertical_datum, "--heights": said.heights}
    given = [name for name, value in options.items() if value]
    if kind != "elevation" and given:
        raise InputError(f"{' and '.join(given)} are for --kind elevation, the kind is {kind}")


def _choose_bands(
    first: RasterHeader,
    kind: Kind,
    bands: Mapping[str, int | None],
    notes: list[str],
) -> dict[str, int]:
    """Return the number of the band in its file by our name; of classes one band of any name."""
    data, count = first.data_bands, len(first.dtypes)
    if kind == "classes" and not bands:
        if len(data) > 1:
            raise InputError(f"{first.file.label} has {_count(first)}: say which holds the codes, --bands classes=1")
        return {"": data[0]}
    if bands:
        every = range(1, count + 1) if len(bands) == count else data
        counted = dict(zip(bands, every, strict=False))
        numbers = {name: counted.get(name, 0) if number is None else number for name, number in bands.items()}
        wrong = [name for name, number in numbers.items() if not 1 <= number <= count]
        partly = len(bands) != len(data) and len(bands) != count and None in bands.values()
        if wrong or partly:
            raise InputError(
                f"--bands names {', '.join(bands)}, files have {_count(first)}: name each, or number those that are "
                "wanted, --bands red=1 nir=4"
            )
        return numbers
    if kind == "elevation":
        if len(data) > 1:
            raise InputError(f"{first.file.label} has {_count(first)}: say which is the height, --bands elevation=1")
        return {"elevation": data[0]}
    named = [first.names[number - 1] for number in data]
    plain = all(name.isidentifier() for name in named) and len(set(named)) == len(named)
    found = dict(zip(named if plain else [f"band{number}" for number in data], data, strict=True))
    notes.append(f"bands {', '.join(found)}{' by the files' if plain else ''}: else say --bands")
    return found


def _write_bands(
    first: RasterHeader, kind: Kind, numbers: Mapping[str, int], classes: Mapping[str, tuple[int, ...]]
) -> JsonDict:
    several = len(first.dtypes) > 1
    if kind != "classes":
        return {name: {"asset": "data", "band": number} if several else "data" for name, number in numbers.items()}
    (number,) = numbers.values()
    where: JsonDict = {"asset": "data", **({"band": number} if several else {})}
    return {name: {**where, "classes": list(codes)} for name, codes in classes.items()}


def _decide_units(
    headers: Sequence[RasterHeader], kind: Kind, units: str | None, notes: list[str]
) -> tuple[float, str]:
    """Return the factor to the units of the layer, and these: heights come in metres.

    Raises:
        InputError: If files and person, or files among themselves, disagree.
    """
    said = {unit for header in headers for unit in header.units if unit}
    if kind != "elevation":
        stated = units or (said.pop() if len(said) == 1 else "1")
        return 1.0, "1" if kind == "classes" else stated
    factors = {_METRES.get(unit.lower()) for unit in said}
    if len(factors) > 1:
        raise InputError(f"files give their heights in {' and '.join(sorted(said))}: choose with --pattern")
    own = factors.pop() if factors else None
    if said and own is None:
        raise InputError(f"files give their heights in {said.pop()!r}, which is no length: else --kind image")
    wanted = None if units is None else _METRES.get(units.lower())
    if units is not None and wanted is None:
        raise InputError(f"--units {units!r} is no unit of heights: m, ft (international), us-ft, cm or mm")
    if None not in (own, wanted) and not math.isclose(own or 1, wanted or 1, rel_tol=1e-9):
        raise InputError(f"files give their heights in {said.pop()}, --units says {units}: one of the two is wrong")
    factor = wanted or own or 1.0
    if factor != 1:
        notes.append(f"heights in {units or said.pop()} are read as metres, times {factor:.10g}")
    elif units is None:
        notes.append("heights are metres" + (" by the files" if own else ", since nobody says: else give --units"))
    return factor, "m"


def _decide_datum(headers: Sequence[RasterHeader], said: str | None, notes: list[str]) -> str | None:
    """Return the vertical datum.

    Raises:
        InputError: If files and person, or files among themselves, disagree.
    """
    own = {header.vertical_datum: header.file.label for header in reversed(headers)}
    if len(own) > 1:
        parts = [f"{datum or 'none'} ({label})" for datum, label in own.items()]
        raise InputError(f"files are of different vertical datums: {', '.join(parts)}; choose with --pattern")
    (found,) = own
    if found and said and not _is_same_datum(found, said):
        raise InputError(f"files say vertical datum {found}, --vertical-datum says {said}: one of them is wrong")
    if found and not said:
        notes.append(f"vertical datum {found} by the files")
    if not found and not said:
        notes.append("no vertical datum, since nobody says: say --vertical-datum, such as EPSG:3855 (EGM2008)")
    return said or found or None


def _is_same_datum(one: str, other: str) -> bool:
    if one == other:
        return True
    try:
        return CRS.from_user_input(one).equals(CRS.from_user_input(other))
    except CRSError:
        return False


def _note_nodata(headers: Sequence[RasterHeader], nodata: Nodata, notes: list[str]) -> None:
    own = sorted({f"{value:g}" for header in headers for value in header.nodata if value is not None})
    if nodata == "none":
        notes.append(f"no value means no data{', though files name ' + ', '.join(own) if own else ''}")
        return
    silent = sum(all(value is None for value in header.nodata) for header in headers)
    if own:
        notes.append(f"no data {', '.join(own)} by the files")
    if nodata is None and silent:
        notes.append(f"{silent} of {len(headers)} files name no value of missing pixels: if there is one, say --nodata")


def _count(header: RasterHeader) -> str:
    count = len(header.dtypes)
    return f"{count} band{'s' * (count > 1)}"


def _write_number(value: float) -> float | str:
    """Return a number as JSON can hold it."""
    return value if math.isfinite(value) else {True: "nan"}.get(math.isnan(value), "inf" if value > 0 else "-inf")


def _write_float(value: float) -> float | int:
    return int(value) if value.is_integer() else value


def parse_numbers(words: Iterable[str], option: str) -> dict[str, tuple[int, ...]]:
    """Parse words such as ``building=1`` or ``tree=2,3``; a name alone has no number.

    Raises:
        InputError: If a word is none of these, or a name comes twice.
    """
    found: dict[str, tuple[int, ...]] = {}
    for word in words:
        name, equals, text = word.partition("=")
        try:
            numbers = tuple(int(part) for part in text.split(",")) if equals else ()
        except ValueError:
            numbers = None
        if numbers is None or not name.replace("-", "_").isidentifier():
            raise InputError(f"{option} {word!r} is not NAME=NUMBER, such as building=1 or tree=2,3")
        if name in found:
            raise InputError(f"{option} names {name} twice")
        found[name] = numbers
    return found
