"""Back-projection: the image whose view through the sensor is what one date saw, or several dates together.

``back-projection`` starts from the bicubic anchor. Each round looks at the image as the sensor would, and adds what
the anchor differs from that, interpolated bicubically. ``burst`` looks as every date would that is shifted by a
fraction of a pixel, and adds the differences of all, weighted by how much a date resembles the anchor: what one date
shows aliased, others show at other places. Rounds bring detail and noise alike.

A date is seen by weights of the fine pixels around the place that a source pixel looks at, one set for each axis; they
come from a table over the shift, so that shifts may vary from pixel to pixel and nothing is interpolated on the way
there. All is sums of products in a fixed order: the same bits however a window was cut.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from itertools import islice

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812  the name everyone knows
from torch import Tensor

from mapper.arrays import Float64Array
from mapper.models.card import BACK_PROJECTION_ROUNDS, FARTHEST_SHIFT, LOOK_REACH, PROTOCOL_PSF, reach_of_rounds
from mapper.models.interpolation import upsample, weigh_cubic

_CUT_OFF = 3.5
"""Standard deviations at which the point spread function ends."""
_PHASES = 128
"""Shifts of the table in a source pixel; between them weights are interpolated."""
_CUBIC_REACH = 2
_MOST_KEPT = 2**25
"""Weights of views that are kept: 128 MiB."""
_UNLIKE = 0.2
"""Part of the spread of the anchor: dates that differ by more have less weight than the anchor has at least."""
_ANCHOR = 1.5
"""Weight of the anchor, in units of the best date."""


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


@dataclass(frozen=True, kw_only=True)
class Dates:
    """Dates of a stack, in the radiometry of its anchor, as :func:`back_project` takes them."""

    values: Tensor
    """(batch, date, band, y, x), gain and offset already those of the anchor; anything where not clear."""
    clear: Tensor
    """(batch, date, 1, y, x), bool or 0 and 1: pixels of a date that count."""
    shift: Tensor
    """(batch, date, 2, y, x) source pixels (down, right): what the anchor shows at p the date shows at p + shift."""
    weights: Tensor
    """(batch, date, 1, y, x), at pixels of the anchor; need not add up to 1."""

    @classmethod
    def of_anchor(cls, shown: Tensor, known: Tensor) -> "Dates":
        """Return the anchor (batch, band, y, x) as a date of its own."""
        still = shown.new_zeros((len(shown), 1, 2, *shown.shape[-2:]))
        return cls(
            values=shown[:, None], clear=known[:, None], shift=still, weights=torch.full_like(still[:, :, :1], _ANCHOR)
        )

    def favour_anchor(self) -> "Dates":
        """Return these dates with the first, the anchor, above the best of the others."""
        best = self.weights[:, 1:].amax(1, keepdim=True).clamp(min=1 / _UNLIKE**2)
        return replace(self, weights=torch.cat([_ANCHOR * best, self.weights[:, 1:]], 1))

    def join(self, more: "Dates") -> "Dates":
        """Return these dates and more."""
        pairs = [(getattr(self, name), getattr(more, name)) for name in ("values", "clear", "shift", "weights")]
        values, clear, shift, weights = (torch.cat(pair, 1) for pair in pairs)
        return Dates(values=values, clear=clear, shift=shift, weights=weights)


def back_project(
    dates: Dates,
    *,
    anchor: Tensor,
    scale: int,
    rounds: int = BACK_PROJECTION_ROUNDS,
    psf: PointSpread | None = None,
    farthest: int = FARTHEST_SHIFT,
) -> Tensor:
    """Return the image that dates saw together, (batch, band, y * scale, x * scale).

    Rounds are steps of steepest descent; see :func:`back_project_by_rounds`.
    """
    image = upsample(anchor, scale, "bicubic")
    for later in islice(
        back_project_by_rounds(dates, anchor=anchor, scale=scale, psf=psf, farthest=farthest, momentum=False), rounds
    ):
        image = later
    return image


def back_project_by_rounds(
    dates: Dates,
    *,
    anchor: Tensor,
    scale: int,
    psf: PointSpread | None = None,
    farthest: int = FARTHEST_SHIFT,
    momentum: bool = True,
) -> Iterator[Tensor]:
    """Return the images that dates saw together, one round after another, each (batch, band, y * scale, x * scale).

    A pixel hangs on source pixels up to :func:`reach_of` away. Differences of a date count by its part of the weights
    of all dates; where none has weight, the interpolated anchor stays. Nothing of it is
    learnt: use it under :func:`~mapper.models.gradients.prepare_only`.

    Args:
        dates: A date has no weight where its shift is longer than ``farthest`` along an axis.
        anchor: (batch, band, y, x) without NaN, from which it starts.
        scale: Source pixel / target pixel.
        psf: What the sensor sees; by default that of the protocol, see :meth:`PointSpread.of_protocol`.
        farthest: Longest shift along an axis in source pixels; 0 for an anchor alone.
        momentum: Each round goes on in the direction of the last by Nesterov's sequence (Beck & Teboulle 2009,
            doi:10.1137/080716542): as much detail, and noise, in half the rounds.

    Raises:
        ValueError: If the point spread function is wider than the radius that is said.
    """
    psf = psf or PointSpread.of_protocol(scale)
    if psf.reach(scale) > LOOK_REACH:
        raise ValueError(f"{psf} looks {psf.reach(scale)} source pixels far, expected at most {LOOK_REACH}")
    shift, known = dates.shift, dates.clear.bool()
    weights = torch.where(known & (shift.abs() <= farthest).all(2, keepdim=True), dates.weights, 0.0)
    total = weights.sum(1, keepdim=True)
    weights = torch.where(total > 0, weights / torch.where(total > 0, total, 1.0), 0.0)
    views = _Views(shift=shift, scale=scale, psf=psf, farthest=farthest)
    shares = [_repeat(each, scale) for each in weights.unbind(1)]
    image = before = upsample(anchor, scale, "bicubic")
    pace = 1.0
    while True:
        split = _split_columns(image, scale, psf.reach(scale) + farthest)
        change = torch.zeros_like(image)
        for number, view in enumerate(views.each()):
            difference = torch.where(known[:, number], dates.values[:, number] - view.look(split), 0.0)
            change += shares[number] * view.bring_back(difference)
        found = image + change
        yield found
        faster = (1 + math.sqrt(1 + 4 * pace**2)) / 2
        image = found + (pace - 1) / faster * (found - before) if momentum else found
        before, pace = found, faster


def reach_of(scale: int, *, rounds: int, psf: PointSpread | None = None, farthest: int = FARTHEST_SHIFT) -> int:
    """Return the radius in source pixels around its own that a target pixel of :func:`back_project` hangs on.

    That is :func:`~mapper.models.card.reach_of_rounds`, or less with a point spread function that is narrow.
    """
    psf = psf or PointSpread.of_protocol(scale)
    return reach_of_rounds(rounds, farthest) - rounds * (LOOK_REACH - psf.reach(scale))


def register(source: Tensor, shift: Tensor, *, scale: int = 1, farthest: int = FARTHEST_SHIFT) -> Tensor:
    """Return a date as it would lie under the anchor, interpolated bicubically, (batch, band, y * scale, x * scale).

    Args:
        source: (batch, band, y, x) of one date, without NaN.
        shift: (batch, 2, y, x), as in :func:`back_project`; cut off at ``farthest``.
        scale: Source pixel / target pixel.
        farthest: Longest shift along an axis in source pixels.
    """
    return _Return.make(shift.clamp(-farthest, farthest), scale, farthest).bring(source)


@dataclass(frozen=True, kw_only=True)
class _Return:
    """Weights of source pixels around the place that a date shows at a target pixel: bicubic, by axis.

    Each axis has (batch, phase, tap, y, x): target pixels of a source pixel, then source pixels around it.
    """

    down: Tensor
    right: Tensor

    @classmethod
    def make(cls, shift: Tensor, scale: int, farthest: int) -> "_Return":
        table = _to_tensor(_tabulate_return(scale, farthest), shift)
        found = [_look_up(table, shift[:, axis], farthest) for axis in (0, 1)]
        down, right = (each.reshape(len(each), scale, -1, *each.shape[2:]) for each in found)
        return cls(down=down, right=right)

    def bring(self, image: Tensor) -> Tensor:
        """Return an image (batch, band, y, x) of a date at the target pixels of the anchor."""
        phases, taps = self.down.shape[1:3]
        rows, cols = image.shape[-2:]
        reach = taps // 2
        wide = _pad(image, reach, reach)
        weights = _pad(self.down.flatten(1, 2), 0, reach).reshape(len(image), phases, taps, rows, -1)
        lines = torch.stack(
            [
                _add_up(wide[:, :, tap : tap + rows] * weights[:, phase, tap, None] for tap in range(taps))
                for phase in range(phases)
            ],
            3,
        )  # (batch, band, y, phase, x)
        pixels = [
            _add_up(lines[..., tap : tap + cols] * self.right[:, phase, tap, None, :, None] for tap in range(taps))
            for phase in range(phases)
        ]
        return torch.stack(pixels, 5).flatten(4, 5).flatten(2, 3)


@dataclass(frozen=True, kw_only=True)
class _View:
    """View of a date on an image: weights (batch, tap, y, x) of target pixels, by axis, and the way back."""

    down: Tensor
    right: Tensor
    back: _Return
    scale: int

    @classmethod
    def make(cls, shift: Tensor, scale: int, psf: PointSpread, farthest: int) -> "_View":
        shift = shift.clamp(-farthest, farthest)
        table = _to_tensor(_tabulate_view(scale, psf, farthest), shift)
        down, right = (_look_up(table, shift[:, axis], farthest) for axis in (0, 1))
        return cls(down=down, right=right, back=_Return.make(shift, scale, farthest), scale=scale)

    def look(self, split: Tensor) -> Tensor:
        """Return what the date sees, (batch, band, y, x), of an image that :func:`_split_columns` has prepared."""
        rows, cols = self.right.shape[-2:]
        taps = range(self.right.shape[1])
        reach = (len(taps) // self.scale) // 2
        weights = _pad(self.right, reach, 0).repeat_interleave(self.scale, 2)[:, :, None]
        lines = _add_up(
            split[tap % self.scale, ..., tap // self.scale : tap // self.scale + cols] * weights[:, tap] for tap in taps
        )
        lines = lines.reshape(*lines.shape[:2], -1, self.scale, cols)
        return _add_up(
            lines[:, :, tap // self.scale : tap // self.scale + rows, tap % self.scale] * self.down[:, tap, None]
            for tap in taps
        )

    def bring_back(self, difference: Tensor) -> Tensor:
        """Return differences (batch, band, y, x) of the date at the target pixels of the anchor."""
        return self.back.bring(difference)


@dataclass(frozen=True, kw_only=True)
class _Views:
    """Views of all dates: kept from round to round where that takes little memory, and else made anew."""

    shift: Tensor
    scale: int
    psf: PointSpread
    farthest: int

    def each(self) -> Iterator[_View]:
        """Return the view of each date in turn."""
        dates = self.shift.shape[1]
        if self.shift.numel() * (2 * self.farthest + 5) * self.scale > _MOST_KEPT:
            return (self._make(number) for number in range(dates))
        return iter(self._kept)

    @cached_property
    def _kept(self) -> list[_View]:
        return [self._make(number) for number in range(self.shift.shape[1])]

    def _make(self, number: int) -> _View:
        return _View.make(self.shift[:, number], self.scale, self.psf, self.farthest)


def _split_columns(image: Tensor, scale: int, reach: int) -> Tensor:
    """Return an image, padded by source pixels, with its columns by their place in a source pixel: (scale, ..., x)."""
    wide = _pad(image, reach * scale, reach * scale)
    return wide.reshape(*wide.shape[:3], -1, scale).permute(4, 0, 1, 2, 3).contiguous()


def _pad(image: Tensor, rows: int, cols: int) -> Tensor:
    return F.pad(image, (cols, cols, rows, rows), mode="replicate")


def _add_up(terms: Iterator[Tensor]) -> Tensor:
    """Return the sum of tensors in their order."""
    total = next(terms)
    for term in terms:
        total += term
    return total


def _repeat(image: Tensor, scale: int) -> Tensor:
    return image.repeat_interleave(scale, -2).repeat_interleave(scale, -1)


def _look_up(table: Tensor, shift: Tensor, farthest: int) -> Tensor:
    """Return weights (batch, tap, y, x) for shifts (batch, y, x), linear between those of a table (shift, tap)."""
    if not farthest:
        return table[0, :, None, None].expand(len(shift), -1, *shift.shape[1:])
    at = (shift + farthest) * _PHASES
    near = at.floor().clamp(max=len(table) - 2)
    part = (at - near)[..., None]
    weights = table[near.long()] * (1 - part) + table[near.long() + 1] * part
    return weights.permute(0, 3, 1, 2).contiguous()


def _to_tensor(table: Float64Array, like: Tensor) -> Tensor:
    return torch.from_numpy(table).to(like)


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
