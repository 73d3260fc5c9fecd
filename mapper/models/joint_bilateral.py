"""JointBilateral: source pixels averaged by how near they are and how alike their guide is.

After Kopf et al., "Joint bilateral upsampling" (2007), for any number of guide channels and any integer scale. A target
pixel is compared with the guide's mean over each source pixel, since that is what the source's value stands for. Beside
the two widths, which can be learned, there is nothing to train.
"""

import math

import torch
import torch.nn.functional as F  # noqa: N812  the name everyone knows
from torch import Tensor, nn

from mapper.models.model import Network, check_guided
from mapper.models.receptive_field import ReceptiveField, Span


class JointBilateral(Network):
    """The filter, on normalised values.

    Args:
        guide_channels: Channels of the guide.
        scale: Source pixel / target pixel.
        radius: Source pixels on either side that are averaged.
        spatial: Standard deviation of the distance, in source pixels, before training.
        alike: Standard deviation of the guide's difference, root mean square over channels in units of training
            spreads, before training.
    """

    def __init__(
        self, guide_channels: int, scale: int, *, radius: int = 2, spatial: float = 0.7, alike: float = 0.3
    ) -> None:
        super().__init__()
        check_guided(guide_channels, scale)
        if radius < 1 or spatial <= 0 or alike <= 0:
            raise ValueError(f"radius, spatial and alike must be positive, got {radius}, {spatial} and {alike}")
        self.scale, self.radius = scale, radius
        self.log_spatial = nn.Parameter(torch.tensor(math.log(spatial)))
        self.log_alike = nn.Parameter(torch.tensor(math.log(alike)))

    def forward(self, guide: Tensor, source: Tensor) -> Tensor:
        """Return the sharpened source.

        Args:
            guide: (batch, guide channels, y, x), normalised, 0 where missing.
            source: (batch, 1, y / scale, x / scale), normalised.

        Returns:
            (batch, 1, y, x), in the normalisation of the source.
        """
        batch, channels, rows, cols = guide.shape
        edge = (self.radius,) * 4
        means = F.pad(F.avg_pool2d(guide, self.scale), edge, mode="replicate")
        values = F.pad(source, edge, mode="replicate")
        # target pixels by source pixel and position in it, so that neighbours broadcast and nothing is repeated
        blocks = guide.reshape(batch, channels, rows // self.scale, self.scale, cols // self.scale, self.scale)
        near = self._log_near(guide)
        taps = range(2 * self.radius + 1)
        logs, candidates = [], []
        for down in taps:
            for right in taps:
                shifted = _shift(means, down, right, source.shape)[:, :, :, None, :, None]
                unlike = (blocks - shifted).square().mean(1)
                logs.append(near[down, :, None, None] + near[right] - unlike / (2 * torch.exp(2 * self.log_alike)))
                candidates.append(_shift(values, down, right, source.shape)[:, 0, :, None, :, None])
        weights = torch.softmax(torch.stack(logs), 0)
        total = sum(
            (weight * value for weight, value in zip(weights, candidates, strict=True)), torch.zeros_like(logs[0])
        )
        return total.reshape(batch, 1, rows, cols)

    def _log_near(self, like: Tensor) -> Tensor:
        """Return the logarithm of the weight by distance along one axis, (tap, position in the source pixel)."""
        position = (torch.arange(self.scale, dtype=like.dtype, device=like.device) + 0.5) / self.scale - 0.5
        tap = torch.arange(-self.radius, self.radius + 1, dtype=like.dtype, device=like.device)
        return -(tap[:, None] - position).square() / (2 * torch.exp(2 * self.log_spatial))

    def receptive_field(self, pixel: int) -> ReceptiveField:
        """Return what one target pixel depends on."""
        source = Span(pixel, pixel).upsample(self.radius, self.scale)
        return ReceptiveField(guide=source.pool(self.scale, self.scale, 0), source=source)


def _shift(padded: Tensor, down: int, right: int, shape: torch.Size) -> Tensor:
    """Return the part of a padded array that lies under one tap."""
    return padded[..., down : down + shape[-2], right : right + shape[-1]]
