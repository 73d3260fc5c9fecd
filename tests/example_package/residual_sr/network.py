"""A small residual network: bicubic interpolation, and what the guide adds to it."""

import torch
from torch import Tensor, nn

from mapper.models.interpolation import upsample
from mapper.models.model import Network, check_guided, start_small
from mapper.models.receptive_field import ReceptiveField, Span


class ResidualNetwork(Network):
    """The network, on normalised values.

    Args:
        guide_channels: Channels of the guide.
        scale: Source pixel / target pixel.
        width: Features of a layer.
        blocks: Residual blocks, of two convolutions each.
    """

    def __init__(self, guide_channels: int, scale: int, *, width: int = 16, blocks: int = 2) -> None:
        super().__init__()
        check_guided(guide_channels, scale)
        self.scale = scale
        self.head = nn.Conv2d(guide_channels + 1, width, 3, padding=1)
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.Conv2d(width, width, 3, padding=1), nn.ReLU(), nn.Conv2d(width, width, 3, padding=1))
            for _ in range(blocks)
        )
        self.last = start_small(nn.Conv2d(width, 1, 3, padding=1))

    def forward(self, guide: Tensor, source: Tensor) -> Tensor:
        """Return the sharpened source.

        Args:
            guide: (batch, guide channels, y, x), normalised, 0 where missing.
            source: (batch, 1, y / scale, x / scale), normalised.

        Returns:
            (batch, 1, y, x), in the normalisation of the source.
        """
        smooth = upsample(source, self.scale, "bicubic")
        features = self.head(torch.cat([guide, smooth], 1))
        for block in self.blocks:
            features = features + block(features)
        detail: Tensor = self.last(features)
        return smooth + detail

    def receptive_field(self, pixel: int) -> ReceptiveField:
        """Return what one target pixel depends on: pixels of the guide, and what their interpolation depends on."""
        span = Span(pixel, pixel)
        for _ in range(2 + 2 * len(self.blocks)):
            span = span.conv(3)
        return ReceptiveField(guide=span, source=span.bicubic(self.scale))
