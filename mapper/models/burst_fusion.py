"""Several dates as one finer image: classical back-projection of all dates, and a network that knows what it lacks.

Three thoughts:

1. *One band at a time, in any unit.* What the network sees are differences to the smoothed anchor, divided by its local
   contrast; both hang on a fixed window. So one network serves every sensor and any number of bands, and no patch has
   statistics of its own.
2. *Likeness.* Dates get gain and offset of the anchor, and count by how well they resemble it around a pixel: see
   :mod:`mapper.models.burst`. Back-projection of all of them together wins the detail that their aliasing carries: in
   few rounds with little noise, in many with more of both. The network says for each pixel how much of which, and what
   it adds starts from there.
3. *Order-free fusion.* Features of each date against the anchor are summed under learnt gates, divided by the sum of
   gates and a half: any number of dates in any order, or the anchor alone.
"""

from dataclasses import dataclass
from itertools import islice

import torch
import torch.nn.functional as F  # noqa: N812  the name everyone knows
from torch import Tensor, nn

from mapper.models.back_projection import Dates, PointSpread, back_project, back_project_by_rounds, reach_of, register
from mapper.models.burst import match_dates
from mapper.models.card import CELLS_PX, LIKENESS_REACH
from mapper.models.contrast import LocalContrast
from mapper.models.gradients import prepare_only
from mapper.models.interpolation import upsample
from mapper.models.model import Network, start_small
from mapper.models.mtg import Residual
from mapper.models.receptive_field import ReceptiveField, Span

_LEVEL_SD, _LEVEL_RADIUS = 5.0, 14
"""Source pixels: spread and end of the Gaussian that gives level and contrast."""
_EASE = 4.0
"""Steepness of the mix of few rounds and many."""


@dataclass(frozen=True, kw_only=True)
class _Seen:
    """Everything that the network is told, relative to level and contrast of the anchor."""

    image: Tensor
    """(batch, feature, y, x): dates back-projected in few rounds and in many, the anchor alone, anchor, weight of all
    dates."""
    dates: tuple[Tensor, ...]
    """Each (batch, feature, y, x): a date under the anchor, its difference to the anchor, its weight, whether it is."""
    few: Tensor
    """(batch, 1, y * scale, x * scale) dates back-projected in few rounds, in the units of the source."""
    many: Tensor
    """The same in many rounds; between both lies what the result is added to."""
    contrast: Tensor
    """(batch, 1, y * scale, x * scale) in the units of the source."""


