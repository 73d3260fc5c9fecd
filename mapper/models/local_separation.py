"""Bare earth and what stands on it, told apart by least squares in a fixed window around each source pixel.

A height is taken as a parabola of position and, for each channel of the guide, so much for each unit of the channel's
mean: a wood of 12 m that covers half of a pixel lifts it by 6 m. Weights fall with distance as a Gaussian. There is
nothing to be trained, no statistic of a patch, and a pixel hangs on the window alone.

Sums over windows are correlations with powers of the offset, so that all pixels are solved at once.
"""

from collections.abc import Iterator

import torch
import torch.nn.functional as F  # noqa: N812  the name everyone knows
from torch import Tensor

RADIUS = 4
"""Source pixels from a pixel to the edge of its window."""
_SD = 2.2
_POWERS = ((0, 0), (1, 0), (0, 1), (2, 0), (1, 1), (0, 2))
"""Powers of the offsets down and right, as a share of the radius."""
_RIDGE_GROUND, _RIDGE_OBJECTS = 1e-3, 0.3
"""Weight of 0 against that of the pixels, for what the window does not say."""


@torch.no_grad()
def separate(heights: Tensor, level: Tensor, shares: Tensor, known: Tensor) -> Tensor:
    """Return what a unit of each channel lifts a pixel by, what all lift it by together, and what neither explains.

    Args:
        heights: (batch, 1, y, x), anything where unknown.
        level: Like ``heights``, near them: what is solved for are differences.
        shares: (batch, channel, y, x), means of the guide.
        known: Like ``heights``, 1 or 0.

    Returns:
        (batch, channel + 2, y, x), in units of the heights; 0 where nothing is known.
    """
    with torch.autocast(heights.device.type, enabled=False):
        matrix, sums = _accumulate(heights.nan_to_num() * known, level, shares.to(heights.dtype), known)
        found = torch.linalg.solve(matrix, sums[..., None])[..., 0]
        lifts = found[..., len(_POWERS) :].permute(0, 3, 1, 2)
        lifted = (lifts * shares).sum(1, keepdim=True)
        left = (heights - level - found[..., :1].permute(0, 3, 1, 2) - lifted) * known
        return torch.cat([lifts, lifted, left], 1)


def _accumulate(heights: Tensor, level: Tensor, shares: Tensor, known: Tensor) -> tuple[Tensor, Tensor]:
    """Return the normal equations: matrices (batch, y, x, term, term) and right sides (batch, y, x, term)."""
    count, channels = len(_POWERS), shares.shape[1]
    batch, _, rows, cols = heights.shape
    size = count + channels
    matrix = heights.new_zeros(batch, rows, cols, size, size)
    sums = heights.new_zeros(batch, rows, cols, size)
    seen = shares * known
    for first, second in _pairs(count):
        powers = tuple(a + b for a, b in zip(_POWERS[first], _POWERS[second], strict=True))
        matrix[..., first, second] = matrix[..., second, first] = _weigh(known, powers)[:, 0]
    for term, powers in enumerate(_POWERS):
        crossed = _weigh(seen, powers).permute(0, 2, 3, 1)
        matrix[..., term, count:] = matrix[..., count:, term] = crossed
        sums[..., term] = (_weigh(heights, powers) - level * matrix[..., term, 0][:, None])[:, 0]
    for first, second in _pairs(channels):
        both = _weigh(seen[:, first, None] * shares[:, second, None], (0, 0))[:, 0]
        matrix[..., count + first, count + second] = matrix[..., count + second, count + first] = both
    lifted = _weigh(seen * heights, (0, 0)) - level * _weigh(seen, (0, 0))
    sums[..., count:] = lifted.permute(0, 2, 3, 1)
    ridge = [_RIDGE_GROUND] * count + [_RIDGE_OBJECTS] * channels
    matrix += torch.diag(torch.tensor(ridge, dtype=matrix.dtype, device=matrix.device))
    return matrix, sums


def _weigh(image: Tensor, powers: tuple[int, ...]) -> Tensor:
    """Return sums over windows of an image times powers of the offset, by Gaussian weights; beyond the edge lies 0."""
    offset = torch.arange(-RADIUS, RADIUS + 1, dtype=image.dtype, device=image.device)
    gauss = torch.exp(-offset.square() / (2 * _SD**2))
    down, right = (gauss * (offset / RADIUS) ** power for power in powers)
    batch, channels, rows, cols = image.shape
    planes = image.reshape(batch * channels, 1, rows, cols)
    planes = F.conv2d(planes, down[None, None, :, None], padding=(RADIUS, 0))
    return F.conv2d(planes, right[None, None, None, :], padding=(0, RADIUS)).reshape(image.shape)


def _pairs(count: int) -> Iterator[tuple[int, int]]:
    return ((first, second) for first in range(count) for second in range(first, count))
