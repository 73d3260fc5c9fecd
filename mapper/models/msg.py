"""MSG: multi-scale guidance. The coarse map is upsampled in stages, each fused with guide features of its resolution.

After Hui, Loy and Tang, "Depth map super-resolution by deep multi-scale guidance" (2016), for any number of guide
channels and any integer scale: one stage per prime factor, the largest first, so that most work is done on few pixels
and the last step is a small one (10 = 5 x 2). What differs from the paper, and why:

* constants of normalisation are fixed at training; the minimum and maximum of an image would leave seams;
* the guide enters as it is, not as its own high frequencies: how green or how bright a place is tells how much grows
  there, not only where an edge runs;
* ``source_input="full"`` feeds the coarse map itself and adds to its bicubic interpolation. The classic ``"high"``
  feeds the map minus its 3 x 3 mean and adds to the interpolated mean: the network then never learns the level.
"""

from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F  # noqa: N812  the name everyone knows
from torch import Tensor, nn

from mapper.models.interpolation import upsample
from mapper.models.model import Network
from mapper.models.receptive_field import ReceptiveField, Span

_BICUBIC_RADIUS = 2


class MSG(Network):
    """The network, on normalised values.

    Args:
        guide_channels: Channels of the guide; 0 upsamples without a guide.
        scale: Source pixel / target pixel.
        width: Features per layer; 32 is the published size.
        mix: Channels that the guide is mixed down to, pixel by pixel, before the first wide convolution: a guide of
            many bands and dates then costs little, and learns from few pixels. None leaves the guide as it is.
        source_input: Whether the network sees the coarse map (``full``) or only its high frequencies (``high``).
    """

    def __init__(
        self,
        guide_channels: int,
        scale: int,
        *,
        width: int = 32,
        mix: int | None = None,
        source_input: Literal["high", "full"] = "high",
    ) -> None:
        super().__init__()
        if scale < 2:
            raise ValueError(f"scale must be at least 2, got {scale}")
        self.scale = scale
        self.source_input = source_input
        self.factors = prime_factors(scale)
        inner = self.factors[1:]
        wide = 2 * width if guide_channels else width
        self.guide_head = _guide_head(guide_channels, width, mix) if guide_channels else None
        self.guide_steps = nn.ModuleList(
            nn.Sequential(_conv(width, width), _Pool(factor)) for factor in (reversed(inner) if guide_channels else ())
        )
        self.head = nn.Sequential(_conv(1, 2 * width), _Lift(2 * width, width, self.factors[0]))
        self.stages = nn.ModuleList(
            nn.Sequential(_conv(wide, width), _conv(width, width), _Lift(width, width, factor)) for factor in inner
        )
        self.tail = nn.Sequential(_conv(wide, width), _conv(width, width), _conv(width, width))
        self.last = nn.Conv2d(width, 1, 5, padding=2)
        nn.init.normal_(self.last.weight, std=1e-3)  # training starts from bicubic
        nn.init.zeros_(self.last.bias)  # type: ignore[arg-type]

    def forward(self, guide: Tensor, source: Tensor) -> Tensor:
        """Return the sharpened source.

        Args:
            guide: (batch, guide channels, y, x), normalised, 0 where missing.
            source: (batch, 1, y / scale, x / scale), normalised.

        Returns:
            (batch, 1, y, x), in the normalisation of the source.
        """
        smooth = source if self.source_input == "full" else _box_mean(source)
        features = self.head(source if self.source_input == "full" else source - smooth)
        pyramid = self._pyramid(guide)
        for stage, coarse in zip(self.stages, pyramid[:-1], strict=True):
            features = stage(_join(coarse, features))
        detail = self.last(self.tail(_join(pyramid[-1], features)))
        target: Tensor = upsample(smooth, self.scale, "bicubic") + detail  # float32 even where detail is shorter
        return target

    def _pyramid(self, guide: Tensor) -> list[Tensor | None]:
        """Return guide features from the coarsest stage to full resolution."""
        if self.guide_head is None:
            return [None] * len(self.factors)
        levels = [self.guide_head(guide)]
        for step in self.guide_steps:
            levels.append(step(levels[-1]))
        return levels[::-1]

    def receptive_field(self, pixel: int) -> ReceptiveField:
        """Return what one target pixel depends on."""
        span = Span(pixel, pixel).conv(5).conv(5).conv(5).conv(5)
        guide = Span(pixel, pixel) if self.guide_head is None else span.conv(5).conv(7)
        below: list[int] = []
        for factor in reversed(self.factors[1:]):
            below.append(factor)
            span = _lift_span(span, factor).conv(5).conv(5)
            if self.guide_head is not None:
                guide = guide | _guide_span(span, below)
        span = _lift_span(span, self.factors[0]).conv(5)
        base = Span(pixel, pixel).upsample(_BICUBIC_RADIUS, self.scale)
        return ReceptiveField(guide=guide, source=(span | base).conv(1 if self.source_input == "full" else 3))


def prime_factors(scale: int) -> tuple[int, ...]:
    """Return the prime factors of a scale, largest first."""
    factors: list[int] = []
    divisor = 2
    while scale > 1:
        while scale % divisor == 0:
            factors.append(divisor)
            scale //= divisor
        divisor += 1
    return tuple(factors[::-1])


class _Lift(nn.Sequential):
    """Transposed convolution that makes exactly ``factor`` times as many pixels."""

    def __init__(self, inputs: int, outputs: int, factor: int) -> None:
        kernel, padding = _lift_shape(factor)
        deconv = nn.ConvTranspose2d(
            inputs,
            outputs,
            kernel,
            stride=factor,
            padding=padding,
            output_padding=factor + 2 * padding - kernel,
        )
        super().__init__(deconv, nn.PReLU(outputs))


class _Pool(nn.MaxPool2d):
    """Maximum over the pixels that become one; for a factor of 2 over 3 x 3, as published."""

    def __init__(self, factor: int) -> None:
        kernel, padding = _pool_shape(factor)
        super().__init__(kernel, factor, padding)


def _conv(inputs: int, outputs: int, kernel: int = 5) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2), nn.PReLU(outputs))


def _guide_head(channels: int, width: int, mix: int | None) -> nn.Sequential:
    middle = round(width * 49 / 32)
    wide = _conv(mix or channels, middle, 7), _conv(middle, width)
    return nn.Sequential(_conv(channels, mix, 1), *wide) if mix else nn.Sequential(*wide)


def _lift_shape(factor: int) -> tuple[int, int]:
    """Return kernel and padding: neighbouring source pixels overlap, else their borders would show."""
    kernel = max(5, 2 * factor - 1)
    return kernel, (kernel - factor + 1) // 2


def _pool_shape(factor: int) -> tuple[int, int]:
    return (3, 1) if factor == 2 else (factor, 0)


def _lift_span(span: Span, factor: int) -> Span:
    kernel, padding = _lift_shape(factor)
    return span.deconv(kernel, factor, padding)


def _guide_span(span: Span, factors: Sequence[int]) -> Span:
    """Return the guide pixels behind features of a coarser level; ``factors`` from full resolution down."""
    for factor in reversed(factors):
        kernel, padding = _pool_shape(factor)
        span = span.pool(kernel, factor, padding).conv(5)
    return span.conv(5).conv(7)


def _box_mean(source: Tensor) -> Tensor:
    return F.avg_pool2d(F.pad(source, (1, 1, 1, 1), mode="replicate"), 3, 1)


def _join(guide: Tensor | None, features: Tensor) -> Tensor:
    return features if guide is None else torch.cat([guide, features], 1)
