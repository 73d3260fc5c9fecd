"""What a training minimises, on pixels whose truth is known, in units of the source's training spread.

The mean is judged by ``l1``, ``huber`` (bends at one spread), ``mse`` or ``nll``. A network that gives a standard
deviation learns it beside the mean, whatever the loss of the mean, by the Gaussian likelihood of what the mean leaves.
Under the first three that part sees the error as given: it cannot buy likelihood with a worse mean.

``nll`` lets the deviation weigh the mean. The plain likelihood divides the gradient of the mean by the variance, so
that a network which calls pixels hard stops learning them. It is therefore the beta-NLL of Seitzer, Tavakoli, Antic and
Martius, "On the pitfalls of heteroscedastic uncertainty estimation with probabilistic neural networks" (ICLR 2022),
beta 0.5, to which half the squared error is added: no pixel is given up, however large its deviation.

Members of an ensemble learn each from its own output and patches, never from their mean.
"""

from dataclasses import replace
from typing import NamedTuple

import torch
import torch.nn.functional as F  # noqa: N812  the name everyone knows
from torch import Tensor, nn

from mapper.errors import InputError
from mapper.models.ensemble import Ensemble
from mapper.models.model import GuidedModel, Network, keep_within
from mapper.spec.target import Bounds

_BETA = 0.5
_LEAST_SD = 1e-3
"""In training spreads; keeps logarithm and quotient in bounds."""


class Patches(NamedTuple):
    """What all members are shown in one step; (member, patch, channel, y, x)."""

    guide: Tensor
    source: Tensor
    source_sd: Tensor
    truth: Tensor


class Objective(nn.Module):
    """Loss of each member of a model, summed over pixels.

    Args:
        model: Its members share their parameters with it.
        loss: Of the mean.
        rim_source_px: Rim of a patch that is not judged: there the network sees the edge.
        bf16: Compute the network in bfloat16.

    Raises:
        InputError: If the loss is ``nll`` and the network gives no standard deviation.
    """

    def __init__(self, model: GuidedModel, *, loss: str, rim_source_px: int = 0, bf16: bool = False) -> None:
        super().__init__()
        members = members_of(model)
        if loss == "nll" and not all(member.gives_sd for member in members):
            raise InputError(
                f"loss nll needs a network that gives a standard deviation; {model.contract.model} does not"
            )
        straight = replace(model.contract, bounds=(None, None))
        self.members = nn.ModuleList(GuidedModel(member, straight) for member in members)
        self.bounds = model.contract.bounds
        self.loss = loss
        self.rim_source_px = rim_source_px
        self.bf16 = bf16
        self.unit = model.source.sd

    def forward(self, patches: Patches) -> Tensor:
        """Sum of losses of each member, (member,)."""
        rim = self._rim(patches)
        sums = []
        members = (member for member in self.members if isinstance(member, GuidedModel))
        for member, guide, source, source_sd, truth in zip(members, *patches, strict=True):
            with torch.autocast(guide.device.type, dtype=torch.bfloat16, enabled=self.bf16):
                output = member.sharpen(*(_fast(array) for array in (guide, source, source_sd)))
            output, truth = _crop(output.float(), rim), _crop(truth, rim)  # noqa: PLW2901
            output = output if self.bounds == (None, None) else bend(output, truth, bounds=self.bounds, unit=self.unit)
            sums.append(sum_loss(output, truth, loss=self.loss, unit=self.unit))
        return torch.stack(sums)

    def count(self, patches: Patches) -> Tensor:
        """Pixels that are judged, (member,)."""
        return torch.isfinite(_crop(patches.truth, self._rim(patches))).sum((1, 2, 3, 4))

    def _rim(self, patches: Patches) -> int:
        """In target pixels; at least the middle of a small patch is judged."""
        pixels = patches.source.shape[-1]
        scale = patches.truth.shape[-1] // pixels
        return min(self.rim_source_px, (pixels - 1) // 2) * scale


def members_of(model: GuidedModel) -> list[Network]:
    """The networks of a model: those of its ensemble, or the only one."""
    network = model.network
    if not isinstance(network, Ensemble):
        return [network]
    return [member for member in network.members if isinstance(member, Network)]


def bend(output: Tensor, truth: Tensor, *, bounds: Bounds, unit: float) -> Tensor:
    """Return a mean kept within its bounds as the model will keep it, that can still learn to come back.

    Beyond a bound the bend is flat: a network that had once fallen there everywhere would get no gradient and never
    come back. Where the truth lies inwards, the gradient is therefore that of a mean without a bend.

    Args:
        output: (batch, 1 or 2, y, x), the mean not yet bent.
        truth: (batch, 1, y, x), NaN where unknown.
        bounds: Lowest and highest possible value.
        unit: Spread of the source in training, in target units.
    """
    straight = output[:, :1]
    bent = keep_within(straight, bounds, unit)
    returning = straight + (bent - straight).detach()
    if None in bounds:
        inwards = bent < truth if bounds[1] is None else bent > truth
    else:
        inwards = (bent - straight) * (bent - truth) < 0
    return torch.cat([torch.where(inwards, returning, bent), output[:, 1:]], 1)


def sum_loss(output: Tensor, truth: Tensor, *, loss: str, unit: float) -> Tensor:
    """Loss summed over pixels whose truth is known.

    Args:
        output: (batch, 1 or 2, y, x): mean and, where given, standard deviation, in target units.
        truth: (batch, 1, y, x), NaN where unknown.
        loss: Of the mean: l1, huber, mse or nll.
        unit: What counts as 1, in target units.
    """
    known = torch.isfinite(truth)
    error = torch.where(known, output[:, :1] - truth, 0.0) / unit
    total = _judge_mean(error, "mse" if loss == "nll" else loss)
    if output.shape[1] > 1:
        sd = (output[:, 1:] / unit).clamp(min=_LEAST_SD)
        total = total / 2 + _beta_nll(error, sd) if loss == "nll" else total + _beta_nll(error.detach(), sd)
    return torch.where(known, total, 0.0).sum()


def _judge_mean(error: Tensor, loss: str) -> Tensor:
    if loss == "mse":
        return error.square()
    zero = torch.zeros_like(error)
    return F.smooth_l1_loss(error, zero, reduction="none", beta=1.0 if loss == "huber" else 0.0)


def _beta_nll(error: Tensor, sd: Tensor) -> Tensor:
    return sd.detach() ** (2 * _BETA) * (sd.log() + (error / sd).square() / 2)


def _crop(array: Tensor, rim: int) -> Tensor:
    return array[..., rim : array.shape[-2] - rim, rim : array.shape[-1] - rim]


def _fast(array: Tensor) -> Tensor:
    return array.contiguous(memory_format=torch.channels_last)