class BurstFusion(Network):
    """The network.

    Args:
        guide_channels: None is looked at.
        scale: Source pixel / target pixel.
        width: Features on source pixels.
        blocks: Residual blocks, each of two 3 x 3 convolutions.
        features: Features of a date.
        rounds: Rounds of back-projection, few and many.
        psf: Point spread function of back-projection: standard deviation of a Gaussian in source pixels, and target
            pixels along an axis whose mean is taken; None is that of the protocol.
    """

    stacked = True
    any_bands = True
    gives_sd = True
    in_double = True
    cells_px = CELLS_PX

    def __init__(
        self,
        guide_channels: int,
        scale: int,
        *,
        width: int = 48,
        blocks: int = 5,
        features: int = 24,
        rounds: tuple[int, int] = (4, 12),
        psf: tuple[float, int] | None = None,
    ) -> None:
        super().__init__()
        if guide_channels:
            raise ValueError(f"looks at no guide, got {guide_channels} channels of one")
        if not 0 < rounds[0] < rounds[1]:
            raise ValueError(f"rounds must be few, then many, got {tuple(rounds)}")
        self.scale, self.rounds = scale, tuple(rounds)
        self.psf = PointSpread(sd=psf[0], mean_px=psf[1]) if psf else PointSpread.of_protocol(scale)
        fine = scale**2
        self.date = nn.Sequential(
            nn.Conv2d(2 * fine + 2, features, 3, padding=1), nn.GELU(), nn.Conv2d(features, features, 3, padding=1)
        )
        self.gate = nn.Conv2d(features, 1, 1)
        self.enter = nn.Conv2d(3 * fine + 2 + features, width, 3, padding=1)
        self.trunk = nn.ModuleList(Residual(width, start=1e-2) for _ in range(blocks))
        self.leave = start_small(nn.Conv2d(width, 3 * fine, 3, padding=1))
        self.around = LocalContrast(sd=_LEVEL_SD, radius=_LEVEL_RADIUS)

    def forward(self, source: Tensor, *, clear: Tensor, anchor: Tensor, shift: Tensor, guide: Tensor) -> Tensor:
        """Return mean and standard deviation of one band, in the units of the source.

        Inputs and output are those of :class:`~mapper.models.stack_model.StackModel`, the guide without a channel.
        """
        del guide
        with prepare_only(), torch.autocast(anchor.device.type, enabled=False):
            seen = self._prepare(source, clear, anchor, shift)
        features = self.enter(torch.cat([seen.image, self._fuse(seen)], 1))
        for block in self.trunk:
            features = block(features)
        change, mix, spread = F.pixel_shuffle(self.leave(F.gelu(features)).to(anchor.dtype), self.scale).chunk(3, 1)
        base = torch.lerp(seen.few, seen.many, torch.sigmoid(_EASE * mix))
        sd = F.softplus(spread - 2) * seen.contrast
        return torch.cat([base + change * seen.contrast, sd], 1)

    def _fuse(self, seen: _Seen) -> Tensor:
        """Return the features of all dates together, 0 where there is none; (batch, feature, y, x)."""
        total = seen.image.new_zeros((len(seen.image), self.gate.in_channels, *seen.image.shape[-2:]))
        gates = seen.image.new_full((len(seen.image), 1, *seen.image.shape[-2:]), 0.5)
        for each in seen.dates:
            told = self.date(each)
            gate = torch.sigmoid(self.gate(told)) * each[:, -1:]
            total, gates = total + gate * told, gates + gate
        return total / gates

    def _prepare(self, source: Tensor, clear: Tensor, anchor: Tensor, shift: Tensor) -> _Seen:
        known = torch.ones_like(anchor, dtype=torch.bool)
        dates = match_dates(
            {"source": torch.where(clear.bool(), source, torch.nan), "source.shift": shift}, anchor, known
        )
        own = Dates.of_anchor(anchor, known)
        few, many = self._back_project(own.join(dates).favour_anchor(), anchor)
        alone = back_project(own, anchor=anchor, scale=self.scale, rounds=self.rounds[0], psf=self.psf, farthest=0)
        level, contrast = self.around(anchor)
        fine_level, fine_contrast = (upsample(each, self.scale, "nearest") for each in (level, contrast))

        def fold(image: Tensor, middle: Tensor) -> Tensor:
            return F.pixel_unshuffle((image - middle) / fine_contrast, self.scale)

        seen = [*(fold(each, fine_level) for each in (few, many, alone)), (anchor - level) / contrast]
        told = []
        for at in range(dates.values.shape[1]):
            laid = register(dates.values[:, at], dates.shift[:, at], scale=self.scale)
            weight = dates.weights[:, at]
            parts = [fold(laid, fine_level), fold(laid, alone), _show(weight), (weight > 0).to(weight.dtype)]
            told.append(torch.cat(parts, 1))
        weights = dates.weights.sum(1)
        return _Seen(
            image=torch.cat([*seen, _show(weights)], 1), dates=tuple(told), few=few, many=many, contrast=fine_contrast
        )

    def _back_project(self, dates: Dates, anchor: Tensor) -> tuple[Tensor, Tensor]:
        """Return what dates saw together, in few rounds and in many."""
        images = back_project_by_rounds(dates, anchor=anchor, scale=self.scale, psf=self.psf)
        first, last = self.rounds
        few, many = (next(islice(images, more - 1, None)) for more in (first, last - first))
        return few, many

    def receptive_field(self, pixel: int) -> ReceptiveField:
        """Return what one target pixel depends on."""
        at = Span(pixel, pixel)
        cells = at.upsample(0, self.scale).conv(3)
        for _ in self.trunk:
            cells = cells.conv(5)
        reach = reach_of(self.scale, rounds=self.rounds[1], psf=self.psf) + LIKENESS_REACH
        return ReceptiveField(guide=at, source=cells.conv(3).conv(3).conv(3).conv(2 * reach + 1))


def _show(weight: Tensor) -> Tensor:
    """Return weights, from 0 to hundreds, as a feature."""
    return torch.log1p(weight) / 3
