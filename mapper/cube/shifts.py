"""Shifts between the dates of a stack and the image that it shows, on a lattice of cells that no window moves.

Cells count from the origin of the source pixels: the cell of a pixel is its absolute row and column divided by the
edge of a cell. Each cell is registered by its own pixels alone; between the centres of cells shifts are interpolated.
So a pixel hangs on its own cell and the eight around it, however a window was cut, if only that holds these whole.

In a cell, both images are low-passed, since what is aliased does not move with the ground. Whole pixels are searched
by masked correlation; then a few Gauss-Newton steps fit shift, and gain and offset of each band, to the pixels that
are clear in both, and weigh down those that changed. A cell with too few clear pixels, without texture, or whose
images do not resemble each other has shift 0 and trust 0.
"""

import math
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.ndimage import gaussian_filter1d

from mapper.arrays import BoolArray, Float32Array, Float64Array, IntArray

AnyArray = npt.NDArray[Any]

CELL = 64
"""Edge of a cell in source pixels."""
FARTHEST = 3
"""Longest shift along an axis that is looked for, in source pixels."""
_LOW_PASS = 1.2
"""Standard deviation of the low pass, in source pixels."""
_REACH = 4
"""Radius of the low pass, in source pixels."""
_MARGIN = FARTHEST + 3
"""Pixels along the edge of a cell whose surroundings do not all lie inside: a shift, a cubic and a slope away."""
_STEPS = 8
_SMALL_STEP = 5e-4
"""Step in source pixels after which none follows."""
_CLEAR = 0.97
"""Share of the low pass that must have been clear."""
_LEAST_SHARE = 0.15
"""Part of a cell that must be clear on both dates."""
_LEAST_LIKENESS = 0.3
_OUTLYING = 6.0
"""Mean square of a residual, in units of the noise, at which its weight is a quarter."""
_TRUSTED_PX = 0.05
"""Standard error at which trust is a half."""
_TINY = 1e-12


@dataclass(frozen=True, kw_only=True)
class Shifts:
    """Shifts of the dates of a window: what the anchor shows at p, a date shows at p + shift."""

    shift: Float32Array
    """(date, 2, y, x) source pixels down and to the right; 0 where nothing is known."""
    cells: Float64Array
    """(date, 2, row, col) shift of each cell that the window touches."""
    error: Float64Array
    """(date, row, col) standard error along an axis that its residuals lead one to expect, in source pixels; NaN where
    there is no shift."""
    likeness: Float64Array
    """(date, row, col) correlation of date and anchor once they are registered; NaN where there is no shift."""
    trust: Float64Array
    """(date, row, col) from 0, no shift, to 1, an error of nothing."""
    certainty: Float32Array
    """(date, y, x) trust, bilinear between the centres of cells as shifts are."""
    pixels: IntArray
    """(date, row, col) pixels of each cell that are clear on the date and on the anchor."""

    @property
    def mean(self) -> Float64Array:
        """(date, 2) shift of each date, the mean of its cells by trust; NaN where no cell has one."""
        total = self.trust.sum((1, 2))
        with np.errstate(invalid="ignore"):
            mean: Float64Array = (self.cells * self.trust[:, None]).sum((2, 3)) / total[:, None]
        return mean

    @property
    def mean_trust(self) -> Float64Array:
        """(date,) trust of the cells of each date, each counted by its clear pixels; 0 where there is none."""
        total = self.pixels.sum((1, 2))
        found: Float64Array = (self.trust * self.pixels).sum((1, 2)) / np.maximum(total, 1)
        return found


