"""Randomness as a pure function of seed and location: smooth noise, cells, and draws for each cell.

Nothing here knows the window it is asked for: two windows that overlap get the same values where they do. Positions
are metres of a projected CRS; random numbers come from hashing the integer nodes of a grid, never from a stream.
"""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import sparse

from mapper.arrays import Float32Array
from mapper.noise import derive_key, node_uniform

_SPLINE_SD = math.sqrt((151 / 315) ** 2 / 12)
"""Standard deviation of a bicubic B-spline whose coefficients are uniform on [0, 1)."""


@dataclass(frozen=True, kw_only=True)
class Raster:
    """Pixel centres of a regular window, in metres."""

    east: npt.NDArray[np.float64]
    """(x) eastings, ascending."""
    north: npt.NDArray[np.float64]
    """(y) northings, descending."""

    @property
    def shape(self) -> tuple[int, int]:
        """Return the numbers of rows and columns."""
        return self.north.size, self.east.size


@dataclass(frozen=True, kw_only=True)
class Cells:
    """Jittered Voronoi cells of the plane."""

    index: npt.NDArray[np.int64]
    """(y, x) flat index of the cell among those of the window."""
    border: Float32Array
    """(y, x) metres to the nearest border of the cell."""
    key: int
    rows: npt.NDArray[np.int64]
    cols: npt.NDArray[np.int64]

    def draw(self, name: str) -> Float32Array:
        """Draw one random number on [0, 1) for each cell; dims (y, x)."""
        return node_uniform(derive_key(self.key, name), self.rows, self.cols).ravel()[self.index]


def smooth_noise(key: int, at: Raster, grain_m: float) -> Float32Array:
    """Return noise of mean 0 and standard deviation 1, smooth over about ``grain_m``; dims (y, x)."""
    shift = node_uniform(key, np.array([0]), np.array([0, 1]))[0]
    rows, row_weights = _spline(at.north / grain_m + float(shift[0]))
    cols, col_weights = _spline(at.east / grain_m + float(shift[1]))
    nodes = (node_uniform(key, rows, cols) - np.float32(0.5)) / np.float32(_SPLINE_SD)
    return np.ascontiguousarray((col_weights @ (row_weights @ nodes).T).T)


def fractal_noise(key: int, at: Raster, grain_m: float, *, octaves: int, gain: float = 0.5) -> Float32Array:
    """Add octaves of :func:`smooth_noise`, each half the grain, ``gain`` times the amplitude; sd 1; dims (y, x)."""
    total = np.zeros(at.shape, np.float32)
    for octave in range(octaves):
        total += np.float32(gain**octave) * smooth_noise(derive_key(key, octave), at, grain_m / 2**octave)
    return total / np.float32(math.sqrt(sum(gain ** (2 * octave) for octave in range(octaves))))


def cut_cells(key: int, at: Raster, size_m: float, *, warp_m: float, warp_grain_m: float) -> Cells:
    """Cut the plane into cells of about ``size_m`` whose borders wander by ``warp_m``."""
    warp_east = np.float32(warp_m) * smooth_noise(derive_key(key, "east"), at, warp_grain_m)
    warp_north = np.float32(warp_m) * smooth_noise(derive_key(key, "north"), at, warp_grain_m)
    across = (at.east[None, :] + warp_east) / size_m
    along = (at.north[:, None] + warp_north) / size_m
    col, row = np.floor(across).astype(np.int64), np.floor(along).astype(np.int64)
    rows = np.arange(row.min() - 1, row.max() + 2)
    cols = np.arange(col.min() - 1, col.max() + 2)
    index, nearest, second = _nearest_two(
        key, rows=rows, cols=cols, home=(row - rows[0]) * cols.size + col - cols[0],
        across=(across - col).astype(np.float32), along=(along - row).astype(np.float32),
    )  # fmt: skip
    border = (np.sqrt(second) - np.sqrt(nearest)) * np.float32(size_m / 2)
    return Cells(index=index, border=border, key=key, rows=rows, cols=cols)


def _nearest_two(
    key: int,
    *,
    rows: npt.NDArray[np.int64],
    cols: npt.NDArray[np.int64],
    home: npt.NDArray[np.int64],
    across: Float32Array,
    along: Float32Array,
) -> tuple[npt.NDArray[np.int64], Float32Array, Float32Array]:
    """Return the index of the nearest cell centre, and squared distances to the nearest two, among 3 x 3 cells."""
    centre_x = np.float32(0.1) + np.float32(0.8) * node_uniform(derive_key(key, "x"), rows, cols).ravel()
    centre_y = np.float32(0.1) + np.float32(0.8) * node_uniform(derive_key(key, "y"), rows, cols).ravel()
    nearest = np.full(home.shape, np.inf, np.float32)
    second = nearest.copy()
    index = home.copy()
    for row in (-1, 0, 1):
        for col in (-1, 0, 1):
            here = home + (row * cols.size + col)
            distance = np.square(across - (centre_x[here] + np.float32(col)))
            distance += np.square(along - (centre_y[here] + np.float32(row)))
            np.minimum(second, np.maximum(nearest, distance), out=second)
            closer = distance < nearest
            np.copyto(index, here, where=closer)
            np.copyto(nearest, distance, where=closer)
    return index, nearest, second


def _spline(position: npt.NDArray[np.float64]) -> tuple[npt.NDArray[np.int64], sparse.csr_array]:
    """Return integer nodes that positions need, and the cubic B-spline weights (position, node)."""
    floor = np.floor(position).astype(np.int64)
    t = (position - floor).astype(np.float32)
    weights = np.stack([(1 - t) ** 3, 3 * t**3 - 6 * t**2 + 4, -3 * t**3 + 3 * t**2 + 3 * t + 1, t**3], axis=1) / 6
    nodes = np.arange(floor.min() - 1, floor.max() + 3)
    columns = floor[:, None] - nodes[0] + np.arange(-1, 3)
    pointers = np.arange(0, 4 * position.size + 1, 4)
    matrix = sparse.csr_array((weights.astype(np.float32).ravel(), columns.ravel(), pointers), (t.size, nodes.size))
    return nodes, matrix
