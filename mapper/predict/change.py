"""Dates of a stack that show something else than the anchor: pixels that differ by more than noise does.

A date is laid under the anchor by its shift, and both are low-passed, since what is aliased differs without a change.
Gain and offset of each band come from means and spreads around a pixel, and so does the usual square of what they
leave; pixels that differ weigh little there. A date has changed at a pixel where its squares are far above the usual.
Sums are taken over blocks of the map's own lattice: the same bits however a window was cut.
"""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812  the name everyone knows
from torch import Tensor

from mapper.arrays import BoolArray, Float32Array
from mapper.cube.shifts import Shifts
from mapper.models.card import FARTHEST_SHIFT
from mapper.models.views import register

_BLOCK = 4
"""Edge in source pixels of the blocks that sums are taken of."""
_AROUND = 3
"""Radius of the surroundings of a pixel in blocks."""
_FITS = 2
"""Fits of gain and offset, each with less weight on what the one before found changed."""
_SMOOTH = (1 / 16, 4 / 16, 6 / 16, 4 / 16, 1 / 16)
"""Binomial low pass, its taps in source pixels."""
_NOISE = 0.05
"""Part of the spread of the anchor around a pixel within which nothing counts as different."""
_LIMIT = 9.0
"""Mean square of a difference, in units of the usual one, above which a pixel has changed."""
_MARGIN = 8
"""Source pixels around what is known that registering and smoothing look at."""
_LEAST_TRUST = 0.2
"""Trust below which a date counts as not registered: a standard error of .1 source pixels."""
_SEEN = 1e-3
_TINY = 1e-30


def find_misfits(
    values: Float32Array,
    clear: BoolArray,
    anchor: Float32Array,
    found: Shifts,
    *,
    own: BoolArray,
    row: int,
    col: int,
) -> tuple[BoolArray, BoolArray]:
    """Find the pixels at which a date is astray, or shows something else than the anchor; returns both, (date, y, x).

    A date is astray where it is not registered, or lies farther away than models follow; it is not said to have changed
    there.

    Args:
        values: (date, band, y, x), NaN where missing.
        clear: (date, y, x) True where a date is used.
        anchor: (band, y, x), NaN where missing.
        found: Shifts of the dates.
        own: (date, y, x) True where a date is the anchor itself, which is there already.
        row: Row of the upper-left pixel, counted from the origin of the source pixels; may be negative.
        col: Its column.
    """
    others = clear & ~own
    astray = others & ((found.certainty < _LEAST_TRUST) | (np.abs(found.shift) > FARTHEST_SHIFT).any(1))
    changed = others & ~astray & find_changed(values, clear, anchor, found.shift, row=row, col=col)
    return astray, changed


def find_changed(
    values: Float32Array, clear: BoolArray, anchor: Float32Array, shift: Float32Array, *, row: int, col: int
) -> BoolArray:
    """Find the pixels at which a date shows something else than the anchor; returns (date, y, x).

    What hangs on pixels beyond :data:`~mapper.predict.quality.CHANGE_REACH` source pixels does not enter. A date that
    is not clear, or farther away than models follow, has not changed.

    Args:
        values: (date, band, y, x), NaN where missing.
        clear: (date, y, x) True where a date is used.
        anchor: (band, y, x), NaN where missing.
        shift: (date, 2, y, x) source pixels: what the anchor shows at p, a date shows at p + shift.
        row: Row of the upper-left pixel, counted from the origin of the source pixels; may be negative.
        col: Its column.
    """
    sound: BoolArray = clear & np.isfinite(values).all(axis=1) & np.isfinite(anchor).all(axis=0)
    found = np.zeros(clear.shape, bool)
    if not sound.any():
        return found
    part = _find_part(np.asarray(sound.any(axis=0), bool))
    corner = tuple(first + span.start for first, span in zip((row, col), part, strict=True))
    shown, known = torch.from_numpy(anchor[..., *part]), torch.from_numpy(np.isfinite(anchor[..., *part]).all(0))
    shown = torch.where(known, shown, 0.0)
    for number in range(len(values)):
        here = torch.from_numpy(sound[number][part])
        away = torch.from_numpy(shift[number][:, *part])
        if here.any():
            date = torch.where(here, torch.from_numpy(values[number][:, *part]), shown)
            seen = (register(here.float()[None, None], away[None])[0, 0] - 1).abs() < _SEEN
            both = seen & known & (away.abs() <= FARTHEST_SHIFT).all(0)
            laid = register(date[None], away[None])[0]
            differs = _differ(laid.double(), shown.double(), both.double(), (corner[0] % _BLOCK, corner[1] % _BLOCK))
            found[number][part] = differs.numpy() & sound[number][part]
    return found


