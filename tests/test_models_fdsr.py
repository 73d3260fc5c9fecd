"""FDSR has the published size, exactly the receptive field it declares, and starts from bicubic interpolation."""

import pytest
import torch
from receptive import lively, measured_halo

from mapper.models.fdsr import FDSR
from mapper.models.weights import count_parameters


def test_canonical_configuration_has_the_published_size():
    assert count_parameters(FDSR(1, 4)) == 601_105


@pytest.mark.parametrize("scale", [2, 3, 4, 10])
def test_declared_halo_is_the_measured_radius_as_whole_source_pixels(scale):
    network = FDSR(1, scale, width=4)
    assert network.halo_px == measured_halo(network, 1, scale)


def test_training_starts_at_bicubic():
    torch.manual_seed(0)
    source = torch.randn(1, 1, 8, 8)
    expected = torch.nn.functional.interpolate(source, scale_factor=10, mode="bicubic")
    torch.testing.assert_close(FDSR(3, 10, width=8)(torch.randn(1, 3, 80, 80), source), expected, atol=0.03, rtol=0)


def test_mixing_the_guide_down_makes_a_smaller_network_of_the_same_reach():
    plain, mixed = FDSR(56, 10), FDSR(56, 10, mix=4)
    assert count_parameters(mixed) == count_parameters(FDSR(4, 10)) + 56 * 4 + 4 < 0.8 * count_parameters(plain)
    assert mixed.halo_px == plain.halo_px


def test_the_guide_matters():
    torch.manual_seed(1)
    network, source = lively(FDSR(2, 5, width=4)), torch.randn(1, 1, 8, 8)
    flat, rough = (network(guide, source) for guide in (torch.zeros(1, 2, 40, 40), torch.randn(1, 2, 40, 40)))
    assert (flat - rough).abs().mean() > 1e-3


@pytest.mark.parametrize(("channels", "scale"), [(0, 10), (3, 1)])
def test_no_guide_and_nothing_to_sharpen_are_refused(channels, scale):
    with pytest.raises(ValueError, match="needs guide channels"):
        FDSR(channels, scale)


def test_a_width_that_has_no_quarter_is_refused():
    with pytest.raises(ValueError, match="multiple of 4, got 6"):
        FDSR(3, 10, width=6)
