"""Latent diffusion, small: what large generative models of satellite images do, to be measured against.

In the manner of LDSR-S2 (S. Donike, C. Aybar, L. Gomez-Chova, F. Kalaitzis: Trustworthy super-resolution of
multispectral Sentinel-2 imagery with latent diffusion. IEEE JSTARS 18 (2025), 6940-6952), a thousandth of its size:

1. An autoencoder (D. P. Kingma, M. Welling: Auto-encoding variational Bayes. ICLR 2014) turns squares of 4 x 4 pixels
   into a few numbers, and back.
2. The anchor, enlarged bilinearly, is encoded too. A U-Net with attention is shown its code beside a code under noise
   (R. Rombach and others: High-resolution image synthesis with latent diffusion models. CVPR 2022), and tells the
   velocity between both: unlike the noise alone, which LDSR-S2 tells, that is learnt in minutes (T. Salimans, J. Ho:
   Progressive distillation for fast sampling of diffusion models. ICLR 2022).
3. A sample begins as noise. In each step what is expected of its code is found, and noise of the next time put back
   (J. Song, C. Meng, S. Ermon: Denoising diffusion implicit models. ICLR 2021), with new noise for a part of it.

Group normalisation, attention, and the mean and spread of the image that it is given look at the whole patch: no halo
would do, so that no map is made with it. One band at a time, in any unit.
"""

import math
from itertools import pairwise

import torch
import torch.nn.functional as F  # noqa: N812  the name everyone knows
from torch import Tensor, nn

from mapper.models.interpolation import upsample
from mapper.models.model import Network, check_unguided

_TIMES = 1000
_BETAS = 1e-4, 0.0155
"""Variance of the noise that the first and the last time add."""
_ETA = 0.95
"""Part of the noise of a step that is new."""
_QUIET_STEPS = 10
"""Steps of a chain without noise."""
_GROUPS = 8
_SHRINK = 4
"""Pixels of an image along an edge of one of its code."""
_HALVED = 2
"""Pixels of the code along an edge of the coarsest pixel inside the U-Net."""
_SETTLING = 0.01
_LEAST_SPREAD = 1e-6
_LONGEST_LOG = 20.0