def estimate_shifts(
    values: Float32Array,
    clear: BoolArray,
    anchor: Float32Array,
    *,
    row: int,
    col: int,
    cell: int = CELL,
) -> Shifts:
    """Estimate the shift of each date against the anchor; returns shifts by pixel, and what is known of each cell.

    Shifts of pixels are bilinear between the centres of cells, which weigh by their trust.

    Args:
        values: (date, band, y, x), NaN where missing.
        clear: (date, y, x) True where a date may be looked at.
        anchor: (band, y, x), NaN where missing.
        row: Row of the upper-left pixel, counted from the origin of the source pixels; may be negative.
        col: Its column.
        cell: Edge of a cell in source pixels.

    Raises:
        ValueError: If the shapes do not fit, or a cell is too small to register anything.
    """
    if values[:, 0].shape != clear.shape or values.shape[1:] != anchor.shape:
        raise ValueError(f"dates {values.shape}, masks {clear.shape} and anchor {anchor.shape} do not fit together")
    if cell < 4 * _MARGIN:
        raise ValueError(
            f"a cell of {cell} source pixels is too small to be registered, expected {4 * _MARGIN} or more"
        )
    tops, lefts = _edges_of(row, values.shape[-2], cell), _edges_of(col, values.shape[-1], cell)
    cells = np.zeros((len(values), 2, len(tops), len(lefts)))
    error, likeness = (np.full((len(values), len(tops), len(lefts)), np.nan) for _ in range(2))
    pixels: IntArray = np.zeros(error.shape, np.int64)
    shown = np.isfinite(anchor).all(axis=0)
    sound: BoolArray = clear & shown & np.isfinite(values).all(axis=1)
    for r, top in enumerate(tops):
        for c, left in enumerate(lefts):
            cut = partial(_cut, top=top - row, left=left - col, cell=cell)
            pixels[:, r, c] = cut(sound).sum((1, 2))
            found = _register(cut(values), cut(clear), cut(anchor))
            cells[:, :, r, c], error[:, r, c], likeness[:, r, c] = found
    trust = np.where(np.isfinite(error), 1 / (1 + np.square(np.nan_to_num(error) / _TRUSTED_PX)), 0.0)
    shift, certainty = _interpolate(cells, trust, (row - tops[0], col - lefts[0]), values.shape[-2:], cell)
    return Shifts(
        shift=shift, cells=cells, error=error, likeness=likeness, trust=trust, certainty=certainty, pixels=pixels
    )


