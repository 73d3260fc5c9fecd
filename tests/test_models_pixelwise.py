"""Pixelwise regression looks at no neighbour in the guide, and honours the source."""

import pytest
import torch
from torch.nn.functional import avg_pool2d

from mapper.models.interpolation import upsample
from mapper.models.pixelwise import Pixelwise


@pytest.fixture
def network():
    torch.manual_seed(0)
    return Pixelwise(3, 5, width=8).eval()


def test_a_constant_regression_leaves_bicubic(network):
    torch.nn.init.zeros_(network.last.weight)
    source = torch.randn(1, 1, 4, 6)
    mean = network(torch.randn(1, 3, 20, 30), source)[:, :1]
    torch.testing.assert_close(mean, upsample(source, 5, "bicubic"), atol=1e-5, rtol=0)


def test_the_residual_is_what_block_means_lack(network):
    guide = torch.randn(1, 3, 20, 20)
    value = network.last(network.hidden(guide))[:, :1]
    mean = network(guide, avg_pool2d(value, 5))[:, :1]  # nothing lacks: nothing is added
    torch.testing.assert_close(mean, value, atol=1e-5, rtol=0)


def test_it_has_a_guide_or_is_refused():
    with pytest.raises(ValueError, match="at least 1"):
        Pixelwise(0, 5)
