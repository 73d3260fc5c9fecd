"""Places of files as their items declare them: the projection extension, in its old spelling and its new one.

An item may say several times where a file lies: ``proj:code``, ``proj:epsg``, ``proj:wkt2`` and ``proj:projjson``, the
transform, shape and box, and its footprint. Pixels are read where the header of the file says they are, so what is
declared decides only which files are looked into, and what that costs. Where it contradicts itself nothing of it is
taken for the grid, the file may lie anywhere, and the contradiction has one line; all readers ask :func:`find_place`.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import shapely
from affine import Affine
from pyproj import CRS, Transformer
from pyproj.exceptions import CRSError, ProjError
from rasterio.transform import array_bounds
from shapely.geometry.base import BaseGeometry

from mapper.catalog.footprint import Bounds, cut_box, footprint, span
from mapper.catalog.items import ItemDict

_CRS_FIELDS = ("proj:code", "proj:epsg", "proj:wkt2", "proj:projjson")
"""Fields of the CRS by preference: STAC 1.1 replaced ``proj:epsg`` by ``proj:code``; null: another field has it."""
RIM_PX = 2
"""Pixels around a window in which a file may begin, to be sure."""
_MOST_PX = 2**31
"""Rows or columns from which a file has too many: formats count them in 31 bits."""
_BOX_PX = 2
"""Pixels that a declared box may differ from the bounds of transform and shape."""
_BESIDE = 0.1
"""Part of its size by which a footprint may extend beyond the box of the grid: it may be a box around a turned one."""
_COARSE_DEGREES = 1e-3
"""Degrees by which it may always: footprints are rounded."""


@dataclass(frozen=True, kw_only=True)
class AssetGrid:
    """Grid of the pixels of one asset, as declared."""

    crs: CRS
    transform: Affine
    shape: tuple[int, int]

    @property
    def bounds(self) -> Bounds:
        """Return left, bottom, right, top in ``crs``."""
        left, bottom, right, top = array_bounds(*self.shape, self.transform)
        return min(left, right), min(bottom, top), max(left, right), max(bottom, top)


@dataclass(frozen=True, kw_only=True)
class Place:
    """Place of the pixels of one asset, as far as its item declares it without contradiction."""

    crs: CRS | None = None
    """Coordinate reference system; None where none is declared that is one."""
    grid: AssetGrid | None = None
    """Grid; None where it is not declared completely, or contradicted."""
    doubt: str = ""
    """Contradiction in what is declared; empty if there is none."""


def find_place(item: ItemDict, asset: str) -> Place:
    """Return the place of an asset as its item declares it.

    What an asset says goes before what its item says. Without a transform, the bounds make one.

    Raises:
        SpecError: If the geometry of the item is none.
    """
    own, properties = item["assets"].get(asset, {}), item["properties"]
    first, second = _state_crs(own), _state_crs(properties)
    stated, doubt = first if first[0] or not second[0] else second
    doubt = doubt or ("" if stated else second[1])
    crs = _parse_crs(stated) if stated else None
    grid = None
    if crs is not None and not doubt:
        try:
            grid = _make_grid(own, properties, crs)
            doubt = "" if grid is None else _find_doubt(grid, own, properties, item)
        except (TypeError, ValueError, OverflowError) as error:
            doubt = str(error)
    if doubt:
        return Place(crs=crs, doubt=f"item {item['id']} contradicts itself about the place of asset {asset}: {doubt}")
    return Place(crs=crs, grid=grid)


def may_touch(outline: BaseGeometry | None, window: BaseGeometry) -> bool:
    """Return True if a file with the outline of :func:`find_outline` may have pixels in a window, by its footprint."""
    return outline is None or bool(shapely.intersects(outline, window))


def find_outline(item: ItemDict, asset: str) -> BaseGeometry | None:
    """Return where an asset lies in longitude and latitude by all that its item says; None if that is anywhere.

    Raises:
        SpecError: If the item has neither a geometry nor a box.
    """
    place = find_place(item, asset)
    if place.doubt:
        return None
    claims = [shapely.box(*part.bounds) for part in shapely.get_parts(footprint(item))]
    return shapely.union_all([*claims, *([] if place.grid is None else [cut_box(*_to_lonlat(place.grid))])])


def declared_grid(item: ItemDict, asset: str) -> AssetGrid | None:
    """Return the grid of an asset; None if it is not declared completely and without contradiction."""
    return find_place(item, asset).grid


def declared_crs(item: ItemDict, asset: str) -> CRS | None:
    """Return the coordinate reference system of an asset; None if neither it nor its item declares one."""
    return find_place(item, asset).crs


def _state_crs(content: Mapping[str, Any]) -> tuple[str, str]:
    """Return the first CRS that is stated and is one, and what contradicts it; each empty if there is none."""
    stated = {name: _write_crs(content[name]) for name in _CRS_FIELDS if content.get(name) is not None}
    sound = {name: text for name, text in stated.items() if _parse_crs(text) is not None}
    if not sound:
        return "", ", ".join(f"{name} {text!r:.60} is no CRS" for name, text in stated.items())
    (first, text), *others = sound.items()
    doubts = [f"{first} says {_name_crs(text)}, {name} {_name_crs(other)}" for name, other in others]
    apart = [doubt for doubt, (_, other) in zip(doubts, others, strict=True) if not _are_same(text, other)]
    return text, "; ".join(apart)


def _make_grid(own: Mapping[str, Any], properties: Mapping[str, Any], crs: CRS) -> AssetGrid | None:
    """Return the declared grid; None if it is not complete.

    Raises:
        ValueError: If the numbers are none, or of no grid along rows and columns; likewise TypeError, OverflowError.
    """
    shape, numbers, bounds = (
        own.get(name) or properties.get(name) for name in ("proj:shape", "proj:transform", "proj:bbox")
    )
    if not shape or not (numbers or bounds):
        return None
    try:
        rows, columns = (int(number) for number in shape)
        if numbers:
            transform = Affine(*(float(number) for number in numbers[:6]))
        else:
            left, bottom, right, top = _flatten(bounds)
            transform = Affine((right - left) / columns, 0, left, 0, (bottom - top) / rows, top)
        along = not (transform.b or transform.d) and bool(transform.a and transform.e)
        sound = (
            along and all(map(math.isfinite, transform[:6])) and 0 < min(rows, columns) <= max(rows, columns) < _MOST_PX
        )
    except (TypeError, ValueError, OverflowError, ZeroDivisionError):
        sound = False
    if not sound:
        raise ValueError(
            f"shape {shape!s:.60} and transform {numbers or bounds!s:.120} make no grid of rows and columns"
        )
    return AssetGrid(crs=crs, transform=transform, shape=(rows, columns))


def _find_doubt(grid: AssetGrid, own: Mapping[str, Any], properties: Mapping[str, Any], item: ItemDict) -> str:
    """Return how a grid contradicts the declared box or the footprint; empty if it does not."""
    bounds = own.get("proj:bbox") or properties.get("proj:bbox")
    if bounds:
        pixels = (abs(grid.transform.a), abs(grid.transform.e)) * 2
        apart = (abs(one - other) / px for one, other, px in zip(grid.bounds, _flatten(bounds), pixels, strict=True))
        if not max(apart) <= _BOX_PX:
            return f"proj:bbox says {_format(_flatten(bounds))}, transform and shape {_format(grid.bounds)}"
    if item.get("geometry") is None and item.get("bbox") is None:
        return ""
    found = _to_lonlat(grid)
    outline = span(footprint(item))
    if _extends_beyond(outline, found):
        return f"its footprint is {_format(outline)}, transform and shape are {_format(found)} in degrees"
    return ""


def _extends_beyond(outline: Bounds, grid: Bounds) -> bool:
    """Return True for a footprint that lies beside the box of a grid in part; it may be smaller, where data are."""
    west, south, east, north = grid
    tall, wide = (max(_BESIDE * size, _COARSE_DEGREES) for size in (north - south, east - west))
    if outline[1] < south - tall or outline[3] > north + tall:
        return True
    if east - west >= 360 - _COARSE_DEGREES:
        return False
    turn = 360 * round(((outline[0] + outline[2]) - (west + east)) / 720)
    return outline[0] - turn < west - wide or outline[2] - turn > east + wide


def _to_lonlat(grid: AssetGrid) -> Bounds:
    """Return west, south, east and north of a grid in degrees; east may lie beyond 180.

    Raises:
        ValueError: If the grid has no image on the globe.
    """
    return _project_bounds(grid.crs.srs, grid.bounds)


@lru_cache(maxsize=4096)  # the tiles of an archive come back with every date
def _project_bounds(crs: str, bounds: Bounds) -> Bounds:
    try:
        west, south, east, north = _find_transformer(crs).transform_bounds(*bounds, densify_pts=21)
    except ProjError as error:
        raise ValueError(f"bounds {_format(bounds)} have no image on the globe") from error
    if not all(map(math.isfinite, (west, south, east, north))):
        raise ValueError(f"bounds {_format(bounds)} have no image on the globe")
    return west, south, east + 360 if east < west else east, north


@lru_cache(maxsize=256)
def _find_transformer(crs: str) -> Transformer:
    return Transformer.from_crs(crs, "EPSG:4326", always_xy=True)


def _flatten(bounds: Any) -> Bounds:
    """Return a box without its heights, if it has some.

    Raises:
        ValueError: If it has neither four nor six numbers.
    """
    if len(bounds) not in (4, 6):
        raise ValueError(f"proj:bbox {bounds!s:.80} has neither four nor six numbers")
    left, bottom, right, top = (float(bounds[k]) for k in (0, 1, len(bounds) // 2, len(bounds) // 2 + 1))
    return left, bottom, right, top


def _format(bounds: Bounds) -> str:
    return "(" + ", ".join(f"{edge:.8g}" for edge in bounds) + ")"


def _write_crs(value: Any) -> str:
    if isinstance(value, float) and value.is_integer():  # columns of a table with gaps
        return str(int(value))
    return json.dumps(value) if isinstance(value, Mapping) else str(value)


@lru_cache(maxsize=256)
def _parse_crs(stated: str) -> CRS | None:
    """Parse a CRS, once: it takes milliseconds, and thousands of items name the same few; None if it is none."""
    try:
        return CRS.from_user_input(int(stated) if stated.isdecimal() else stated)
    except (CRSError, ValueError, OverflowError):
        return None


@lru_cache(maxsize=256)
def _are_same(one: str, other: str) -> bool:
    """Return True if two texts of a CRS mean the same; order of axes, names and remarks apart."""
    first, second = _parse_crs(one), _parse_crs(other)
    if first is None or second is None or first.equals(second, ignore_axis_order=True):
        return True
    codes = {crs.to_epsg(min_confidence=60) for crs in (first, second)}
    return len(codes) == 1 and None not in codes


def _name_crs(stated: str) -> str:
    crs = _parse_crs(stated)
    return stated if crs is None else str(crs.to_string())[:80]
