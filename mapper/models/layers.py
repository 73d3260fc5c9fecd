"""What several networks share: their demands, their start, and how pixels are counted on coarser grids."""

import torch.nn.functional as F  # noqa: N812  the name everyone knows
from torch import Tensor, nn

QUARTER = 4
"""Edge of the squares of pixels that become channels, so that a network works on a 16th of the pixels."""


def check_guided(guide_channels: int, scale: int) -> None:
    """Check that there is a guide and something to sharpen.

    Raises:
        ValueError: If not.
    """
    if guide_channels < 1 or scale < 2:
        raise ValueError(f"needs guide channels and a scale of at least 2, got {guide_channels} and {scale}")


def start_small(layer: nn.Conv2d) -> nn.Conv2d:
    """Make a last layer say little at first: training starts from what its output is added to."""
    nn.init.normal_(layer.weight, std=1e-3)
    nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
    return layer


def quarter(values: Tensor) -> Tensor:
    """Squares of 4 x 4 pixels as 16 channels of one pixel, for each channel."""
    return F.pixel_unshuffle(values, QUARTER)
