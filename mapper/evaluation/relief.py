"""The shape of the ground: pixels in metres, slopes, pits, and steps across edges."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from mapper.arrays import BoolArray, ByteArray, Float32Array, Float64Array, FloatArray, IntArray

COVER = ("bare", "building", "tree", "water")
"""Land cover by code."""
UNKNOWN_COVER = 255
"""Code of a pixel whose land cover is not known."""
_NEIGHBOURS = np.array([[1, 1, 1], [1, 0, 1], [1, 1, 1]], bool)


@dataclass(frozen=True, kw_only=True, eq=False)
class Ground:
    """The lie of a block of pixels, and what stands on them: all that scores of heights need beside the heights."""

    dy_m: Float64Array
    """(y,) height of the pixels of each row, in metres."""
    dx_m: Float64Array
    """(y,) width of the pixels of each row, in metres."""
    heights: Float32Array | None = None
    """(y, x) true heights also where they are too uncertain to be scored, so that water can flow on; None takes the
    truth."""
    cover: ByteArray | None = None
    """(y, x) index in :data:`COVER`, or :data:`UNKNOWN_COVER`; None where nothing is known."""
    edges: tuple[IntArray, IntArray] = (np.empty(0, np.int64), np.empty(0, np.int64))
    """Rows and columns before which a tile ends, for the seam ratio."""
    period_px: int = 1
    """Pixels after which what an interpolation does comes again: source pixel / target pixel."""


def find_slope(heights: FloatArray, dy_m: Float64Array, dx_m: Float64Array) -> Float64Array:
    """Return slopes in degrees from the 3 x 3 neighbours of each pixel (y, x); NaN where one of the nine is missing.

    B. K. P. Horn: Hill shading and the reflectance map. Proceedings of the IEEE 69 (1981), 14-47; as in ``gdaldem``.

    Args:
        heights: (y, x) in metres, NaN where missing.
        dy_m: (y,) height of the pixels of each row, in metres.
        dx_m: (y,) their width.
    """
    south, east = find_gradient(heights, dy_m, dx_m)
    return np.degrees(np.arctan(np.hypot(south, east)))


def find_gradient(heights: FloatArray, dy_m: Float64Array, dx_m: Float64Array) -> tuple[Float64Array, Float64Array]:
    """Return Horn's rise per metre to the south (down the rows) and to the east; see :func:`find_slope`."""
    z = np.pad(heights.astype(np.float64), 1, constant_values=np.nan)
    down, right = z[2:] - z[:-2], z[:, 2:] - z[:, :-2]
    south = (down[:, :-2] + 2 * down[:, 1:-1] + down[:, 2:]) / (8 * dy_m[:, None])
    east = (right[:-2] + 2 * right[1:-1] + right[2:]) / (8 * dx_m[:, None])
    missing = ~np.isfinite(heights)  # the kernels do not see the middle
    south[missing], east[missing] = np.nan, np.nan
    return south, east


def find_pits(heights: FloatArray) -> tuple[BoolArray, BoolArray]:
    """Return pixels lower than all eight neighbours, and pixels that have eight; each (y, x)."""
    known = np.isfinite(heights)
    whole = ndimage.minimum_filter(known, 3, mode="constant", cval=False)
    lowest = ndimage.minimum_filter(np.where(known, heights, np.inf), footprint=_NEIGHBOURS, mode="nearest")
    return whole & (heights < lowest), np.asarray(whole, bool)


def sum_steps(heights: FloatArray, edges: Sequence[IntArray], *, period_px: int = 1) -> Float64Array:
    """Return number and sum of the squared second differences across edges, then of others like them: (4,).

    Their ratio of roots of means is the seam ratio: 1 where heights bend across the edges of tiles as elsewhere. Second
    differences are taken along both axes, on three pixels in a row; one whose pixels lie on both sides of an edge is
    across it. Interpolations bend otherwise in the middle of a source pixel than at its edges: only those are
    others that lie in a source pixel as those across an edge do.

    Args:
        heights: (y, x), NaN where missing.
        edges: Rows, and columns, before which a tile ends.
        period_px: Source pixel / target pixel; 1 takes all others.
    """
    sums = np.zeros(4)
    for values, borders in zip((heights, heights.T), edges, strict=True):
        if len(values) < 3:
            continue
        bend = np.square(np.diff(values.astype(np.float64), n=2, axis=0))
        middle, both = np.arange(1, len(values) - 1), np.concatenate([borders, np.asarray(borders) - 1])
        across = np.isin(middle, both)
        alike = np.isin(middle % period_px, both % period_px) & ~across
        for at, where in ((0, across), (2, alike)):
            known = bend[where][np.isfinite(bend[where])]
            sums[at : at + 2] += known.size, known.sum()
    return sums
