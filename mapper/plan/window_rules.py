"""Rules by which the window follows from a tile, for very many tiles together."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import shapely

from mapper.arrays import IntArray
from mapper.grid import MapGrid, Tile


class WindowRule(Protocol):
    """A rule that says what is read for a tile."""

    def edges(self, grid: MapGrid, indices: IntArray) -> IntArray:
        """Return the edges of the window of each tile: top, left, bottom, right in pixels of the grid; (tile, 4).

        Args:
            grid: Of the tiles.
            indices: (tile, 2): rows and columns of tiles.
        """


@dataclass(frozen=True, kw_only=True)
class HaloRule:
    """The tile with a halo, widened outwards to multiples of a step; without a halo the tile alone."""

    halo_px: int
    step_px: int

    def edges(self, grid: MapGrid, indices: IntArray) -> IntArray:
        """Return the edges of the window of each tile; see :class:`WindowRule`."""
        first = indices * grid.tile_px
        last = first + grid.tile_px
        if not self.halo_px:
            return np.concatenate([first, last], axis=1)
        step = self.step_px
        return np.concatenate([(first - self.halo_px) // step * step, -(-(last + self.halo_px) // step) * step], axis=1)


@dataclass(frozen=True, kw_only=True)
class AreaRule:
    """The smallest rectangle around the pixels of the tile that lie in the area."""

    def edges(self, grid: MapGrid, indices: IntArray) -> IntArray:
        """Return the edges of the window of each tile; see :class:`WindowRule`."""
        shapely.prepare(grid.area.geom)
        cut = [_cut_to_area(grid, Tile(row, col)) for row, col in indices.tolist()]
        return np.array(cut, np.int64).reshape(-1, 4)


def _cut_to_area(grid: MapGrid, tile: Tile) -> tuple[int, int, int, int]:
    core = grid.window(tile)
    whole = core.top, core.left, core.bottom, core.right
    box = shapely.box(*grid.geobox_of(core).boundingbox.bbox)
    if grid.area.geom.contains_properly(box):
        return whole
    wanted = shapely.intersection(grid.area.geom, box)
    if wanted.is_empty:
        return whole
    west, south, east, north = wanted.bounds
    at = grid.geobox.transform
    rows = (north - at.f) / at.e, (south - at.f) / at.e
    cols = (west - at.c) / at.a, (east - at.c) / at.a
    return (  # the area ends a part of a pixel before the edges of pixels: outwards is right
        max(core.top, int(np.floor(rows[0]))),
        max(core.left, int(np.floor(cols[0]))),
        min(core.bottom, int(np.ceil(rows[1]))),
        min(core.right, int(np.ceil(cols[1]))),
    )
