"""MSG has the published size, any scale, and exactly the receptive field it declares."""

from dataclasses import replace

import pytest
import torch
from contracts import make_contract

from mapper.models.contract import FILL_STEPS, BandNorm, make_inputs
from mapper.models.model import GuidedModel
from mapper.models.msg import MSG, prime_factors
from mapper.models.weights import count_parameters


def make_model(network, channels, scale):
    contract = make_contract(
        model="msg",
        guide=tuple(BandNorm(name=f"b{k}", units="1", mean=0.2, sd=0.5) for k in range(channels)),
        source_units="Mg ha-1",
        source_mean=80.0,
        source_sd=60.0,
        target="agb",
        target_units="Mg ha-1",
        scale=scale,
        halo_px=network.halo_px,
    )
    return GuidedModel(network, contract).eval()


def lively(network):
    """Larger weights at the end, so that the network's own part is not drowned by bicubic."""
    torch.nn.init.normal_(network.last.weight, std=0.1)
    return network


@pytest.mark.parametrize(
    ("channels", "scale", "parameters"),
    [(1, 2, 198_148), (1, 4, 326_404), (1, 8, 454_660), (1, 16, 582_916), (15, 8, 488_274)],
)
def test_canonical_configuration_has_the_published_size(channels, scale, parameters):
    assert count_parameters(MSG(channels, scale)) == parameters


@pytest.mark.parametrize(("scale", "factors"), [(2, (2,)), (10, (5, 2)), (12, (3, 2, 2)), (30, (5, 3, 2)), (7, (7,))])
def test_stages_are_prime_factors_largest_first(scale, factors):
    assert prime_factors(scale) == factors


@pytest.mark.parametrize("channels", [0, 1, 5])
@pytest.mark.parametrize("scale", [2, 3, 6, 10])
def test_any_scale_and_number_of_channels(channels, scale):
    network = MSG(channels, scale, width=4)
    target = network(torch.rand(2, channels, 4 * scale, 3 * scale), torch.rand(2, 1, 4, 3))
    assert target.shape == (2, 1, 4 * scale, 3 * scale)


def test_training_starts_near_bicubic():
    torch.manual_seed(0)
    guide, source = torch.rand(1, 2, 60, 60), torch.rand(1, 1, 6, 6)
    from_full = MSG(2, 10, width=4, source_input="full")(guide, source)
    expected = torch.nn.functional.interpolate(source, scale_factor=10, mode="bicubic")
    torch.testing.assert_close(from_full, expected, atol=0.05, rtol=0)


def test_gradients_reach_every_parameter():
    torch.manual_seed(0)
    network = MSG(3, 10, width=4)
    network(torch.randn(1, 3, 40, 40), torch.randn(1, 1, 4, 4)).square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in network.parameters())


def measure_radius(network, channels, scale):
    """Farthest guide pixel and source pixel, by gradient; maximum over random inputs, for the pooling hides some."""
    cells = 2 * (network.halo_px // scale) + 3
    middle, network = cells // 2, network.double()
    guide_px, source_px = 0, 0
    for seed, pixel in enumerate([0, scale - 1, scale // 2] * 2):
        torch.manual_seed(seed)
        guide = torch.rand(1, channels, cells * scale, cells * scale, dtype=torch.double, requires_grad=True)
        source = torch.rand(1, 1, cells, cells, dtype=torch.double, requires_grad=True)
        at = middle * scale + pixel
        network(guide, source)[0, 0, at, at].backward()
        if channels:
            guide_px = max(guide_px, (guide.grad[0].abs().sum(0).nonzero() - at).abs().max().item())
        source_px = max(source_px, (source.grad[0, 0].nonzero() - middle).abs().max().item())
    return guide_px, source_px + FILL_STEPS


@pytest.mark.parametrize("source_input", ["high", "full"])
@pytest.mark.parametrize(("channels", "scale"), [(2, 2), (2, 4), (1, 3), (2, 6), (2, 10), (0, 10)])
def test_declared_halo_is_the_measured_radius_as_whole_source_pixels(channels, scale, source_input):
    network = lively(MSG(channels, scale, width=2, source_input=source_input))
    guide_px, source_px = measure_radius(network, channels, scale)
    assert network.halo_px == max(-(-guide_px // scale), source_px) * scale


@pytest.mark.parametrize("scale", [2, 6, 10])
def test_a_window_with_its_halo_gives_the_same_pixels(scale):
    torch.manual_seed(1)
    network = lively(MSG(3, scale, width=4))
    model = make_model(network, 3, scale)
    halo = network.halo_px // scale
    cells = 2 * halo + 6
    guide, source = torch.rand(1, 3, cells * scale, cells * scale), torch.rand(1, 1, cells, cells) * 300
    source[0, 0, 2, 1], guide[0, 1, 5:9] = torch.nan, torch.nan
    with torch.no_grad():
        whole = model.sharpen(guide, source)
        part = model.sharpen(guide[:, :, 2 * scale : -scale, scale:], source[:, :, 2:-1, 1:])
    rows, cols = slice((halo + 2) * scale, -(halo + 1) * scale), slice((halo + 1) * scale, -halo * scale)
    inner = part[:, :, halo * scale : -halo * scale, halo * scale : -halo * scale]
    torch.testing.assert_close(inner, whole[:, :, rows, cols], atol=1e-4, rtol=0)


def test_missing_input_gives_finite_output():
    model = make_model(MSG(2, 10, width=2), 2, 10)
    value = model.sharpen(torch.full((1, 2, 60, 60), torch.nan), torch.full((1, 1, 6, 6), torch.nan))
    assert value.isfinite().all()


def test_a_missing_guide_is_the_mean_guide():
    torch.manual_seed(2)
    model = make_model(lively(MSG(2, 10, width=2)), 2, 10)
    source = torch.rand(1, 1, 6, 6) * 100
    missing = model.sharpen(torch.full((1, 2, 60, 60), torch.nan), source)
    assert torch.equal(missing, model.sharpen(torch.full((1, 2, 60, 60), 0.2), source))


def test_wrong_number_of_channels_is_refused():
    with pytest.raises(ValueError, match="3 channels, the model expects 2"):
        make_model(MSG(2, 10, width=2), 2, 10).sharpen(torch.rand(1, 3, 20, 20), torch.rand(1, 1, 2, 2))


def test_mixing_the_guide_down_makes_a_smaller_network_of_the_same_reach():
    plain, mixed = MSG(56, 10, width=8), MSG(56, 10, width=8, mix=4)
    assert count_parameters(mixed) < 0.7 * count_parameters(plain)
    assert mixed.halo_px == plain.halo_px


def test_a_channel_that_told_nothing_in_training_is_ignored():
    torch.manual_seed(4)
    network = lively(MSG(1, 10, width=2))
    contract = make_model(network, 1, 10).contract
    silent = replace(
        contract, inputs=make_inputs((BandNorm(name="b0", units="dB", mean=0, sd=0),), *contract.source.bands)
    )
    model, source = GuidedModel(network, silent), torch.rand(1, 1, 6, 6)
    assert torch.equal(
        model.sharpen(torch.rand(1, 1, 60, 60), source), model.sharpen(torch.full((1, 1, 60, 60), -15.0), source)
    )


def test_values_far_outside_of_training_are_cut_off():
    torch.manual_seed(5)
    model, source = make_model(lively(MSG(1, 10, width=2)), 1, 10), torch.rand(1, 1, 6, 6)
    assert torch.equal(
        model.sharpen(torch.full((1, 1, 60, 60), 1e6), source), model.sharpen(torch.full((1, 1, 60, 60), 1e3), source)
    )