def _find_part(known: BoolArray) -> tuple[slice, slice]:
    """Return the rows and columns around all that is known: beyond them nothing has weight."""
    rows, cols = (np.flatnonzero(known.any(axis)) for axis in (1, 0))
    top, left = (max(int(at[0]) - _MARGIN, 0) for at in (rows, cols))
    return slice(top, int(rows[-1]) + 1 + _MARGIN), slice(left, int(cols[-1]) + 1 + _MARGIN)


def _differ(laid: Tensor, shown: Tensor, both: Tensor, corner: tuple[int, int]) -> Tensor:
    """Return where one date, (band, y, x), differs from the anchor; (y, x) bool."""
    share = _smooth(both[None]).clamp(min=_TINY)
    laid, shown = (_smooth(both * each) / share for each in (laid, shown))
    weight, part = both, both.new_zeros(both.shape)
    for _ in range(_FITS):
        around = _Around(weight=weight, corner=corner)
        mean, target = (around.mean(each) for each in (laid, shown))
        spread, wanted = (
            (around.mean(each.square()) - middle.square()).clamp(min=0.0)
            for each, middle in ((laid, mean), (shown, target))
        )
        even = (spread <= 0) | (wanted <= 0)
        gain = torch.where(even, 1.0, wanted / torch.where(even, 1.0, spread)).sqrt()
        rest = (shown - target - gain * (laid - mean)).square()
        usual = around.mean(rest)
        part = (rest / (usual + (_NOISE**2 * wanted).clamp(min=_TINY))).mean(0)
        weight = both / (1 + (rest / usual.clamp(min=_TINY)).mean(0)) ** 2
    return (_smooth(part[None])[0] > _LIMIT) & (both > 0)


@dataclass(frozen=True, kw_only=True)
class _Around:
    """Weighted means around pixels, over whole blocks that count from the origin of the source pixels."""

    weight: Tensor
    """(y, x)."""
    corner: tuple[int, int]
    """Rows and columns of the first block that lie outside of the window."""

    def mean(self, image: Tensor) -> Tensor:
        """Return the mean (band, y, x) around the block of each pixel; 0 where nothing has weight."""
        total, sums = self._add_up(self.weight[None]), self._add_up(self.weight * image)
        means = sums / total.clamp(min=_TINY)
        fine = means.repeat_interleave(_BLOCK, 1).repeat_interleave(_BLOCK, 2)
        top, left = self.corner
        return fine[:, top : top + image.shape[1], left : left + image.shape[2]]

    def _add_up(self, image: Tensor) -> Tensor:
        top, left = self.corner
        below, right = (-(first + size) % _BLOCK for first, size in zip(self.corner, image.shape[1:], strict=True))
        blocks = F.avg_pool2d(F.pad(image, (left, right, top, below))[None], _BLOCK)
        edge = 2 * _AROUND + 1
        return F.avg_pool2d(F.avg_pool2d(blocks, (edge, 1), 1, (_AROUND, 0)), (1, edge), 1, (0, _AROUND))[0]


def _smooth(image: Tensor) -> Tensor:
    """Return an image (band, y, x) under a binomial low pass; outside of it all is 0."""
    reach = len(_SMOOTH) // 2
    for axis in (1, 2):
        number = image.shape[axis]
        wide = F.pad(image, (reach, reach, 0, 0) if axis == 2 else (0, 0, reach, reach))
        total = _SMOOTH[0] * wide.narrow(axis, 0, number)
        for at, tap in enumerate(_SMOOTH[1:], 1):
            total = total + tap * wide.narrow(axis, at, number)
        image = total
    return image
