"""PIUnet-like: dates in any order, compared with each other at each pixel, registered, averaged and enlarged.

After Valsesia and Magli, "Permutation invariance and uncertainty in multitemporal image super-resolution" (2022): all
dates go through the same convolutions, attend to each other pixel by pixel, and are averaged; detail is added to
bicubic interpolation, and the scale of a Laplacian tells how sure it is.

What differs from the paper, so that the result does not depend on how a map is cut: the kernels that register a date
and the gates of the blocks are computed from a window around each pixel, where the paper averages over a patch. A
kernel is bilinear interpolation at the known shift, plus what is learnt from the date beside the anchor. Registration
comes first, so that attention compares the same place. Detail is added to the anchor, which every date is seen beside,
not to the mean of the dates; dates that are not clear at a pixel are neither attended to nor averaged there.
"""

import math

import torch
import torch.nn.functional as F  # noqa: N812  the name everyone knows
from torch import Tensor, nn

from mapper.models.interpolation import upsample
from mapper.models.model import Network, check_unguided, start_small
from mapper.models.receptive_field import ReceptiveField, Span

REACH = 2
"""Source pixels that a date can be shifted by; a greater shift counts as this. Half the edge of a kernel, 5 pixels."""
_TAPS = 2 * REACH + 1
_LEAST_WEIGHT = 1e-6
_FIRST_LOG_SCALE = -2.0
"""Logarithm of the Laplacian's scale that training starts from, in training units."""
_FARTHEST_LOG = 8.0


