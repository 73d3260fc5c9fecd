"""Views of dates that lie beside an image by parts of a source pixel: what a date sees of it, and the way back.

A date is seen by weights of the fine pixels around the place that a source pixel looks at, one set for each axis; they
come from a table over the shift, so that shifts may vary from pixel to pixel and nothing is interpolated on the way
there. The way back is bicubic. All is sums of products in a fixed order: the same bits however a window was cut.
Weights that are 0 in all of a window add nothing, and are left out.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812  the name everyone knows
from torch import Tensor

from mapper.arrays import Float64Array
from mapper.models.card import FARTHEST_SHIFT, PROTOCOL_PSF
from mapper.models.interpolation import weigh_cubic
from mapper.models.margin import Margin

_CUT_OFF = 3.5
"""Standard deviations at which the point spread function ends."""
_PHASES = 128
"""Shifts of the table in a source pixel; between them weights are interpolated."""
_CUBIC_REACH = 2
REGISTER_REACH = _CUBIC_REACH + FARTHEST_SHIFT
"""Radius in source pixels that :func:`register` looks at."""


@dataclass(frozen=True, kw_only=True)
class PointSpread:
    """A point spread function along one axis: a Gaussian, then the mean of some target pixels."""

    sd: float
    """Standard deviation of the Gaussian in source pixels."""
    mean_px: int = 1
    """Target pixels whose mean is taken, around the centre of the source pixel."""

    @classmethod
    def of_mtf(cls, mtf: float) -> "PointSpread":
        """Return the Gaussian with a modulation at the Nyquist frequency of the source, half a cycle in a pixel.

        Raises:
            ValueError: If the modulation is not between 0 and 1.
        """
        if not 0 < mtf < 1:
            raise ValueError(f"mtf at the Nyquist frequency must lie between 0 and 1, got {mtf}")
        return cls(sd=math.sqrt(-2 * math.log(mtf)) / math.pi)

    @classmethod
    def of_protocol(cls, scale: int, *, sd: float = PROTOCOL_PSF) -> "PointSpread":
        """Return that of the tables: .514 source pixels, then the mean of the middle 2 x 2 (odd scales: 1)."""
        return cls(sd=sd, mean_px=2 - scale % 2)

    def weigh(self, distance: Float64Array, scale: int) -> Float64Array:
        """Return weights, not yet scaled to a sum of 1, of target pixels at distances in source pixels."""
        offsets = (np.arange(self.mean_px) - (self.mean_px - 1) / 2) / scale
        each = (distance[..., None] + offsets) / self.sd
        return np.asarray(np.where(np.abs(each) <= _CUT_OFF, np.exp(-np.square(each) / 2), 0).mean(-1), np.float64)

    def reach(self, scale: int) -> int:
        """Return the radius in source pixels, beyond the one looked at."""
        return math.floor(_CUT_OFF * self.sd + (self.mean_px - 1) / 2 / scale + 0.5 - 0.5 / scale)


def register(source: Tensor, shift: Tensor, *, scale: int = 1, farthest: int = FARTHEST_SHIFT) -> Tensor:
    """Return a date as it would lie under the anchor, interpolated bicubically, (batch, band, y * scale, x * scale).

    Args:
        source: (batch, band, y, x) of one date, without NaN.
        shift: (batch, 2, y, x), as in :class:`View`; cut off at ``farthest``.
        scale: Source pixel / target pixel.
        farthest: Longest shift along an axis in source pixels.
    """
    way = _WayBack.make(shift.clamp(-farthest, farthest), scale, farthest)
    return join_pixels(way.bring(source, onto=source.new_zeros((scale, scale, *source.shape))))


def split_pixels(image: Tensor, scale: int) -> Tensor:
    """Return an image (..., y * scale, x * scale) by the places of its pixels in a source pixel: (row, col, ..., y, x).

    So pixels that are weighed alike lie beside each other.
    """
    rows, cols = (edge // scale for edge in image.shape[-2:])
    return image.reshape(*image.shape[:-2], rows, scale, cols, scale).movedim((-3, -1), (0, 1)).contiguous()


def join_pixels(split: Tensor) -> Tensor:
    """Return the image that :func:`split_pixels` took apart."""
    return split.movedim((0, 1), (-3, -1)).flatten(-4, -3).flatten(-2, -1)


def pad_split(split: Tensor, reach: int) -> Tensor:
    """Return an image of :func:`split_pixels` with so many source pixels more on each side, its last ones repeated."""
    scale = len(split)
    rows, cols = split.shape[-2:]
    wide = split.new_empty((*split.shape[:-2], rows + 2 * reach, cols + 2 * reach))
    wide[..., reach : reach + rows, reach : reach + cols] = split
    for at, edge in ((slice(reach), 0), (slice(cols + reach, None), -1)):
        one = range(scale)[edge]
        wide[..., reach : reach + rows, at] = split[:, one : one + 1, ..., edge, None]
    for at, edge, row in ((slice(reach), 0, reach), (slice(rows + reach, None), -1, reach + rows - 1)):
        one = range(scale)[edge]
        wide[..., at, :] = wide[one : one + 1, ..., row, None, :]
    return wide


class _Tap(NamedTuple):
    """Pixels at an offset, and their weight (batch, y, x)."""

    at: int
    weight: Tensor

    def trim(self, margin: Margin, reach: int) -> "_Tap":
        return _Tap(self.at, margin.trim(self.weight, reach))


_Taps = tuple[_Tap, ...]


@dataclass(frozen=True, kw_only=True)
class _WayBack:
    """Taps on the source pixels of a date, for each place of a target pixel in a source pixel of the anchor.

    Those of rows are padded on both sides by as many columns as those of columns look at.
    """

    down: tuple[_Taps, ...]
    right: tuple[_Taps, ...]

    @classmethod
    def make(cls, shift: Tensor, scale: int, farthest: int, *, share: Tensor | None = None) -> "_WayBack":
        """Return the way back by shifts (batch, 2, y, x), times the share (batch, y, x) that a date has."""
        table, reach = _tabulate_return(scale, farthest), _CUBIC_REACH + farthest
        width = 2 * reach + 1
        axes = [
            tuple(_look_up(table[:, at * width : (at + 1) * width], shift[:, axis], -reach) for at in range(scale))
            for axis in (0, 1)
        ]
        down, right = axes
        if share is not None:
            right = tuple(tuple(_Tap(tap.at, tap.weight * share) for tap in taps) for taps in right)
        cols = _reach_of(right)
        return cls(
            down=tuple(tuple(_Tap(tap.at, _repeat_edge(tap.weight, 0, cols)) for tap in taps) for taps in down),
            right=right,
        )

    def bring(self, image: Tensor, *, onto: Tensor) -> Tensor:
        """Add an image (batch, band, y, x) of the date to split pixels of the anchor, and return these."""
        rows, cols = image.shape[-2:]
        reach, sides = _reach_of(self.down), _reach_of(self.right)
        wide = F.pad(image, (sides, sides, reach, reach), mode="replicate")
        for phase, taps in enumerate(self.down):
            lines = _weigh((wide[..., reach + at : reach + at + rows, :], weight[:, None]) for at, weight in taps)
            for column, more in enumerate(self.right):
                for at, weight in more:
                    onto[phase, column].addcmul_(lines[..., sides + at : sides + at + cols], weight[:, None])
        return onto

    def trim(self, margin: Margin, reach: int) -> "_WayBack":
        down, right = (
            tuple(tuple(tap.trim(margin, reach) for tap in taps) for taps in axis) for axis in (self.down, self.right)
        )
        return _WayBack(down=down, right=right)


@dataclass(frozen=True, kw_only=True)
class View:
    """View of a date on an image: taps on target pixels, by axis, and the way back.

    Those of columns are padded above and below by as many rows as those of rows look at.
    """

    down: _Taps
    right: _Taps
    back: _WayBack
    scale: int

    @classmethod
    def make(cls, shift: Tensor, share: Tensor, *, scale: int, psf: PointSpread, farthest: int) -> "View":
        """Return the view of a date.

        Args:
            shift: (batch, 2, y, x) source pixels (down, right): what the image shows at p the date shows at p + shift.
            share: (batch, y, x) what its differences count.
            scale: Source pixel / target pixel.
            psf: What the sensor sees.
            farthest: Longest shift along an axis.
        """
        shift, table = shift.clamp(-farthest, farthest), _tabulate_view(scale, psf, farthest)
        first = -(psf.reach(scale) + farthest) * scale
        down, right = (_look_up(table, shift[:, axis], first) for axis in (0, 1))
        rows = _reach_of((down,), scale)
        return cls(
            down=down,
            right=tuple(_Tap(tap.at, _repeat_edge(tap.weight, rows, 0)) for tap in right),
            back=_WayBack.make(shift, scale, farthest, share=share),
            scale=scale,
        )

    def look(self, wide: Tensor) -> Tensor:
        """Return what the date sees, (batch, band, y, x), of an image that :func:`pad_split` has prepared."""
        rows, cols = self.down[0].weight.shape[-2:]
        lines_px, reach = self.right[0].weight.shape[-2], (wide.shape[-1] - cols) // 2
        above = (lines_px - rows) // 2
        part = wide[..., reach - above : reach - above + lines_px, :]
        lines = _weigh(
            (part[:, at % self.scale, ..., reach + at // self.scale : reach + at // self.scale + cols], weight[:, None])
            for at, weight in self.right
        )
        return _weigh(
            (
                lines[at % self.scale, ..., above + at // self.scale : above + at // self.scale + rows, :],
                weight[:, None],
            )
            for at, weight in self.down
        )

    def bring_back(self, difference: Tensor, *, onto: Tensor) -> None:
        """Add differences (batch, band, y, x) of the date, times its share, to split pixels of the image."""
        self.back.bring(difference, onto=onto)

    def trim(self, margin: Margin, reach: int) -> "View":
        """Return the view without what lies farther than a reach from what is needed."""
        down, right = (tuple(tap.trim(margin, reach) for tap in taps) for taps in (self.down, self.right))
        return View(down=down, right=right, back=self.back.trim(margin, reach), scale=self.scale)


def _weigh(terms: Iterable[tuple[Tensor, Tensor]]) -> Tensor:
    """Return the sum of products in their order."""
    total: Tensor | None = None
    for image, weight in terms:
        total = image * weight if total is None else total.addcmul_(image, weight)
    if total is None:
        raise ValueError("no tap has a weight")
    return total


def _reach_of(axis: Iterable[_Taps], scale: int = 1) -> int:
    """Return the source pixels that taps look to either side."""
    return max((max(-(tap.at // scale), tap.at // scale) for taps in axis for tap in taps), default=0)


def _repeat_edge(weight: Tensor, rows: int, cols: int) -> Tensor:
    return F.pad(weight[:, None], (cols, cols, rows, rows), mode="replicate")[:, 0]


def _look_up(table: Float64Array, shift: Tensor, first: int) -> _Taps:
    """Return the taps of shifts (batch, y, x), linear between those of a table (shift, tap) that begins with an offset.

    A tap that has no weight anywhere is left out.
    """
    if len(table) == 1:
        return tuple(
            _Tap(first + tap, shift.new_tensor(table[0, tap]).expand(shift.shape))
            for tap in range(table.shape[1])
            if table[0, tap]
        )
    farthest = len(table) // (2 * _PHASES)
    at = (shift + farthest) * _PHASES
    near = at.floor().clamp(max=max(len(table) - 2, 0))
    far_part = at - near
    near_part = 1 - far_part
    low, high = int(near.min()), int(near.max())
    number, columns = near.long(), torch.from_numpy(table).to(shift)
    return tuple(
        _Tap(
            first + tap,
            columns[:, tap].contiguous()[number] * near_part + columns[1:, tap].contiguous()[number] * far_part,
        )
        for tap in np.flatnonzero(table[low : high + 2].any(0)).tolist()
    )


def _shifts_of(farthest: int) -> Float64Array:
    return np.linspace(-farthest, farthest, 2 * farthest * _PHASES + 1)[:, None]


@lru_cache(maxsize=32)
def _tabulate_view(scale: int, psf: PointSpread, farthest: int) -> Float64Array:
    """Return weights (shift, tap) of the target pixels around a source pixel of a shifted date."""
    reach = psf.reach(scale) + farthest
    taps = np.arange(-reach * scale, (reach + 1) * scale)
    weights = psf.weigh((taps + 0.5) / scale - 0.5 + _shifts_of(farthest), scale)
    return np.asarray(weights / weights.sum(1, keepdims=True), np.float64)


@lru_cache(maxsize=32)
def _tabulate_return(scale: int, farthest: int) -> Float64Array:
    """Return weights (shift, phase * tap) of the source pixels around the place that a target pixel shows."""
    reach = _CUBIC_REACH + farthest
    centres = (np.arange(scale) + 0.5) / scale - 0.5
    places = centres[None, :, None] + _shifts_of(farthest)[:, :, None]
    distances = np.abs(np.arange(-reach, reach + 1) - places)
    return np.asarray(np.vectorize(weigh_cubic)(distances).reshape(len(places), -1), np.float64)
