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

from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812  the name everyone knows
from torch import Tensor, nn

from mapper.models.back_projection import Dates, back_project, back_project_by_rounds, reach_of
from mapper.models.burst import match_dates
from mapper.models.card import CELLS_PX, LIKENESS_REACH
from mapper.models.contrast import LocalContrast
from mapper.models.convolution import Convolution
from mapper.models.gradients import prepare_only
from mapper.models.margin import Margin
from mapper.models.model import Network, start_small
from mapper.models.mtg import Residual
from mapper.models.receptive_field import ReceptiveField, Span
from mapper.models.views import REGISTER_REACH, PointSpread, register

_LEVEL_SD, _LEVEL_RADIUS = 5.0, 14
"""Source pixels: spread and end of the Gaussian that gives level and contrast."""
_EASE = 4.0
"""Steepness of the mix of few rounds and many."""


@dataclass(frozen=True, kw_only=True)
class _Seen:
    """Everything that the network is told, relative to level and contrast of the anchor.

    Target pixels are features of the source pixel that they lie in.
    """

    image: Tensor
    """(batch, feature, y, x): dates back-projected in few rounds and in many, the anchor alone, anchor, weight of all
    dates."""
    dates: tuple[Tensor, ...]
    """Each (batch, feature, y, x): a date under the anchor, its difference to the anchor, its weight, whether it is."""
    few: Tensor
    """(batch, scale * scale, y, x) dates back-projected in few rounds, in the units of the source."""
    many: Tensor
    """The same in many rounds; between both lies what the result is added to."""
    contrast: Tensor
    """(batch, 1, y, x) in the units of the source."""


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
    trims = True
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
        self.date = nn.Sequential(Convolution(2 * fine + 2, features), nn.GELU(), Convolution(features, features))
        self.gate = nn.Conv2d(features, 1, 1)
        self.enter = Convolution(3 * fine + 2 + features, width)
        self.trunk = nn.ModuleList(Residual(width, start=1e-2) for _ in range(blocks))
        self.leave = start_small(Convolution(width, 3 * fine))
        self.around = LocalContrast(sd=_LEVEL_SD, radius=_LEVEL_RADIUS)

    def forward(
        self,
        source: Tensor,
        *,
        clear: Tensor,
        anchor: Tensor,
        shift: Tensor,
        guide: Tensor,
        margin: Margin | None = None,
    ) -> Tensor:
        """Return mean and standard deviation of one band, in the units of the source.

        Inputs and output are those of :class:`~mapper.models.stack_model.StackModel`, the guide without a channel;
        all is back-projected in the precision in which it comes. What comes out lacks the margin of what goes in.
        """
        del guide
        margin = margin or Margin()
        with prepare_only(), torch.autocast(anchor.device.type, enabled=False):
            seen = self._prepare(source, clear, anchor, shift, margin)
        features = self.enter(torch.cat([seen.image, self._fuse(seen)], 1))
        for block in self.trunk:
            features = block(features)
        change, mix, spread = self.leave(F.gelu(features)).to(seen.few.dtype).chunk(3, 1)
        base = torch.lerp(seen.few, seen.many, torch.sigmoid(_EASE * mix))
        sd = F.softplus(spread - 2) * seen.contrast
        found = F.pixel_shuffle(torch.cat([base + change * seen.contrast, sd], 1), self.scale)
        return margin.within(self._looks_px).trim(found, scale=self.scale)

    def _fuse(self, seen: _Seen) -> Tensor:
        """Return the features of all dates together, 0 where there is none; (batch, feature, y, x)."""
        total = seen.image.new_zeros((len(seen.image), self.gate.in_channels, *seen.image.shape[-2:]))
        gates = seen.image.new_full((len(seen.image), 1, *seen.image.shape[-2:]), 0.5)
        for each in seen.dates:
            told = self.date(each)
            gate = torch.sigmoid(self.gate(told)) * each[:, -1:]
            total, gates = total + gate * told, gates + gate
        return total / gates

    def _prepare(self, source: Tensor, clear: Tensor, anchor: Tensor, shift: Tensor, margin: Margin) -> _Seen:
        """Return what the network is told, as far around what is needed as its convolutions look."""
        kind, near = self.enter.weight.dtype, self._looks_px
        dates = match_dates(
            {"source": torch.where(clear.bool(), source, torch.nan), "source.shift": shift},
            anchor,
            torch.ones_like(anchor, dtype=torch.bool),
        )
        few, many, alone = (
            F.pixel_unshuffle(each.to(kind), self.scale) for each in self._back_project(dates, anchor, margin)
        )
        around = margin.within(near + self.around.reach)
        level, contrast = (
            around.trim(each, near) for each in self.around(margin.trim(anchor, near + self.around.reach).to(kind))
        )
        told = [self._tell(each, alone, (level, contrast)) for each in self._lay(dates, margin)]
        weights = margin.trim(dates.weights.sum(1), near).to(kind)
        image = [(each - level) / contrast for each in (few, many, alone, margin.trim(anchor, near).to(kind))]
        return _Seen(
            image=torch.cat([*image, _show(weights)], 1), dates=tuple(told), few=few, many=many, contrast=contrast
        )

    def _back_project(self, dates: Dates, anchor: Tensor, margin: Margin) -> tuple[Tensor, Tensor, Tensor]:
        """Return what dates saw together, in few rounds and in many, and the anchor alone."""
        reach = self._looks_px + self._reach
        dates, anchor = dates.trim(margin, reach), margin.trim(anchor, reach)
        margin = margin.within(reach).beyond(self._looks_px)
        own = Dates.of_anchor(anchor, torch.ones_like(anchor, dtype=torch.bool))
        few, many = back_project_by_rounds(
            own.join(dates).favour_anchor(),
            anchor=anchor,
            scale=self.scale,
            rounds=self.rounds,
            psf=self.psf,
            margin=margin,
        )
        alone = back_project(
            own, anchor=anchor, scale=self.scale, rounds=self.rounds[0], psf=self.psf, farthest=0, margin=margin
        )
        return few, many, alone

    def _lay(self, dates: Dates, margin: Margin) -> Iterator[tuple[Tensor, Tensor]]:
        """Return each date under the anchor, its target pixels as features, and its weight."""
        reach = self._looks_px + REGISTER_REACH
        dates, margin = dates.trim(margin, reach), margin.within(reach)
        for values, shift, weights in zip(
            *(each.unbind(1) for each in (dates.values, dates.shift, dates.weights)), strict=True
        ):
            laid = F.pixel_unshuffle(register(values, shift, scale=self.scale), self.scale)
            yield margin.trim(laid, self._looks_px), margin.trim(weights, self._looks_px)

    def _tell(self, date: tuple[Tensor, Tensor], alone: Tensor, local: tuple[Tensor, Tensor]) -> Tensor:
        """Return what the network is told of a date."""
        laid, weight = (each.to(alone.dtype) for each in date)
        level, contrast = local
        parts = [(laid - level) / contrast, (laid - alone) / contrast, _show(weight), (weight > 0).to(weight.dtype)]
        return torch.cat(parts, 1)

    @property
    def _looks_px(self) -> int:
        """Radius of all convolutions together, in source pixels."""
        return 4 + 2 * len(self.trunk)

    @property
    def _reach(self) -> int:
        """Radius of back-projection in source pixels."""
        return reach_of(self.scale, rounds=self.rounds[1], psf=self.psf)

    def receptive_field(self, pixel: int) -> ReceptiveField:
        """Return what one target pixel depends on."""
        at = Span(pixel, pixel)
        reach = self._looks_px + self._reach + LIKENESS_REACH
        return ReceptiveField(guide=at, source=at.upsample(reach, self.scale))


def _show(weight: Tensor) -> Tensor:
    """Return weights, from 0 to hundreds, as a feature."""
    return torch.log1p(weight) / 3
