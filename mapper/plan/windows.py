"""Windows and bounds of very many tiles together; :meth:`mapper.plan.context.Context.window` gives that of one."""

import numpy as np

from mapper.arrays import Float64Array, IntArray
from mapper.plan.context import Context


def windows_at(context: Context, indices: IntArray) -> IntArray:
    """Return the edges of the window of each tile: top, left, bottom, right in pixels of the grid; (tile, 4).

    Args:
        context: What all tasks share.
        indices: (tile, 2): rows and columns of tiles.
    """
    return context.window_rule.edges(context.grid, indices)


def bounds_at(context: Context, indices: IntArray, *, halo: bool) -> Float64Array:
    """Return left, bottom, right and top of each tile or of its window, in the CRS of the grid; (tile, 4)."""
    first = indices * context.grid.tile_px
    edges = windows_at(context, indices) if halo else np.concatenate([first, first + context.grid.tile_px], axis=1)
    at = context.grid.geobox.transform
    scale, origin = np.array((at.a, at.e, at.a, at.e)), np.array((at.c, at.f, at.c, at.f))
    return np.asarray(edges[:, [1, 2, 3, 0]] * scale + origin, np.float64)


def shapes_at(context: Context, indices: IntArray) -> Float64Array:
    """Return rows and columns of the window of each tile, (tile, 2)."""
    edges = windows_at(context, indices).astype(np.float64)
    return edges[:, 2:] - edges[:, :2]
