"""Labels at the resolution that they really have.

A label drawn on finer pixels by nearest neighbour repeats whole rows and columns. Scored as it is drawn, its large
cells count by how often they happen to be shown, and a map is asked for steps that nobody measured. Here the label
goes back to its own cells. The map's value of a cell is the mean of its pixels that show the cell: for pixels of 10 m
and cells of 16 m one, two or four of them, so that the supports agree only roughly, a sharp map is not smoothed beyond
that, and no label pixel counts twice.
"""

from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from mapper.arrays import Float64Array, FloatArray, IntArray

CELL_PX = Fraction(8, 5)
"""Edge of a BioMassters label's cell in pixels: 16 m drawn at 10 m."""


@dataclass(frozen=True, kw_only=True, eq=False)
class NativeGrid:
    """Cells that the rows and columns of a label show."""

    rows: IntArray
    """(y,) number of the cell that a row shows, from 0, rising by 0 or 1."""
    cols: IntArray
    """(x,) number of the cell that a column shows."""

    @property
    def shape(self) -> tuple[int, int]:
        """Number of cells, (y, x)."""
        return int(self.rows[-1]) + 1, int(self.cols[-1]) + 1

    def average(self, array: FloatArray) -> Float64Array:
        """Return the mean over the pixels of each cell; float64, NaN where one of them is missing.

        Raises:
            ValueError: If the array does not have the label's shape.
        """
        if array.shape != (self.rows.size, self.cols.size):
            raise ValueError(f"array has shape {array.shape}, the label ({self.rows.size}, {self.cols.size})")
        tops, lefts = (np.flatnonzero(np.diff(index, prepend=-1)) for index in (self.rows, self.cols))
        sums = np.add.reduceat(np.add.reduceat(array.astype(np.float64), tops, axis=0), lefts, axis=1)
        counts = np.diff(tops, append=self.rows.size)[:, None] * np.diff(lefts, append=self.cols.size)[None, :]
        means: Float64Array = sums / counts
        return means


def find_cells(label: FloatArray, *, cell_px: Fraction = CELL_PX) -> NativeGrid:
    """Find the cells of a label that was drawn by nearest neighbour.

    Cells are regular, so only their phase is unknown. The phase is the one for which all pixels of every cell are
    equal; of several (a label that hardly varies) the first, as the label is then the same on each. Missing pixels
    agree with everything.

    Args:
        label: (y, x).
        cell_px: Edge of a cell in pixels, above 1.

    Raises:
        ValueError: If no phase fits: the label was not drawn so, or was resampled since.
    """
    rows, cols = (_find_phase(label if axis == 0 else label.T, cell_px) for axis in (0, 1))
    if rows is None or cols is None:
        raise ValueError(
            f"the {' and '.join(name for name, found in (('rows', rows), ('columns', cols)) if found is None)} of a "
            f"label of {label.shape} do not repeat like cells of {float(cell_px):g} pixels"
        )
    return NativeGrid(rows=rows, cols=cols)


def drop_repeats(
    value: FloatArray, truth: FloatArray, *, cell_px: Fraction = CELL_PX
) -> tuple[Float64Array, Float64Array]:
    """Bring a map and its label to the label's own cells, found in the label.

    Args:
        value: (y, x).
        truth: (y, x), drawn by nearest neighbour from larger cells.
        cell_px: Edge of a cell in pixels.

    Returns:
        Map and label by cell; NaN where a pixel of the cell is missing.

    Raises:
        ValueError: If the shapes differ, or the label was not drawn so.
    """
    cells = find_cells(truth, cell_px=cell_px)
    return cells.average(value), cells.average(truth)


def _find_phase(label: FloatArray, cell_px: Fraction) -> IntArray | None:
    """Return the cell of each row for the first phase whose cells are uniform along the rows; None without one."""
    equal = ((label[1:] == label[:-1]) | ~np.isfinite(label[1:] - label[:-1])).all(axis=1)
    for phase in range(cell_px.numerator):
        cell = (np.arange(len(label)) * cell_px.denominator + phase) // cell_px.numerator
        if equal[np.diff(cell) == 0].all():
            return np.asarray(cell - cell[:1], np.int64)
    return None
