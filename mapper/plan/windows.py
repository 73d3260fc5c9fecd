"""Windows and bounds of very many tiles together, what :meth:`MapContext.window` says of one."""

import numpy as np

from mapper.arrays import Float64Array, IntArray
from mapper.grid import Tile
from mapper.plan.context import Context, MapContext


def windows_at(context: Context, indices: IntArray) -> IntArray:
    """First and last edges of the window of each tile: top, left, bottom, right in pixels of the grid.

    Args:
        context: What all tasks share.
        indices: (tile, 2): rows and columns of tiles.
    """
    if not isinstance(context, MapContext):
        windows = [context.window(Tile(row, col)) for row, col in indices.tolist()]
        return np.array([(w.top, w.left, w.bottom, w.right) for w in windows], np.int64).reshape(-1, 4)
    first = indices * context.grid.tile_px
    last = first + context.grid.tile_px
    if not context.halo_px:
        return np.concatenate([first, last], axis=1)
    step = context.contract.step(context.grid.scale) or context.grid.scale
    return np.concatenate(
        [(first - context.halo_px) // step * step, -(-(last + context.halo_px) // step) * step], axis=1
    )


def bounds_at(context: Context, indices: IntArray, *, halo: bool) -> Float64Array:
    """Left, bottom, right and top of each tile or of its window, in the CRS of the grid; (tile, 4)."""
    first = indices * context.grid.tile_px
    edges = windows_at(context, indices) if halo else np.concatenate([first, first + context.grid.tile_px], axis=1)
    at = context.grid.geobox.transform
    scale, origin = np.array((at.a, at.e, at.a, at.e)), np.array((at.c, at.f, at.c, at.f))
    return np.asarray(edges[:, [1, 2, 3, 0]] * scale + origin, np.float64)


def shapes_at(context: Context, indices: IntArray) -> Float64Array:
    """Rows and columns of the window of each tile, (tile, 2)."""
    edges = windows_at(context, indices).astype(np.float64)
    return edges[:, 2:] - edges[:, :2]
