"""Models of back-projection: of the anchor alone, and of all dates of a stack.

Dates are first laid under the anchor. Gain and offset of each band come from means and spreads of both around each
pixel, low-passed, since what is aliased differs between dates that are shifted against each other; pixels that changed
weigh little. A date then counts by its likeness to the anchor, around and at the pixel. Everything is local.
"""

from collections.abc import Mapping

import torch
import torch.nn.functional as F  # noqa: N812  the name everyone knows
from torch import Tensor, nn

from mapper.models.back_projection import Dates, back_project
from mapper.models.card import BURST, FARTHEST_SHIFT, LOOK_REACH, Card, reach_of_rounds
from mapper.models.contract import name_band
from mapper.models.gradients import prepare_only
from mapper.models.interpolation import fill_missing, find_anchor, upsample
from mapper.models.margin import Margin, find_margin
from mapper.models.views import PointSpread, register
from mapper.spec import ModelOptions

_FITS = 3
"""Fits of gain and offset, each with less weight on what the one before found changed."""
_SMOOTH = (1.0, 4.0, 6.0, 4.0, 1.0)
"""Binomial low pass, its taps in source pixels."""
_AROUND = 14
"""Radius of the surroundings of a pixel in source pixels."""
_NOISE = 0.05
"""Part of the spread of the anchor around a pixel within which dates are equally alike."""
_CHANGED = 1.0
"""Mean square of a difference, in units of the usual one around, at which a pixel weighs a quarter in a fit."""
_CHANGED_DATE = 3.0
"""The same, smoothed, at which a pixel of a date weighs half."""
_SEEN = 1e-3
_TINY = 1e-30


