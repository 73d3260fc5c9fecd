"""Pixelwise regression: the guide explains each pixel on its own, the coarse map corrects the level.

For few labels, and for labels at the resolution of the source: texture at 100 m is not texture at 10 m, so a network
trained by Wald's protocol had better look at no texture at all. Regression at the coarse scale with the residual given
back is an old way to sharpen (Kustas et al., "Estimating subpixel surface temperatures", 2003; area-to-point kriging);
here the regression is a small perceptron, and the residual is interpolated bicubically.
"""

from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812  the name everyone knows
from torch import Tensor, nn

from mapper.models.interpolation import upsample
from mapper.models.model import Network
from mapper.models.receptive_field import ReceptiveField, Span

_LEAST_SD = 0.01
"""Least standard deviation, in units of the source's in training."""


class Pixelwise(Network):
    """The network, on normalised values.

    Args:
        guide_channels: Channels of the guide.
        scale: Source pixel / target pixel.
        width: Features of a hidden layer.
        layers: Hidden layers.
        dropout: Share of features dropped in training, pixel by pixel.
        guide_dropout: Share of guide values dropped in training, pixel by pixel.
    """

    gives_sd = True

    def __init__(
        self,
        guide_channels: int,
        scale: int,
        *,
        width: int = 64,
        layers: int = 2,
        dropout: float = 0.2,
        guide_dropout: float = 0.1,
    ) -> None:
        super().__init__()
        if scale < 2 or not guide_channels or layers < 1:
            raise ValueError(
                f"scale {scale} must be at least 2, and {guide_channels} guide channels and {layers} layers at least 1"
            )
        self.scale = scale
        hidden: list[nn.Module] = [nn.Dropout(guide_dropout)]
        for inputs in (guide_channels, *[width] * (layers - 1)):
            hidden += [nn.Conv2d(inputs, width, 1), nn.GELU(), nn.Dropout(dropout)]
        self.hidden = nn.Sequential(*hidden)
        self.last = nn.Conv2d(width, 2, 1)

    def forward(self, guide: Tensor, source: Tensor, **_: Any) -> Tensor:
        """Return the sharpened source.

        Args:
            guide: (batch, guide channels, y, x), normalised, 0 where missing.
            source: (batch, 1, y / scale, x / scale), normalised.

        Returns:
            (batch, 2, y, x): mean and standard deviation, in the normalisation of the source.
        """
        value, sd = self.last(self.hidden(guide)).float().split(1, 1)
        residual = source - F.avg_pool2d(value, self.scale)
        mean = value + upsample(residual, self.scale, "bicubic")
        return torch.cat([mean, F.softplus(sd) + _LEAST_SD], 1)

    def receptive_field(self, pixel: int) -> ReceptiveField:
        """Return what one target pixel depends on: itself, and the residuals that are interpolated to it."""
        cells = Span(pixel, pixel).bicubic(self.scale)
        return ReceptiveField(guide=Span(cells.first * self.scale, (cells.last + 1) * self.scale - 1), source=cells)
