"""Intersection of the windows of all tiles with the footprints of items, together.

What :meth:`Items.touching` finds for one window, a hundred times quicker: a map of a continent has a hundred thousand
windows, and planning asks for the items of each.
"""

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import shapely
from pyproj import Transformer

from mapper.arrays import Float64Array, IntArray
from mapper.catalog.footprint import window_footprint
from mapper.grid import Tile
from mapper.plan.context import Context
from mapper.plan.task_table import Members
from mapper.plan.windows import bounds_at

_LONLAT = "EPSG:4326"
_CHUNK_TILES = 4096
_POINTS = 100
"""Parts that an edge of a window is cut into at most, as its own footprint has them."""
_BEND_PX = 0.005
"""Pixels that the image of such a part may be from straight: windows are a pixel larger than they are."""
_QUARTER = 8
"""Segments of a quarter circle around a corner."""


def intersect_items(
    context: Context, indices: IntArray, outlines: npt.NDArray[np.object_], roles: Sequence[npt.NDArray[np.bool_]]
) -> list[Members]:
    """Find the items whose footprint intersects the window of each tile, for each role.

    Args:
        context: What all tasks share.
        indices: (tile, 2): rows and columns of tiles.
        outlines: (item,): footprints in longitude and latitude.
        roles: For each role, the items that have it: (item,).
    """
    tree = shapely.STRtree(outlines)
    found: list[list[Members]] = [[] for _ in roles]
    for first in range(0, len(indices), _CHUNK_TILES):
        windows = _footprints(context, indices[first : first + _CHUNK_TILES])
        window, item = tree.query(windows, predicate="intersects")
        for role, parts in zip(roles, found, strict=True):
            having = role[item]
            parts.append(Members.of_pairs(window[having], item[having], tasks=len(windows)))
    return [Members.join(parts) for parts in found]


def _footprints(context: Context, indices: IntArray) -> npt.NDArray[np.object_]:
    """Project windows, a pixel larger than they are, to EPSG:4326: ``GeoBox.footprint("EPSG:4326", buffer=1)``."""
    bounds = bounds_at(context, indices, halo=True)
    pixel = float(context.grid.resolution)
    project = Transformer.from_crs(context.grid.crs, _LONLAT, always_xy=True)
    spans = np.maximum(bounds[:, 2] - bounds[:, 0], bounds[:, 3] - bounds[:, 1])
    boxes = shapely.buffer(shapely.box(*bounds.T), pixel, quad_segs=_QUARTER)
    dense = shapely.segmentize(boxes, spans / _count_parts(project, bounds, pixel))

    def locate(points: Float64Array) -> Float64Array:
        return np.stack(project.transform(*points.T), axis=1)

    located: npt.NDArray[np.object_] = shapely.transform(dense, locate)
    west, _, east, _ = shapely.bounds(located).T
    for number in np.flatnonzero(~((west >= -180) & (east <= 180) & (east - west <= 180))).tolist():
        # a window that reaches beyond the CRS, where points have no image, or across 180 degrees
        geobox = context.grid.geobox_of(context.window(Tile(*indices[number].tolist())))
        located[number] = window_footprint(geobox)
    return located


def _count_parts(project: Transformer, bounds: Float64Array, pixel: float) -> int:
    """Count the parts an edge has to be cut into, for its image to be straight to a small part of a pixel.

    The distance of an arc from its chord falls with the square of the parts.
    """
    left, bottom, right, top = bounds.T
    edges = (
        (left, bottom, right, bottom),
        (left, top, right, top),
        (left, bottom, left, top),
        (right, bottom, right, top),
    )
    bend = np.zeros(len(bounds))
    for x0, y0, x1, y1 in edges:
        start, middle, end = (
            np.stack(project.transform(x, y)) for x, y in ((x0, y0), ((x0 + x1) / 2, (y0 + y1) / 2), (x1, y1))
        )
        away = np.hypot(*(middle - (start + end) / 2)) / np.hypot(*(end - start))
        bend = np.maximum(bend, away * np.hypot(x1 - x0, y1 - y0) / pixel)
    worst = float(bend.max())
    return min(_POINTS, max(1, math.ceil(math.sqrt(worst / _BEND_PX)))) if math.isfinite(worst) else _POINTS
