"""Reduction of 2 x 2 pixels to one, for each kind of array, with respect for what is missing.

- ``mean``: of the valid pixels of the four; missing where none is. Stored numbers are an affine image of values, so the
  rounded mean of the one is the stored mean of the other, without a way through floats. The standard deviation is
  reduced so too: errors of pixels inside one source pixel are fully correlated, since they come from that pixel, and
  the error of a mean is then the mean of the errors. Where errors are less correlated it is an upper bound.
- ``decibels``: the same, of powers instead of their logarithms.
- ``count``: rounded mean over the pixels that were written, 0 where none was.
- ``first``: the first valid pixel, for what has no mean: the day between two is one that no pixel shows.
- ``flags``: bitwise or over the pixels that were written; not written only where none of the four was.

Halves are rounded to even numbers, as :meth:`mapper.store.encoding.Encoding.encode` does, so no level drifts upwards.
"""

from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from mapper.arrays import BoolArray

Rule = Literal["mean", "decibels", "count", "first", "flags"]

_Array = npt.NDArray[Any]


def average_valid(stored: _Array, *, fill: float) -> _Array:
    """Return the mean of the valid of 2 x 2 stored numbers.

    Args:
        stored: (2 rows, 2 cols) integers, or floats.
        fill: Marks what is missing; NaN in floats, whatever the fill, is missing too.

    Returns:
        (rows, cols) of the same dtype; the fill where all four are missing.
    """
    valid = ~np.isnan(stored) if np.issubdtype(stored.dtype, np.floating) else stored != fill
    return _average(stored, valid, fill)


def average_decibels(values: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Return the mean of the valid of 2 x 2 powers in dB: (2 rows, 2 cols) with NaN where missing to (rows, cols)."""
    with np.errstate(divide="ignore"):
        powers = average_valid(np.power(10.0, values.astype(np.float64) / 10.0), fill=np.nan)
        return np.asarray(10.0 * np.log10(powers), np.float32)


def average_written(stored: _Array, written: BoolArray, *, fill: float) -> _Array:
    """Return the rounded mean of 2 x 2 over the pixels that were written.

    Args:
        stored: (2 rows, 2 cols) integers.
        written: Of the same shape.
        fill: Result where none of the four was written.
    """
    return _average(stored, written, fill)


def pick_first(stored: _Array, *, fill: float) -> _Array:
    """Return the first valid of 2 x 2 stored integers, by row; the fill where all four are missing.

    Args:
        stored: (2 rows, 2 cols).
        fill: Marks what is missing.
    """
    first, *others = _corners(stored)
    picked = first.copy()
    for corner in others:
        np.copyto(picked, corner, where=picked == fill)
    return picked


def combine_flags(stored: _Array, *, fill: int) -> _Array:
    """Return the bitwise or of 2 x 2 over the pixels that were written, which are those that are not the fill.

    Args:
        stored: (2 rows, 2 cols) integers.
        fill: Marks pixels that were not written, and results without any that was.
    """
    shape = stored.shape[0] // 2, stored.shape[1] // 2
    bits, written = np.zeros(shape, stored.dtype), np.zeros(shape, bool)
    for corner in _corners(stored):
        here = corner != fill
        bits |= np.where(here, corner, stored.dtype.type(0))
        written |= here
    bits[~written] = fill
    return bits


def _average(stored: _Array, valid: BoolArray, fill: float) -> _Array:
    floating = np.issubdtype(stored.dtype, np.floating)
    shape = stored.shape[0] // 2, stored.shape[1] // 2
    # four stored numbers fit many times, and every mean of four is exact in float64
    total = np.zeros(shape, np.float64 if floating else np.int32 if stored.dtype.itemsize <= 2 else np.int64)
    count = np.zeros(shape, np.uint8)
    for corner, here in zip(_corners(stored), _corners(valid), strict=True):
        total += np.where(here, corner, stored.dtype.type(0))
        count += here
    mean = total / np.maximum(count, 1)
    if not floating:
        np.rint(mean, out=mean)
    mean[count == 0] = fill
    return mean.astype(stored.dtype)


def _corners(array: _Array) -> tuple[_Array, ...]:
    """Return the pixels of each 2 x 2 block, in one order, so that sums of floats are the same everywhere."""
    return tuple(array[row::2, col::2] for row in (0, 1) for col in (0, 1))
