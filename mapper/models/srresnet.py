"""SRResNet: sixteen residual blocks at the source's resolution, enlarged at the end; one image, that of the anchor.

After Ledig et al., "Photo-realistic single image super-resolution using a generative adversarial network" (2017), the
part that is trained without an adversary, for any number of bands and the scales 2, 3 and 4. Further dates are not
looked at: it is what several dates are measured against.

Batch normalisation takes the statistics of a batch while the network learns; afterwards they are constants, and a
pixel does not depend on how a map is cut.
"""

import torch
from torch import Tensor, nn

from mapper.models.contrast import LocalContrast
from mapper.models.interpolation import upsample
from mapper.models.model import Network, check_unguided, start_small
from mapper.models.receptive_field import ReceptiveField, Span

_LEVEL_SD, _LEVEL_RADIUS = 3.0, 8
"""Source pixels: spread and end of the Gaussian that gives level and contrast."""
_STAGES = {2: (2,), 3: (3,), 4: (2, 2)}
"""Factors by which features are enlarged, one after the other, by scale."""


class SRResNet(Network):
    """The network, on normalised values; 1.40 million parameters for three bands at scale 2.

    Args:
        guide_channels: Has to be 0.
        scale: Source pixel / target pixel, 2, 3 or 4.
        bands: Bands of the source and of the target.
        width: Features of a layer.
        blocks: Residual blocks, of two convolutions each.
        skip: Add bicubic interpolation of the anchor; not published, learns in far fewer steps.

    Raises:
        ValueError: For a guide or another scale.
    """

    stacked = True

    def __init__(
        self, guide_channels: int, scale: int, *, bands: int = 1, width: int = 64, blocks: int = 16, skip: bool = False
    ) -> None:
        super().__init__()
        check_unguided(guide_channels, scale, scales=tuple(_STAGES))
        self.scale, self.skip, self.count = scale, skip, blocks
        self.head = nn.Sequential(nn.Conv2d(bands, width, 9, padding=4), nn.PReLU())
        self.blocks = nn.Sequential(*(_Block(width) for _ in range(blocks)), *_layer(width))
        self.enlarge = nn.Sequential(*(layer for factor in _STAGES[scale] for layer in _stage(width, factor)))
        last = nn.Conv2d(width, bands, 9, padding=4)
        self.last = start_small(last) if skip else last

    def forward(self, source: Tensor, *, clear: Tensor, anchor: Tensor, shift: Tensor, guide: Tensor) -> Tensor:  # noqa: ARG002
        """Return the sharpened anchor, in the normalisation of the source.

        Args:
            source: Not looked at, as the other dates are.
            clear: Not looked at.
            anchor: (batch, band, y, x), normalised and filled.
            shift: Not looked at.
            guide: Not looked at.

        Returns:
            (batch, band, y * scale, x * scale).
        """
        first = self.head(anchor)
        image: Tensor = self.last(self.enlarge(first + self.blocks(first)))
        return image + upsample(anchor, self.scale, "bicubic") if self.skip else image

    def receptive_field(self, pixel: int) -> ReceptiveField:
        """Return what one target pixel depends on."""
        span = Span(pixel, pixel).conv(9)
        for factor in reversed(_STAGES[self.scale]):
            span = Span(span.first // factor, span.last // factor).conv(3)
        for _ in range(2 * self.count + 1):
            span = span.conv(3)
        span = span.conv(9)
        span = span | Span(pixel, pixel).bicubic(self.scale) if self.skip else span
        return ReceptiveField(guide=Span(pixel, pixel), source=span)


class SRResNetOfBands(Network):
    """The network for one band at a time, in any unit: of differences to the local level, in units of the contrast.

    Args:
        guide_channels: Has to be 0.
        scale: Source pixel / target pixel, 2, 3 or 4.
        width: Features of a layer.
        blocks: Residual blocks, of two convolutions each.

    Raises:
        ValueError: For a guide or another scale.
    """

    stacked = True
    any_bands = True

    def __init__(self, guide_channels: int, scale: int, *, width: int = 64, blocks: int = 16) -> None:
        super().__init__()
        self.inner = SRResNet(guide_channels, scale, width=width, blocks=blocks, skip=True)
        self.scale = scale
        self.around = LocalContrast(sd=_LEVEL_SD, radius=_LEVEL_RADIUS)

    def forward(self, source: Tensor, *, clear: Tensor, anchor: Tensor, shift: Tensor, guide: Tensor) -> Tensor:
        """Return the sharpened anchor, in its units; see :meth:`SRResNet.forward`."""
        with torch.autocast(anchor.device.type, enabled=False):
            level, contrast = self.around(anchor)
            normal = (anchor - level) / contrast
        fine: Tensor = self.inner(source, clear=clear, anchor=normal, shift=shift, guide=guide)
        level, contrast = (upsample(each, self.scale, "bicubic") for each in (level, contrast))
        return level + contrast * fine

    def receptive_field(self, pixel: int) -> ReceptiveField:
        """Return what one target pixel depends on."""
        inner = self.inner.receptive_field(pixel)
        seen = inner.source or Span(pixel, pixel).bicubic(self.scale)
        return ReceptiveField(guide=inner.guide, source=seen.conv(2 * self.around.reach + 1))


class _Block(nn.Module):
    """Two normalised convolutions beside the straight way."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(*_layer(width), nn.PReLU(), *_layer(width))

    def forward(self, features: Tensor) -> Tensor:
        """Return features of the same shape."""
        result: Tensor = features + self.layers(features)
        return result


def _layer(width: int) -> tuple[nn.Module, ...]:
    return nn.Conv2d(width, width, 3, padding=1), nn.BatchNorm2d(width)


def _stage(width: int, factor: int) -> tuple[nn.Module, ...]:
    return nn.Conv2d(width, width * factor**2, 3, padding=1), nn.PixelShuffle(factor), nn.PReLU()
