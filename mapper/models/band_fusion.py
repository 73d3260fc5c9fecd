"""Band fusion: the coarse bands of an image sharpened by its fine ones, a regression and a small network on top of it.

The source is interpolated; detail is what a guide has beyond the interpolation of its own block means, so that it is
of those scales that the source lacks. A linear filter of the detail is the classical method (injection by regression,
as of B. Aiazzi, L. Alparone, S. Baronti, A. Garzelli, M. Selva, 2006: MTF-tailored multiscale fusion of high-resolution
MS and Pan imagery, Photogrammetric Engineering and Remote Sensing 72, 591-596); a few convolutions add what depends on
what lies there, after Lanaras, Bioucas-Dias, Galliani, Baltsavias and Schindler, 2018: Super-resolution of Sentinel-2
images: learning a globally applicable deep neural network, ISPRS Journal of Photogrammetry and Remote Sensing 146.
"""

from itertools import pairwise

import torch
import torch.nn.functional as F  # noqa: N812  the name everyone knows
from torch import Tensor, nn

from mapper.models.interpolation import upsample
from mapper.models.model import Network, start_small
from mapper.models.receptive_field import ReceptiveField, Span

_LINEAR_PX = 5
"""Edge of the linear filter."""
_LEAST_SD = 1e-3
"""Least standard deviation, in training spreads."""


class BandFusion(Network):
    """The network, on normalised values; of a stack it looks at the anchor alone.

    Args:
        guide_channels: Channels of the guide; 0 for the source alone.
        scale: Source pixel / target pixel.
        bands: Bands of the source.
        width: Features of a layer.
        layers: Convolutions of 3 x 3 pixels.
        deviation: True gives a standard deviation for each band.
    """

    stacked = True

    def __init__(
        self,
        guide_channels: int,
        scale: int,
        *,
        bands: int = 1,
        width: int = 48,
        layers: int = 5,
        deviation: bool = False,
    ) -> None:
        super().__init__()
        if scale < 2 or layers < 2:
            raise ValueError(f"needs a scale and a number of layers of at least 2, got {scale} and {layers}")
        self.scale, self.bands, self.layers, self.gives_sd = scale, bands, layers, deviation
        self.linear = None
        if guide_channels:
            self.linear = nn.Conv2d(guide_channels, bands, _LINEAR_PX, padding=_LINEAR_PX // 2, bias=False)
            nn.init.zeros_(self.linear.weight)
        widths = [bands + 2 * guide_channels, *[width] * (layers - 1)]
        self.inner = nn.ModuleList(nn.Conv2d(a, b, 3, padding=1) for a, b in pairwise(widths))
        self.last = start_small(nn.Conv2d(width, bands * (2 if deviation else 1), 3, padding=1))

    def forward(self, source: Tensor, *, clear: Tensor, anchor: Tensor, shift: Tensor, guide: Tensor) -> Tensor:  # noqa: ARG002 - what networks of stacks are called with
        """Return the sharpened anchor; see :class:`~mapper.models.stack_model.StackModel`."""
        base = upsample(anchor, self.scale, "bicubic")
        features = mean = base
        if self.linear is not None:
            detail = guide - upsample(F.avg_pool2d(guide, self.scale), self.scale, "bicubic")
            features, mean = torch.cat([base, guide, detail], 1), base + self.linear(detail)
        for layer in self.inner:
            features = F.relu(layer(features))
        found: Tensor = self.last(features)
        mean = mean + found[:, : self.bands]
        return torch.cat([mean, F.softplus(found[:, self.bands :]) + _LEAST_SD], 1) if self.gives_sd else mean

    def receptive_field(self, pixel: int) -> ReceptiveField:
        """Return what one target pixel depends on."""
        span = Span(pixel, pixel)
        for _ in range(self.layers):
            span = span.conv(3)
        span |= Span(pixel, pixel).conv(_LINEAR_PX)
        coarse = span.bicubic(self.scale)
        blocks = Span(coarse.first * self.scale, (coarse.last + 1) * self.scale - 1)
        return ReceptiveField(guide=span | blocks, source=coarse)
