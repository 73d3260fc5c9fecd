"""Stacked dates: the best dates enlarged bicubically, as channels of one small network.

What several dates give without any fusion that is made for them, after the four stacked dates of Razzak, Mateo-Garcia,
Lecuyer, Gomez-Chova, Gal and Kalaitzis (2023), with residual blocks behind. Which dates these are is decided at each
source pixel: of those that are clear there, the ones most like the anchor in a window around it, so that neither the
order of the dates nor the cut of a map matters. Dates are not moved: shifts between them are left in.
"""

import torch
import torch.nn.functional as F  # noqa: N812  the name everyone knows
from torch import Tensor, nn

from mapper.models.interpolation import upsample
from mapper.models.model import Network, start_small
from mapper.models.receptive_field import ReceptiveField, Span

WINDOW_PX = 9
"""Edge of the window in source pixels in which dates are compared with the anchor."""


class StackedDates(Network):
    """The network, on normalised values.

    Args:
        guide_channels: Channels of the guide; 0 for the source alone.
        scale: Source pixel / target pixel.
        bands: Bands of the source and of the target.
        dates: How many are stacked; the anchor stands in where fewer are clear.
        width: Features of a layer.
        blocks: Residual blocks, of two convolutions each.

    Raises:
        ValueError: If there is nothing to sharpen or to stack.
    """

    stacked = True

    def __init__(
        self, guide_channels: int, scale: int, *, bands: int = 1, dates: int = 4, width: int = 64, blocks: int = 4
    ) -> None:
        super().__init__()
        if scale < 2 or dates < 1:
            raise ValueError(f"needs a scale of at least 2 and a date, got {scale} and {dates} dates")
        self.scale, self.dates = scale, dates
        self.head = _conv(dates * bands + guide_channels, width)
        self.blocks = nn.ModuleList(
            nn.Sequential(_conv(width, width), nn.ReLU(), _conv(width, width)) for _ in range(blocks)
        )
        self.last = start_small(_conv(width, bands))

    def forward(self, source: Tensor, *, clear: Tensor, anchor: Tensor, shift: Tensor, guide: Tensor) -> Tensor:  # noqa: ARG002
        """Return the sharpened anchor, in the normalisation of the source.

        Args:
            source: (batch, date, band, y, x), normalised.
            clear: (batch, date, 1, y, x), 1 where a date is used, else 0.
            anchor: (batch, band, y, x), normalised and filled.
            shift: Not looked at.
            guide: (batch, guide channels, y * scale, x * scale), normalised, 0 where missing.

        Returns:
            (batch, band, y * scale, x * scale).
        """
        images = pick_dates(source, clear, anchor, count=self.dates).flatten(1, 2)
        features = self.head(torch.cat([upsample(images, self.scale, "bicubic"), guide], 1))
        for block in self.blocks:
            features = features + block(features)
        detail: Tensor = self.last(features)
        return upsample(anchor, self.scale, "bicubic") + detail

    def receptive_field(self, pixel: int) -> ReceptiveField:
        """Return what one target pixel depends on."""
        span = Span(pixel, pixel).conv(3).conv(3)
        for _ in range(2 * len(self.blocks)):
            span = span.conv(3)
        return ReceptiveField(guide=span, source=span.bicubic(self.scale).conv(WINDOW_PX))


def pick_dates(source: Tensor, clear: Tensor, anchor: Tensor, *, count: int) -> Tensor:
    """Return at each pixel the clear dates most like the anchor, the likest first; the anchor where there are too few.

    Args:
        source: (batch, date, band, y, x).
        clear: (batch, date, 1, y, x), 1 or 0.
        anchor: (batch, band, y, x).
        count: How many.

    Returns:
        (batch, count, band, y, x).
    """
    used, shown = clear > 0, anchor[:, None]
    difference = torch.where(used, source - shown, 0.0)
    squares, share = (_average(each) for each in (difference.square().mean(2), used[:, :, 0].to(source.dtype)))
    unlike = torch.where(used[:, :, 0], squares / share.clamp(min=1 / WINDOW_PX**2), torch.inf)
    order = unlike.argsort(stable=True, dim=1)[:, :count, None]
    chosen = difference.gather(1, order.expand(-1, -1, source.shape[2], -1, -1)) + shown
    lacking = count - chosen.shape[1]
    return torch.cat([chosen, shown.expand(-1, lacking, -1, -1, -1)], 1) if lacking else chosen


def _average(values: Tensor) -> Tensor:
    """Return the mean of a window around each pixel; what lies outside counts as 0."""
    return F.avg_pool2d(values, WINDOW_PX, 1, WINDOW_PX // 2)


def _conv(inputs: int, outputs: int) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, padding=1)
