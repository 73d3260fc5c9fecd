"""The likelihood that a standard deviation learns by, beside or together with its mean.

Beta-NLL of Seitzer, Tavakoli, Antic and Martius, "On the pitfalls of heteroscedastic uncertainty estimation with
probabilistic neural networks" (ICLR 2022), beta 0.5.
"""

from torch import Tensor

LEAST_SD = 1e-3
"""Least deviation in training spreads; keeps logarithm and quotient in bounds."""
_BETA = 0.5


def beta_nll(error: Tensor, sd: Tensor) -> Tensor:
    """Return the loss of each pixel: Gaussian, weighted by a power of the deviation that has no gradient."""
    return sd.detach() ** (2 * _BETA) * (sd.log() + (error / sd).square() / 2)
