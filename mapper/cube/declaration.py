"""Declarations of items about the stored numbers of an asset, in any version of STAC.

STAC 1.1 lets a band override its asset and an asset its item (``bands``, ``raster:scale``); STAC 1.0 lists
``raster:bands``. An item that says one thing in the one and another in the other contradicts itself, and so does an
asset whose several bands differ, since one band of it is read.
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
_ASSET_FIELDS = (*_FIELDS, "bands", "raster:bands", "file:nodata")


@dataclass(frozen=True, kw_only=True)
class Declaration:
    """Declared fields of one asset; None where a field is not declared."""

    scale: float | None = None
    offset: float | None = None
    unit: str | None = None
    dtype: str | None = None
    nodata: tuple[float, ...] = ()
    """Stored values that mean no data; NaN is left out, since it is missing anyway."""


def read_declaration(item: ItemDict, asset: str, *, trust: str = "none") -> Declaration:
    """Read the declaration of an item about one asset.

    Args:
        item: STAC item.
        asset: Key of the asset.
        trust: What decides where scale or offset are declared twice, differently: ``declaration`` takes what STAC 1.1
            says, ``flag`` and ``baseline`` leave both aside, ``none`` refuses.

    Raises:
        SpecError: If a declaration contradicts another one, or is no number.
    """
    return Declaration(
        scale=_read_number(item, asset, "scale", trust),
        offset=_read_number(item, asset, "offset", trust),
        unit=_read_text(item, asset, "unit"),
        dtype=_read_text(item, asset, "data_type"),
        nodata=tuple(sorted(set(_find_nodata(item, asset)))),
    )


def quote_declaration(item: ItemDict, asset: str) -> str:
    """Return all fields of an item in which declarations are looked for, as text: equal texts declare the same."""
    content = item["assets"].get(asset, {})
    return repr([[*map(content.get, _ASSET_FIELDS)], [*map(item["properties"].get, _FIELDS)]])


def _read_number(item: ItemDict, asset: str, name: str, trust: str) -> float | None:
    numbers = {location: _to_number(item, asset, name, value) for location, value in _find(item, asset, name)}
    if len(set(numbers.values())) > 1:
        if trust == "none":
            said = ", ".join(f"{number:g} in {location}" for location, number in numbers.items())
            raise SpecError(
                f"item {item['id']} declares several values of {name} for asset {asset}: {said}; the collection's "
                "setting trust decides (declaration: the first; baseline or flag: none of them)"
            )
        if trust != "declaration":
            return None
    return next(iter(numbers.values()), None)


def _read_text(item: ItemDict, asset: str, name: str) -> str | None:
    return next((str(value) for _, value in _find(item, asset, name)), None)


def _find_nodata(item: ItemDict, asset: str) -> Iterator[float]:
    """Yield every value that is declared missing anywhere."""
    stated = [value for _, value in _find(item, asset, "nodata")]
    stated.append(item["assets"].get(asset, {}).get("file:nodata"))
    for value in stated:
        for each in value if isinstance(value, (list, tuple)) else [value]:
            if each is not None:
                number = _to_number(item, asset, "nodata", each, finite=False)
                if not math.isnan(number):
                    yield number


def _find(item: ItemDict, asset: str, name: str) -> Iterator[tuple[str, Any]]:
    """Yield location and value of a field: in STAC 1.1 of the narrowest location only, then in STAC 1.0.

    Raises:
        SpecError: If the bands of the asset differ.
    """
    content, properties = item["assets"].get(asset, {}), item["properties"]
    keys = (name, f"raster:{name}") if name in _COMMON else (f"raster:{name}",)
    value = _agreed(item, asset, content.get("bands"), keys)
    if value is not None:
        yield "bands", value
    elif (value := _first(content, keys)) is not None:
        yield "the asset", value
    elif (value := _first(properties, keys)) is not None:
        yield "the item", value
    value = _agreed(item, asset, content.get("raster:bands"), (name,))
    if value is not None:
        yield "raster:bands", value


def _agreed(item: ItemDict, asset: str, bands: Any, keys: tuple[str, ...]) -> Any:
    """Return the one value of a field in all bands of an asset; None if they give none."""
    if not isinstance(bands, (list, tuple)) or not bands:
        return None
    values = [_first(band, keys) for band in bands if isinstance(band, dict)]
    if any(value != values[0] for value in values):
        raise SpecError(
            f"item {item['id']} declares several bands in asset {asset} that differ in {keys[0]} "
            f"({', '.join(str(value) for value in values)}): one band is read, so which is meant cannot be told"
        )
    return values[0] if values else None


def _first(content: Mapping[str, Any], keys: tuple[str, ...]) -> Any:
    for key in keys:
        if content.get(key) is not None:
            return content[key]
    return None


def _to_number(item: ItemDict, asset: str, name: str, value: Any, *, finite: bool = True) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = None
    if number is None or isinstance(value, bool) or (finite and not math.isfinite(number)):
        raise SpecError(f"item {item['id']} declares {name} {value!r} for asset {asset}: not a number")
    return number
