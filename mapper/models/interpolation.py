"""Nearest, bilinear and bicubic: the yardsticks every network is measured against, at any scale.

Interpolation is written as one convolution per phase (pixel position inside a source pixel), with weights computed in
float64: coordinates counted from the edge of a window would round differently from window to window and leave seams.
"""

from functools import cache

import torch
import torch.nn.functional as F  # noqa: N812  the name everyone knows
from torch import Tensor, nn

from mapper.models.card import INTERPOLATIONS, Card
from mapper.models.contract import FILL_STEPS

_CUBIC = -0.75  # the sharper of the two usual constants, that of torch and OpenCV


class Interpolation(nn.Module):
    """A model without parameters; the guide only tells the size of the target."""

    def __init__(self, card: Card) -> None:
        super().__init__()
        self.contract = card.contract
        self.digest = card.digest

    def forward(self, guide: Tensor, source: Tensor, source_sd: Tensor | None = None) -> Tensor:  # noqa: ARG002
        """Interpolate.

        Args:
            guide: (batch, any, y, x).
            source: (batch, 1, y / scale, x / scale), NaN where missing.
            source_sd: Not looked at.

        Returns:
            (batch, 1, y, x) in the units of the source; NaN far from any source value.
        """
        return upsample(fill_missing(source), guide.shape[-2] // source.shape[-2], self.contract.model)


def upsample(source: Tensor, scale: int, method: str) -> Tensor:
    """Interpolate (batch, channel, y, x) to ``scale`` times as many pixels; edges repeat the last value.

    Raises:
        ValueError: If the method is unknown.
    """
    if method not in INTERPOLATIONS:
        raise ValueError(f"unknown interpolation {method!r}, expected one of {', '.join(INTERPOLATIONS)}")
    radius = INTERPOLATIONS[method]
    kernel = torch.tensor(_phase_weights(scale, method), dtype=source.dtype, device=source.device)
    batch, channels, rows, cols = source.shape
    planes = source.reshape(batch * channels, 1, rows, cols)
    with torch.autocast(source.device.type, enabled=False):  # the base of every network keeps its full precision
        planes = F.conv2d(F.pad(planes, (radius, radius, 0, 0), mode="replicate"), kernel[:, None, None, :])
        planes = planes.permute(0, 2, 3, 1).reshape(batch * channels, 1, rows, cols * scale)
        planes = F.conv2d(F.pad(planes, (0, 0, radius, radius), mode="replicate"), kernel[:, None, :, None])
    return planes.permute(0, 2, 1, 3).reshape(batch, channels, rows * scale, cols * scale)


def fill_missing(source: Tensor) -> Tensor:
    """Fill NaN from the mean of valid neighbours, a few source pixels far; what is farther stays NaN."""
    for _ in range(FILL_STEPS):
        valid = torch.isfinite(source)
        total = F.avg_pool2d(torch.where(valid, source, 0.0), 3, 1, 1)
        share = F.avg_pool2d(valid.to(source.dtype), 3, 1, 1)
        source = torch.where(valid, source, total / share)
    return source


@cache
def _phase_weights(scale: int, method: str) -> tuple[tuple[float, ...], ...]:
    """Weights (phase, tap) of the taps -radius .. radius around the source pixel that a target pixel lies in."""
    radius = INTERPOLATIONS[method]
    weigh = {"nearest": _weigh_nearest, "bilinear": _weigh_linear, "bicubic": _weigh_cubic}[method]
    centres = [(phase + 0.5) / scale - 0.5 for phase in range(scale)]
    return tuple(tuple(weigh(abs(tap - centre)) for tap in range(-radius, radius + 1)) for centre in centres)


def _weigh_nearest(distance: float) -> float:
    return float(distance <= 0.5)


def _weigh_linear(distance: float) -> float:
    return max(0.0, 1.0 - distance)


def _weigh_cubic(d: float) -> float:
    if d <= 1:
        return ((_CUBIC + 2) * d - (_CUBIC + 3)) * d * d + 1
    return ((_CUBIC * d - 5 * _CUBIC) * d + 8 * _CUBIC) * d - 4 * _CUBIC if d < 2 else 0.0
