"""DKN: deformable kernels from features at full resolution.

After Kim, Ponce and Ham (2021), see :mod:`mapper.models.displace`, for any number of guide channels and any integer
scale. The published network pools twice and is run 16 times on shifted images, whose results are interlaced. One run
with dilated convolutions gives the same numbers: what follows a stride of 2 is dilated by 2 instead.
"""

from collections.abc import Callable

import torch.nn.functional as F  # noqa: N812  the name everyone knows
from torch import Tensor, nn

from mapper.models.displace import RADIUS, KernelHead, Kernels, correct
from mapper.models.interpolation import upsample
from mapper.models.model import QUARTER, Network, check_guided, quarter
from mapper.models.receptive_field import ReceptiveField, Span

_LAYERS = 6


class _KernelNetwork(Network):
    """Kernels from a branch for the guide and one for the interpolated source, which they correct.

    Args:
        guide_channels: Channels of the guide.
        scale: Source pixel / target pixel.
        width: Features of the first layer; 32 is the published size.
    """

    branch: Callable[[int, int], nn.Module]
    """Makes a branch from the channels of its image and the width."""

    def __init__(self, guide_channels: int, scale: int, *, width: int = 32) -> None:
        super().__init__()
        check_guided(guide_channels, scale)
        self.scale = scale
        self.guide_branch = type(self).branch(guide_channels, width)
        self.source_branch = type(self).branch(1, width)

    def forward(self, guide: Tensor, source: Tensor) -> Tensor:
        """Return the sharpened source.

        Args:
            guide: (batch, guide channels, y, x), normalised, 0 where missing; y and x multiples of ``align_px``.
            source: (batch, 1, y / scale, x / scale), normalised.

        Returns:
            (batch, 1, y, x), in the normalisation of the source.
        """
        base = upsample(source, self.scale, "bicubic")
        return correct(base, self.guide_branch(guide), self.source_branch(base))

    def receptive_field(self, pixel: int) -> ReceptiveField:
        """Return what one target pixel depends on."""
        span = self._branch_span(pixel)
        displaced = Span(pixel - RADIUS, pixel + RADIUS)
        return ReceptiveField(guide=span, source=(span | displaced).bicubic(self.scale))

    def _branch_span(self, pixel: int) -> Span:
        """Return the pixels of an image that a branch looks at for one of its kernels."""
        raise NotImplementedError


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
        """Return kernels at each pixel of the image."""
        kernels: Kernels = self.head(self.layers(quarter(image)))
        return kernels


class FDKN(_KernelNetwork):
    """The fast network, on normalised values; 1 guide channel is the published size."""

    branch = _FastBranch

    @property
    def align_px(self) -> int:
        """Edge of a pixel of the features."""
        return QUARTER

    def _branch_span(self, pixel: int) -> Span:
        span = Span(pixel, pixel).upsample(0, QUARTER)
        for _ in range(_LAYERS):
            span = span.conv(3)
        return span.pool(QUARTER, QUARTER, 0)


_BEFORE, _AFTER = 25, 24  # pixels that the features of one look at beside it: the sum of all layers' kernels


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
        """Return kernels at each pixel of the image."""
        padded = F.pad(image, (_BEFORE, _AFTER, _BEFORE, _AFTER), mode="replicate")  # layers themselves do not pad
        kernels: Kernels = self.head(self.layers(padded))
        return kernels


class DKN(_KernelNetwork):
    """The network, on normalised values; 3 guide channels are the published size."""

    branch = _Branch

    def _branch_span(self, pixel: int) -> Span:
        return Span(pixel - _BEFORE, pixel + _AFTER)


def _layer(inputs: int, outputs: int, kernel: int, *, dilation: int = 1, norm: bool = False) -> list[nn.Module]:
    """Return a layer; where it is normalised, then in use by constants."""
    conv = nn.Conv2d(inputs, outputs, kernel, dilation=dilation)
    return [conv, nn.BatchNorm2d(outputs), nn.ReLU()] if norm else [conv, nn.ReLU()]
