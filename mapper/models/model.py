"""A network with its contract: physical units in, physical units out, missing values dealt with.

Networks themselves work on normalised values without NaN, and know nothing of bands or units.
"""

from typing import Protocol

import torch
from torch import Tensor, nn

from mapper.models.contract import Contract
from mapper.models.interpolation import fill_missing

_FARTHEST = 5.0
"""Standard deviations from the mean of training at which a guide value is cut off."""


class Model(Protocol):
    """Anything that sharpens."""

    contract: Contract
    digest: str

    def __call__(self, guide: Tensor, source: Tensor) -> Tensor:
        """Sharpen a batch.

        Args:
            guide: (batch, channel, y, x) float32 in the units of the contract, NaN where missing.
            source: (batch, 1, y / scale, x / scale) float32, NaN where missing.

        Returns:
            (batch, 1, y, x) mean, or (batch, 2, y, x) mean and standard deviation, in target units.
        """


class Network(nn.Module):
    """An architecture: (guide, source) to target, all normalised and without NaN; output starts with the mean."""

    @property
    def halo_px(self) -> int:
        """Radius of the receptive field in target pixels, filled source values included."""
        raise NotImplementedError


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

    def forward(self, guide: Tensor, source: Tensor) -> Tensor:
        """Sharpen a batch; see :class:`Model`.

        Raises:
            ValueError: If the guide has another number of channels than the contract.
        """
        if guide.shape[1] != len(self.contract.guide):
            raise ValueError(f"guide has {guide.shape[1]} channels, the model expects {len(self.contract.guide)}")
        normal = self.network(self.normalise_guide(guide), self.normalise_source(source))
        mean = normal[:, :1] * self.contract.source_sd + self.contract.source_mean
        return mean if normal.shape[1] == 1 else torch.cat([mean, normal[:, 1:] * self.contract.source_sd], 1)

    def normalise_guide(self, guide: Tensor) -> Tensor:
        """Guide in training units, 0 where missing."""
        normal = (guide - self.guide_mean) * torch.where(self.guide_sd > 0, 1 / self.guide_sd, 0.0)
        return torch.nan_to_num(normal, nan=0.0).clamp(-_FARTHEST, _FARTHEST)

    def normalise_source(self, source: Tensor) -> Tensor:
        """Source in training units, filled where missing."""
        normal = (fill_missing(source) - self.contract.source_mean) / self.contract.source_sd
        return torch.nan_to_num(normal, nan=0.0)
