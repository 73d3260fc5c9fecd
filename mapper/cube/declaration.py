"""Declarations of items about the stored numbers of an asset, in any version of STAC.

STAC 1.1 lets a band override its asset and an asset its item (``bands``, ``raster:scale``); STAC 1.0 lists
``raster:bands``. An item that says one thing in the one and another in the other contradicts itself, and so does an
asset whose several bands differ where nothing says which of them is meant.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from mapper.catalog.items import ItemDict
from mapper.errors import SpecError

_COMMON = ("nodata", "data_type", "unit")
"""Fields that STAC 1.1 spells without a prefix outside ``raster:bands``."""


_FIELDS = (*_COMMON, *(f"raster:{name}" for name in (*_COMMON, "scale", "offset")))
_LISTS = ("bands", "eo:bands", "raster:bands")
"""Fields that list the bands of an asset, in the order of its file."""
_ASSET_FIELDS = (*_FIELDS, *_LISTS, "file:nodata")
_NAME_FIELDS = ("name", "eo:common_name", "common_name", "description")
"""Fields that name a band, the narrowest first."""


@dataclass(frozen=True, kw_only=True)
class Declaration:
    """Declared fields of one asset; None where a field is not declared."""

    scale: float | None = None
    offset: float | None = None
    unit: str | None = None
    dtype: str | None = None
    nodata: tuple[float, ...] = ()
    """Stored values that mean no data; NaN is left out, since it is missing anyway."""


@dataclass(frozen=True, kw_only=True)
class ListedBands:
    """Bands that an item lists for one asset."""

    counts: frozenset[int] = frozenset()
    """Lengths of the lists; several where they contradict each other."""
    names: tuple[tuple[str, ...], ...] = ()
    """Names of each band, in the order of the longest list."""

    def find(self, name: str) -> int | None:
        """Return the position, from 0, of the one band of that name; None if none or several have it."""
        found = [position for position, names in enumerate(self.names) if name in names]
        return found[0] if len(found) == 1 else None


def list_bands(item: ItemDict, asset: str) -> ListedBands:
    """List the bands of an asset, as ``bands`` (STAC 1.1), ``eo:bands`` and ``raster:bands`` have them."""
    content = item["assets"].get(asset, {})
    lists = [each for name in _LISTS if isinstance(each := content.get(name), (list, tuple)) and each]
    longest = max(map(len, lists), default=0)
    names: list[tuple[str, ...]] = []
    for position in range(longest):
        bands = [each[position] for each in lists if len(each) == longest and isinstance(each[position], Mapping)]
        told = [str(band[key]) for band in bands for key in _NAME_FIELDS if band.get(key) is not None]
        names.append(tuple(dict.fromkeys(told)))
    return ListedBands(counts=frozenset(map(len, lists)), names=tuple(names))


def read_declaration(item: ItemDict, asset: str, *, trust: str = "none", band: int | str | None = None) -> Declaration:
    """Read the declaration of an item about one band of an asset.

    Args:
        item: STAC item.
        asset: Key of the asset.
        band: Number, from 1, or name of the band in the file; None where nobody says.
        trust: What decides where scale or offset are declared twice, differently: ``declaration`` takes what STAC 1.1
            says, ``flag`` and ``baseline`` leave both aside, ``none`` refuses.

    Raises:
        SpecError: If a declaration contradicts another one, or is no number.
    """
    place = _Place(item=item, asset=asset, position=_locate_band(item, asset, band))
    return Declaration(
        scale=_read_number(place, "scale", trust),
        offset=_read_number(place, "offset", trust),
        unit=_read_text(place, "unit"),
        dtype=_read_text(place, "data_type"),
        nodata=tuple(sorted(set(_find_nodata(place)))),
    )


def quote_declaration(item: ItemDict, asset: str) -> str:
    """Return all fields of an item in which declarations are looked for, as text: equal texts declare the same."""
    content = item["assets"].get(asset, {})
    return repr([[*map(content.get, _ASSET_FIELDS)], [*map(item["properties"].get, _FIELDS)]])


@dataclass(frozen=True, kw_only=True)
class _Place:
    """One asset of an item, and the position of a band in it."""

    item: ItemDict
    asset: str
    position: int | None

    @property
    def content(self) -> Mapping[str, Any]:
        content: Mapping[str, Any] = self.item["assets"].get(self.asset, {})
        return content


def _locate_band(item: ItemDict, asset: str, band: int | str | None) -> int | None:
    if isinstance(band, int):
        return band - 1
    return None if band is None else list_bands(item, asset).find(band)


def _read_number(place: _Place, name: str, trust: str) -> float | None:
    numbers = {location: _to_number(place, name, value) for location, value in _find(place, name)}
    if len(set(numbers.values())) > 1:
        if trust == "none":
            said = ", ".join(f"{number:g} in {location}" for location, number in numbers.items())
            raise SpecError(
                f"item {place.item['id']} declares several values of {name} for asset {place.asset}: {said}; the "
                "collection's setting trust decides (declaration: the first; others: none of them)"
            )
        if trust != "declaration":
            return None
    return next(iter(numbers.values()), None)


def _read_text(place: _Place, name: str) -> str | None:
    return next((str(value) for _, value in _find(place, name)), None)


def _find_nodata(place: _Place) -> Iterator[float]:
    """Yield every value that is declared missing anywhere."""
    stated = [value for _, value in _find(place, "nodata")]
    stated.append(place.content.get("file:nodata"))
    for value in stated:
        for each in value if isinstance(value, (list, tuple)) else [value]:
            if each is not None:
                number = _to_number(place, "nodata", each, finite=False)
                if not math.isnan(number):
                    yield number


def _find(place: _Place, name: str) -> Iterator[tuple[str, Any]]:
    """Yield location and value of a field: in STAC 1.1 of the narrowest location only, then in STAC 1.0.

    Raises:
        SpecError: If the bands of the asset differ.
    """
    content, properties = place.content, place.item["properties"]
    keys = (name, f"raster:{name}") if name in _COMMON else (f"raster:{name}",)
    value = _agreed(place, content.get("bands"), keys)
    if value is not None:
        yield "bands", value
    elif (value := _first(content, keys)) is not None:
        yield "the asset", value
    elif (value := _first(properties, keys)) is not None:
        yield "the item", value
    value = _agreed(place, content.get("raster:bands"), (name,))
    if value is not None:
        yield "raster:bands", value


def _agreed(place: _Place, bands: Any, keys: tuple[str, ...]) -> Any:
    """Return the value of a field in the band that is meant, else the one value of all; None if they give none."""
    if not isinstance(bands, (list, tuple)) or not bands:
        return None
    position = place.position
    meant = [bands[position]] if position is not None and position < len(bands) else bands
    values = [_first(band, keys) for band in meant if isinstance(band, dict)]
    if any(value != values[0] for value in values):
        raise SpecError(
            f"item {place.item['id']} declares several bands in asset {place.asset} that differ in {keys[0]} "
            f"({', '.join(str(value) for value in values)}): which is meant cannot be told; "
            "the setting band of the collection's band rule says it (a number, or a name)"
        )
    return values[0] if values else None


def _first(content: Mapping[str, Any], keys: tuple[str, ...]) -> Any:
    for key in keys:
        if content.get(key) is not None:
            return content[key]
    return None


def _to_number(place: _Place, name: str, value: Any, *, finite: bool = True) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        number = None
    if number is None or isinstance(value, bool) or (finite and not math.isfinite(number)):
        raise SpecError(f"item {place.item['id']} declares {name} {value!r} for asset {place.asset}: not a number")
    return number
