"""The guide as a product of its own: its grid, what its tasks share, and how its numbers are stored.

A stored guide lies on the lattice of its map, with whole tiles around it for the context of the tiles at the rim: tile
(r + pad, c + pad) of the guide is tile (r, c) of the map. Its area is all that the tiles of the map look at, so that a
tile at the rim is read no farther than that.

What a run makes of archives goes through the same encoding as what it takes from a store: both see the same numbers.
"""

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cached_property

import numpy as np
import shapely
from affine import Affine
from odc.geo.geobox import GeoBox
from odc.geo.geom import Geometry

from mapper.catalog.provider import Provider
from mapper.catalog.query import MARGIN_PX
from mapper.errors import ContractError
from mapper.grid import MapGrid, Tile, Window
from mapper.plan.context import MapContext, RunOptions
from mapper.plan.task_table import TaskTable
from mapper.spec import MapSpec
from mapper.store.description import Description, check_same
from mapper.store.product import Product, guide_product
from mapper.store.repository import read_store

_ROUND_PX = 64
"""Halos are rounded up to a multiple of this, so that a model that sees a little farther needs no new guide."""


_logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class GuideContext:
    """What every task of a stored guide shares; see :class:`mapper.plan.context.Context`."""

    spec: MapSpec
    map_grid: MapGrid
    grid: MapGrid
    provider: Provider
    halo_px: int
    """Context of every tile of the map that the guide holds."""
    pad: int
    """Whole tiles around the map, on each side."""
    options: RunOptions = field(default_factory=RunOptions)

    @cached_property
    def product(self) -> Product:
        """What the store holds."""
        return guide_product(self.spec, grid=self.grid, units=units_of(self.spec, self.provider), halo_px=self.halo_px)

    @property
    def spec_digest(self) -> str:
        """Of all that can change a pixel of the guide."""
        return self.spec.guide_digest

    @property
    def model_name(self) -> str:
        """None is used."""
        return ""

    @property
    def model_digest(self) -> str:
        """None is used."""
        return ""

    @property
    def guide_name(self) -> str:
        """The guide is made here."""
        return ""

    @property
    def reads_guide(self) -> bool:
        """Always."""
        return True

    @property
    def reads_source(self) -> bool:
        """Never."""
        return False

    def window(self, tile: Tile) -> Window:
        """What is read for a tile of the guide: the smallest window around its pixels that are wanted."""
        core = self.grid.window(tile)
        box = shapely.box(*self.grid.geobox_of(core).boundingbox.bbox)
        shapely.prepare(self.grid.area.geom)
        if self.grid.area.geom.contains_properly(box):
            return core
        wanted = shapely.intersection(self.grid.area.geom, box)
        if wanted.is_empty:
            return core
        west, south, east, north = wanted.bounds
        at = self.grid.geobox.transform
        rows = (north - at.f) / at.e, (south - at.f) / at.e
        cols = (west - at.c) / at.a, (east - at.c) / at.a
        return Window(  # the area ends a part of a pixel before the edges of pixels: outwards is right
            top=max(core.top, int(np.floor(rows[0]))),
            left=max(core.left, int(np.floor(cols[0]))),
            bottom=min(core.bottom, int(np.ceil(rows[1]))),
            right=min(core.right, int(np.ceil(cols[1]))),
        )

    def on_map(self, window: Window) -> Window:
        """A window of the guide in pixels of the map; it may reach beyond it."""
        return shift(window, -self.pad * self.grid.tile_px)


