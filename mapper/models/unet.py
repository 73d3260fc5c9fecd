"""UNet: the target from the guide alone, as maps are made where there is no coarse one.

After Ronneberger, Fischer and Brox (2015), with residual blocks. It is the yardstick for what the coarse map adds, so
it sees none of it, unless it is told to. Three poolings and two blocks at the bottom keep the receptive field within
the surroundings that a map reads. Nothing is normalised by the statistics of an image.
"""

from itertools import pairwise

import torch
import torch.nn.functional as F  # noqa: N812  the name everyone knows
from torch import Tensor, nn

from mapper.models.interpolation import upsample
from mapper.models.model import Network, check_guided, start_small
from mapper.models.receptive_field import ReceptiveField, Span

_WIDTHS = (1, 2, 4, 4)  # of each level, from full resolution down, in units of the option
_BOTTOM_BLOCKS = 2
_LEVEL_PX = 5
_HEIGHTS = (0.0, 10.0)
"""Mean and unit that heights are normalised with, metres."""


class UNet(Network):
    """The network, on normalised values.

    Args:
        guide_channels: Channels of the guide.
        scale: Source pixel / target pixel.
        width: Features at full resolution.
        on_source: True adds the output to the interpolated source, of which the network then sees the difference to
            the mean of 5 x 5 source pixels; for heights, which no guide tells.
    """

    def __init__(self, guide_channels: int, scale: int, *, width: int = 32, on_source: bool = False) -> None:
        super().__init__()
        check_guided(guide_channels, scale)
        self.scale, self.on_source = scale, on_source
        if on_source:
            self.source_norm = _HEIGHTS
        widths = [width * times for times in _WIDTHS]
        self.head = nn.Conv2d(guide_channels + on_source, width, 1)
        self.down = nn.ModuleList(Block(here) for here in widths[:-1])
        self.pools = nn.ModuleList(nn.Conv2d(here, below, 2, stride=2) for here, below in pairwise(widths))
        self.bottom = nn.Sequential(*(Block(widths[-1]) for _ in range(_BOTTOM_BLOCKS)))
        self.joins = nn.ModuleList(
            nn.Conv2d(here + below, here, 1) for here, below in zip(widths[-2::-1], widths[:0:-1], strict=True)
        )
        self.up = nn.ModuleList(Block(here) for here in widths[-2::-1])
        self.last = start_small(nn.Conv2d(width, 1, 1))

    @property
    def align_px(self) -> int:
        """Edge of a pixel of the bottom."""
        return 8  # three poolings

    def forward(self, guide: Tensor, source: Tensor) -> Tensor:
        """Return the target of a guide.

        Args:
            guide: (batch, guide channels, y, x), normalised, 0 where missing; y and x multiples of ``align_px``.
            source: (batch, 1, y / scale, x / scale), normalised; looked at only with ``on_source``.

        Returns:
            (batch, 1, y, x), in the normalisation of the source.
        """
        base, seen = None, guide
        if self.on_source:
            base = upsample(source, self.scale, "bicubic")
            level = F.avg_pool2d(source, _LEVEL_PX, 1, _LEVEL_PX // 2, count_include_pad=False)
            seen = torch.cat([guide, base - upsample(level, self.scale, "bilinear")], 1)
        features = self.head(seen)
        levels = []
        for block, pool in zip(self.down, self.pools, strict=True):
            levels.append(block(features))
            features = pool(levels[-1])
        features = self.bottom(features)
        for join, block, level in zip(self.joins, self.up, reversed(levels), strict=True):
            features = block(join(torch.cat([level, F.interpolate(features, scale_factor=2, mode="nearest")], 1)))
        target: Tensor = self.last(F.gelu(features))
        return target if base is None else base + target

    def receptive_field(self, pixel: int) -> ReceptiveField:
        """Return what one target pixel depends on."""
        span = Span(pixel, pixel)
        for _ in self.up:
            span = _block_span(span).upsample(0, 2)
        for _ in self.bottom:
            span = _block_span(span)
        for _ in self.down:  # what goes straight across lies inside what goes through the bottom
            span = _block_span(span.pool(2, 2, 0))
        if not self.on_source:
            return ReceptiveField(guide=span, source=None)
        return ReceptiveField(guide=span, source=span.bicubic(self.scale).conv(_LEVEL_PX))


class Block(nn.Module):
    """Two convolutions beside the straight way."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(width, width, 3, padding=1)
        self.second = nn.Conv2d(width, width, 3, padding=1)
        # without normalisation each block would double the variance
        nn.init.normal_(self.second.weight, std=0.3 / (3 * width**0.5))

    def forward(self, features: Tensor) -> Tensor:
        """Return features of the same shape."""
        result: Tensor = features + self.second(F.gelu(self.first(F.gelu(features))))
        return result


def _block_span(span: Span) -> Span:
    return span.conv(3).conv(3)
