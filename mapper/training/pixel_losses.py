"""Losses of single pixels, from errors in units of the source's training spread and the deviation that goes with them.

The likelihood of a deviation is the beta-NLL of Seitzer, Tavakoli, Antic and Martius, "On the pitfalls of
heteroscedastic uncertainty estimation with probabilistic neural networks" (ICLR 2022), beta 0.5.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F  # noqa: N812  the name everyone knows
from torch import Tensor

from mapper.errors import InputError

Loss = Callable[..., Tensor]
"""Loss of each pixel, (batch, 1, y, x), from errors and standard deviations of the same shape; no deviations, None.

Errors are 0 where the truth is unknown. A loss that looks at neighbours has ``sees_gaps = True`` and takes ``known``
beside, bool of the same shape. One of samples has ``sees_flow = True`` and takes ``flow``, errors of what is expected
of the truth under noise, and ``time``, (batch, 1, 1, 1), part of the way from noise to truth, between its ``times``.
"""

_SUREST = 1 - 1e-6
"""Largest error of a probability that is told from a larger one."""
LEAST_SD = 1e-3
"""Least deviation in training spreads; keeps logarithm and quotient in bounds."""
_BETA = 0.5


def beta_nll(error: Tensor, sd: Tensor) -> Tensor:
    """Return the loss of each pixel: Gaussian, weighted by a power of the deviation that has no gradient."""
    return sd.detach() ** (2 * _BETA) * (sd.log() + (error / sd).square() / 2)


def beside_mean(judge: Callable[[Tensor], Tensor]) -> Loss:
    """Return a loss that judges the mean, and beside it any standard deviation by the errors as they are given.

    Args:
        judge: Loss of each pixel's error.
    """

    def loss(error: Tensor, sd: Tensor | None) -> Tensor:
        total = judge(error)
        return total if sd is None else total + beta_nll(error.detach(), sd)

    return loss


def nll(error: Tensor, sd: Tensor | None) -> Tensor:
    """Return half the squared error and the likelihood in which the deviation weighs the mean.

    Raises:
        InputError: If there is no standard deviation.
    """
    if sd is None:
        raise InputError("loss nll needs a network that gives a standard deviation")
    return error.square() / 2 + beta_nll(error, sd)


@dataclass(frozen=True, kw_only=True)
class GradientLoss:
    """A loss of heights and slopes: absolute and squared errors, and absolute errors of Sobel's gradients.

    Gradients are in units for eight pixels, along rows and along columns, and count where all 3 x 3 truths are known.
    """

    l1: float
    mse: float
    gradient: float
    sees_gaps: ClassVar[bool] = True

    def __call__(self, error: Tensor, sd: Tensor | None, *, known: Tensor) -> Tensor:
        """Return the loss of each pixel; see :data:`Loss`."""
        total = self.l1 * error.abs() + self.mse * error.square() + self.gradient * _slope_error(error, known)
        return total if sd is None else total + beta_nll(error.detach(), sd)


def _slope_error(error: Tensor, known: Tensor) -> Tensor:
    """Return the sum of the absolute errors of both Sobel gradients; 0 beside what is unknown, and at the edge.

    The gradient is linear: that of the error is the error of the gradient.
    """
    along = torch.tensor([[-1.0, 0.0, 1.0], [-2.0, 0.0, 2.0], [-1.0, 0.0, 1.0]], dtype=error.dtype, device=error.device)
    gradients = F.conv2d(error, torch.stack([along, along.T])[:, None], padding=1).abs().sum(1, keepdim=True)
    unknown = F.pad((~known).to(error.dtype), (1, 1, 1, 1), value=1.0)
    return torch.where(F.max_pool2d(unknown, 3, 1) > 0, 0.0, gradients)


@dataclass(frozen=True, kw_only=True)
class FlowLoss:
    """A loss of samples: squared error of the mean, likelihood of its deviation, and flow matching.

    What is expected of the truth under noise at a time t is judged by its squared error, in units of the deviation and
    divided by max(1 - t, .2): that of the velocity, but for its end. Pixels that are known to be hard weigh more, like
    the root of their variance. Neither the mean nor the deviation learns from this part.
    """

    times: ClassVar[tuple[float, float]] = (0.1, 0.9)
    """First and last time that is drawn; at 0 the mean is what is expected."""
    latest: ClassVar[float] = 0.2
    sees_flow: ClassVar[bool] = True
    weight: float = 1.0
    """Weight of flow matching."""

    def __call__(
        self, error: Tensor, sd: Tensor | None, *, flow: Tensor | None = None, time: Tensor | None = None
    ) -> Tensor:
        """Return the loss of each pixel; see :data:`Loss`.

        Raises:
            InputError: If there is no standard deviation.
        """
        if sd is None:
            raise InputError("loss flow needs a network that gives a standard deviation")
        total = error.square() + beta_nll(error.detach(), sd)
        if flow is None or time is None:
            return total
        return total + self.weight * flow.square() / sd.detach() / (1 - time).clamp(min=self.latest)


@dataclass(frozen=True, kw_only=True)
class LatentLoss:
    """A loss of latent diffusion: the absolute error of an image as decoded, what its code tells, and the velocity.

    In place of a deviation stands what a pixel's code tells, in nats; in place of errors of a truth under noise stand
    those of the velocity between code and noise, on pixels.
    """

    times: ClassVar[tuple[float, float]] = (0.0, 1.0)
    sees_flow: ClassVar[bool] = True
    nats: float = 1e-3
    """Weight of what a code tells: codes stay near standard normal ones."""
    weight: float = 0.5
    """Weight of the velocity."""

    def __call__(
        self, error: Tensor, sd: Tensor | None, *, flow: Tensor | None = None, time: Tensor | None = None
    ) -> Tensor:
        """Return the loss of each pixel; see :data:`Loss`."""
        del time
        total = error.abs()
        if sd is None or flow is None:
            return total
        return total + self.nats * sd + self.weight * flow.square()


def binary_cross_entropy(error: Tensor) -> Tensor:
    """Return the cross-entropy of probabilities against a truth of 0 or 1, of which the error tells all, in nats."""
    return -torch.log1p(-error.abs().clamp(max=_SUREST))


def smooth_l1(error: Tensor, *, bend: float) -> Tensor:
    """Return the absolute error beyond a bend, the squared one before."""
    return F.smooth_l1_loss(error, torch.zeros_like(error), reduction="none", beta=bend)
