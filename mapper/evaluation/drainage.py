"""The flow of water over heights: depressions, where each pixel drains to, and streams.

Water leaves at the edge of an array and at gaps. The level to which a depression fills is that of the lowest pass on
the way out: of all ways the one whose highest pixel is lowest. These ways form a minimum spanning tree of the pixels,
for which scipy has a fast routine; flooding by a priority queue finds the same levels (tested), pixel by pixel.
"""

import numpy as np
from scipy import ndimage
from scipy.sparse import coo_array
from scipy.sparse.csgraph import breadth_first_order, minimum_spanning_tree

from mapper.arrays import BoolArray, Float64Array, FloatArray, IntArray

STREAM_PX = 1000
"""Pixels that drain through a pixel of a stream, at least."""
NEAR_PX = 2
"""Distance within which a stream counts as found, in pixels."""
_STEPS = ((0, 1), (1, 0), (1, 1), (1, -1))
"""Half of the eight neighbours; the others are their opposites."""


def fill_depressions(heights: FloatArray) -> Float64Array:
    """Return heights with every depression filled to its outlet (y, x); NaN where missing."""
    return _flood(heights)[0]


def find_streams(heights: FloatArray, *, least_px: int = STREAM_PX) -> BoolArray:
    """Return the pixels through which so many drain, (y, x); see :func:`drain`."""
    return drain(heights, least_px=least_px)[1]


def drain(heights: FloatArray, *, least_px: int = STREAM_PX) -> tuple[Float64Array, BoolArray]:
    """Return heights with every depression filled, and the pixels through which so many drain; each (y, x).

    Each pixel drains to its lowest neighbour by slope in units of pixels (D8: J. F. O'Callaghan, D. M. Mark: The
    extraction of drainage networks from digital elevation data. Computer Vision, Graphics, and Image Processing 28
    (1984), 323-344) on heights whose depressions are filled; on flats and filled ground it takes the way out.
    """
    filled, order, outlet = _flood(heights)
    towards = _find_descent(filled, outlet)
    count = np.ones(heights.size + 1).tolist()
    # a pixel drains to a lower one, or on level ground to one that was flooded before it
    levels = np.append(np.nan_to_num(filled.ravel(), nan=-np.inf), -np.inf)[order]
    for pixel in order[np.lexsort((-np.arange(order.size), -levels))].tolist():
        if pixel != heights.size:
            count[towards[pixel]] += count[pixel]
    drained = np.array(count[:-1]).reshape(heights.shape)
    return filled, np.asarray(np.isfinite(heights) & (drained >= least_px), bool)


def compare_streams(found: BoolArray, true: BoolArray, *, near_px: float = NEAR_PX) -> Float64Array:
    """Return pixels of found streams, those of them near a true one, true streams, and those near a found one: (4,)."""
    hits = [
        (one & (ndimage.distance_transform_edt(~other) <= near_px)).sum() if other.any() else 0
        for one, other in ((found, true), (true, found))
    ]
    return np.array([found.sum(), hits[0], true.sum(), hits[1]], np.float64)


def _flood(heights: FloatArray) -> tuple[Float64Array, IntArray, list[int]]:
    """Flood heights from their edges and gaps.

    Returns:
        Filled heights (y, x); all known pixels in an order in which each comes after the one that it was flooded from,
        the outside (index y * x) first; and for each pixel the one that it was flooded from.
    """
    known = np.isfinite(heights)
    number = heights.size
    z = np.where(known, heights, -np.inf).ravel().astype(np.float64)
    rank = np.append(np.unique(z, return_inverse=True)[1] + 2.0, 1.0)  # weights of 0 would be no edges
    ends = _list_neighbours(known)
    weights = np.maximum(rank[ends[0]], rank[ends[1]])
    graph = coo_array((weights, ends), shape=(number + 1, number + 1)).tocsr()
    order, before = breadth_first_order(minimum_spanning_tree(graph), number, directed=False)
    before = np.where(before < 0, number, before)  # the outside itself, and gaps
    level, ancestor = np.append(z, -np.inf), before
    while (ancestor != number).any():  # each turn looks twice as far towards the outside
        level, ancestor = np.maximum(level, level[ancestor]), ancestor[ancestor]
    filled = np.where(known, level[:-1].reshape(heights.shape), np.nan)
    return filled, order.astype(np.int64), before.tolist()


def _list_neighbours(known: BoolArray) -> tuple[IntArray, IntArray]:
    """Return the pairs of known neighbours, and of known pixels with the outside where they border on it or a gap."""
    index = np.arange(known.size).reshape(known.shape)
    one: list[IntArray] = []
    other: list[IntArray] = []
    for down, right in _STEPS:
        rows, cols = known.shape[0] - down, known.shape[1]
        left = slice(0, cols - right) if right >= 0 else slice(-right, cols)
        moved = slice(right, cols) if right >= 0 else slice(0, cols + right)
        a, b = index[:rows, left], index[down:, moved]
        both = known[:rows, left] & known[down:, moved]
        one.append(a[both])
        other.append(b[both])
    inner = ndimage.minimum_filter(known, 3, mode="constant", cval=False)
    rim = index[known & ~np.asarray(inner, bool)]
    one.append(rim)
    other.append(np.full(rim.size, known.size))
    return np.concatenate(one), np.concatenate(other)


def _find_descent(filled: Float64Array, outlet: list[int]) -> list[int]:
    """Return for each pixel the one that it drains to: the steepest descent, or else the way out."""
    rows, cols = filled.shape
    padded = np.pad(filled, 1, constant_values=np.nan)
    steepest = np.zeros(filled.shape)
    towards = np.array(outlet[:-1]).reshape(filled.shape)
    index = np.arange(filled.size).reshape(filled.shape)
    for down, right in (*_STEPS, *((-d, -r) for d, r in _STEPS)):
        fall = (filled - padded[1 + down : 1 + down + rows, 1 + right : 1 + right + cols]) / np.hypot(down, right)
        better = fall > steepest  # never for NaN
        steepest = np.where(better, fall, steepest)
        towards = np.where(better, index + down * cols + right, towards)
    return [*towards.ravel().tolist(), outlet[-1]]
