"""The standard deviation of a sum over an area, of values whose errors are alike in places that are near.

A sum of values with weights w and standard deviations s has the variance sum_ij w_i s_i w_j s_j r(d_ij) (JCGM 100:2008,
"GUM", 5.2.2). Pixels inside one pixel of the source have one error, so they are added up first, w s into a cell; then

- fully correlated, r = 1, the upper bound: the sum of the cells;
- independent, r = 0 between pixels of the source, the lower bound: the root of the sum of squares;
- r = exp(-d / L): all pairs, by Fourier transforms over the lattice of cells.

Where cells are larger than pixels of the source, because the area is large, each is taken as m x m of these with equal
shares, and the mean of r over all their pairs stands for the cell; between cells that are not neighbours r is that of
their centres.
"""

import math
from dataclasses import dataclass, replace

import numpy as np
import scipy.fft

from mapper.arrays import Float64Array

_NEIGHBOURS = 2
"""Cells between which r is averaged over all pairs."""
_MOST_PARTS = 64
"""Parts of a cell along its edge, for that average."""


@dataclass(frozen=True, kw_only=True)
class SumSd:
    """Standard deviations of one sum, in its units."""

    independent: float
    """If only pixels of one source pixel share an error."""
    correlated: float | None
    """If errors correlate over the length that was given; None without one."""
    correlation_m: float | None
    """The length that was given, in metres."""
    fully_correlated: float
    """If all share one error."""

    def scale(self, factor: float) -> "SumSd":
        """Return the same in other units."""
        return replace(
            self,
            independent=self.independent * factor,
            correlated=None if self.correlated is None else self.correlated * factor,
            fully_correlated=self.fully_correlated * factor,
        )


def compute_sum_sd(cells: Float64Array, *, parts: int, step_m: tuple[float, float], length_m: float | None) -> SumSd:
    """Return the standard deviations of the sum of cells.

    Args:
        cells: (y, x) sums of weight times standard deviation.
        parts: Pixels of the source along the edge of a cell.
        step_m: Height and width of a cell in metres.
        length_m: Distance over which the correlation of errors falls to 1/e; None for the bounds alone.
    """
    full = float(cells.sum())
    independent = math.sqrt(float((cells**2).sum())) / parts
    if length_m is None:
        return SumSd(independent=independent, correlated=None, correlation_m=None, fully_correlated=full)
    variance = _sum_pairs(cells, _correlate(cells.shape, parts, step_m, length_m)) if length_m else independent**2
    correlated = min(max(math.sqrt(max(variance, 0.0)), independent), full)
    return SumSd(independent=independent, correlated=correlated, correlation_m=length_m, fully_correlated=full)


def _correlate(shape: tuple[int, ...], parts: int, step_m: tuple[float, float], length_m: float) -> Float64Array:
    """Return the correlation of cells by their distance in rows and columns, from 0 up."""
    rows, cols = (np.arange(size) for size in shape)
    centres: Float64Array = np.exp(-np.hypot(rows[:, None] * step_m[0], cols[None, :] * step_m[1]) / length_m)
    if parts > 1:
        parts = min(parts, _MOST_PARTS)
        lags = np.arange(1 - parts, parts)
        pairs = (parts - np.abs(lags)) / parts**2
        for row in rows[: _NEIGHBOURS + 1]:
            for col in cols[: _NEIGHBOURS + 1]:
                down, right = ((at + lags / parts) * step for at, step in zip((row, col), step_m, strict=True))
                near = np.exp(-np.hypot(down[:, None], right[None, :]) / length_m)
                centres[row, col] = pairs @ near @ pairs
    return centres


def _sum_pairs(cells: Float64Array, correlation: Float64Array) -> float:
    """Return the sum over all pairs of cells, times their correlation."""
    padded = tuple(scipy.fft.next_fast_len(2 * size - 1, real=True) for size in cells.shape)
    spectrum = scipy.fft.rfft2(cells, padded)
    products = scipy.fft.irfft2(spectrum.real**2 + spectrum.imag**2, padded)
    total = 0.0
    for row_lags, row_sign in ((slice(0, None), 1), (slice(1, None), -1)):
        for col_lags, col_sign in ((slice(0, None), 1), (slice(1, None), -1)):
            rows = row_sign * np.arange(cells.shape[0])[row_lags]
            cols = col_sign * np.arange(cells.shape[1])[col_lags]
            total += float((products[np.ix_(rows, cols)] * correlation[row_lags, col_lags]).sum())
    return total
