"""Outlines of the objects of a mask, part by part: the same polygons however a map is cut into parts.

Objects are components under 4 neighbours: pixels that touch at a corner alone are of two objects. Outlines run along
the edges of pixels, in pixel coordinates that are whole numbers, so that what lies across the edge of two parts is put
together exactly. All outlines are held in memory, about a kilobyte each, the pixels of one part at a time.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import cast

import numpy as np
import numpy.typing as npt
import shapely
from affine import Affine
from rasterio.features import shapes
from scipy import ndimage
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from shapely.geometry.polygon import orient

from mapper.arrays import BoolArray, FloatArray, IntArray
from mapper.grid import Window


@dataclass(frozen=True, kw_only=True)
class TracedObject:
    """One object of a mask."""

    outline: shapely.Polygon
    """Edges of its pixels: x is a column, y a row, from the upper left of the map; holes included."""
    pixels: int
    mean: float
    """Mean of the values of its pixels."""


@dataclass(frozen=True, kw_only=True)
class _Piece:
    """Part of an object that lies in one part of a map."""

    outline: shapely.Polygon
    pixels: int
    total: float
    first: tuple[int, int]
    """Row and column of its first pixel, row by row."""


@dataclass(kw_only=True)
class Tracer:
    """Objects of the parts of a map, added row by row of parts and from left to right."""

    _pieces: list[_Piece] = field(default_factory=list)
    _joints: list[tuple[int, int]] = field(default_factory=list)
    """Pairs of pieces, by index, that share an edge of a pixel across the edge of two parts."""
    _above: dict[tuple[int, int], IntArray] = field(default_factory=dict)
    """Numbers of pieces in the last row of a part, 0 without, by the row below it and its first column."""
    _before: dict[tuple[int, int], IntArray] = field(default_factory=dict)
    """The same in the last column, by its first row and the column to its right."""

    def add(self, window: Window, values: FloatArray, mask: BoolArray) -> None:
        """Add a part.

        Args:
            window: Of the part, in pixels of the map.
            values: (y, x), finite where the mask is True.
            mask: True where an object is, (y, x).
        """
        found, number = ndimage.label(mask)  # 4 neighbours is its default
        labels = np.asarray(found, np.int32)
        start = len(self._pieces)
        self._pieces += _trace(labels, int(number), values, window)
        numbers = np.where(labels > 0, labels + start, 0).astype(np.int64)
        corner = (window.top, window.left)
        for before, edge in (
            (self._above.pop(corner, None), numbers[0]),
            (self._before.pop(corner, None), numbers[:, 0]),
        ):
            if before is not None:
                touching = (before > 0) & (edge > 0)
                self._joints += {*zip((before[touching] - 1).tolist(), (edge[touching] - 1).tolist(), strict=True)}
        self._above[window.bottom, window.left] = numbers[-1]
        self._before[window.top, window.right] = numbers[:, -1]

    def finish(self) -> list[TracedObject]:
        """Return all objects, in the order of their first pixels, row by row."""
        groups: dict[int, list[_Piece]] = {}
        for piece, group in zip(self._pieces, self._group(), strict=True):
            groups.setdefault(group, []).append(piece)
        ordered = sorted(groups.values(), key=lambda pieces: min(piece.first for piece in pieces))
        return [_join(pieces) for pieces in ordered]

    def _group(self) -> list[int]:
        """Return for each piece the number of its object."""
        size = len(self._pieces)
        if not size:
            return []
        ends = np.array(self._joints, np.int64).reshape(-1, 2).T
        graph = coo_array((np.ones(ends.shape[1]), (ends[0], ends[1])), shape=(size, size))
        groups: list[int] = connected_components(graph, directed=False)[1].tolist()
        return groups


def trace_objects(mask: BoolArray) -> list[TracedObject]:
    """Return the objects of a mask that fits in memory, (y, x)."""
    tracer = Tracer()
    tracer.add(Window(top=0, left=0, bottom=mask.shape[0], right=mask.shape[1]), mask.astype(np.float32), mask)
    return tracer.finish()


def _trace(labels: npt.NDArray[np.int32], number: int, values: FloatArray, window: Window) -> Iterator[_Piece]:
    """Yield the objects of a part in the order of their labels."""
    outlines: list[shapely.Polygon] = [shapely.Polygon()] * number
    place = Affine.translation(window.left, window.top)
    for shape, label in shapes(labels, mask=labels > 0, connectivity=4, transform=place):
        outlines[int(label) - 1] = shapely.Polygon(shape["coordinates"][0], shape["coordinates"][1:])
    flat = labels.ravel()
    pixels = np.bincount(flat, minlength=number + 1)
    totals = np.bincount(flat, np.where(flat > 0, values.ravel(), 0.0).astype(np.float64), minlength=number + 1)
    firsts = np.unique(np.append(flat, np.arange(number + 1)), return_index=True)[1]
    for label in range(1, number + 1):
        row, col = divmod(int(firsts[label]), labels.shape[1])
        yield _Piece(
            outline=outlines[label - 1],
            pixels=int(pixels[label]),
            total=float(totals[label]),
            first=(row + window.top, col + window.left),
        )


def _join(pieces: list[_Piece]) -> TracedObject:
    outline = pieces[0].outline
    if len(pieces) > 1:  # pieces that share edges are one polygon
        outline = cast(shapely.Polygon, shapely.union_all([piece.outline for piece in pieces]))
    pixels = sum(piece.pixels for piece in pieces)
    return TracedObject(outline=_tidy(outline), pixels=pixels, mean=sum(piece.total for piece in pieces) / pixels)


def _tidy(outline: shapely.Polygon) -> shapely.Polygon:
    """Return an outline that has a corner wherever it turns, and no other, in one order: exterior counterclockwise."""
    rings = [_drop_straight(np.asarray(ring.coords)) for ring in (outline.exterior, *outline.interiors)]
    return orient(shapely.normalize(shapely.Polygon(rings[0], rings[1:])))


def _drop_straight(ring: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return the corners of a closed ring along pixel edges, not closed."""
    here = ring[:-1]
    step, last = np.roll(here, -1, 0) - here, here - np.roll(here, 1, 0)
    corners: npt.NDArray[np.float64] = here[step[:, 0] * last[:, 1] != step[:, 1] * last[:, 0]]
    return corners
