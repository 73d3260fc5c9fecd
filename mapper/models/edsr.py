"""EDSR: residual blocks without normalisation, on the interpolated source and, where there is one, the guide beside it.

After Lim, Son, Kim, Nah and Lee, "Enhanced deep residual networks for single image super-resolution" (2017), the
baseline size by default. Published networks work at the source's resolution and enlarge at the end, by 2, 3 or 4; here
all blocks work at target resolution, so that any integer scale and a guide will do and a halo stays short.
"""

import torch
import torch.nn.functional as F  # noqa: N812  the name everyone knows
from torch import Tensor, nn

from mapper.models.interpolation import upsample
from mapper.models.model import Network, start_small
from mapper.models.receptive_field import ReceptiveField, Span

_SHARE = 0.1
"""Factor of what a block adds; published for wide networks, which are not stable without."""


class EDSR(Network):
    """The network, on normalised values.

    Args:
        guide_channels: Channels of the guide; 0 for the source alone.
        scale: Source pixel / target pixel.
        width: Features of a layer.
        blocks: Residual blocks, of two convolutions each.
    """

    def __init__(self, guide_channels: int, scale: int, *, width: int = 64, blocks: int = 16) -> None:
        super().__init__()
        if scale < 2:
            raise ValueError(f"needs a scale of at least 2, got {scale}")
        self.scale = scale
        self.head = _conv(guide_channels + 1, width)
        self.blocks = nn.ModuleList(_Block(width) for _ in range(blocks))
        self.end = _conv(width, width)
        self.last = start_small(_conv(width, 1))

    def forward(self, guide: Tensor, source: Tensor) -> Tensor:
        """Return the sharpened source.

        Args:
            guide: (batch, guide channels, y, x), normalised, 0 where missing.
            source: (batch, 1, y / scale, x / scale), normalised.

        Returns:
            (batch, 1, y, x), in the normalisation of the source.
        """
        base = upsample(source, self.scale, "bicubic")
        first = self.head(torch.cat([base, guide], 1))
        features = first
        for block in self.blocks:
            features = block(features)
        detail: Tensor = self.last(first + self.end(features))
        return base + detail

    def receptive_field(self, pixel: int) -> ReceptiveField:
        """Return what one target pixel depends on."""
        span = Span(pixel, pixel)
        for _ in range(3 + 2 * len(self.blocks)):
            span = span.conv(3)
        return ReceptiveField(guide=span, source=span.bicubic(self.scale))


class _Block(nn.Module):
    """Two convolutions beside the straight way."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first, self.second = _conv(width, width), _conv(width, width)

    def forward(self, features: Tensor) -> Tensor:
        """Return features of the same shape."""
        result: Tensor = features + _SHARE * self.second(F.relu(self.first(features)))
        return result


def _conv(inputs: int, outputs: int) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, padding=1)
