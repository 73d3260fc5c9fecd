"""A network with its contract: physical units in, physical units out, missing values dealt with.

Networks themselves work on normalised values without NaN, and know nothing of bands or units.
"""

import math
from typing import Any, ClassVar, Protocol

import torch
import torch.nn.functional as F  # noqa: N812  the name everyone knows
from torch import Tensor, nn

from mapper.models.contract import Contract
from mapper.models.interpolation import fill_missing
from mapper.models.receptive_field import Reach, halo_of

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


_FARTHEST = 5.0
"""Standard deviations from the mean of training at which a guide value is cut off."""


_SOFTEST = 0.02
"""How near to 0, in training spreads, a non-negative mean begins to bend."""


class Model(Protocol):
    """Anything that sharpens."""

    contract: Contract
    digest: str

    def __call__(self, guide: Tensor, source: Tensor, source_sd: Tensor | None = None) -> Tensor:
        """Sharpen a batch.

        Args:
            guide: (batch, channel, y, x) float32 in the units of the contract, NaN where missing.
            source: (batch, 1, y / scale, x / scale) float32, NaN where missing.
            source_sd: Like ``source``: its standard deviation, NaN where unknown; only some models look at it.

        Returns:
            (batch, 1, y, x) mean, or (batch, 2, y, x) mean and standard deviation, in target units.
        """


class Network(nn.Module):
    """An architecture: (guide, source) to target, all normalised and without NaN.

    The output is (batch, 1, y, x), the mean, or (batch, 2, y, x), mean and a positive standard deviation.
    """

    sees_gaps: ClassVar[bool] = False
    """Whether it takes ``known``: (batch, guide channels, y, x) bool, False where a guide value was missing."""
    sees_source_sd: ClassVar[bool] = False
    """Whether it takes ``source_sd``: (batch, 1, y / scale, x / scale), in units of the source's training spread."""
    sees_dates: ClassVar[bool] = False
    """Whether it takes the option ``dates``: the guide's channels are so many dates with the same bands each."""
    gives_sd: ClassVar[bool] = False
    scale: int
    """Source pixel / target pixel."""

    @property
    def halo_px(self) -> int:
        """Radius of the receptive field in target pixels, filled source values included.

        The farthest over all places that a target pixel can take on source pixels and on the coarsest pixels inside.
        """
        places = range(math.lcm(self.scale, self.align_px))
        return halo_of([self._reach(pixel) for pixel in places], self.scale)

    @property
    def align_px(self) -> int:
        """What the edges of its input must be multiples of, beside the scale, counted from the corner of the map."""
        return 1

    def _reach(self, pixel: int) -> Reach:
        """What one target pixel depends on."""
        raise NotImplementedError


def keep_above_zero(mean: Tensor, spread: float) -> Tensor:
    """The mean, bent smoothly to 0 where it would fall below.

    Args:
        mean: In target units.
        spread: Of the source in training, in the same.
    """
    return F.softplus(mean, beta=1 / (_SOFTEST * spread))


class GuidedModel(nn.Module):
    """A trained network and its contract.

    A missing guide value becomes the mean of training (0 after normalisation), and so does all of a channel that told
    nothing in training (standard deviation 0); a value far outside of what was seen is cut off. A missing source
    value is filled from its neighbours; far from any, it becomes the mean of training too. Callers flag both.

    Args:
        network: What was trained.
        contract: Gives the constants of normalisation.
        digest: What identifies the model in records.
    """

    guide_mean: Tensor
    guide_sd: Tensor

    def __init__(self, network: Network, contract: Contract, *, digest: str = "") -> None:
        super().__init__()
        self.network = network
        self.contract = contract
        self.digest = digest
        for name, values in (
            ("guide_mean", [band.mean for band in contract.guide]),
            ("guide_sd", [band.sd for band in contract.guide]),
        ):
            column = torch.tensor(values, dtype=torch.float32)[:, None, None]
            self.register_buffer(name, column, persistent=False)

    def forward(self, guide: Tensor, source: Tensor, source_sd: Tensor | None = None) -> Tensor:
        """Sharpen a batch; see :class:`Model`.

        Raises:
            ValueError: If the guide has another number of channels than the contract.
        """
        if guide.shape[1] != len(self.contract.guide):
            raise ValueError(f"guide has {guide.shape[1]} channels, the model expects {len(self.contract.guide)}")
        extras: dict[str, Any] = {}
        if self.network.sees_gaps:
            extras["known"] = torch.isfinite(guide)
        if self.network.sees_source_sd:
            extras["source_sd"] = self.normalise_source_sd(
                torch.full_like(source, torch.nan) if source_sd is None else source_sd
            )
        normal = self.network(self.normalise_guide(guide), self.normalise_source(source), **extras)
        return self.denormalise(normal)

    def denormalise(self, normal: Tensor) -> Tensor:
        """Output of the network in target units."""
        normal, spread = normal.float(), self.contract.source_sd  # eight bits would round a mean of 300 to whole units
        mean = normal[:, :1] * spread + self.contract.source_mean
        if self.contract.non_negative:
            mean = keep_above_zero(mean, spread)
        if normal.shape[1] == 1:
            return mean
        return torch.cat([mean, normal[:, 1:] * (spread * self.contract.sd_scale)], 1)

    def normalise_guide(self, guide: Tensor) -> Tensor:
        """Guide in training units, 0 where missing."""
        normal = (guide - self.guide_mean) * torch.where(self.guide_sd > 0, 1 / self.guide_sd, 0.0)
        return torch.nan_to_num(normal, nan=0.0).clamp(-_FARTHEST, _FARTHEST)

    def normalise_source(self, source: Tensor) -> Tensor:
        """Source in training units, filled where missing."""
        normal = (fill_missing(source) - self.contract.source_mean) / self.contract.source_sd
        return torch.nan_to_num(normal, nan=0.0)

    def normalise_source_sd(self, source_sd: Tensor) -> Tensor:
        """Standard deviation of the source in training units, filled where missing, 0 where unknown all around."""
        return torch.nan_to_num(fill_missing(source_sd) / self.contract.source_sd, nan=0.0)
