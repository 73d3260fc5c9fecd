"""Shares of pixels that lie inside a polygon, exact.

Every edge is cut where it passes from one pixel to the next. A piece inside a pixel takes from it the area to its left
and gives all pixels to its right its height; summed along the rows, what remains is the area inside. The work grows
with the length of the outline in pixels, and with the window; memory with the window alone, since edges are cut a few
at a time.
"""

from collections.abc import Callable, Iterator
from typing import TypeAlias

import numpy as np
import shapely
from affine import Affine
from shapely.geometry import MultiPolygon, Polygon

from mapper.arrays import Float64Array

Area: TypeAlias = Polygon | MultiPolygon

_NEAR = 1e-9
"""Share of a window or a pixel: a polygon this close to all of it, or to nothing, has all or nothing of it."""
_MOST_PIECES = 1 << 17
"""Pieces of edges that are held at once, at about 150 bytes each."""


def cover_window(
    area: Area, transform: Affine, shape: tuple[int, int], check: Callable[[], None] = lambda: None
) -> Float64Array | None:
    """Return the shares of the pixels of a window.

    Args:
        area: Valid, in the CRS of the map.
        transform: Transform from columns and rows of the window to the CRS; upright, without rotation.
        shape: Rows and columns of the window.
        check: Called between batches of edges; it raises to end the work.

    Returns:
        (y, x) from 0 to 1; None if nothing of it is covered.
    """
    rows, cols = shape
    left, top = transform.c, transform.f
    right, bottom = left + transform.a * cols, top + transform.e * rows
    pieces = [piece for piece in shapely.get_parts(shapely.clip_by_rect(area, left, bottom, right, top)) if piece.area]
    polygons = [piece for piece in pieces if isinstance(piece, Polygon)]
    if not polygons:
        return None
    if sum(piece.area for piece in polygons) >= (right - left) * (top - bottom) * (1 - _NEAR):
        return np.ones(shape)
    edges = np.concatenate([_list_edges(piece, transform) for piece in polygons])
    summed = np.zeros((rows, cols + 2))
    for batch in _split(edges):
        check()
        _accumulate(summed, _cut(batch))
    shares: Float64Array = np.clip(summed[:, :cols].cumsum(axis=1), 0.0, 1.0)
    shares[shares < _NEAR] = 0.0
    return shares


def _split(edges: Float64Array) -> Iterator[Float64Array]:
    """Yield edges in batches of so many that few pieces come of each."""
    pieces = np.cumsum(np.abs(edges[:, 1] - edges[:, 0]).sum(axis=1) + 2) // _MOST_PIECES
    yield from np.split(edges, np.flatnonzero(np.diff(pieces)) + 1)


def _list_edges(polygon: Polygon, transform: Affine) -> Float64Array:
    """Return the edges of the rings, the inside on one side of all: (edge, 2, 2), column and row of both ends."""
    edges = []
    # rows grow downwards, so what runs clockwise in the window has the inside to its right
    for ring, clockwise in ((polygon.exterior, True), *((hole, False) for hole in polygon.interiors)):
        points = shapely.get_coordinates(ring)
        if ring.is_ccw == clockwise:
            points = points[::-1]
        points = (points - (transform.c, transform.f)) / (transform.a, transform.e)
        edges.append(np.stack([points[:-1], points[1:]], axis=1))
    return np.concatenate(edges)


def _cut(edges: Float64Array) -> Float64Array:
    """Return edges cut at whole columns and rows: (piece, 2, 2)."""
    numbers, shares = [np.repeat(np.arange(len(edges)), 2)], [np.tile([0.0, 1.0], len(edges))]
    for axis in (0, 1):
        start, stop = edges[:, 0, axis], edges[:, 1, axis]
        first, last = np.floor(np.minimum(start, stop)) + 1, np.ceil(np.maximum(start, stop)) - 1
        counts = np.maximum(last - first + 1, 0).astype(np.int64)
        number = np.repeat(np.arange(len(edges)), counts)
        within = np.arange(len(number)) - np.repeat(np.cumsum(counts) - counts, counts)
        numbers.append(number)
        shares.append((first[number] + within - start[number]) / (stop[number] - start[number]))
    number, share = np.concatenate(numbers), np.concatenate(shares)
    order = np.lexsort((share, number))
    number, share = number[order], share[order]
    points = edges[number, 0] + share[:, None] * (edges[number, 1] - edges[number, 0])
    same = number[1:] == number[:-1]
    return np.stack([points[:-1][same], points[1:][same]], axis=1)


def _accumulate(summed: Float64Array, pieces: Float64Array) -> None:
    """Add the area to the right of pieces that each lie in one pixel: (y, x) with two columns beyond the window."""
    rows, width = summed.shape
    middle = pieces.mean(axis=1)
    row = np.clip(np.floor(middle[:, 1]), 0, rows - 1).astype(np.int64)
    col = np.clip(np.floor(middle[:, 0]), 0, width - 2).astype(np.int64)
    height = pieces[:, 0, 1] - pieces[:, 1, 1]
    beyond = height * (middle[:, 0] - col)
    index = row * width + col
    flat = summed.reshape(-1)
    flat += np.bincount(index, height - beyond, flat.size)
    flat += np.bincount(index + 1, beyond, flat.size)
