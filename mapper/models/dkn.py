"""DKN: deformable kernels from features at full resolution.

After Kim, Ponce and Ham (2021), see :mod:`mapper.models.displace`, for any number of guide channels and any integer
scale. The published network pools twice and is run 16 times on shifted images, whose results are interlaced. One run
with dilated convolutions gives the same numbers: what follows a stride of 2 is dilated by 2 instead.
"""

import torch.nn.functional as F  # noqa: N812  the name everyone knows
from torch import Tensor, nn

from mapper.models.displace import RADIUS, KernelHead, Kernels, correct
from mapper.models.interpolation import upsample
from mapper.models.model import QUARTER, Network, check_guided, quarter
from mapper.models.receptive_field import Reach, Span

_LAYERS = 6


class FDKN(Network):
    """The network, on normalised values.

    Args:
        guide_channels: Channels of the guide; 1 is the published size.
        scale: Source pixel / target pixel.
        width: Features of the first layer; 32 is the published size.
    """

    def __init__(self, guide_channels: int, scale: int, *, width: int = 32) -> None:
        super().__init__()
        check_guided(guide_channels, scale)
        self.scale = scale
        self.guide_branch = _FastBranch(guide_channels, width)
        self.source_branch = _FastBranch(1, width)

    @property
    def align_px(self) -> int:
        """The pixel of the features."""
        return QUARTER

    def forward(self, guide: Tensor, source: Tensor) -> Tensor:
        """Sharpen.

        Args:
            guide: (batch, guide channels, y, x), normalised, 0 where missing; y and x multiples of ``align_px``.
            source: (batch, 1, y / scale, x / scale), normalised.

        Returns:
            (batch, 1, y, x), in the normalisation of the source.
        """
        base = upsample(source, self.scale, "bicubic")
        return correct(base, self.guide_branch(guide), self.source_branch(base))

    def _reach(self, pixel: int) -> Reach:
        """What one target pixel depends on."""
        span = Span(pixel, pixel).upsample(0, QUARTER)
        for _ in range(_LAYERS):
            span = span.conv(3)
        span = span.pool(QUARTER, QUARTER, 0)
        displaced = Span(pixel - RADIUS, pixel + RADIUS)
        return Reach(guide=span, source=(span | displaced).bicubic(self.scale))


class _FastBranch(nn.Module):
    """Kernels from one image."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        inputs = channels * QUARTER**2
        for outputs in (width, 2 * width, 4 * width):
            layers += [nn.Conv2d(inputs, outputs, 3, padding=1), nn.BatchNorm2d(outputs), nn.ReLU()]
            layers += [nn.Conv2d(outputs, outputs, 3, padding=1), nn.ReLU()]
            inputs = outputs
        self.layers = nn.Sequential(*layers)
        self.head = KernelHead(inputs, QUARTER)

    def forward(self, image: Tensor) -> Kernels:
        """What the image says at each of its pixels."""
        kernels: Kernels = self.head(self.layers(quarter(image)))
        return kernels


_BEFORE, _AFTER = 25, 24  # pixels that the features of one look at beside it: the sum of all layers' kernels


class DKN(Network):
    """The network, on normalised values.

    Args:
        guide_channels: Channels of the guide; 3 is the published size.
        scale: Source pixel / target pixel.
        width: Features of the first layer; 32 is the published size.
    """

    def __init__(self, guide_channels: int, scale: int, *, width: int = 32) -> None:
        super().__init__()
        check_guided(guide_channels, scale)
        self.scale = scale
        self.guide_branch = _Branch(guide_channels, width)
        self.source_branch = _Branch(1, width)

    def forward(self, guide: Tensor, source: Tensor) -> Tensor:
        """Sharpen.

        Args:
            guide: (batch, guide channels, y, x), normalised, 0 where missing.
            source: (batch, 1, y / scale, x / scale), normalised.

        Returns:
            (batch, 1, y, x), in the normalisation of the source.
        """
        base = upsample(source, self.scale, "bicubic")
        return correct(base, self.guide_branch(guide), self.source_branch(base))

    def _reach(self, pixel: int) -> Reach:
        """What one target pixel depends on."""
        span = Span(pixel - _BEFORE, pixel + _AFTER)
        displaced = Span(pixel - RADIUS, pixel + RADIUS)
        return Reach(guide=span, source=(span | displaced).bicubic(self.scale))


class _Branch(nn.Module):
    """Kernels from one image."""

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            *_layer(inputs, width, 7, norm=True),
            *_layer(width, width, 2),
            *_layer(width, 2 * width, 5, dilation=2, norm=True),
            *_layer(2 * width, 2 * width, 2, dilation=2),
            *_layer(2 * width, 4 * width, 5, dilation=4, norm=True),
            *_layer(4 * width, 4 * width, 3, dilation=4),
            *_layer(4 * width, 4 * width, 3, dilation=4),
        )
        self.head = KernelHead(4 * width)

    def forward(self, image: Tensor) -> Kernels:
        """What the image says at each of its pixels."""
        padded = F.pad(image, (_BEFORE, _AFTER, _BEFORE, _AFTER), mode="replicate")  # layers themselves do not pad
        kernels: Kernels = self.head(self.layers(padded))
        return kernels


def _layer(inputs: int, outputs: int, kernel: int, *, dilation: int = 1, norm: bool = False) -> list[nn.Module]:
    """A layer; where it is normalised, then in use by constants."""
    conv = nn.Conv2d(inputs, outputs, kernel, dilation=dilation)
    return [conv, nn.BatchNorm2d(outputs), nn.ReLU()] if norm else [conv, nn.ReLU()]