def _edges_of(first: int, number: int, cell: int) -> list[int]:
    """Return the first pixel of each cell that pixels touch."""
    return [at * cell for at in range(first // cell, (first + number - 1) // cell + 1)]


def _cut(array: AnyArray, top: int, left: int, cell: int) -> AnyArray:
    """Return one cell of (..., y, x); outside of the array nothing is known."""
    part = np.full((*array.shape[:-2], cell, cell), False if array.dtype == bool else np.nan, array.dtype)
    rows, cols = (slice(max(at, 0), max(at + cell, 0)) for at in (top, left))
    inside = array[..., rows, cols]
    below, right = max(-top, 0), max(-left, 0)
    part[..., below : below + inside.shape[-2], right : right + inside.shape[-1]] = inside
    return part


def _register(
    values: Float32Array, clear: BoolArray, anchor: Float32Array
) -> tuple[Float64Array, Float64Array, Float64Array]:
    """Return shift (date, 2), standard error (date,) and likeness (date,) of one cell; NaN errors where there is none.

    Each date is looked at alone: a sum over several would be rounded as their number has it.
    """
    shift, error, likeness = np.zeros((len(values), 2)), np.full(len(values), np.nan), np.full(len(values), np.nan)
    shown = _low_pass(anchor, np.asarray(np.isfinite(anchor).all(axis=0), bool))
    if shown is None:
        return shift, error, likeness
    sound: BoolArray = np.logical_and(clear, np.isfinite(values).all(axis=1))
    for number, (date, known) in enumerate(zip(values, sound, strict=True)):
        seen = _low_pass(date, known)
        pair = None if seen is None else _Pair(shown=shown, seen=seen)
        start = None if pair is None else pair.search()
        found = None if pair is None or start is None else pair.refine(start)
        if found is not None:
            shift[number], error[number], likeness[number] = found
    return shift, error, likeness


@dataclass(frozen=True, kw_only=True)
class _Smooth:
    """A low-passed image (band, y, x), and where it is known (y, x)."""

    image: Float64Array
    known: BoolArray


def _low_pass(image: Float32Array, known: BoolArray) -> _Smooth | None:
    """Return an image smoothed over what is known of it; None where too little is."""
    if known.mean() < _LEAST_SHARE:
        return None
    filled = np.where(known, image, 0).astype(np.float64)
    filled -= np.where(known, filled.sum((1, 2), keepdims=True) / known.sum(), 0)  # sums of squares keep their digits
    share = _smooth(known.astype(np.float64))
    return _Smooth(image=_smooth(filled) / np.maximum(share, _TINY), known=share >= _CLEAR)


def _smooth(image: Float64Array) -> Float64Array:
    smooth: Float64Array = image
    for axis in (-2, -1):
        smooth = gaussian_filter1d(smooth, _LOW_PASS, axis=axis, mode="constant", radius=_REACH)
    return smooth


@dataclass(frozen=True, kw_only=True)
class _Pair:
    """A cell of the anchor and of one date, both low-passed; compared without a margin along the edge of the cell."""

    shown: _Smooth
    seen: _Smooth

    def search(self) -> Float64Array | None:
        """Return the whole shift of the highest correlation of every other pixel, (2,); None where nothing is alike."""
        best, found = _LEAST_LIKENESS, None
        shown, clear = self._shown_inside[:, ::2, ::2], self._known_inside[::2, ::2]
        for down in range(-FARTHEST, FARTHEST + 1):
            for right in range(-FARTHEST, FARTHEST + 1):
                rows, cols = (slice(_MARGIN + at, at - _MARGIN, 2) for at in (down, right))
                both = (clear & self.seen.known[rows, cols]).astype(np.float64)
                likeness = _correlate(shown, self.seen.image[:, rows, cols], both)
                if likeness > best:
                    best, found = likeness, np.array([down, right], np.float64)
        return found

    def refine(self, shift: Float64Array) -> tuple[Float64Array, float, float] | None:
        """Return shift (2,), standard error and likeness from Gauss-Newton steps; None where they lead nowhere."""
        shown, changed = self._shown_inside, np.zeros(self._known_inside.shape)
        for _ in range(_STEPS):
            wide, known = self._sample(shift)
            both = known & self._known_inside
            if both.sum() < _LEAST_SHARE * both.size:
                return None
            rest = _regress(wide[:, 1:-1, 1:-1], shown, both / np.square(1 + changed))
            noise = _spread(rest, both) + _TINY * np.abs(wide).max((1, 2))
            changed = np.square(rest / np.maximum(noise, _TINY**2)[:, None, None]).mean(0) / _OUTLYING
            weight = both / np.square(1 + changed)
            normal, pull = _find_normal(wide, shown, weight, noise)
            if not np.linalg.det(normal) > _TINY * np.trace(normal) ** 2:
                return None
            step = np.clip(-np.linalg.solve(normal, pull), -1, 1)
            shift = shift + step
            if np.abs(shift).max() > FARTHEST:
                return None
            if np.abs(step).max() < _SMALL_STEP:
                break
        likeness = _correlate(shown, wide[:, 1:-1, 1:-1], weight)
        if likeness < _LEAST_LIKENESS:
            return None
        # smoothing makes neighbours alike: so many of their squares count as one
        error = math.sqrt(np.trace(np.linalg.inv(normal)) / 2 * 4 * math.pi) * _LOW_PASS + float(np.abs(step).max())
        return shift, error, likeness

    @property
    def _shown_inside(self) -> Float64Array:
        return self.shown.image[:, _MARGIN:-_MARGIN, _MARGIN:-_MARGIN]

    @property
    def _known_inside(self) -> BoolArray:
        return self.shown.known[_MARGIN:-_MARGIN, _MARGIN:-_MARGIN]

    def _sample(self, shift: Float64Array) -> tuple[Float64Array, BoolArray]:
        """Return the date at the anchor's pixels and one more all around, and where it is known without those."""
        whole = np.floor(shift).astype(int)
        image: Float64Array = self.seen.image
        for axis, (at, part) in enumerate(zip(whole.tolist(), (shift - whole).tolist(), strict=True), 1):
            number = image.shape[axis] - 2 * _MARGIN + 2
            taps = enumerate(_weigh_cubic(part), _MARGIN - 2 + at)
            image = sum(tap * image.take(range(first, first + number), axis) for first, tap in taps)  # type: ignore[assignment]
        known = self.seen.known
        for axis, at in enumerate(whole.tolist()):
            ends = [slice(_MARGIN + at + more, known.shape[axis] - _MARGIN + at + more) for more in (0, 1)]
            known = known[ends[0]] & known[ends[1]] if axis == 0 else known[:, ends[0]] & known[:, ends[1]]
        return image, known


def _weigh_cubic(part: float) -> tuple[float, ...]:
    """Return the weights of the pixels -1 to 2 around a position between 0 and 1, a cubic of third order."""
    near, far = ((1.5 * d - 2.5) * d * d + 1 for d in (part, 1 - part))
    before, after = (((-0.5 * d + 2.5) * d - 4) * d + 2 for d in (1 + part, 2 - part))
    return before, near, far, after


def _regress(image: Float64Array, on: Float64Array, weight: Float64Array) -> Float64Array:
    """Return what gain and offset of another image leave of each band, by weighted least squares."""
    total = weight.sum()
    image = image - ((weight * image).sum((1, 2)) / total)[:, None, None]
    on = on - ((weight * on).sum((1, 2)) / total)[:, None, None]
    gain = (weight * image * on).sum((1, 2)) / np.maximum((weight * on * on).sum((1, 2)), _TINY**2)
    rest: Float64Array = image - gain[:, None, None] * on
    return rest


def _find_normal(
    wide: Float64Array, shown: Float64Array, weight: Float64Array, noise: Float64Array
) -> tuple[Float64Array, Float64Array]:
    """Return normal matrix (2, 2) and right side (2,) of a step, gain and offset of each band taken out."""
    down = (wide[:, 2:, 1:-1] - wide[:, :-2, 1:-1]) / 2
    right = (wide[:, 1:-1, 2:] - wide[:, 1:-1, :-2]) / 2
    rest, *slopes = (_regress(each, shown, weight) for each in (wide[:, 1:-1, 1:-1], down, right))
    scaled = weight / np.square(np.maximum(noise, _TINY**2))[:, None, None]
    normal = np.array([[(scaled * one * other).sum() for other in slopes] for one in slopes])
    return normal, np.array([(scaled * one * rest).sum() for one in slopes])


def _spread(rest: Float64Array, known: BoolArray) -> Float64Array:
    """Return the standard deviation of each band, (band,), by the median, which changes do not move."""
    spread: Float64Array = 1.4826 * np.median(np.abs(rest[:, known]), axis=1)
    return spread


def _correlate(one: Float64Array, other: Float64Array, weight: Float64Array) -> float:
    """Return the correlation of two images over all bands, each band in its own units; 0 without texture."""
    if weight.sum() < _LEAST_SHARE * weight.size:
        return 0.0
    total, bands = weight.sum(), np.zeros(len(one))
    one, other = (each - ((weight * each).sum((1, 2)) / total)[:, None, None] for each in (one, other))
    squares = (weight * one * one).sum((1, 2)) * (weight * other * other).sum((1, 2))
    np.divide((weight * one * other).sum((1, 2)), np.sqrt(squares), out=bands, where=squares > 0)
    return float(bands.mean())


def _interpolate(
    cells: Float64Array, trust: Float64Array, start: tuple[int, int], shape: tuple[int, int], cell: int
) -> tuple[Float32Array, Float32Array]:
    """Return shifts of pixels, (date, 2, y, x), bilinear between the centres of cells and weighted by their trust.

    Beside them stands that trust, (date, y, x).
    """
    weights = [_weigh_cells(*each, cell) for each in zip(start, shape, trust.shape[1:], strict=True)]
    parts = np.concatenate([cells * trust[:, None], trust[:, None]], axis=1)
    for axis, (near, far, part) in enumerate(weights, 2):
        across = part[:, None] if axis == 2 else part
        parts = parts.take(near, axis) * (1 - across) + parts.take(far, axis) * across
    total = parts[:, 2:]
    shift = np.divide(parts[:, :2], total, out=np.zeros_like(parts[:, :2]), where=total > 0)
    return np.asarray(shift, np.float32), np.asarray(total[:, 0], np.float32)


def _weigh_cells(start: int, number: int, cells: int, cell: int) -> tuple[IntArray, IntArray, Float64Array]:
    """Return for pixels along an axis the cells before and after, and the weight of the latter."""
    twice = 2 * (start + np.arange(number)) + 1 - cell  # halves of pixels from the first centre
    near = twice // (2 * cell)
    part: Float64Array = (twice - near * 2 * cell) / (2 * cell)
    return np.clip(near, 0, cells - 1), np.clip(near + 1, 0, cells - 1), part
