"""Positions of the pixels of a geobox on the grid of a file, to a millionth of a pixel and alike in every window.

A projection is smooth: positions are computed at every 16th pixel corner of the *endless* target grid and interpolated
by cubics between them, which is ten times quicker than to project every pixel. Nodes of the endless grid, not of
the window, are what makes a position the same in every window. Where the interpolation is not exact to a millionth of
a source pixel (beside a seam of the source CRS), every pixel is projected.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import rasterio
from odc.geo.geobox import GeoBox
from pyproj import CRS, Transformer

from mapper.arrays import Float32Array, Float64Array

_SNAP_DECIMALS = 6
"""Decimals of positions in source pixels, so that ties fall alike in every window."""
_MARGIN = 2
"""Source pixels around the outermost centres, for the neighbours of a cubic kernel."""
_NODE_STEP = 16
"""Target pixels between two nodes."""
_BLOCK_ROWS = 32
"""Rows that are interpolated at a time, so that temporary arrays stay in the cache of a core."""


@dataclass(frozen=True, kw_only=True)
class SourceGrid:
    """Endless grid that the pixels of a file lie on."""

    crs: str
    """CRS as WKT."""
    step: tuple[float, float]
    """Pixel size along x and y, signed, in units of ``crs``."""
    phase: tuple[float, float]
    """Offset of the pixel corners along x and y, between 0 and the step."""

    @classmethod
    def of(cls, dataset: rasterio.DatasetReader) -> tuple["SourceGrid", tuple[int, int]]:
        """Return the grid of a file, and the row and column of its first pixel on that grid.

        Raises:
            OSError: If the file is not georeferenced along its rows and columns.
        """
        transform = dataset.transform
        if dataset.crs is None or transform.b or transform.d:
            raise OSError(f"{dataset.name} has no georeference along rows and columns")
        (col, x), (row, y) = _split(transform.c, transform.a), _split(transform.f, transform.e)
        return cls(crs=dataset.crs.to_wkt(), step=(transform.a, transform.e), phase=(x, y)), (row, col)


@dataclass(frozen=True, kw_only=True)
class PixelPositions:
    """Positions of the pixels of one geobox on a source grid."""

    top: int
    left: int
    shape: tuple[int, int]
    """First row and column, and size, of the window of source pixels that is needed."""
    corner: npt.NDArray[np.int32]
    """(y, x) flat index into the window of the upper left of the four source pixels around each target pixel."""
    weights: tuple[Float32Array, Float32Array] | None
    """(y, x) distance from ``corner`` along y and x, 0 to 1; None where the grids coincide."""
    outside: npt.NDArray[np.bool_] | None
    """(y, x) True where a pixel has no image in the source CRS; None where all have."""


def locate(geobox: GeoBox, grid: SourceGrid) -> PixelPositions:
    """Locate the pixels of a geobox on a source grid.

    Raises:
        ValueError: If no pixel has an image in the source CRS.
    """
    cols, rows = _centres(geobox, grid)
    np.round(cols, _SNAP_DECIMALS, out=cols)
    np.round(rows, _SNAP_DECIMALS, out=rows)
    outside = ~(np.isfinite(cols) & np.isfinite(rows))
    everywhere = not outside.any()
    if outside.all():
        raise ValueError(f"{geobox} has no image in {grid.crs}")
    if not everywhere:
        # any position will do, the mask goes over it
        cols[outside], rows[outside] = cols[~outside][0], rows[~outside][0]
    top, left = int(np.floor(rows.min())) - _MARGIN, int(np.floor(cols.min())) - _MARGIN
    height, width = int(np.floor(rows.max())) + _MARGIN + 1 - top, int(np.floor(cols.max())) + _MARGIN + 1 - left
    rows -= top + 0.5
    cols -= left + 0.5
    row, col = rows.astype(np.int32), cols.astype(np.int32)
    rows -= row
    cols -= col
    weights = rows.astype(np.float32), cols.astype(np.float32)
    row *= np.int32(width)
    row += col
    return PixelPositions(
        top=top,
        left=left,
        shape=(height, width),
        corner=row,
        weights=weights if weights[0].any() or weights[1].any() else None,
        outside=None if everywhere else outside,
    )


def _split(origin: float, step: float) -> tuple[int, float]:
    """Return the whole steps and the rest of an origin; rests that differ by rounding only become equal."""
    steps = origin / step
    whole = int(np.floor(steps + 10**-_SNAP_DECIMALS))
    return whole, float(round(steps - whole, _SNAP_DECIMALS) * step)


@dataclass(frozen=True, kw_only=True)
class _Axis:
    """Pixels along one axis of a geobox."""

    first: int
    """Number of the first pixel on the endless grid."""
    size: int
    step: float
    phase: float

    @classmethod
    def of(cls, origin: float, step: float, size: int) -> "_Axis":
        first, phase = _split(origin, step)
        return cls(first=first, size=size, step=step, phase=phase)

    @property
    def centres(self) -> Float64Array:
        """Return the coordinate of each pixel."""
        return (np.arange(self.first, self.first + self.size, dtype=np.float64) + 0.5) * self.step + self.phase

    @property
    def nodes(self) -> Float64Array:
        """Return the coordinate of each node that the pixels need."""
        first, last = self.first // _NODE_STEP - 1, (self.first + self.size - 1) // _NODE_STEP + 2
        return np.arange(first, last + 1, dtype=np.float64) * _NODE_STEP * self.step + self.phase

    @property
    def taps(self) -> tuple[npt.NDArray[np.intp], tuple[Float64Array, ...]]:
        """Return the first of the four nodes of each pixel, and the weights of the four (Lagrange)."""
        numbers = np.arange(self.first, self.first + self.size)
        u = (numbers % _NODE_STEP + 0.5) / _NODE_STEP
        weights = (
            -u * (u - 1) * (u - 2) / 6,
            (u + 1) * (u - 1) * (u - 2) / 2,
            -(u + 1) * u * (u - 2) / 2,
            (u + 1) * u * (u - 1) / 6,
        )
        return (numbers // _NODE_STEP - self.first // _NODE_STEP).astype(np.intp), weights


def _centres(geobox: GeoBox, grid: SourceGrid) -> tuple[Float64Array, Float64Array]:
    """Return column and row on a source grid of the centres of the pixels of a geobox; each (y, x)."""
    transform, (height, width) = geobox.transform, geobox.shape
    x, y = _Axis.of(transform.c, transform.a, width), _Axis.of(transform.f, transform.e, height)
    here, there = CRS.from_user_input(str(geobox.crs)), CRS.from_wkt(grid.crs)
    if here == there:
        return _on_grid(*np.meshgrid(x.centres, y.centres), grid)
    project = Transformer.from_crs(here, there, always_xy=True)
    nodes = _on_grid(*project.transform(*np.meshgrid(x.nodes, y.nodes)), grid)
    if np.isfinite(nodes).all():
        cols, rows = (_interpolate(positions, y, x) for positions in nodes)
        if _agree((cols, rows), project, (x, y), grid):
            return cols, rows
    return _on_grid(*project.transform(*np.meshgrid(x.centres, y.centres), inplace=True), grid)


def _agree(
    found: tuple[Float64Array, Float64Array], project: Transformer, axes: tuple[_Axis, _Axis], grid: SourceGrid
) -> bool:
    """Return True if interpolated positions are exact, along a line through all rows and columns."""
    x, y = axes
    longest = np.arange(max(x.size, y.size))
    rows, cols = longest % y.size, longest % x.size
    exact = _on_grid(*project.transform(x.centres[cols], y.centres[rows]), grid)
    return all(
        np.allclose(near[rows, cols], true, rtol=0, atol=10**-_SNAP_DECIMALS)
        for near, true in zip(found, exact, strict=True)
    )


def _on_grid(x: Float64Array, y: Float64Array, grid: SourceGrid) -> tuple[Float64Array, Float64Array]:
    """Convert coordinates in the CRS of a source grid to column and row on it."""
    return (x - grid.phase[0]) / grid.step[0], (y - grid.phase[1]) / grid.step[1]


def _interpolate(nodes: Float64Array, y: _Axis, x: _Axis) -> Float64Array:
    """Return values at all pixels from values at the nodes (y, x)."""
    (row, row_weights), (col, col_weights) = y.taps, x.taps
    values = np.empty((y.size, x.size))
    for first in range(0, y.size, _BLOCK_ROWS):
        block = slice(first, first + _BLOCK_ROWS)
        lines = np.zeros((len(row[block]), nodes.shape[1]))
        for k, weight in enumerate(row_weights):
            lines += nodes[row[block] + k] * weight[block, None]
        values[block] = 0
        for k, weight in enumerate(col_weights):
            values[block] += lines.take(col + k, axis=1) * weight
    return values