class LatentDiffusion(Network):
    """The network; 0.93 million parameters.

    Args:
        guide_channels: None is looked at.
        scale: Source pixel / target pixel.
        code: Numbers that stand for 4 x 4 pixels.
        base: Features of the autoencoder on pixels; twice and four times as many below.
        width: Features of the U-Net; twice as many below.

    Raises:
        ValueError: For a guide, a scale below 2, or features that do not divide into groups.
    """

    stacked = True
    any_bands = True
    stochastic = True
    tile_exact = False
    kept: Tensor
    spread: Tensor

    def __init__(self, guide_channels: int, scale: int, *, code: int = 4, base: int = 16, width: int = 48) -> None:
        super().__init__()
        check_unguided(guide_channels, scale)
        if base % _GROUPS or width % _GROUPS or not 0 < code <= _SHRINK**2:
            raise ValueError(
                f"needs features in groups of {_GROUPS} and a code of 1 to {_SHRINK**2} numbers, got {base}, {width} "
                f"and {code}"
            )
        self.scale, self.code = scale, code
        self.encoder = _make_encoder(code, base)
        self.decoder = _make_decoder(code, base)
        self.denoiser = _Denoiser(code, width)
        betas = torch.linspace(_BETAS[0] ** 0.5, _BETAS[1] ** 0.5, _TIMES, dtype=torch.float64).square()
        self.register_buffer("kept", (1 - betas).cumprod(0).float(), persistent=False)  # of the variance, by time
        self.register_buffer("spread", torch.ones(()))  # of codes, so that noise has their size

    @property
    def halo_px(self) -> int:
        """Return 0: each pixel depends on the whole patch, and no halo would do."""
        return 0

    @property
    def align_px(self) -> int:
        """Edges of its input are multiples of the coarsest pixel inside."""
        return _SHRINK * _HALVED

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
    ) -> Tensor:
        """Return a sample (batch, 1, y * scale, x * scale), in the units of the source; without noise from 0 on.

        With a truth, (batch, 3, y * scale, x * scale): the truth encoded and decoded; how much each pixel of its code
        tells, in nats; and the truth with the error of the velocity, each number at the pixels that it stands for, so
        that a loss finds it by taking off the truth.

        Args:
            source: Not looked at, as the other dates are.
            clear: Not looked at.
            anchor: (batch, 1, y, x).
            shift: Not looked at.
            guide: Without a channel.
            noise: (batch, step, 1, y * scale, x * scale), standard normal, for each step that is taken.
            truth: (batch, 1, y * scale, x * scale), NaN where unknown.
            time: (batch,) part of the way from noise to truth.
        """
        del source, clear, shift, guide
        level, contrast = anchor.mean((2, 3), keepdim=True), anchor.std((2, 3), keepdim=True) + _LEAST_SPREAD
        told = (upsample(anchor, self.scale, "bilinear") - level) / contrast
        if truth is not None and noise is not None and time is not None:
            known = torch.where(torch.isfinite(truth), (truth - level) / contrast, told)
            image, told_nats, error = self._learn(known, told, noise[:, 0], time)
            return torch.cat([level + contrast * image, contrast * told_nats, truth + contrast * error], 1)
        eta = 0.0 if noise is None else _ETA
        noise = told.new_zeros((len(told), _QUIET_STEPS, *told.shape[1:])) if noise is None else noise
        decoded: Tensor = self.decoder(self.spread * self._walk(self._encode(told), noise, eta))
        return level + contrast * decoded

    def _learn(self, truth: Tensor, told: Tensor, noise: Tensor, time: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the truth as decoded, the nats of its code, and the error of the velocity, on pixels."""
        mean, log_variance = self.encoder(truth).chunk(2, 1)
        log_variance = log_variance.clamp(-_LONGEST_LOG, _LONGEST_LOG)
        code = mean + (0.5 * log_variance).exp() * torch.randn_like(mean)
        nats = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum(1, keepdim=True)
        self._settle(code)
        clean = (code / self.spread).detach()  # an autoencoder does not learn what is easy to tell
        when = ((1 - time) * (_TIMES - 1)).round().long()
        kept = self.kept[when][:, None, None, None]
        over = self._fold(noise)
        state = kept.sqrt() * clean + (1 - kept).sqrt() * over
        velocity = kept.sqrt() * over - (1 - kept).sqrt() * clean
        error = self.denoiser(state, self._encode(told).detach(), when) - velocity
        return self.decoder(code), _enlarge(nats), F.pixel_shuffle(self._fill(error), _SHRINK)

    @torch.no_grad()
    def _settle(self, code: Tensor) -> None:
        if self.training:
            self.spread.lerp_(code.float().std(), _SETTLING)

    def _encode(self, image: Tensor) -> Tensor:
        """Return the likeliest code of an image, of unit spread."""
        code: Tensor = self.encoder(image).chunk(2, 1)[0] / self.spread
        return code

    def _walk(self, told: Tensor, noise: Tensor, eta: float) -> Tensor:
        """Return the code at the end of a chain of as many steps as the noise has, in each a part of it new."""
        times = torch.linspace(_TIMES - 1, 0, noise.shape[1] + 1, device=told.device).round().long()
        state = self._fold(noise[:, 0])
        for step, (when, following) in enumerate(pairwise(times)):
            last = step == noise.shape[1] - 1
            kept, later = self.kept[when], torch.ones_like(self.kept[0]) if last else self.kept[following]
            velocity = self.denoiser(state, told, when.expand(len(state)))
            clean = kept.sqrt() * state - (1 - kept).sqrt() * velocity
            over = (1 - kept).sqrt() * state + kept.sqrt() * velocity
            fresh = eta * ((1 - later) / (1 - kept) * (1 - kept / later)).clamp(min=0).sqrt()
            state = later.sqrt() * clean + (1 - later - fresh.square()).clamp(min=0).sqrt() * over
            if not last:
                state = state + fresh * self._fold(noise[:, step + 1])
        return state

    def _fold(self, noise: Tensor) -> Tensor:
        """Return noise of pixels as that of a code: of as many of its 4 x 4 pixels as it has numbers."""
        return F.pixel_unshuffle(noise, _SHRINK)[:, : self.code]

    def _fill(self, code: Tensor) -> Tensor:
        """Return a code repeated until it has a number for each of its 4 x 4 pixels."""
        times = -(-(_SHRINK**2) // self.code)
        return code.repeat(1, times, 1, 1)[:, : _SHRINK**2]


class _Denoiser(nn.Module):
    """U-Net of two levels, attention on the lower, that tells the velocity of a code; (batch, code, y, x)."""

    def __init__(self, code: int, width: int) -> None:
        super().__init__()
        self.width = width
        self.clock = nn.Sequential(nn.Linear(width, 2 * width), nn.SiLU(), nn.Linear(2 * width, 2 * width))
        self.enter = nn.Conv2d(2 * code, width, 3, padding=1)
        self.down = _Block(width, width, clock=2 * width)
        self.halve = nn.Conv2d(width, 2 * width, 3, stride=_HALVED, padding=1)
        self.low = _Block(2 * width, 2 * width, clock=2 * width)
        self.attention = _Attention(2 * width)
        self.middle = _Block(2 * width, 2 * width, clock=2 * width)
        self.enlarge = nn.Conv2d(2 * width, width, 3, padding=1)
        self.up = _Block(2 * width, width, clock=2 * width)
        self.leave = nn.Sequential(nn.GroupNorm(_GROUPS, width), nn.SiLU(), nn.Conv2d(width, code, 3, padding=1))

    def forward(self, state: Tensor, told: Tensor, when: Tensor) -> Tensor:
        """Return the velocity of a code under noise at a time (batch,), by the code of the anchor."""
        clock = self.clock(_wave(when, self.width).to(state.dtype))
        first = self.down(self.enter(torch.cat([state, told], 1)), clock)
        low = self.middle(self.attention(self.low(self.halve(first), clock)), clock)
        doubled = self.enlarge(F.interpolate(low, scale_factor=float(_HALVED), mode="nearest"))
        velocity: Tensor = self.leave(self.up(torch.cat([doubled, first], 1), clock))
        return velocity


class _Block(nn.Module):
    """Two normalised convolutions beside the straight way, the second maybe under a clock."""

    def __init__(self, inputs: int, outputs: int, *, clock: int = 0) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.GroupNorm(_GROUPS, inputs), nn.SiLU(), nn.Conv2d(inputs, outputs, 3, padding=1))
        self.second = nn.Sequential(
            nn.GroupNorm(_GROUPS, outputs), nn.SiLU(), nn.Conv2d(outputs, outputs, 3, padding=1)
        )
        self.turn = nn.Linear(clock, outputs) if clock else None
        self.straight = nn.Conv2d(inputs, outputs, 1) if inputs != outputs else nn.Identity()

    def forward(self, features: Tensor, clock: Tensor | None = None) -> Tensor:
        """Return features of the same size; clock (batch, feature)."""
        inner = self.first(features)
        if self.turn is not None:
            inner = inner + self.turn(clock)[:, :, None, None]
        changed: Tensor = self.straight(features) + self.second(inner)
        return changed


class _Attention(nn.Module):
    """Attention of each pixel over all of the patch, beside the straight way."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(_GROUPS, width)
        self.ask = nn.Conv2d(width, 3 * width, 1)
        self.answer = nn.Conv2d(width, width, 1)

    def forward(self, features: Tensor) -> Tensor:
        """Return features of the same shape."""
        query, key, value = self.ask(self.norm(features)).flatten(2).mT.chunk(3, 2)
        found = F.scaled_dot_product_attention(query, key, value).mT.reshape(features.shape)
        attended: Tensor = features + self.answer(found)
        return attended


def _make_encoder(code: int, base: int) -> nn.Sequential:
    """Return layers from an image to mean and log variance of its code."""
    return nn.Sequential(
        nn.Conv2d(1, base, 3, padding=1),
        _Block(base, base),
        nn.Conv2d(base, 2 * base, 3, stride=2, padding=1),
        _Block(2 * base, 2 * base),
        nn.Conv2d(2 * base, 4 * base, 3, stride=2, padding=1),
        _Block(4 * base, 4 * base),
        nn.GroupNorm(_GROUPS, 4 * base),
        nn.SiLU(),
        nn.Conv2d(4 * base, 2 * code, 3, padding=1),
    )


def _make_decoder(code: int, base: int) -> nn.Sequential:
    """Return layers from a code to its image."""
    return nn.Sequential(
        nn.Conv2d(code, 4 * base, 3, padding=1),
        _Block(4 * base, 4 * base),
        nn.Conv2d(4 * base, 8 * base, 3, padding=1),
        nn.PixelShuffle(2),
        _Block(2 * base, 2 * base),
        nn.Conv2d(2 * base, 4 * base, 3, padding=1),
        nn.PixelShuffle(2),
        _Block(base, base),
        nn.GroupNorm(_GROUPS, base),
        nn.SiLU(),
        nn.Conv2d(base, 1, 3, padding=1),
    )


def _wave(when: Tensor, width: int) -> Tensor:
    """Return sines and cosines of a time, (batch, width)."""
    rates = torch.exp(-math.log(10_000) * torch.arange(width // 2, device=when.device) / (width // 2))
    angles = when[:, None] * rates
    return torch.cat([angles.sin(), angles.cos()], 1)


def _enlarge(code: Tensor) -> Tensor:
    return code.repeat_interleave(_SHRINK, 2).repeat_interleave(_SHRINK, 3)
