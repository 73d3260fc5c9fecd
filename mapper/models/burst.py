"""Models of back-projection: of the anchor alone, and of all dates of a stack.

Dates are first laid under the anchor. Gain and offset of each band come from means and spreads of both around each
pixel, low-passed, since what is aliased differs between dates that are shifted against each other; pixels that changed
weigh little. A date then counts by its likeness to the anchor, around and at the pixel. Everything is local.
"""

from collections.abc import Mapping

import torch
import torch.nn.functional as F  # noqa: N812  the name everyone knows
from torch import Tensor, nn

from mapper.models.back_projection import Dates, PointSpread, back_project, register
from mapper.models.card import BURST, FARTHEST_SHIFT, LOOK_REACH, Card
from mapper.models.contract import name_band
from mapper.models.gradients import prepare_only
from mapper.models.interpolation import fill_missing, find_anchor, upsample
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
        scale = inputs["guide"].shape[-2] // anchor.shape[-2]
        known = torch.isfinite(anchor).all(1, keepdim=True)
        shown = torch.where(known, anchor, 0.0)
        dates = Dates.of_anchor(shown, _erode(known, LOOK_REACH))
        if self.contract.model == BURST:
            dates = dates.join(match_dates(inputs, shown, known)).favour_anchor()
        values = back_project(
            dates,
            anchor=shown,
            scale=scale,
            rounds=self.options.rounds,
            psf=self.psf or PointSpread.of_protocol(scale, sd=self.options.psf),
            farthest=self.farthest,
        )
        return torch.where(torch.isfinite(upsample(anchor, scale, "nearest")), values, torch.nan)


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
    """Return one date in the gain and offset of the anchor, and its weights (batch, 1, y, x)."""
    laid, seen = register(date, shift), register(clear.to(date.dtype), shift)
    both = (known & ((seen - 1).abs() < _SEEN)).double()  # squares of large values that differ little
    whole = _smooth(both).clamp(min=_TINY)
    laid, target = (_smooth(both * each.double()) / whole for each in (laid, shown))
    changed: Tensor | float = 0.0
    for _ in range(_FITS):
        weight = both / (1 + changed / _CHANGED) ** 2
        mean, target_mean = (_mean_around(each, weight) for each in (laid, target))
        spread, target_spread = (
            (_mean_around(each.square(), weight) - middle.square()).clamp(min=0.0)
            for each, middle in ((laid, mean), (target, target_mean))
        )
        even = (spread <= 0) | (target_spread <= 0)
        gain = torch.where(even, 1.0, target_spread / torch.where(even, 1.0, spread)).sqrt()
        rest = (target - target_mean - gain * (laid - mean)).square()
        usual = _mean_around(rest, weight)
        changed = (rest / usual.clamp(min=_TINY)).mean(1, keepdim=True)
    noise = usual + (_NOISE**2 * target_spread).clamp(min=_TINY)
    excess = _smooth((rest / noise).mean(1, keepdim=True)) / _CHANGED_DATE
    weights = both * (target_spread / noise).mean(1, keepdim=True) / (1 + excess.square())
    matched = target_mean + gain * (date.double() - mean)
    return matched.to(date.dtype), weights.to(date.dtype)


def _erode(known: Tensor, reach: int) -> Tensor:
    """Return where all around is known too: what is not is 0, which is nothing to look at."""
    return F.max_pool2d((~known).float(), 2 * reach + 1, 1, reach) == 0


def _smooth(image: Tensor) -> Tensor:
    """Return an image under a binomial low pass, edges repeated."""
    reach, total = len(_SMOOTH) // 2, sum(_SMOOTH)
    for axis in (2, 3):
        number = image.shape[axis]
        wide = F.pad(image, (reach, reach, 0, 0) if axis == 3 else (0, 0, reach, reach), mode="replicate")
        image = torch.stack([tap / total * wide.narrow(axis, at, number) for at, tap in enumerate(_SMOOTH)]).sum(0)
    return image


def _mean_around(image: Tensor, weight: Tensor) -> Tensor:
    """Return the weighted mean over the square around each pixel; 0 where nothing has weight."""
    edge = 2 * _AROUND + 1
    sums = [
        F.avg_pool2d(F.avg_pool2d(each, (edge, 1), 1, (_AROUND, 0)), (1, edge), 1, (0, _AROUND))
        for each in (weight * image, weight)
    ]
    return sums[0] / sums[1].clamp(min=_TINY)
