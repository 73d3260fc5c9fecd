"""FDKN: deformable kernels from features of 4 x 4 pixels at once, the fast form of DKN.

After Kim, Ponce and Ham (2021), see :mod:`mapper.models.displace`, for any number of guide channels and any integer
scale.
"""

from torch import Tensor, nn

from mapper.models.displace import RADIUS, KernelHead, Kernels, correct
from mapper.models.interpolation import upsample
from mapper.models.layers import QUARTER, check_guided, quarter
from mapper.models.model import Network
from mapper.models.reach import Reach, Span

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
        self.guide_branch = _Branch(guide_channels, width)
        self.source_branch = _Branch(1, width)

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


class _Branch(nn.Module):
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
