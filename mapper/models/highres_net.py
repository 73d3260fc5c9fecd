"""HighRes-net: several dates fused two by two, with the same weights in every round, until one image is left.

After Deudon et al., "HighRes-net: recursive fusion for multi-frame super-resolution of satellite imagery" (2020), with
the channels of Razzak, Mateo-Garcia, Lecuyer, Gomez-Chova, Gal and Kalaitzis, "Multi-spectral multi-image
super-resolution of Sentinel-2 with radiometric consistency losses and its effect on building delineation" (2023). Each
date is encoded beside the anchor; date k of the first half is joined by date n - 1 - k; what is left is enlarged by a
transposed convolution. As published, the order of the dates matters, and of an odd number of dates the last is dropped:
give the most useful first.

What differs from the papers: the anchor is the date that the map shows, not the median of the first dates; a date is
valid or not pixel by pixel, and shows the anchor where it is not; a pair is valid where either of its dates is, so that
missing dates need not stand last; the enlarged image is exactly ``scale`` times as large.
"""

import torch
from torch import Tensor, nn

from mapper.models.interpolation import upsample
from mapper.models.model import Network, check_unguided, start_small
from mapper.models.receptive_field import ReceptiveField, Span

_SCALES = (2, 3)  # from 4 on, a kernel of 3 pixels would leave target pixels without any source pixel


class HighResNet(Network):
    """The network, on normalised values; 591,818 parameters for one band, 594,252 for three.

    Args:
        guide_channels: Has to be 0.
        scale: Source pixel / target pixel, 2 or 3.
        bands: Bands of the source and of the target.
        width: Features of a layer.
        most_dates: Most dates that are taken; the halo grows with their logarithm.
        skip: Add bicubic interpolation of the anchor; not published, learns in far fewer steps.

    Raises:
        ValueError: For a guide, another scale or fewer than one date.
    """

    stacked = True

    def __init__(
        self,
        guide_channels: int,
        scale: int,
        *,
        bands: int = 1,
        width: int = 64,
        most_dates: int = 16,
        skip: bool = False,
    ) -> None:
        super().__init__()
        check_unguided(guide_channels, scale, scales=_SCALES)
        if most_dates < 1:
            raise ValueError(f"needs at least one date, got most_dates {most_dates}")
        self.scale, self.most_dates, self.skip = scale, most_dates, skip
        self.encode = nn.Sequential(
            _conv(2 * bands, width), nn.PReLU(), _Block(width), _Block(width), _conv(width, width)
        )
        self.fuse = nn.Sequential(_Block(2 * width), _conv(2 * width, width), nn.PReLU())
        self.padding = int(scale == 2)
        enlarge = nn.ConvTranspose2d(width, width, 3, scale, padding=self.padding, output_padding=self.padding)
        last = nn.Conv2d(width, bands, 1)
        self.decode = nn.Sequential(enlarge, nn.PReLU(), start_small(last) if skip else last)

    def forward(self, source: Tensor, *, clear: Tensor, anchor: Tensor, shift: Tensor, guide: Tensor) -> Tensor:  # noqa: ARG002
        """Return the fused image, in the normalisation of the source.

        Args:
            source: (batch, date, band, y, x), normalised.
            clear: (batch, date, 1, y, x), 1 where a date is used, else 0.
            anchor: (batch, band, y, x), normalised and filled.
            shift: Not looked at: registration is learnt by the encoder.
            guide: Not looked at.

        Returns:
            (batch, band, y * scale, x * scale).

        Raises:
            ValueError: If there are more dates than the halo allows.
        """
        batch, dates = source.shape[:2]
        if dates > self.most_dates:
            raise ValueError(f"got {dates} dates, the network takes at most {self.most_dates}: option most_dates")
        shown = anchor[:, None].expand_as(source)
        pairs = torch.cat([torch.where(clear > 0, source, shown), shown], 2)
        features = self._fuse_all(self.encode(pairs.flatten(0, 1)).unflatten(0, (batch, dates)), clear)
        image: Tensor = self.decode(features)
        return image + upsample(anchor, self.scale, "bicubic") if self.skip else image

    def _fuse_all(self, features: Tensor, valid: Tensor) -> Tensor:
        """Return (batch, channel, y, x) of the features and validity of all dates, (batch, date, channel, y, x)."""
        while (half := features.shape[1] // 2) > 0:
            first, second = features[:, :half], features[:, half : 2 * half].flip(1)
            valid_first, valid_second = valid[:, :half], valid[:, half : 2 * half].flip(1)
            both = torch.cat([first, second], 2).flatten(0, 1)
            features = first + valid_second * self.fuse(both).unflatten(0, (len(first), half))
            valid = torch.maximum(valid_first, valid_second)
        return features[:, 0]

    def receptive_field(self, pixel: int) -> ReceptiveField:
        """Return what one target pixel depends on."""
        span = Span(pixel, pixel).deconv(3, self.scale, self.padding)
        for _ in range(self.most_dates.bit_length() - 1):
            span = span.conv(3).conv(3).conv(3)
        for _ in range(6):
            span = span.conv(3)
        span = span | Span(pixel, pixel).bicubic(self.scale) if self.skip else span
        return ReceptiveField(guide=Span(pixel, pixel), source=span)


class _Block(nn.Module):
    """Two convolutions beside the straight way."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(_conv(width, width), nn.PReLU(), _conv(width, width), nn.PReLU())

    def forward(self, features: Tensor) -> Tensor:
        """Return features of the same shape."""
        result: Tensor = features + self.layers(features)
        return result


def _conv(inputs: int, outputs: int) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, padding=1)
