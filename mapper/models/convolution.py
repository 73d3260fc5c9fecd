"""A convolution that is quick in double precision on a CPU, where torch has none that is.

There torch writes each pixel out once for each tap before it multiplies. Here each tap is one product of matrices on
the image as it lies, with its rows one after another.
"""

import torch
import torch.nn.functional as F  # noqa: N812  the name everyone knows
from torch import Tensor, nn

_EDGE = 3
_ROWS = 16
"""Rows at once: what is added to stays in a cache."""


class Convolution(nn.Conv2d):
    """3 x 3 convolution with 'same' padding.

    Args:
        inputs: Features of the image.
        outputs: Features that it becomes.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs, _EDGE, padding=_EDGE // 2)

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - the name of the base
        """Return the features (batch, output, y, x) of an image (batch, input, y, x)."""
        if input.dtype != torch.double or input.device.type != "cpu" or torch.is_grad_enabled():
            return super().forward(input)
        return torch.stack([self._multiply(image) for image in input])

    def _multiply(self, image: Tensor) -> Tensor:
        """Return the features of one image; rows are as long as padded ones, so that each tap is one step away."""
        _, rows, cols = image.shape
        width = cols + _EDGE - 1
        flat = F.pad(image, (1, 1, 1, 2)).flatten(1)  # the last products reach into a row more
        taps = [(row * width + col, self.weight[:, :, row, col].contiguous()) for row in range(3) for col in range(3)]
        found = image.new_empty((self.out_channels, rows * width))
        for first in range(0, rows * width, _ROWS * width):
            part = found[:, first : first + _ROWS * width]
            part.copy_(self.bias[:, None].expand_as(part) if self.bias is not None else part.new_zeros(()))
            for away, weight in taps:
                part.addmm_(weight, flat[:, first + away : first + away + part.shape[1]])
        return found.view(self.out_channels, rows, width)[..., :cols]
