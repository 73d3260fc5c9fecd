"""Losses of a training, on pixels whose truth is known, in units of the source's training spread.

The mean is judged by ``l1``, ``huber`` (bends at one spread), ``mse`` or ``nll``. A network that gives a standard
deviation learns it beside the mean, whatever the loss of the mean, by the Gaussian likelihood of what the mean leaves.
Under the first three that part sees the error as given: it cannot buy likelihood with a worse mean. So it is under
``l1-mse-gradient``, which judges the mean by the absolute error, the squared error and a tenth of the error of Sobel's
gradients: slopes count beside heights. That is the loss of Cai and Wilson (2025), in units of the source's spread.

``nll`` lets the deviation weigh the mean. The plain likelihood divides the gradient of the mean by the variance, so
that a network which calls pixels hard stops learning them. It is therefore the one of
:mod:`mapper.training.pixel_losses`, to which half the squared error is added: no pixel is given up, however large its
deviation.

``flow`` trains a network that draws samples: flow matching, and beside it the mean by its squared error, and its
deviation; see :class:`~mapper.training.pixel_losses.FlowLoss`.

``registered`` and ``radiometric-consistency`` are for a truth of another sensor, which lies elsewhere by parts of a
pixel or has other colours; they have layers that learn beside the network, see :mod:`mapper.training.registered_loss`.

``latent`` trains latent diffusion, whose autoencoder and denoiser are judged apart; see
:class:`~mapper.training.pixel_losses.LatentLoss`.

``bce`` judges probabilities of a class, where the truth is 0 or 1: binary cross-entropy, -log(1 - |error|).

Members of an ensemble learn each from its own output and patches, never from their mean.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from mapper.errors import InputError
from mapper.models.contract import Contract
from mapper.models.ensemble import Ensemble
from mapper.models.model import GuidedModel, Network, TrainedModel, keep_within
from mapper.models.stack_model import StackModel, adapt
from mapper.registry import Registry
from mapper.spec.target import Bounds
from mapper.training.pixel_losses import (
    LEAST_SD,
    FlowLoss,
    GradientLoss,
    LatentLoss,
    Loss,
    beside_mean,
    binary_cross_entropy,
    nll,
    smooth_l1,
)
from mapper.training.registered_loss import (
    RadiometricConsistency,
    Radiometry,
    RegisteredError,
    RegisteredLoss,
    RegisteredSum,
)


class Patches(NamedTuple):
    """Input and truth of all members in one step; (member, patch, channel, y, x)."""

    guide: Tensor
    source: Tensor
    source_sd: Tensor
    truth: Tensor
    values: Tensor
    """(member, patch, date, band, y, x) of a stack."""
    clear: Tensor
    shift: Tensor

    @property
    def scale(self) -> int:
        """Source pixel / target pixel."""
        return self.truth.shape[-1] // self.source.shape[-1]


class Objective(nn.Module):
    """Loss of each member of a model, summed over pixels.

    Args:
        model: Its members share their parameters with it.
        loss: Name of a loss, one of :data:`LOSSES`.
        rim_source_px: Rim of a patch that is not judged: there the network sees the edge.
        bf16: Compute the network in bfloat16.
        radiometry: Of the samples, for losses that have layers of their own; None takes one band in training units.

    Raises:
        InputError: If there is no such loss, or it needs a standard deviation that the network does not give.
    """

    def __init__(
        self,
        model: TrainedModel,
        *,
        loss: str,
        rim_source_px: int = 0,
        bf16: bool = False,
        radiometry: Radiometry | None = None,
    ) -> None:
        super().__init__()
        members = members_of(model)
        _check_loss(
            loss,
            model.contract.model,
            gives_sd=all(member.gives_sd for member in members),
            draws=all(member.stochastic for member in members),
        )
        straight = replace(model.contract, bounds=(None, None))
        self.members = nn.ModuleList(adapt(member, straight) for member in members)
        self.bounds = model.contract.bounds
        self.loss = loss
        self.rim_source_px = rim_source_px
        self.bf16 = bf16
        self.unit = unit_of(model.contract)
        radiometry = radiometry or Radiometry(bands=1, mean=0.0, unit=self.unit, mtf=None)
        self.learned = nn.ModuleList(_make_learned(loss, radiometry, len(members)))
        """Losses with layers of their own, one for each member; none for other losses."""

    def forward(self, patches: Patches) -> Tensor:
        """Return the sum of losses of each member, (member,)."""
        rim = self._rim(patches)
        sums = []
        for at, member in enumerate(self.members):
            shown = Patches(*(array[at] for array in patches))
            time = _draw_times(shown, self.loss) if _sees_flow(self.loss) else None
            with torch.autocast(shown.guide.device.type, dtype=torch.bfloat16, enabled=self.bf16):
                output = _sharpen(member, shown) if time is None else _learn(member, shown, time)
            output, truth = _crop(output.float(), rim), _crop(shown.truth, rim)
            output = output if self.bounds == (None, None) else bend(output, truth, bounds=self.bounds, unit=self.unit)
            if self.learned:
                sums.append(self.learned[at](output, truth, _crop(shown.source, rim // shown.scale)))
            else:
                sums.append(sum_loss(output, truth, loss=self.loss, unit=self.unit, time=time))
        return torch.stack(sums)

    def count(self, patches: Patches) -> Tensor:
        """Return the number of pixels that are judged, (member,)."""
        return torch.isfinite(_crop(patches.truth, self._rim(patches))).sum((1, 2, 3, 4))

    def _rim(self, patches: Patches) -> int:
        """Return the rim in target pixels; at least the middle of a small patch is judged."""
        return min(self.rim_source_px, (patches.source.shape[-1] - 1) // 2) * patches.scale


def _sharpen(member: nn.Module, shown: Patches) -> Tensor:
    """Return what a member makes of its patches: means, and deviations behind them."""
    guide, source, source_sd = (_fast(array) for array in (shown.guide, shown.source, shown.source_sd))
    if isinstance(member, GuidedModel):
        return member.sharpen(guide, source, source_sd)
    if isinstance(member, StackModel):
        return member.sharpen(guide, source, shown.values, shown.clear, shown.shift)
    raise TypeError(f"{type(member).__name__} is no model that can be trained")


def _draw_times(shown: Patches, loss: str) -> Tensor:
    """Return a part of the way from noise to truth for each patch, (patch,), between the first and last of a loss."""
    first, last = getattr(LOSSES[loss], "times", (0.0, 1.0))
    return first + (last - first) * torch.rand(len(shown.source), device=shown.source.device)


def _learn(member: nn.Module, shown: Patches, time: Tensor) -> Tensor:
    """Return what a stochastic member makes of its patches, and of their truth under noise at a time."""
    if not isinstance(member, StackModel):
        raise TypeError(f"{type(member).__name__} draws no samples")
    arrays = (_fast(shown.guide), _fast(shown.source), shown.values, shown.clear, shown.shift)
    return member.learn(arrays, shown.truth, noise=torch.randn_like(shown.truth)[:, None], time=time)


def unit_of(contract: Contract) -> float:
    """Return the spread of the source in training, in target units; 1 for a model of bands in any units."""
    spreads = [band.sd for band in contract.source.bands]
    return sum(spreads) / len(spreads) if spreads else 1.0


def members_of(model: TrainedModel) -> list[Network]:
    """Return the networks of a model: those of its ensemble, or the only one."""
    network = model.network
    if not isinstance(network, Ensemble):
        return [network]
    return [member for member in network.members if isinstance(member, Network)]


def bend(output: Tensor, truth: Tensor, *, bounds: Bounds, unit: float) -> Tensor:
    """Return a mean kept within its bounds as the model will keep it, that can still learn to come back.

    Beyond a bound the bend is flat: a network that had once fallen there everywhere would get no gradient and never
    come back. Where the truth lies inwards, the gradient is therefore that of a mean without a bend.

    Args:
        output: (batch, band, y, x), means not yet bent; deviations may stand behind them.
        truth: (batch, band, y, x), NaN where unknown.
        bounds: Lowest and highest possible value.
        unit: Spread of the source in training, in target units.
    """
    bands = truth.shape[1]
    straight = output[:, :bands]
    bent = keep_within(straight, bounds, unit)
    returning = straight + (bent - straight).detach()
    if None in bounds:
        inwards = bent < truth if bounds[1] is None else bent > truth
    else:
        inwards = (bent - straight) * (bent - truth) < 0
    return torch.cat([torch.where(inwards, returning, bent), output[:, bands:]], 1)


def sum_loss(output: Tensor, truth: Tensor, *, loss: str, unit: float, time: Tensor | None = None) -> Tensor:
    """Return the loss summed over pixels whose truth is known.

    Args:
        output: (batch, band, y, x): means and, where given, as many standard deviations behind them, in target units;
            behind those what is expected of the truth under noise.
        truth: (batch, band, y, x), NaN where unknown.
        loss: Name of a loss, one of :data:`LOSSES` without layers of its own.
        unit: Amount that counts as 1, in target units.
        time: (batch,) part of the way from noise to truth; None where there is no noise.
    """
    bands = truth.shape[1]
    parts = [part.flatten(0, 1)[:, None] for part in output.chunk(output.shape[1] // bands, 1)]
    truth = truth.flatten(0, 1)[:, None]
    known = torch.isfinite(truth)
    error = torch.where(known, parts[0] - truth, 0.0) / unit
    sd = (parts[1] / unit).clamp(min=LEAST_SD) if len(parts) > 1 else None
    extras: dict[str, Tensor] = {}
    if time is not None:
        extras["flow"] = torch.where(known, parts[2] - truth, 0.0) / unit
        extras["time"] = time.repeat_interleave(bands)[:, None, None, None]
    return torch.where(known, _judge(LOSSES[loss], error, sd, known, **extras), 0.0).sum()


def _judge(loss: Loss, error: Tensor, sd: Tensor | None, known: Tensor, **extras: Tensor) -> Tensor:
    return loss(error, sd, **extras, known=known) if getattr(loss, "sees_gaps", False) else loss(error, sd, **extras)


def _sees_flow(loss: str) -> bool:
    return bool(getattr(LOSSES[loss], "sees_flow", False))


def _find_learned(name: str) -> type[RegisteredLoss] | None:
    """Return the class of a loss that has layers of its own; None for another."""
    found = LOSSES[name]
    return found if isinstance(found, type) and issubclass(found, RegisteredLoss) else None


def _make_learned(name: str, radiometry: Radiometry, members: int) -> list[RegisteredSum]:
    """Return the losses of members that have layers of their own, at the same start in every process; else none."""
    kind = _find_learned(name)
    if kind is None:
        return []
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return [RegisteredSum(kind(radiometry.bands, mtf=radiometry.mtf), radiometry) for _ in range(members)]


LOSSES: Registry[Callable[..., Any]] = Registry(
    "mapper.losses",
    {
        "l1": beside_mean(partial(smooth_l1, bend=0.0)),
        "huber": beside_mean(partial(smooth_l1, bend=1.0)),
        "mse": beside_mean(torch.square),
        "nll": nll,
        "l1-mse-gradient": GradientLoss(l1=1.0, mse=1.0, gradient=0.1),
        "flow": FlowLoss(),
        "latent": LatentLoss(),
        "bce": beside_mean(binary_cross_entropy),
        "registered": RegisteredError,
        "radiometric-consistency": RadiometricConsistency,
    },
    kind=Callable,
)
"""Losses by name, each a :data:`Loss` or a subclass of
:class:`~mapper.training.registered_loss.RegisteredLoss`; other packages add theirs as entry points of
``mapper.losses``."""


def _check_loss(name: str, model: str, *, gives_sd: bool, draws: bool) -> None:
    """Try a loss on one pixel of what a network gives.

    Raises:
        InputError: If there is no such loss, or it does not take what the network gives.
    """
    if name not in LOSSES:
        raise InputError(f"unknown loss {name!r}: expected one of {', '.join(LOSSES)}")
    if _sees_flow(name) and not draws:
        raise InputError(f"loss {name} needs a network that draws samples; {model} draws none")
    if _find_learned(name):
        return
    one = torch.ones(1, 1, 1, 1)
    try:
        _judge(LOSSES[name], one, one if gives_sd else None, one > 0)
    except InputError as error:
        raise InputError(f"{error}; {model} does not") from error


def _crop(array: Tensor, rim: int) -> Tensor:
    return array[..., rim : array.shape[-2] - rim, rim : array.shape[-1] - rim]


def _fast(array: Tensor) -> Tensor:
    return array.contiguous(memory_format=torch.channels_last)
