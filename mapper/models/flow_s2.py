"""Flow in few steps: the likeliest finer image, how far off it may be, and samples of what may be there instead.

Flow matching (Lipman, Chen, Ben-Hamu, Nickel and Le, "Flow matching for generative modeling", ICLR 2023) follows
straight paths from noise to images. Here the path leads to what a regression leaves, in units of the deviation that it
expects (compare the residual corrective diffusion of Mardani et al., 2023):

1. *Mean.* The first step sees no noise. It gives the mean and the standard deviation of what is left. The mean starts
   from the anchor back-projected (or all dates of a stack together): for each pixel somewhere between few rounds and
   many, which bring detail and noise alike. One step is a regression, the mode of least error.
2. *Samples.* With the mean m, the deviation s and noise z, the truth is m + s e. On the straight path the state is
   x = (1 - t) z + t e. Further steps ask a second network for e, where the path ends, and go a part of the way there.
   After K steps m + s x is a sample: the mode of detail. The number of steps is chosen when a map is made. More
   steps keep more of the spread.

One band at a time, in any unit: what is seen are differences to the local level in units of the local contrast. There
is no normalisation over a patch and no attention, so that all hangs on a fixed window, which grows with each step.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812  the name everyone knows
from torch import Tensor, nn

from mapper.models.back_projection import Dates, back_project_by_rounds, reach_of
from mapper.models.burst import match_dates
from mapper.models.card import CELLS_PX, FARTHEST_SHIFT, LIKENESS_REACH
from mapper.models.contrast import LocalContrast
from mapper.models.gradients import prepare_only
from mapper.models.interpolation import upsample
from mapper.models.margin import Margin
from mapper.models.model import Network, start_small
from mapper.models.receptive_field import ReceptiveField, Span

_LEVEL_SD, _LEVEL_RADIUS = 3.0, 8
"""Source pixels: spread and end of the Gaussian that gives level and contrast."""
_EASE = 4.0
"""Steepness of the mix of few rounds and many."""
_LEAST_SD = 1e-3
"""Least standard deviation, in units of the contrast."""
_FARTHEST = 6.0
"""Standard deviations at which what the mean leaves is cut off, in training."""
_STRENGTH = 0.9
"""Part of the noise that paths begin with: with it 4 to 8 steps give gradients as strong as the truth's, .95 to 1.09 of
them on images of no place; with all of the noise 1.03 to 1.18."""
_TIME_WIDTH = 32


@dataclass(frozen=True, kw_only=True)
class _Seen:
    """Features of a stack that the network is told, and the units that it answers in."""

    told: Tensor
    """(batch, feature, y, x), in units of the contrast."""
    base: Tensor
    """(batch, 1, y * scale, x * scale) few rounds of back-projection, in the units of the source."""
    more: Tensor
    """The same in the units of the contrast: what many rounds add to few."""
    contrast: Tensor
    """(batch, 1, y * scale, x * scale) in the units of the source."""


@dataclass(frozen=True, kw_only=True)
class _Regressed:
    """Mean and deviation beyond the base, in units of the contrast; (batch, 1, y * scale, x * scale)."""

    mean: Tensor
    sd: Tensor
    base: Tensor
    contrast: Tensor
    features: Tensor
    """(batch, feature, y, x) that they were found from, and that the flow is told."""

    def trim(self, margin: Margin, scale: int) -> "_Regressed":
        """Return what is needed of it."""
        fine = {name: margin.trim(getattr(self, name), scale=scale) for name in ("mean", "sd", "base", "contrast")}
        return _Regressed(**fine, features=margin.trim(self.features))

    def give(self, value: Tensor) -> Tensor:
        """Return a value beyond the base in the units of the source."""
        return self.base + value * self.contrast


class FlowS2(Network):
    """The network.

    Args:
        guide_channels: None is looked at.
        scale: Source pixel / target pixel.
        width: Features of the mean, on source pixels.
        blocks: Residual blocks of the mean, each of two 3 x 3 convolutions.
        flow_width: Features of the flow.
        flow_blocks: Residual blocks of the flow.
        rounds: Rounds of back-projection, few and many.
        burst: True looks at all dates of a stack, False at the anchor alone.
    """

    stacked = True
    any_bands = True
    gives_sd = True
    stochastic = True
    trims = True

    def __init__(  # noqa: PLR0913 - options of an architecture
        self,
        guide_channels: int,
        scale: int,
        *,
        width: int = 96,
        blocks: int = 5,
        flow_width: int = 96,
        flow_blocks: int = 4,
        rounds: tuple[int, int] = (3, 9),
        burst: bool = False,
    ) -> None:
        super().__init__()
        if guide_channels or scale < 2 or blocks < 1 or flow_blocks < 1:
            raise ValueError(
                "takes no guide channels, a scale of at least 2 and a block of each kind, got "
                f"{guide_channels}, {scale}, {blocks} and {flow_blocks}"
            )
        if not 0 < rounds[0] < rounds[1]:
            raise ValueError(f"rounds must be few, then many, got {tuple(rounds)}")
        self.scale, self.rounds, self.burst = scale, tuple(rounds), burst
        self.cells_px = CELLS_PX if burst else 0
        fine = scale**2
        told = (4 * fine + 2) if burst else 2 * fine + 1
        self.around = LocalContrast(sd=_LEVEL_SD, radius=_LEVEL_RADIUS)
        self.enter = nn.Conv2d(told, width, 3, padding=1)
        self.trunk = nn.ModuleList(_Block(width) for _ in range(blocks))
        self.leave = start_small(nn.Conv2d(width, 3 * fine, 3, padding=1))
        self.time = nn.Sequential(nn.Linear(3, _TIME_WIDTH), nn.SiLU())
        self.flow_enter = nn.Conv2d(told + width + 3 * fine, flow_width, 3, padding=1)
        self.flow_trunk = nn.ModuleList(_Block(flow_width, timed=True) for _ in range(flow_blocks))
        self.flow_leave = start_small(nn.Conv2d(flow_width, fine, 3, padding=1))

    def forward(  # noqa: PLR0913 - what networks of stacks are called with, and what belongs to samples
        self,
        source: Tensor,
        *,
        clear: Tensor,
        anchor: Tensor,
        shift: Tensor,
        guide: Tensor,
        noise: Tensor | None = None,
        truth: Tensor | None = None,
        time: Tensor | None = None,
        margin: Margin | None = None,
    ) -> Tensor:
        """Return (batch, 2 or 3, y * scale, x * scale), in the units of the source.

        Without noise that is the mean and the standard deviation of what it leaves. With noise: a sample, that
        deviation, and the mean. With a truth: the mean, the deviation, and what is expected of the truth as it
        lies under noise at a time.

        Args:
            source: (batch, date, 1, y, x), 0 where missing.
            clear: (batch, date, 1, y, x), 1 where a date is used, else 0.
            anchor: (batch, 1, y, x).
            shift: (batch, date, 2, y, x), source pixels.
            guide: Without a channel.
            noise: (batch, step, 1, y * scale, x * scale), standard normal. Its steps are those that are taken; the
                first is what the path begins with, the others are not looked at.
            truth: (batch, 1, y * scale, x * scale), NaN where unknown.
            time: (batch,) part of the way from noise to truth.
            margin: Of all these, which the result comes without.
        """
        del guide
        margin = margin or Margin()
        looks = 0 if noise is None else (noise.shape[1] - 1) * self._flow_looks
        with prepare_only(), torch.autocast(anchor.device.type, enabled=False):
            seen = self._prepare(source, clear, anchor, shift, margin.beyond(looks))
        found = self._regress(seen).trim(margin.beyond(looks).within(self._mean_looks), self.scale)
        if noise is None:
            return torch.cat([found.give(found.mean), found.sd * found.contrast], 1)
        if truth is None or time is None:
            return self._sample(found, margin.trim(noise, looks, scale=self.scale), margin.within(looks))
        mean, sd = found.mean.detach(), found.sd.detach()
        left = ((truth - found.base) / found.contrast - mean) / sd
        left = torch.where(torch.isfinite(left), left, 0.0).clamp(-_FARTHEST, _FARTHEST)
        part = time[:, None, None, None]
        state = (1 - part) * noise[:, 0] + part * left
        expected = mean + sd * self._expect(self._tell(found), state, time)
        return torch.cat([found.give(found.mean), found.sd * found.contrast, found.give(expected)], 1)

    def _regress(self, seen: _Seen) -> _Regressed:
        features = self.enter(seen.told)
        for block in self.trunk:
            features = block(features)
        features = F.silu(features)
        change, mix, spread = self._unfold(self.leave(features), seen.base).chunk(3, 1)
        return _Regressed(
            mean=torch.sigmoid(_EASE * mix) * seen.more + change,
            sd=F.softplus(spread - 2) + _LEAST_SD,
            base=seen.base,
            contrast=seen.contrast,
            features=torch.cat([seen.told, features], 1),
        )

    def _tell(self, found: _Regressed) -> Tensor:
        """Return what the flow is told, which does not teach the mean."""
        fine = (self._fold(each) for each in (found.mean, found.sd.log()))
        return torch.cat([found.features, *fine], 1).detach()

    def _sample(self, found: _Regressed, noise: Tensor, margin: Margin) -> Tensor:
        """Return a sample, the deviation and the mean, without the margin."""
        drawn, found = self._walk(self._tell(found), noise, margin), found.trim(margin, self.scale)
        return torch.cat(
            [found.give(found.mean + found.sd * drawn), found.sd * found.contrast, found.give(found.mean)], 1
        )

    def _walk(self, told: Tensor, noise: Tensor, margin: Margin) -> Tensor:
        """Return where the path ends that begins with noise, in so many steps as that has, without the margin."""
        steps = noise.shape[1]
        if steps == 1:
            return 0 * noise[:, 0]  # where the path ends, as far as one knows without a look at noise
        state = noise[:, 0] * (_STRENGTH * (1 - 1 / steps))
        for step in range(1, steps):
            now = torch.full_like(told[:, 0, 0, 0], step / steps)
            state = state + (self._expect(told, state, now) - state) / (steps - step)
            reach = (steps - 1 - step) * self._flow_looks
            told, state = margin.trim(told, reach), margin.trim(state, reach, scale=self.scale)
            margin = margin.within(reach)
        return state

    def _expect(self, told: Tensor, state: Tensor, time: Tensor) -> Tensor:
        """Return where a path is expected to end that is somewhere at a time, (batch, 1, y, x)."""
        clock = self.time(torch.stack([time, time.square(), (1 - time).sqrt()], 1))
        features = self.flow_enter(torch.cat([told, self._fold(state)], 1))
        for block in self.flow_trunk:
            features = block(features, clock)
        part = time[:, None, None, None]
        bend = part / (part.square() + (1 - part).square())  # what is expected of unit noise without a condition
        return bend * state + self._unfold(self.flow_leave(F.silu(features)), state)

    def _prepare(self, source: Tensor, clear: Tensor, anchor: Tensor, shift: Tensor, margin: Margin) -> _Seen:
        """Return what the network is told, as far around what is needed as the convolutions of the mean look."""
        known, near = torch.ones_like(anchor, dtype=torch.bool), self._mean_looks
        own = Dates.of_anchor(anchor, known)
        few, many = self._back_project(own, anchor, margin)
        level, contrast = (margin.trim(each, near) for each in self.around(anchor))
        fine_level, fine_contrast = (upsample(each, self.scale, "nearest") for each in (level, contrast))

        def fold(*images: Tensor) -> list[Tensor]:
            return [self._fold((image - fine_level) / fine_contrast) for image in images]

        told = [*fold(few, many), (margin.trim(anchor, near) - level) / contrast]
        if self.burst:
            dates = match_dates(
                {"source": torch.where(clear.bool(), source, torch.nan), "source.shift": shift}, anchor, known
            )
            few, many = self._back_project(own.join(dates).favour_anchor(), anchor, margin)
            weight = torch.log1p(margin.trim(dates.weights.sum(1), near)) / 3  # from 0 to hundreds
            told = [*fold(few, many), *told, weight]
        return _Seen(told=torch.cat(told, 1), base=few, more=(many - few) / fine_contrast, contrast=fine_contrast)

    def _back_project(self, dates: Dates, anchor: Tensor, margin: Margin) -> tuple[Tensor, Tensor]:
        """Return what dates saw together, in few rounds and in many; of the anchor alone nothing is shifted."""
        few, many = back_project_by_rounds(
            dates,
            anchor=anchor,
            scale=self.scale,
            rounds=self.rounds,
            farthest=0 if dates.values.shape[1] == 1 else FARTHEST_SHIFT,
            margin=margin.beyond(self._mean_looks),
        )
        return few, many

    def _fold(self, image: Tensor) -> Tensor:
        """Return target pixels as channels of the source pixel that they lie in."""
        return F.pixel_unshuffle(image, self.scale)

    def _unfold(self, cells: Tensor, like: Tensor) -> Tensor:
        return F.pixel_shuffle(cells.to(like.dtype), self.scale)

    @property
    def _mean_looks(self) -> int:
        """Radius of the convolutions of the mean together, in source pixels."""
        return 2 * len(self.trunk) + 2

    @property
    def _flow_looks(self) -> int:
        """The same of one step of the flow."""
        return 2 * len(self.flow_trunk) + 2

    def receptive_field(self, pixel: int) -> ReceptiveField:
        """Return what one target pixel of the mean depends on; each further step adds :attr:`step_px`."""
        at = Span(pixel, pixel)
        cells = at.upsample(0, self.scale).conv(3).conv(3)
        for _ in self.trunk:
            cells = cells.conv(5)
        reach = reach_of(self.scale, rounds=self.rounds[1], farthest=FARTHEST_SHIFT if self.burst else 0)
        reach = max(reach + (LIKENESS_REACH if self.burst else 0), self.around.reach)
        return ReceptiveField(guide=at, source=cells.conv(2 * reach + 1))

    @property
    def step_px(self) -> int:
        """Target pixels by which the receptive field grows with each step after the first."""
        return self._flow_looks * self.scale


class _Block(nn.Module):
    """Two 3 x 3 convolutions and what goes around them, maybe under a clock; begins nearly as the identity.

    Args:
        width: Features.
        timed: True for one whose features a clock scales and shifts.
    """

    def __init__(self, width: int, *, timed: bool = False) -> None:
        super().__init__()
        self.first = nn.Conv2d(width, width, 3, padding=1)
        self.second = nn.Conv2d(width, width, 3, padding=1)
        self.turn = nn.Linear(_TIME_WIDTH, 2 * width) if timed else None
        for layer in (self.second, self.turn):
            for parameter in layer.parameters() if layer is not None else ():
                nn.init.normal_(parameter, std=1e-2 if parameter.ndim > 1 else 0.0)

    def forward(self, features: Tensor, clock: Tensor | None = None) -> Tensor:
        """Return features of the same shape; clock (batch, feature)."""
        inner: Tensor = self.first(features)
        if self.turn is not None:
            gain, offset = self.turn(clock)[:, :, None, None].chunk(2, 1)
            inner = inner * (1 + gain) + offset
        change: Tensor = self.second(F.silu(inner))
        return features + change
