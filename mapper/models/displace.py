"""Deformable kernels: each target pixel becomes a weighted sum of displaced values of the interpolated source.

After Kim, Ponce and Ham, "Deformable kernel networks for joint image filtering" (2021). Where a pixel looks, and with
what weights, is the product of what the guide says and what the source says. Weights sum to zero: the sum is a
correction, nought where the source is flat, and training starts at the interpolated source.

Values between pixels are interpolated from whole indices and fractions of the displacement alone: coordinates counted
from the edge of a window would round differently from window to window.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F  # noqa: N812  the name everyone knows
from torch import Tensor, nn

from mapper.models.model import start_small

KERNEL = 3
"""Edge of the kernel; it has so many samples squared."""
RADIUS = 7
"""Farthest distance of a sample from its pixel, in target pixels: half of a window of 15."""
_SPACING = 3.0  # of the samples before training, in target pixels


class Kernels(NamedTuple):
    """Output of one branch, before the branches are multiplied."""

    weights: Tensor
    """(batch, sample, y, x), from 0 to 1."""
    offsets: Tensor
    """(batch, 2 x sample, y, x): of rows, then of columns."""


class KernelHead(nn.Module):
    """Weights and offsets from features.

    Args:
        inputs: Features.
        squares: Edge of the squares of target pixels that one pixel of the features speaks for.
    """

    def __init__(self, inputs: int, squares: int = 1) -> None:
        super().__init__()
        samples = KERNEL**2 * squares**2
        self.weights = start_small(nn.Conv2d(inputs, samples, 1))
        self.offsets = nn.Conv2d(inputs, 2 * samples, 1)
        self.spread = nn.PixelShuffle(squares)

    def forward(self, features: Tensor) -> Kernels:
        """Return weights and offsets at target pixels."""
        return Kernels(torch.sigmoid(self.spread(self.weights(features))), self.spread(self.offsets(features)))


def correct(base: Tensor, guide: Kernels, source: Kernels) -> Tensor:
    """Add the sum over displaced values.

    Args:
        base: (batch, 1, y, x), the interpolated source.
        guide: Kernels of the guide's branch.
        source: Kernels of the source's branch.

    Returns:
        (batch, 1, y, x).
    """
    weights = guide.weights * source.weights
    weights = weights - weights.mean(1, keepdim=True)
    offsets = guide.offsets * source.offsets
    samples = KERNEL**2
    padded = F.pad(base, (RADIUS + 1,) * 4, mode="replicate")
    total = torch.zeros_like(base)
    for k in range(samples):
        down = _bound(offsets[:, k], k // KERNEL)
        right = _bound(offsets[:, samples + k], k % KERNEL)
        # the same sum with or without the pixel's own value, but differences are small and so is their rounding
        total = total + weights[:, k, None] * (sample(padded, down, right) - base)
    return base + total


def sample(padded: Tensor, down: Tensor, right: Tensor) -> Tensor:
    """Return values at displaced positions, bilinear.

    Args:
        padded: (batch, 1, y + 2 RADIUS + 2, x + 2 RADIUS + 2).
        down: (batch, y, x), displacement along rows in pixels, at most RADIUS.
        right: The same along columns.

    Returns:
        (batch, 1, y, x).
    """
    batch, rows, cols = down.shape
    row, col = torch.arange(rows, device=down.device), torch.arange(cols, device=down.device)
    whole_down, whole_right = down.detach().floor(), right.detach().floor()
    part_down, part_right = down - whole_down, right - whole_right
    stride = padded.shape[-1]
    index = (whole_down.long() + (row + RADIUS + 1)[:, None]) * stride + whole_right.long() + (col + RADIUS + 1)
    flat = padded.flatten(1)
    corners = [flat.gather(1, (index + step).flatten(1)).view(batch, rows, cols) for step in (0, 1, stride, stride + 1)]
    upper = corners[0] + part_right * (corners[1] - corners[0])
    lower = corners[2] + part_right * (corners[3] - corners[2])
    return (upper + part_down * (lower - upper))[:, None]


def _bound(offset: Tensor, index: int) -> Tensor:
    """Return the displacement in pixels of one sample of a kernel's row or column, softly limited to the window."""
    start = _SPACING * (index - KERNEL // 2)
    return RADIUS * torch.tanh((offset + start) / RADIUS)
