"""Back-projection: the image whose view through the sensor is what one date saw, or several dates together.

``back-projection`` starts from the bicubic anchor. Each round looks at the image as the sensor would, and adds what
the anchor differs from that, interpolated bicubically. ``burst`` looks as every date would that is shifted by a
fraction of a pixel, and adds the differences of all, weighted by how much a date resembles the anchor: what one date
shows aliased, others show at other places. Rounds bring detail and noise alike.

Of a window whose margin nobody needs, each round is made only as far as later ones look.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from mapper.models.card import BACK_PROJECTION_ROUNDS, FARTHEST_SHIFT, LOOK_REACH, reach_of_rounds
from mapper.models.interpolation import upsample
from mapper.models.margin import Margin
from mapper.models.views import PointSpread, View, join_pixels, pad_split, split_pixels

_MOST_KEPT = 2**27
"""Weights of views that are kept: 512 MiB."""
_UNLIKE = 0.2
"""Part of the spread of the anchor: dates that differ by more have less weight than the anchor has at least."""
_ANCHOR = 1.5
"""Weight of the anchor, in units of the best date."""


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

    def trim(self, margin: Margin, reach: int) -> "Dates":
        """Return these dates without what lies farther than a reach from what is needed."""
        names = ("values", "clear", "shift", "weights")
        return Dates(**{name: margin.trim(getattr(self, name), reach) for name in names})


def back_project(
    dates: Dates,
    *,
    anchor: Tensor,
    scale: int,
    rounds: int = BACK_PROJECTION_ROUNDS,
    psf: PointSpread | None = None,
    farthest: int = FARTHEST_SHIFT,
    margin: Margin | None = None,
) -> Tensor:
    """Return the image that dates saw together, (batch, band, y * scale, x * scale).

    Rounds are steps of steepest descent; see :func:`back_project_by_rounds`.
    """
    (image,) = back_project_by_rounds(
        dates, anchor=anchor, scale=scale, rounds=(rounds,), psf=psf, farthest=farthest, margin=margin, momentum=False
    )
    return image


def back_project_by_rounds(  # noqa: PLR0913 - a window, the sensor and the way to go
    dates: Dates,
    *,
    anchor: Tensor,
    scale: int,
    rounds: Sequence[int],
    psf: PointSpread | None = None,
    farthest: int = FARTHEST_SHIFT,
    margin: Margin | None = None,
    momentum: bool = True,
) -> list[Tensor]:
    """Return the images that dates saw together after so many rounds, each (batch, band, y * scale, x * scale).

    A pixel hangs on source pixels up to :func:`reach_of` away. Differences of a date count by its part of the weights
    of all dates; where none has weight, the interpolated anchor stays. Nothing of it is
    learnt: use it under :func:`~mapper.models.gradients.prepare_only`.

    Args:
        dates: A date has no weight where its shift is longer than ``farthest`` along an axis.
        anchor: (batch, band, y, x) without NaN, from which it starts.
        scale: Source pixel / target pixel.
        rounds: Ascending.
        psf: What the sensor sees; by default that of the protocol, see :meth:`PointSpread.of_protocol`.
        farthest: Longest shift along an axis in source pixels; 0 for an anchor alone.
        margin: Of dates and anchor, which the images come without.
        momentum: Each round goes on in the direction of the last by Nesterov's sequence (Beck & Teboulle 2009,
            doi:10.1137/080716542): as much detail, and noise, in half the rounds.

    Raises:
        ValueError: If the point spread function is wider than the radius that is said.
    """
    psf, margin = psf or PointSpread.of_protocol(scale), margin or Margin()
    if psf.reach(scale) > LOOK_REACH:
        raise ValueError(f"{psf} looks {psf.reach(scale)} source pixels far, expected at most {LOOK_REACH}")
    one_round = reach_of(scale, rounds=1, psf=psf, farthest=farthest) - reach_of(scale, rounds=0, psf=psf)
    shown = _Shown.make(dates, scale=scale, psf=psf, farthest=farthest)
    image = before = split_pixels(upsample(anchor, scale, "bicubic"), scale)
    found, pace = {}, 1.0
    for number in range(1, rounds[-1] + 1):
        change = shown.compare(image)
        later = change.add_(image)
        if number in rounds:
            found[number] = join_pixels(margin.trim(later))
        faster = (1 + math.sqrt(1 + 4 * pace**2)) / 2
        image = later + (pace - 1) / faster * (later - before) if momentum else later
        reach = (rounds[-1] - number) * one_round
        image, before, shown = margin.trim(image, reach), margin.trim(later, reach), shown.trim(margin, reach)
        margin, pace = margin.within(reach), faster
    return [found[number] for number in rounds]


@dataclass(frozen=True, kw_only=True)
class _Shown:
    """Dates, and how each sees an image; views are kept from round to round where that takes little memory."""

    values: Tensor
    known: Tensor
    shift: Tensor
    shares: Tensor
    """(batch, date, y, x) part of each date in the weights of all."""
    scale: int
    psf: PointSpread
    farthest: int
    views: list[View]
    """One for each date; empty where they are made anew in each round."""

    @classmethod
    def make(cls, dates: Dates, *, scale: int, psf: PointSpread, farthest: int) -> "_Shown":
        """Return dates with their parts in the weights of all."""
        known = dates.clear.bool()
        weights = torch.where(known & (dates.shift.abs() <= farthest).all(2, keepdim=True), dates.weights, 0.0)
        total = weights.sum(1, keepdim=True)
        weights = torch.where(total > 0, weights / torch.where(total > 0, total, 1.0), 0.0)
        found = cls(
            values=dates.values,
            known=known,
            shift=dates.shift,
            shares=weights[:, :, 0],
            scale=scale,
            psf=psf,
            farthest=farthest,
            views=[],
        )
        taps = (2 * psf.reach(scale) + 5) * scale + 6
        if dates.shift.numel() * taps > _MOST_KEPT:
            return found
        return replace(found, views=list(map(found._view, range(len(dates.shift[0])))))

    def compare(self, image: Tensor) -> Tensor:
        """Return what dates differ from their views of a split image, brought back to its pixels by their parts."""
        wide = pad_split(image, self.psf.reach(self.scale) + self.farthest)
        change = torch.zeros_like(image)
        for number in range(self.shift.shape[1]):
            view = self.views[number] if self.views else self._view(number)
            difference = torch.where(self.known[:, number], self.values[:, number] - view.look(wide), 0.0)
            view.bring_back(difference, onto=change)
        return change

    def trim(self, margin: Margin, reach: int) -> "_Shown":
        """Return the dates without what lies farther than a reach from what is needed."""
        return replace(
            self,
            values=margin.trim(self.values, reach),
            known=margin.trim(self.known, reach),
            shift=margin.trim(self.shift, reach),
            shares=margin.trim(self.shares, reach),
            views=[view.trim(margin, reach) for view in self.views],
        )

    def _view(self, number: int) -> View:
        return View.make(
            self.shift[:, number],
            self.shares[:, number],
            scale=self.scale,
            psf=self.psf,
            farthest=self.farthest,
        )


def reach_of(scale: int, *, rounds: int, psf: PointSpread | None = None, farthest: int = FARTHEST_SHIFT) -> int:
    """Return the radius in source pixels around its own that a target pixel of :func:`back_project` hangs on.

    That is :func:`~mapper.models.card.reach_of_rounds`, or less with a point spread function that is narrow.
    """
    psf = psf or PointSpread.of_protocol(scale)
    return reach_of_rounds(rounds, farthest) - rounds * (LOOK_REACH - psf.reach(scale))
