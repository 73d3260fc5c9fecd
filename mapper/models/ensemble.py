"""Several networks of one architecture as one: their mean, and what they do not agree on.

Members differ in their first weights and in what they were shown. After Lakshminarayanan et al., "Simple and scalable
predictive uncertainty estimation using deep ensembles" (2017): the prediction is the mixture of the members'.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from mapper.models.model import Network


class Ensemble(Network):
    """Members side by side, which take the same inputs.

    Args:
        members: At least two networks of one architecture.
    """

    gives_sd = True

    def __init__(self, members: Sequence[Network]) -> None:
        super().__init__()
        if len(members) < 2:
            raise ValueError(f"an ensemble needs at least 2 members, got {len(members)}")
        self.members = nn.ModuleList(members)
        first = members[0]
        if first.stacked:
            raise ValueError("networks of several bands or dates make no ensemble yet: leave out members")
        self.sees_gaps, self.sees_source_sd, self.sees_dates = first.sees_gaps, first.sees_source_sd, first.sees_dates
        self.tile_exact = first.tile_exact
        self.sees_source_gaps, self.source_norm = first.sees_source_gaps, first.source_norm
        self.in_double = first.in_double
        self.scale = first.scale
        self._halo_px, self._align_px, self._any_scale = first.halo_px, first.align_px, first.any_scale

    @property
    def any_scale(self) -> bool:
        """True where a member works at every scale."""
        return self._any_scale

    @property
    def halo_px(self) -> int:
        """Radius of the receptive field of a member."""
        return self._halo_px

    @property
    def align_px(self) -> int:
        """Edges of a member's input are multiples of this."""
        return self._align_px

    def forward(self, guide: Tensor, source: Tensor, **extras: Any) -> Tensor:
        """Return the mean of the members and the standard deviation of their mixture; (batch, 2, y, x)."""
        outputs = torch.stack([member(guide, source, **extras) for member in self.members])
        return mix(outputs)


def mix(outputs: Tensor) -> Tensor:
    """Return mean and standard deviation of a mixture with equal shares.

    Args:
        outputs: (member, batch, 1 or 2, y, x): mean and, where members give it, standard deviation.

    Returns:
        (batch, 2, y, x).
    """
    means = outputs[:, :, :1]
    variance = means.var(0, unbiased=False)
    if outputs.shape[2] == 2:
        variance = variance + outputs[:, :, 1:].square().mean(0)
    return torch.cat([means.mean(0), variance.sqrt()], 1)