class BackProjection(nn.Module):
    """A model without parameters: ``back-projection`` of the anchor, or ``burst`` of all dates.

    Args:
        card: Which of the two, with its options.
        psf: What the sensor sees, in place of what the options say.
    """

    trims = True

    def __init__(self, card: Card, *, psf: PointSpread | None = None) -> None:
        super().__init__()
        self.farthest = FARTHEST_SHIFT if card.contract.model == BURST else 0
        self.contract = card.contract
        self.digest = card.digest
        self.options = ModelOptions(**card.options)
        self.psf = psf

    def forward(self, inputs: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """Sharpen each band of the source; see :class:`~mapper.models.model.Model`.

        Returns:
            (batch, 1, y, x) for each band, in the units of the source; NaN far from any value of the anchor.
        """
        with prepare_only():
            values = self._sharpen(inputs)
        return {name_band(at): values[:, at : at + 1] for at in range(values.shape[1])}

    def _sharpen(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """Return all bands, (batch, band, y, x)."""
        anchor = fill_missing(find_anchor(inputs))
        margin = find_margin(inputs)
        scale = inputs["guide"].shape[-2] // anchor.shape[-2]
        known = torch.isfinite(anchor).all(1, keepdim=True)
        shown = torch.where(known, anchor, 0.0)
        dates = Dates.of_anchor(shown, _erode(known, LOOK_REACH))
        if self.contract.model == BURST:
            dates = dates.join(match_dates(inputs, shown, known)).favour_anchor()
        reach = reach_of_rounds(self.options.rounds, self.farthest)
        values = back_project(
            dates.trim(margin, reach),
            anchor=margin.trim(shown, reach),
            scale=scale,
            rounds=self.options.rounds,
            psf=self.psf or PointSpread.of_protocol(scale, sd=self.options.psf),
            farthest=self.farthest,
            margin=margin.within(reach),
        )
        seen = torch.isfinite(upsample(margin.trim(anchor), scale, "nearest"))
        return torch.where(seen, values, torch.nan)


def match_dates(inputs: Mapping[str, Tensor], shown: Tensor, known: Tensor) -> Dates:
    """Return the dates of a stack with gains and offsets of the anchor, each weighted by its likeness to it.

    A pixel of a date that is the anchor's own has no weight: the anchor is there already. Weights are relative,
    from 0 to hundreds: the variance of the anchor around a pixel over what a date leaves of it.

    Args:
        inputs: As a model takes them: ``source`` and, where they are known, ``source.clear`` and ``source.shift``.
        shown: (batch, band, y, x) the anchor without NaN.
        known: (batch, 1, y, x) bool, where it is known.
    """
    source = inputs["source"]
    clear = torch.isfinite(source).all(2, keepdim=True)
    if "source.clear" in inputs:
        clear &= inputs["source.clear"][:, :, None]
    shift = inputs.get("source.shift")
    if shift is None:
        shift = source.new_zeros((*source.shape[:2], 2, *source.shape[-2:]))
    source = torch.where(clear, source, shown[:, None])
    own = (source == shown[:, None]).all(2, keepdim=True)
    pairs = [_match(source[:, at], clear[:, at], shift[:, at], shown, known) for at in range(source.shape[1])]
    values, weights = (torch.stack(each, 1) for each in zip(*pairs, strict=True))
    whole = _erode(known, LOOK_REACH + FARTHEST_SHIFT)[:, None]
    return Dates(values=values, clear=clear & whole, shift=shift, weights=torch.where(own, 0.0, weights))


def _match(date: Tensor, clear: Tensor, shift: Tensor, shown: Tensor, known: Tensor) -> tuple[Tensor, Tensor]:
    """Return one date in the gain and offset of the anchor, and its weights (batch, 1, y, x).

    Far from where both are known nothing has weight, and a date stays as it is: that is not computed.
    """
    both_laid = register(torch.cat([date, clear.to(date.dtype)], 1), shift)
    laid, seen = both_laid[:, :-1], both_laid[:, -1:]
    both = known & ((seen - 1).abs() < _SEEN)
    matched, weights = date.clone(), torch.zeros_like(seen)
    if both.any():
        empty = Margin.around(both, _AROUND + len(_SMOOTH) // 2)
        parts = _fit(*(empty.trim(each) for each in (date, laid, shown, both)))
        for whole, part in zip((matched, weights), parts, strict=True):
            empty.trim(whole).copy_(part)
    return matched, weights


def _fit(date: Tensor, laid: Tensor, shown: Tensor, known: Tensor) -> tuple[Tensor, Tensor]:
    """Return one date in the gain and offset of the anchor, and its weights (batch, 1, y, x), in double.

    Args:
        date: (batch, band, y, x).
        laid: The date as it lies under the anchor.
        shown: The anchor.
        known: (batch, 1, y, x) where both are known.
    """
    both = known.double()  # squares of large values that differ little
    whole = _smooth(both).clamp(min=_TINY)
    laid, target = (_smooth(both * each.double()) / whole for each in (laid, shown))
    weight = both
    for _ in range(_FITS):
        total = _add_around(weight).clamp(min=_TINY)
        mean, target_mean = (_add_around(weight * each) / total for each in (laid, target))
        spread, target_spread = (
            (_add_around(weight * each.square()) / total - middle.square()).clamp(min=0.0)
            for each, middle in ((laid, mean), (target, target_mean))
        )
        even = (spread <= 0) | (target_spread <= 0)
        gain = torch.where(even, 1.0, target_spread / torch.where(even, 1.0, spread)).sqrt()
        rest = (target - target_mean - gain * (laid - mean)).square()
        usual = _add_around(weight * rest) / total
        changed = (rest / usual.clamp(min=_TINY)).mean(1, keepdim=True)
        weight = both / (1 + changed / _CHANGED).square()
    noise = usual + (_NOISE**2 * target_spread).clamp(min=_TINY)
    excess = _smooth((rest / noise).mean(1, keepdim=True)) / _CHANGED_DATE
    weights = both * (target_spread / noise).mean(1, keepdim=True) / (1 + excess.square())
    return target_mean + gain * (date.double() - mean), weights


def _erode(known: Tensor, reach: int) -> Tensor:
    """Return where all around is known too: what is not is 0, which is nothing to look at."""
    return F.max_pool2d((~known).float(), 2 * reach + 1, 1, reach) == 0


def _smooth(image: Tensor) -> Tensor:
    """Return an image under a binomial low pass, edges repeated."""
    reach, total = len(_SMOOTH) // 2, sum(_SMOOTH)
    for axis in (2, 3):
        number = image.shape[axis]
        wide = F.pad(image, (reach, reach, 0, 0) if axis == 3 else (0, 0, reach, reach), mode="replicate")
        image = wide.narrow(axis, 0, number) * (_SMOOTH[0] / total)
        for at, tap in enumerate(_SMOOTH[1:], 1):
            image.add_(wide.narrow(axis, at, number), alpha=tap / total)
    return image


def _add_around(image: Tensor) -> Tensor:
    """Return the sum over the square around each pixel, of twice as many neighbours step by step; 0 lies beyond."""
    edge = 2 * _AROUND + 1
    for axis in (2, 3):
        number = image.shape[axis]
        run = F.pad(image, (_AROUND, _AROUND, 0, 0) if axis == 3 else (0, 0, _AROUND, _AROUND))
        total, done = run.narrow(axis, 0, number), 1
        for size in (2**power for power in range(1, edge.bit_length())):
            length = run.shape[axis] - size // 2
            run = run.narrow(axis, 0, length) + run.narrow(axis, size // 2, length)
            if edge & size:
                total, done = total + run.narrow(axis, done, number), done + size
        image = total
    return image
