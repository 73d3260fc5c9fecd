"""FDKN has the published size, exactly the receptive field it declares, and starts from bicubic interpolation."""

import pytest
import torch
from receptive import measured_halo

from mapper.models.dkn import FDKN
from mapper.models.weights import count_parameters


def test_canonical_configuration_has_the_published_size():
    assert count_parameters(FDKN(1, 8)) == 693_856


@pytest.mark.parametrize("scale", [2, 3, 8, 10])
def test_declared_halo_is_the_measured_radius_as_whole_source_pixels(scale):
    network = FDKN(1, scale, width=2)
    assert network.halo_px == measured_halo(network, 1, scale)


def test_training_starts_at_bicubic():
    torch.manual_seed(0)
    source = torch.randn(1, 1, 8, 8)
    expected = torch.nn.functional.interpolate(source, scale_factor=10, mode="bicubic")
    value = FDKN(3, 10, width=4).eval()(torch.randn(1, 3, 80, 80), source)
    torch.testing.assert_close(value, expected, atol=0.01, rtol=0)


def test_a_batch_in_training_has_finite_gradients():
    torch.manual_seed(0)
    network = FDKN(3, 10, width=4).train()
    network(torch.randn(2, 3, 40, 40), torch.randn(2, 1, 4, 4)).square().mean().backward()
    assert all(p.grad.isfinite().all() for p in network.parameters())
