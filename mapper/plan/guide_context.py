"""The guide as a product of its own: its grid, and what its tasks share.

A stored guide lies on the lattice of its map, with whole tiles around it for the context of the tiles at the rim: tile
(r + pad, c + pad) of the guide is tile (r, c) of the map. Its area is all that the windows of the map cover, so that a
tile at the rim is read no farther than that.
"""

from collections.abc import Iterator, Mapping
from fractions import Fraction

import numpy as np
import shapely
from affine import Affine
from odc.geo.geobox import GeoBox
from odc.geo.geom import Geometry

from mapper.catalog.provider import Provider
from mapper.catalog.query import MARGIN_PX
from mapper.errors import ContractError, SpecError
from mapper.grid import MapGrid, Tile, Window
from mapper.plan.context import Context
from mapper.plan.task_table import TaskTable
from mapper.plan.window_rules import AreaRule
from mapper.plan.windows import windows_at
from mapper.spec import MapSpec
from mapper.store.description import Description, check_same
from mapper.store.identity import Identity
from mapper.store.map_store import MapStore
from mapper.store.product import guide_product

_ROUND_PX = 64
"""Halos are rounded up to a multiple of this, so that a model that sees a little farther needs no new guide."""


def make_guide_context(context: Context, *, halo_px: int | None = None) -> Context:
    """Return what the tasks of the guide of a map share.

    Args:
        context: Of the map.
        halo_px: Context around every tile of the map; None takes what the model of the map needs, rounded up.

    Raises:
        ContractError: If there is no halo.
        SpecError: If a channel has the name of another array, or hangs on what the source shows.
    """
    needed = reach_of(context)
    halo = max(needed, min(-(-needed // _ROUND_PX) * _ROUND_PX, MARGIN_PX)) if halo_px is None else halo_px
    if halo <= 0:
        raise ContractError(f"a guide holds a halo of at least 1 px around the tiles of its map, got {halo}")
    spec = context.spec
    if bound := [layer.collection for layer in spec.guide.layers if layer.items == "source"]:
        raise SpecError(
            f"guide layer {bound[0]} takes the items that the source shows: it is read with the source of each tile "
            "and cannot be stored by itself"
        )
    grid, pad = _widen(context.grid, halo)
    product = guide_product(spec, grid=grid, units=units_of(spec, context.provider), halo_px=halo)
    return Context(
        spec=spec,
        provider=context.provider,
        product=product,
        identity=Identity(spec=product.digest, grid=grid.digest),
        roles=("guide",),
        halo_px=halo,
        window_rule=AreaRule(),
        map_grid=context.grid,
        pad=pad,
        options=context.options,
    )


def reach_of(context: Context) -> int:
    """Return how far the windows of a map reach beyond their tiles, in pixels."""
    first = context.grid.tile_indices() * context.grid.tile_px
    edges = windows_at(context, context.grid.tile_indices())
    beyond = np.concatenate([first - edges[:, :2], edges[:, 2:] - first - context.grid.tile_px], axis=1)
    return int(beyond.max(initial=0))


def units_of(spec: MapSpec, provider: Provider) -> Mapping[str, str]:
    """Return the units of each channel of the guide, by its name."""
    return {each.name: provider.rule(each.collection).units_of(each.band) for each in spec.guide.channels}


def _widen(grid: MapGrid, halo_px: int) -> tuple[MapGrid, int]:
    """Return the grid of a guide, and how many tiles it has on each side of the map's."""
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


def read_guide_context(context: Context, location: str) -> Context:
    """Return what the tasks of an existing guide share, checked against the map.

    Raises:
        StoreMismatchError: If the store holds the guide of another map, or no guide.
    """
    description = MapStore.open(location).description
    guide = make_guide_context(context, halo_px=halo_of(description))
    check_same(description, guide.product, location)
    return guide


def halo_of(description: Description) -> int | None:
    """Return the context around the tiles of a map that a guide holds, in pixels; None if the store holds no guide."""
    return int(description.extra["mapper:halo_px"]) if description.kind == "guide" else None


def tiles_under(context: Context, guide: Context, tasks: TaskTable) -> list[Tile]:
    """Return the tiles of the guide that the windows of some tasks of the map lie on."""
    tile_px, found = context.grid.tile_px, set[Tile]()
    for tile in tasks.tiles:
        found.update(tiles_of(context.window(tile).shifted(guide.pad * tile_px), tile_px))
    return sorted(found)


def tiles_of(window: Window, tile_px: int) -> Iterator[Tile]:
    """Yield the tiles that a window lies on."""
    for row in range(window.top // tile_px, -(-window.bottom // tile_px)):
        for col in range(window.left // tile_px, -(-window.right // tile_px)):
            yield Tile(row, col)