class PIUnet(Network):
    """The network, on normalised values.

    Args:
        guide_channels: Has to be 0.
        scale: Source pixel / target pixel.
        bands: Bands of the source and of the target.
        width: Features of a layer.
        blocks: Blocks of two convolutions and attention across the dates.

    Raises:
        ValueError: For a guide, or a scale below 2.
    """

    stacked = True
    gives_sd = True

    def __init__(self, guide_channels: int, scale: int, *, bands: int = 1, width: int = 42, blocks: int = 16) -> None:
        super().__init__()
        check_unguided(guide_channels, scale)
        self.scale = scale
        self.head = nn.Sequential(_conv(2 * bands + 3, width), nn.PReLU())
        self.register = _Registration(width)
        self.blocks = nn.ModuleList(_Block(width) for _ in range(blocks))
        self.last = start_small(_conv(width, 2 * bands * scale**2))
        nn.init.constant_(self.last.bias[bands * scale**2 :], _FIRST_LOG_SCALE)  # type: ignore[index]

    def forward(self, source: Tensor, *, clear: Tensor, anchor: Tensor, shift: Tensor, guide: Tensor) -> Tensor:  # noqa: ARG002
        """Return means and standard deviations, in the normalisation of the source.

        Args:
            source: (batch, date, band, y, x), normalised.
            clear: (batch, date, 1, y, x), 1 where a date is used, else 0.
            anchor: (batch, band, y, x), normalised and filled.
            shift: (batch, date, 2, y, x), source pixels down and right: what the anchor shows at p, the date shows at
                p + shift.
            guide: Not looked at.

        Returns:
            (batch, 2 * band, y * scale, x * scale): means, then deviations.
        """
        batch, dates = source.shape[:2]
        seen = [torch.where(clear > 0, source, 0.0), anchor[:, None].expand_as(source), clear, shift]
        features = self.head(torch.cat(seen, 2).flatten(0, 1))
        features, weight = self.register(features, clear.flatten(0, 1), shift.flatten(0, 1))
        features, weight = (each.unflatten(0, (batch, dates)) for each in (features, weight))
        for block in self.blocks:
            features = block(features, weight)
        mean = (weight * features).sum(1) / weight.sum(1).clamp(min=1.0)
        detail, log_scale = F.pixel_shuffle(self.last(mean), self.scale).to(anchor.dtype).chunk(2, 1)
        sd = math.sqrt(2) * log_scale.clamp(-_FARTHEST_LOG, _FARTHEST_LOG).exp()
        return torch.cat([upsample(anchor, self.scale, "bicubic") + detail, sd], 1)

    def receptive_field(self, pixel: int) -> ReceptiveField:
        """Return what one target pixel depends on."""
        base, span = Span(pixel, pixel).bicubic(self.scale), Span(pixel // self.scale, pixel // self.scale).conv(3)
        for _ in range(2 * len(self.blocks)):
            span = span.conv(3)
        return ReceptiveField(guide=Span(pixel, pixel), source=base | span.conv(_TAPS).conv(3))


class _Registration(nn.Module):
    """Features of each date where the anchor shows the same, by a kernel of 5 x 5 pixels for each pixel."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.predict = nn.Sequential(_conv(width, width), nn.PReLU(), start_small(_conv(width, _TAPS**2)))

    def forward(self, features: Tensor, clear: Tensor, shift: Tensor) -> tuple[Tensor, Tensor]:
        """Return features, (date, channel, y, x), and the share of what they were read from that is clear.

        Args:
            features: (date, channel, y, x).
            clear: (date, 1, y, x), 1 or 0.
            shift: (date, 2, y, x), source pixels.
        """
        known = interpolate_at(shift)
        return apply_kernels(features, known + self.predict(features)), apply_kernels(clear, known)


class _Block(nn.Module):
    """Two convolutions, attention across the dates, and a gate on what they add."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(_conv(width, width), nn.PReLU(), _conv(width, width))
        self.compare = nn.Conv2d(width, 2 * width, 1, bias=False)  # a softmax would cancel the bias of keys
        self.value, self.mix, self.gate = (nn.Conv2d(width, width, 1) for _ in range(3))

    def forward(self, features: Tensor, weight: Tensor) -> Tensor:
        """Return features of the same shape, (batch, date, channel, y, x), with the weights (batch, date, 1, y, x)."""
        dates = features.shape[:2]
        alone = self.layers(features.flatten(0, 1))
        query, key = self.compare(alone).unflatten(0, dates).chunk(2, 2)
        value = self.value(alone).unflatten(0, dates)
        change = alone + self.mix(attend(query, key, value, weight).flatten(0, 1))
        added: Tensor = torch.sigmoid(self.gate(change)) * change
        return features + added.view_as(features)


def attend(query: Tensor, key: Tensor, value: Tensor, weight: Tensor) -> Tensor:
    """Return for each date the values of all dates by likeness, at each pixel alone.

    Args:
        query: (batch, date, channel, y, x).
        key: Like ``query``.
        value: Like ``query``.
        weight: (batch, date, 1, y, x), 0 for a date that counts nothing; 0 comes back where none counts.

    Returns:
        (batch, date, channel, y, x).
    """
    scores = torch.einsum("bdcyx,becyx->bdeyx", query, key) / math.sqrt(query.shape[2])
    given = weight[:, None, :, 0]
    likeness = scores.masked_fill(given <= 0, torch.finfo(scores.dtype).min).softmax(2) * given
    likeness = likeness / likeness.sum(2, keepdim=True).clamp(min=_LEAST_WEIGHT)
    return torch.einsum("bdeyx,becyx->bdcyx", likeness.to(value.dtype), value)


def interpolate_at(shift: Tensor) -> Tensor:
    """Return the kernels that interpolate bilinearly at a shift of at most :data:`REACH` pixels.

    Args:
        shift: (date, 2, y, x), pixels down and right.

    Returns:
        (date, 25, y, x), weights of the pixels around each, row by row; they sum to 1.
    """
    taps = torch.arange(-REACH, REACH + 1, dtype=shift.dtype, device=shift.device)[:, None, None]
    down, right = ((1 - (taps - part).abs()).clamp(min=0) for part in shift.clamp(-REACH, REACH).chunk(2, 1))
    kernels: Tensor = (down[:, :, None] * right[:, None]).flatten(1, 2)
    return kernels


def apply_kernels(values: Tensor, kernels: Tensor) -> Tensor:
    """Return the sums of (date, channel, y, x) that kernels, (date, 25, y, x), weigh; the outside counts as 0."""
    rows, cols = values.shape[-2:]
    padded = F.pad(values, (REACH,) * 4)
    total = torch.zeros_like(values)
    for tap in range(_TAPS**2):
        row, col = divmod(tap, _TAPS)
        total = total + kernels[:, tap : tap + 1] * padded[..., row : row + rows, col : col + cols]
    return total


def _conv(inputs: int, outputs: int) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, padding=1)