def make_guide_context(context: MapContext, *, halo_px: int | None = None) -> GuideContext:
    """Put together what the tasks of the guide of a map share.

    Args:
        context: Of the map.
        halo_px: Context around every tile of the map; None takes what the model of the map needs, rounded up.

    Raises:
        ContractError: If the halo is wider than items are searched.
        SpecError: If a channel has the name of another array.
    """
    needed = reach_of(context)
    most = max(needed, MARGIN_PX)
    halo = max(needed, min(-(-needed // _ROUND_PX) * _ROUND_PX, MARGIN_PX)) if halo_px is None else halo_px
    if not 0 < halo <= most:
        raise ContractError(f"a halo of {halo} px: items are searched only so far that 1 to {most} px are possible")
    grid, pad = _widen(context.grid, halo)
    return GuideContext(
        spec=context.spec,
        map_grid=context.grid,
        grid=grid,
        provider=context.provider,
        halo_px=halo,
        pad=pad,
        options=context.options,
    )


def reach_of(context: MapContext) -> int:
    """How far the windows of a map reach beyond their tiles, in pixels."""
    reach = 0
    for tile in context.grid.tiles():
        core, window = context.grid.window(tile), context.window(tile)
        reach = max(
            reach,
            core.top - window.top,
            core.left - window.left,
            window.bottom - core.bottom,
            window.right - core.right,
        )
    return reach


def shift(window: Window, pixels: int) -> Window:
    """A window moved down and right."""
    return Window(
        top=window.top + pixels,
        left=window.left + pixels,
        bottom=window.bottom + pixels,
        right=window.right + pixels,
    )


def units_of(spec: MapSpec, provider: Provider) -> Mapping[str, str]:
    """Units of each collection of the guide."""
    return {layer.collection: provider.rule(layer.collection).units for layer in spec.guide.layers}


def _widen(grid: MapGrid, halo_px: int) -> tuple[MapGrid, int]:
    """The grid of a guide, and how many tiles it has on each side of the map's."""
    windows = [grid.window(tile, halo_px=halo_px) for tile in grid.tiles()]
    rows, cols = grid.shape
    beyond = max(max(-window.top, -window.left, window.bottom - rows, window.right - cols, 0) for window in windows)
    pad = -(-beyond // grid.tile_px)
    margin = pad * grid.tile_px
    geobox = GeoBox(
        (rows + 2 * margin, cols + 2 * margin),
        grid.geobox.transform @ Affine.translation(-margin, -margin),
        grid.geobox.crs,
    )
    area = shapely.union_all([shapely.box(*grid.geobox_of(window).boundingbox.bbox) for window in windows])
    # a quarter of a pixel less: what only touches a tile is not wanted of it
    area = shapely.buffer(area, -float(grid.resolution) / 4, join_style="mitre")
    widened = MapGrid(
        geobox=geobox,
        area=Geometry(area, grid.geobox.crs),
        resolution=Fraction(grid.resolution),
        scale=1,  # no source nests in it: whole tiles around the map may cut source pixels
        tile_px=grid.tile_px,
        chunk_px=grid.chunk_px,
    )
    return widened, pad


def read_guide_context(context: MapContext, location: str) -> GuideContext:
    """What the tasks of an existing guide share, checked against the map.

    Raises:
        StoreMismatchError: If the store holds the guide of another map, or no guide.
    """
    description = read_store(location)
    guide = make_guide_context(context, halo_px=_halo_of(description))
    check_same(description, guide.product, location)
    return guide


def read_halo(location: str) -> int | None:
    """Context around the tiles of a map that a guide holds, in pixels; None if the store holds no guide."""
    return _halo_of(read_store(location))


def _halo_of(description: Description) -> int | None:
    return int(description.extra["mapper:halo_px"]) if description.kind == "guide" else None


def tiles_under(context: MapContext, guide: GuideContext, tasks: TaskTable) -> list[Tile]:
    """Tiles of the guide that the windows of some tasks of the map lie on."""
    tile_px, found = context.grid.tile_px, set[Tile]()
    for tile in tasks.tiles:
        found.update(_tiles_of(shift(context.window(tile), guide.pad * tile_px), tile_px))
    return sorted(found)


def _tiles_of(window: Window, tile_px: int) -> Iterator[Tile]:
    for row in range(window.top // tile_px, -(-window.bottom // tile_px)):
        for col in range(window.left // tile_px, -(-window.right // tile_px)):
            yield Tile(row, col)
