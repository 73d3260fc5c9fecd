"""Level and contrast of an image around each pixel: units that hang on a fixed window, not on a patch or a sensor.

A network that sees differences to the level, divided by the contrast, serves any band in any unit.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F  # noqa: N812  the name everyone knows
from torch import Tensor, nn

_LEAST_CONTRAST = 1e-4
"""Part of the level below which there is no contrast to be divided by."""
_TINY = 1e-12


class Local(NamedTuple):
    """Level and contrast around each pixel, in the units of the image."""

    level: Tensor
    contrast: Tensor
    """Standard deviation, always above 0."""


class LocalContrast(nn.Module):
    """Weighted mean and standard deviation of a window around each pixel; without weights that are learnt.

    Args:
        sd: Spread in pixels of the Gaussian that weighs the window.
        radius: Of the window in pixels.
    """

    gauss: Tensor

    def __init__(self, *, sd: float, radius: int) -> None:
        super().__init__()
        self.radius = radius
        taps = torch.exp(-torch.arange(-radius, radius + 1).square() / (2 * sd**2))
        self.register_buffer("gauss", (taps / taps.sum())[None, :, None], persistent=False)

    @property
    def reach(self) -> int:
        """Radius in pixels of what the contrast hangs on: the window of windows."""
        return 2 * self.radius

    def forward(self, image: Tensor) -> Local:
        """Return level and contrast of an image (batch, 1, y, x); edges repeat the last value."""
        level = self._blur(image)
        spread = self._blur((image - level).square()).clamp(min=_TINY).sqrt()
        return Local(level, spread + _LEAST_CONTRAST * level.abs())

    def _blur(self, image: Tensor) -> Tensor:
        wide = F.pad(image, (self.radius,) * 4, mode="replicate")
        return F.conv2d(F.conv2d(wide, self.gauss[:, None]), self.gauss[:, None].mT)
