"""FDSR: fast sharpening on a 16th of the pixels, by what the guide has in high frequencies.

After He et al., "Towards fast and accurate real-world depth super-resolution" (2021), for any number of guide channels
and any integer scale. The coarse map is interpolated first; squares of 4 x 4 pixels of it and of the guide become
channels, and all but the last layers work there. The guide goes through octave convolutions: some features live at half
the resolution and carry what is smooth, the others are left with the detail and go to the coarse map's branch.

What differs from the paper: normalisation is fixed at training, not by image; and the last smooth features of the guide
are added to the detailed ones, where the paper drops them and so holds parameters that never learn.
"""

import torch
import torch.nn.functional as F  # noqa: N812  the name everyone knows
from torch import Tensor, nn

from mapper.models.interpolation import upsample
from mapper.models.model import QUARTER, Network, check_guided, quarter, start_small
from mapper.models.receptive_field import ReceptiveField, Span

_SLOPE = 0.2
_DILATION = 2
_OCTAVES = 3


class FDSR(Network):
    """The network, on normalised values.

    Args:
        guide_channels: Channels of the guide.
        scale: Source pixel / target pixel.
        width: Features per layer, a multiple of 4; 32 is the published size.
        mix: Channels that the guide is mixed down to, pixel by pixel, before it is unshuffled: of 56 channels come 896.
            None leaves the guide as it is.
    """

    def __init__(self, guide_channels: int, scale: int, *, width: int = 32, mix: int | None = None) -> None:
        super().__init__()
        check_guided(guide_channels, scale)
        if width < 4 or width % 4:
            raise ValueError(f"width must be a multiple of 4, got {width}")
        self.scale = scale
        smooth = width // 4
        detailed = width - smooth
        squares = QUARTER**2
        self.mix = nn.Conv2d(guide_channels, mix, 1) if mix else nn.Identity()
        self.guide_head = nn.Conv2d(squares * (mix or guide_channels), width, 3, padding=1)
        self.octaves = nn.ModuleList(
            _Octave(detailed if level else width, smooth if level else 0, detailed, smooth) for level in range(_OCTAVES)
        )
        self.source_head = nn.Conv2d(squares, width, 3, padding=1)
        self.blocks = nn.ModuleList(_MultiScale(width + level * detailed) for level in range(_OCTAVES + 1))
        self.tail = nn.Sequential(
            nn.LeakyReLU(_SLOPE),
            nn.Conv2d(width + _OCTAVES * detailed, 4 * width, 3, padding=1),
            nn.PixelShuffle(2),
            nn.Conv2d(width, 4 * width, 3, padding=1),
            nn.PixelShuffle(2),
        )
        self.last = start_small(nn.Conv2d(width, 1, 3, padding=1))

    @property
    def align_px(self) -> int:
        """Edge of a pixel of the smooth features."""
        return 2 * QUARTER

    def forward(self, guide: Tensor, source: Tensor) -> Tensor:
        """Return the sharpened source.

        Args:
            guide: (batch, guide channels, y, x), normalised, 0 where missing; y and x multiples of ``align_px``.
            source: (batch, 1, y / scale, x / scale), normalised.

        Returns:
            (batch, 1, y, x), in the normalisation of the source.
        """
        base = upsample(source, self.scale, "bicubic")
        features = self.blocks[0](F.leaky_relu(self.source_head(quarter(base)), _SLOPE))
        for block, details in zip(self.blocks[1:], self._details(guide), strict=True):
            features = block(torch.cat([features, details], 1))
        target: Tensor = base + self.last(self.tail(features))
        return target

    def _details(self, guide: Tensor) -> list[Tensor]:
        """Return detailed features of the guide after each octave convolution."""
        features: Tensor = F.leaky_relu(self.guide_head(quarter(self.mix(guide))), _SLOPE)
        pair: tuple[Tensor, Tensor | None] = features, None
        details = []
        for octave in self.octaves:
            pair = octave(*pair)
            details.append(pair[0])
        return [*details[:-1], _add_smooth(*pair)]

    def receptive_field(self, pixel: int) -> ReceptiveField:
        """Return what one target pixel depends on."""
        block = 2 * _DILATION + 1
        span = Span(pixel, pixel).conv(3).upsample(0, 2).conv(3).upsample(0, 2).conv(3).conv(block)
        guide, smooth = _octave_span(span, span.upsample(0, 2))
        for _ in range(_OCTAVES - 1):
            span = span.conv(block)
            guide, smooth = _octave_span(guide | span, smooth)
        span = span.conv(block).conv(3).pool(QUARTER, QUARTER, 0) | Span(pixel, pixel)
        return ReceptiveField(guide=guide.conv(3).pool(QUARTER, QUARTER, 0), source=span.bicubic(self.scale))


class _Octave(nn.Module):
    """A convolution of detailed features and of smooth ones at half the resolution, which exchange what they have."""

    def __init__(self, detailed_in: int, smooth_in: int, detailed: int, smooth: int) -> None:
        super().__init__()
        self.detailed = _plain(detailed_in, detailed)
        self.detailed_to_smooth = _plain(detailed_in, smooth)
        self.smooth = _plain(smooth_in, smooth) if smooth_in else None
        self.smooth_to_detailed = _plain(smooth_in, detailed) if smooth_in else None

    def forward(self, detailed: Tensor, smooth: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return detailed and smooth features, activated."""
        fine = self.detailed(detailed)
        coarse = self.detailed_to_smooth(F.avg_pool2d(detailed, 2))
        if smooth is not None and self.smooth is not None and self.smooth_to_detailed is not None:
            fine = fine + _double(self.smooth_to_detailed(smooth))
            coarse = coarse + self.smooth(smooth)
        return F.leaky_relu(fine, _SLOPE), F.leaky_relu(coarse, _SLOPE)


class _MultiScale(nn.Module):
    """A residual block that looks at two distances."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.near = nn.Conv2d(width, width, 3, padding=1)
        self.far = nn.Conv2d(width, width, 3, padding=_DILATION, dilation=_DILATION)
        self.join = nn.Conv2d(width, width, 1)

    def forward(self, features: Tensor) -> Tensor:
        """Return features of the same shape."""
        both = F.leaky_relu(self.near(features), _SLOPE) + F.leaky_relu(self.far(features), _SLOPE)
        result: Tensor = features + self.join(both)
        return result


def _plain(inputs: int, outputs: int) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)


def _double(features: Tensor) -> Tensor:
    return F.interpolate(features, scale_factor=2, mode="nearest")


def _add_smooth(detailed: Tensor, smooth: Tensor | None) -> Tensor:
    """Add smooth features to as many of the detailed ones."""
    if smooth is None:
        return detailed
    some = smooth.shape[1]
    return torch.cat([detailed[:, :some] + _double(smooth), detailed[:, some:]], 1)


def _octave_span(detailed: Span, smooth: Span) -> tuple[Span, Span]:
    """Return the spans of input of an octave convolution, for spans of its output."""
    from_smooth = smooth.conv(3)
    return detailed.conv(3) | from_smooth.pool(2, 2, 0), detailed.upsample(0, 2).conv(3) | from_smooth
