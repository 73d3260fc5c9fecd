"""UNet looks at the guide alone, and no farther than it says."""

import pytest
import torch
from receptive import lively, measured_halo

from mapper.models.unet import UNet


@pytest.mark.parametrize("scale", [2, 3, 8, 10])
def test_declared_halo_is_the_measured_radius_as_whole_source_pixels(scale):
    network = UNet(1, scale, width=3)
    assert network.halo_px == measured_halo(network, 1, scale)


def test_a_large_source_pixel_does_not_widen_the_halo_for_values_not_looked_at():
    assert UNet(1, 80, width=3).halo_px == 80


def test_the_source_is_not_looked_at():
    torch.manual_seed(0)
    network, guide = lively(UNet(3, 10, width=4)), torch.randn(1, 3, 80, 80)
    assert torch.equal(network(guide, torch.randn(1, 1, 8, 8)), network(guide, torch.zeros(1, 1, 8, 8)))


def test_the_halo_of_one_that_works_on_the_source_holds_all_that_it_looks_at():
    network = UNet(1, 10, width=3, on_source=True)
    assert 0 <= network.halo_px - measured_halo(network, 1, 10) <= 10


def test_on_the_source_a_higher_datum_moves_all_heights_by_as_much():
    torch.manual_seed(0)
    network, guide = lively(UNet(2, 10, width=4, on_source=True)).double(), torch.randn(1, 2, 80, 80).double()
    source = torch.randn(1, 1, 8, 8).double()
    torch.testing.assert_close(network(guide, source + 7), network(guide, source) + 7)


def test_training_starts_near_the_mean():
    torch.manual_seed(0)
    assert UNet(56, 10)(torch.randn(1, 56, 40, 40), torch.zeros(1, 1, 4, 4)).abs().max() < 0.2


def test_features_keep_their_spread_through_the_network():
    torch.manual_seed(0)
    network = UNet(8, 10, width=16)
    seen = []
    network.last.register_forward_pre_hook(lambda _layer, inputs: seen.append(inputs[0].std().item()))
    network(torch.randn(1, 8, 80, 80), torch.zeros(1, 1, 8, 8))
    assert 0.05 < seen[0] < 2


def test_no_guide_is_refused():
    with pytest.raises(ValueError, match="needs guide channels"):
        UNet(0, 10)
