"""Declared grids of items: the projection extension, in its old spelling and its new one."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from affine import Affine
from pyproj import CRS
from pyproj.exceptions import CRSError
from rasterio.transform import array_bounds

from mapper.catalog.items import ItemDict
from mapper.errors import SpecError

_CRS_FIELDS = ("proj:code", "proj:epsg", "proj:wkt2", "proj:projjson")
"""Fields of the CRS by preference: STAC 1.1 replaced ``proj:epsg`` by ``proj:code``; null: another field has it."""


@dataclass(frozen=True, kw_only=True)
class AssetGrid:
    """Grid of the pixels of one asset, as declared."""

    crs: CRS
    transform: Affine
    shape: tuple[int, int]

    @property
    def bounds(self) -> tuple[float, float, float, float]:
        """Return left, bottom, right, top in ``crs``."""
        left, bottom, right, top = array_bounds(*self.shape, self.transform)
        return min(left, right), min(bottom, top), max(left, right), max(bottom, top)


def declared_grid(item: ItemDict, asset: str) -> AssetGrid | None:
    """Return the grid of an asset; None if neither the asset nor its item declares it completely.

    What an asset says goes before what its item says. Without a transform, the bounds make one.

    Raises:
        SpecError: If what is declared is no CRS, or no transform.
    """
    own, properties = item["assets"].get(asset, {}), item["properties"]
    crs = declared_crs(item, asset)
    shape = own.get("proj:shape") or properties.get("proj:shape")
    if crs is None or not shape:
        return None
    numbers = own.get("proj:transform") or properties.get("proj:transform")
    bounds = own.get("proj:bbox") or properties.get("proj:bbox")
    try:
        rows, columns = (int(number) for number in shape)
        if numbers:
            transform = Affine(*(float(number) for number in numbers[:6]))
        elif bounds and len(bounds) == 4:
            left, bottom, right, top = (float(edge) for edge in bounds)
            transform = Affine((right - left) / columns, 0, left, 0, (bottom - top) / rows, top)
        else:
            return None
    except (TypeError, ValueError) as error:
        raise SpecError(
            f"item {item['id']} declares a grid for asset {asset} that is none: shape {shape}, transform {numbers}"
        ) from error
    return AssetGrid(crs=crs, transform=transform, shape=(rows, columns))


def declared_crs(item: ItemDict, asset: str) -> CRS | None:
    """Return the coordinate reference system of an asset; None if neither it nor its item declares one.

    Raises:
        SpecError: If what is declared is none.
    """
    for content in (item["assets"].get(asset, {}), item["properties"]):
        stated = _state_crs(content)
        if stated is not None:
            try:
                return _parse_crs(stated)
            except (CRSError, TypeError) as error:
                raise SpecError(
                    f"item {item['id']} declares a CRS for asset {asset} that is none: {stated!r:.80}"
                ) from error
    return None


def _state_crs(content: Mapping[str, Any]) -> str | int | None:
    value = next((content[name] for name in _CRS_FIELDS if content.get(name) is not None), None)
    return json.dumps(value) if isinstance(value, Mapping) else value


@lru_cache(maxsize=256)
def _parse_crs(stated: str | int) -> CRS:
    """Parse a CRS, once: it takes milliseconds, and thousands of items name the same few."""
    return CRS.from_user_input(stated)
