"""Band fusion starts from bicubic, takes from a guide only its detail linearly, and looks no farther than it says."""

import pytest
import torch
from receptive import lively

from mapper.models.band_fusion import BandFusion
from mapper.models.contract import FILL_STEPS
from mapper.models.interpolation import upsample


def make_inputs(rows, cols, *, bands=2, channels=3, scale=2, seed=0):
    torch.manual_seed(seed)
    anchor, guide = torch.randn(1, bands, rows, cols), torch.randn(1, channels, rows * scale, cols * scale)
    return anchor.double(), guide.double()


def run(network, anchor, guide):
    ones, still = torch.ones_like(anchor[:, None, :1]), torch.zeros_like(anchor[:, None, :1]).repeat(1, 1, 2, 1, 1)
    return network(anchor[:, None], clear=ones, anchor=anchor, shift=still, guide=guide)


def test_it_starts_from_bicubic():
    torch.manual_seed(0)
    anchor, guide = make_inputs(6, 7)
    network = BandFusion(3, 2, bands=2, width=8).double()
    torch.testing.assert_close(run(network, anchor, guide), upsample(anchor, 2, "bicubic"), atol=0.1, rtol=0)


def test_the_level_of_a_guide_is_not_injected():
    network = lively(BandFusion(3, 2, bands=2, width=4)).double()
    torch.nn.init.zeros_(network.last.weight)
    anchor, guide = make_inputs(8, 8)
    plain, raised = (run(network, anchor, each)[..., 4:-4, 4:-4] for each in (guide, guide + 7))
    torch.testing.assert_close(raised, plain, atol=1e-9, rtol=0)
    assert (run(network, anchor, -guide) - run(network, anchor, guide)).abs().max() > 0.1


@pytest.mark.parametrize(("scale", "layers"), [(2, 5), (2, 2), (3, 4), (4, 3)])
def test_the_declared_halo_is_what_a_pixel_sees_of_guide_and_source(scale, layers, monkeypatch):
    monkeypatch.setattr("mapper.models.band_fusion.F.relu", torch.nn.functional.softplus)  # hides nothing by chance
    network = lively(BandFusion(2, scale, bands=2, width=3, layers=layers)).double()
    half = network.halo_px // scale + 1
    anchor, guide = (each.requires_grad_() for each in make_inputs(2 * half + 1, 2 * half + 1, channels=2, scale=scale))
    seen, output = 0, run(network, anchor, guide)
    for place in range(scale):
        at = half * scale + place
        parts = torch.autograd.grad(output[0, :, at, at].sum(), (anchor, guide), retain_graph=True)
        fine = (parts[1][0].abs().sum(0).nonzero() - at).abs().max().item()
        coarse = (parts[0][0].abs().sum(0).nonzero() - at // scale).abs().max().item() + FILL_STEPS
        seen = max(seen, -(-fine // scale), coarse)
    assert network.halo_px == seen * scale


def test_deviations_are_positive_and_stand_behind_the_means():
    anchor, guide = make_inputs(5, 5)
    output = run(lively(BandFusion(3, 2, bands=2, width=4, deviation=True)).double(), anchor, guide)
    assert output.shape == (1, 4, 10, 10)
    assert (output[:, 2:] > 0).all()


def test_nothing_to_sharpen_is_refused():
    with pytest.raises(ValueError, match="got 1 and 5"):
        BandFusion(3, 1)
