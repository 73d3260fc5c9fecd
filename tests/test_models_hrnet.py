"""HRNet gives probabilities, looks no farther than it says, and starts from what is rare."""

import pytest
import torch
from receptive import lively, measured_halo

from mapper.models.hrnet import HRNet
from mapper.models.receptive_field import Span


def test_declared_halo_is_the_measured_radius_as_whole_source_pixels():
    network = HRNet(1, 2, width=2)
    assert network.halo_px == measured_halo(network, 1, 2)


def test_a_guide_alone_is_enough():
    torch.manual_seed(0)
    network, guide = lively(HRNet(3, 1, bands=0, width=4)), torch.randn(1, 3, 32, 40)
    found = network(guide, torch.zeros(1, 0, 32, 40))
    assert found.shape == (1, 1, 32, 40)
    assert network.receptive_field(5).source is None
    assert ((found > 0) & (found < 1)).all()
    assert found.std() > 1e-4


def test_windows_on_whole_coarse_pixels_give_the_same_logits():
    torch.manual_seed(0)
    network, guide = lively(HRNet(2, 1, bands=0, width=4)).double(), torch.randn(1, 2, 144, 144).double()
    halo = -(-network.halo_px // network.align_px) * network.align_px
    whole = network.find_logits(guide)
    part = network.find_logits(guide[..., 16:, 24:])
    torch.testing.assert_close(part[..., halo:, halo:], whole[..., 16 + halo :, 24 + halo :], rtol=0, atol=1e-12)


def test_a_pixel_sees_all_around_itself():
    spans = [HRNet(1, 1, bands=0, width=2).receptive_field(pixel).guide for pixel in range(8)]
    assert all(span.first < pixel - 20 and span.last > pixel + 20 for pixel, span in enumerate(spans))
    assert all(isinstance(span, Span) for span in spans)


def test_training_starts_from_what_is_rare():
    torch.manual_seed(0)
    found = HRNet(3, 1, bands=0)(torch.randn(1, 3, 64, 64), torch.zeros(1, 0, 64, 64))
    assert 0.08 < found.mean() < 0.18


def test_parameters_are_as_documented():
    assert sum(each.numel() for each in HRNet(3, 1, bands=0).parameters()) == 828_612


@pytest.mark.parametrize(("channels", "scale", "bands"), [(0, 1, 0), (2, 0, 1)])
def test_no_image_or_scale_is_refused(channels, scale, bands):
    with pytest.raises(ValueError, match="needs a scale of at least 1 and an image"):
        HRNet(channels, scale, bands=bands)
