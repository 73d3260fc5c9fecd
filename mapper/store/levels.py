"""Levels of a pyramid as groups of a store: their grids, their arrays and their metadata.

Level 0 is the root itself. Level k, the group ``pyramid/k``, has pixels 2^k times as long, the upper left corner of the
map, and arrays of the same names, dtypes, encodings, chunks and shards; it goes on for as many whole tiles as it takes.
Its dimensions are ``yc`` and ``xc``, see :data:`mapper.store.geozarr.LEVEL_AXES`; an older mapper called them ``y`` and
``x``, and so they stay until :func:`rename_axes`. Levels end where one tile holds the map. The origin of each tile of a
level, and its content, are in ``ledger/pyramid/k``: (row, col, 64) uint8, the origin (32 bytes) and the sha256 of the
content; zeros where there is none.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import zarr
from affine import Affine
from odc.geo.geobox import GeoBox
from zarr.abc.store import Store
from zarr.core.buffer import default_buffer_prototype
from zarr.core.sync import sync

from mapper.errors import StoreError
from mapper.grid import MapGrid, Tile
from mapper.store.description import read_description
from mapper.store.encoding import make_codecs, make_small_codecs
from mapper.store.geozarr import AXES, GRID_MAPPING, LEVEL_AXES, multiscales_attributes, spatial_attributes
from mapper.store.layout import create_coordinates
from mapper.store.product import Band, Banded
from mapper.store.reduction import Rule

MARK_BYTES = 64
"""Bytes of one tile in ``ledger/pyramid/k``."""
_TILES_PER_CHUNK = 64
_DESCRIPTIONS: Mapping[Rule, str] = {
    "mean": "mean of the valid of 2 x 2 pixels",
    "decibels": "mean of the valid of 2 x 2 pixels, as powers",
    "count": "rounded mean of the written of 2 x 2 pixels",
    "first": "first of the valid of 2 x 2 pixels",
    "flags": "bitwise or of the written of 2 x 2 pixels",
}


@dataclass(frozen=True, kw_only=True)
class Level:
    """One level of a pyramid."""

    number: int
    """0 is the map itself; a pixel is 2^number pixels of the map long."""
    grid: MapGrid

    @property
    def path(self) -> str:
        """Return the path of its group, from the root."""
        return level_path(self.number)

    @property
    def marks(self) -> str:
        """Return the path of what its tiles were made from."""
        return f"ledger/pyramid/{self.number}"

    def array(self, band: str) -> str:
        """Return the path of one of its arrays."""
        return f"{self.path}/{band}".lstrip("/")


@dataclass(frozen=True, order=True)
class LevelTile:
    """One tile of one level: one task, one shard of each array."""

    level: int
    tile: Tile

    @property
    def parent(self) -> "LevelTile":
        """Return the tile above that is made from this one and its neighbours."""
        return LevelTile(self.level + 1, Tile(self.tile.row // 2, self.tile.col // 2))

    def __str__(self) -> str:
        return f"{self.level}/{self.tile}"


@dataclass(frozen=True, kw_only=True)
class Pyramid(Banded):
    """All levels of a store, there or still to be made; picklable."""

    levels: tuple[Level, ...]
    """Level k is the kth; the first is the map."""

    def arrays(self, level: int) -> list[str]:
        """Return the paths of the arrays of one level."""
        return [self.levels[level].array(name) for name in self.band_names]


def read_pyramid(store: Store) -> Pyramid:
    """Return the pyramid that a store has, or would have.

    Raises:
        StoreError: If the store was not made by mapper.
    """
    description = read_description(store)
    return Pyramid(levels=make_levels(description.grid), bands=description.bands)


def make_levels(grid: MapGrid) -> tuple[Level, ...]:
    """Return the map as level 0, and coarser ones until one tile holds it."""
    levels = [Level(number=0, grid=grid)]
    while max(levels[-1].grid.tile_shape) > 1:
        levels.append(Level(number=len(levels), grid=_coarsen_grid(grid, 2 ** len(levels))))
    return tuple(levels)


def level_path(number: int) -> str:
    """Return the path of the group of a level; empty for the map, which is the root."""
    return f"pyramid/{number}" if number else ""


def count_levels(store: Store) -> int:
    """Return the levels that a version of a store has above the map; 0 if it has no pyramid."""
    multiscales: Any = zarr.open_group(store, mode="r").attrs.get("multiscales")
    return len(multiscales["layout"]) - 1 if multiscales else 0


def create_levels(store: Store, pyramid: Pyramid) -> None:
    """Make all levels but the map, without pixels; to be committed before a fork is taken."""
    root = zarr.open_group(store, mode="r+")
    above = pyramid.levels[1:]
    for level in above:
        group = root.create_group(level.path, attributes=_describe_level(root, level))
        create_coordinates(group, level.grid, lattice=pyramid.levels[0].grid.resolution, axes=LEVEL_AXES)
        for band in pyramid.bands:
            _create_band(group, root[band.name], band, level.grid)  # type: ignore[arg-type]
        shape = level.grid.tile_shape
        edge = tuple(min(_TILES_PER_CHUNK, size) for size in shape)
        root.create_array(
            level.marks,
            shape=(*shape, MARK_BYTES),
            chunks=(*edge, MARK_BYTES),
            dtype="uint8",
            fill_value=0,
            compressors=make_small_codecs(),
        )
    geoboxes = {level.path or ".": level.grid.geobox for level in pyramid.levels}
    root.attrs.update(multiscales_attributes(geoboxes))


def has_map_axes(store: Store) -> bool:
    """Return True if the levels of a store name their dimensions as the map does, so that no tree can be opened."""
    if not count_levels(store):
        return False
    first: Any = zarr.open_group(store, path=level_path(1), mode="r")
    return AXES[1] in first


def rename_axes(store: Store, pyramid: Pyramid) -> None:
    """Give the dimensions of all levels, and their coordinates, names of their own; no pixel is touched."""
    for level in pyramid.levels[1:]:
        group = zarr.open_group(store, path=level.path, mode="r+")
        for name in AXES:
            del group[name]
        create_coordinates(group, level.grid, lattice=pyramid.levels[0].grid.resolution, axes=LEVEL_AXES)
        group.attrs.update(spatial_attributes(level.grid.geobox, LEVEL_AXES))
        for path in pyramid.arrays(level.number):
            sync(_name_dimensions(store, f"{path}/zarr.json"))


async def _name_dimensions(store: Store, key: str) -> None:
    """Rewrite the metadata of an array of a level, which Zarr has no other way to change."""
    prototype = default_buffer_prototype()
    buffer = await store.get(key, prototype)
    if buffer is None:
        raise StoreError(f"{key} is not there: the store is damaged")
    document = json.loads(buffer.to_bytes())
    document["dimension_names"] = list(LEVEL_AXES)
    document["attributes"]["spatial:dimensions"] = list(LEVEL_AXES)
    await store.set(key, prototype.buffer.from_bytes(json.dumps(document).encode()))


def _coarsen_grid(grid: MapGrid, factor: int) -> MapGrid:
    """Return the same area in larger pixels; no source nests in it, so its scale means nothing and is 1."""
    rows, cols = (-(-count // factor) * grid.tile_px for count in grid.tile_shape)
    geobox = GeoBox((rows, cols), grid.geobox.transform @ Affine.scale(factor), grid.geobox.crs)
    return replace(grid, geobox=geobox, resolution=grid.resolution * factor, scale=1)


def _describe_level(root: zarr.Group, level: Level) -> dict[str, Any]:
    return {
        "Conventions": root.attrs["Conventions"],
        "title": f"{root.attrs['title']} (level {level.number}: pixels {2**level.number} times as long)",
        "coordinates": GRID_MAPPING,
        **spatial_attributes(level.grid.geobox, LEVEL_AXES),
    }


def _create_band(group: zarr.Group, base: zarr.Array[Any], band: Band, grid: MapGrid) -> None:
    group.create_array(
        band.name,
        shape=grid.shape,
        chunks=base.chunks,
        shards=base.shards,
        dtype=base.dtype,
        fill_value=base.fill_value,
        compressors=make_codecs(band.dtype),
        dimension_names=LEVEL_AXES,
        attributes={
            **base.attrs,
            "mapper:reduction": _DESCRIPTIONS[band.reduction],
            **spatial_attributes(grid.geobox, LEVEL_AXES),
        },
    )
