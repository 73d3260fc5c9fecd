"""A loss: nearly the absolute error, smooth at 0."""

import torch
from torch import Tensor

from mapper.training.pixel_losses import beside_mean


@beside_mean
def charbonnier(error: Tensor) -> Tensor:
    """Return the loss of each pixel; errors are in units of the source's spread in training."""
    return torch.sqrt(error.square() + 1e-6) - 1e-3
