from dataclasses import replace

import numpy as np
import pytest
import torch
from receptive import lively
from scipy.ndimage import gaussian_filter

from mapper.models.architectures import build_network
from mapper.models.contract import Contract, Input
from mapper.models.stack_model import adapt
from mapper.models.weights import load_model
from mapper.spec import ModelSpec
from mapper.synthetic.bursts import BurstOptions, simulate_burst
from mapper.synthetic.imagery import make_image
from mapper.training.bursts import dates_of_burst, sample_of_burst
from mapper.training.trainer import predict_sample


def build(scale=2, **options):
    torch.manual_seed(0)
    small = {"width": 8, "blocks": 1, "features": 6, "rounds": [1, 2]}
    network = lively(build_network("burst-fusion", guide_channels=0, scale=scale, options=small | options)).double()
    source = Input(role="source", dates=0, px=0, cells_px=64)
    contract = Contract(model="burst-fusion", inputs=(source,), outputs=(), scale=scale, halo_px=0, band_sd=True)
    return adapt(network, contract).eval()


def make_inputs(edge=24, *, dates=3, bands=2, scale=2):
    """Dates that resemble each other, shifted and clouded; the second is the anchor's own."""
    generator = torch.Generator().manual_seed(5)
    draw = lambda *shape: torch.randn(1, *shape, generator=generator, dtype=torch.double)  # noqa: E731
    anchor = 50 + 9 * draw(bands, edge, edge)
    source = anchor[:, None] + draw(dates, bands, edge, edge)
    source[:, 1] = anchor
    clear = draw(dates, edge, edge) > -1
    clear[:, 1] = True
    shift = 0.4 * draw(dates, 2, 1, 1).expand(-1, -1, -1, edge, edge).clone()
    shift[:, 1] = 0
    return {
        "guide": torch.empty(1, 1, 0, edge * scale, edge * scale),
        "source": torch.where(clear[:, :, None], source, torch.nan),
        "source.clear": clear,
        "source.shift": shift,
        "source.anchor": anchor[:, None],
    }


@torch.no_grad()
def run(model, inputs):
    outputs = model(inputs)
    return torch.cat([outputs[name] for name in sorted(outputs)], 1)


@pytest.fixture(scope="module")
def model():
    return build()


def test_each_band_comes_back_with_a_positive_deviation_at_the_target_size(model):
    outputs = model(make_inputs())
    assert set(outputs) == {"band_0", "band_0_sd", "band_1", "band_1_sd"}
    assert all(values.shape == (1, 1, 48, 48) for values in outputs.values())
    assert (outputs["band_0_sd"] > 0).all()


@pytest.mark.parametrize("order", [(2, 0, 1), (1, 0, 2)])
def test_dates_come_in_any_order(model, order):
    inputs, turned = make_inputs(), make_inputs()
    for name in ("source", "source.clear", "source.shift"):
        turned[name] = turned[name][:, list(order)]
    torch.testing.assert_close(run(model, turned), run(model, inputs), atol=1e-9, rtol=0)


def test_a_date_that_is_nowhere_clear_leaves_no_trace(model):
    inputs, fewer = make_inputs(), make_inputs()
    inputs["source.clear"][:, 2] = False
    for name in ("source", "source.clear", "source.shift"):
        fewer[name] = fewer[name][:, :2]
    torch.testing.assert_close(run(model, inputs), run(model, fewer), atol=1e-9, rtol=0)


def test_units_do_not_matter(model):
    inputs, scaled = make_inputs(), make_inputs()
    for name in ("source", "source.anchor"):
        scaled[name] = 1000 * scaled[name]
    torch.testing.assert_close(run(model, scaled) / 1000, run(model, inputs), atol=0, rtol=1e-6)


def test_a_band_does_not_see_the_others(model):
    inputs, other = make_inputs(), make_inputs()
    other["source"][:, :, 1] += 30
    other["source.anchor"][:, :, 1] += 30
    torch.testing.assert_close(run(model, other)[:, :1], run(model, inputs)[:, :1])


def test_gradients_reach_every_weight():
    model = build().train()
    sum(each.square().sum() for each in model(make_inputs(12)).values()).backward()
    assert all(p.grad is not None and float(p.grad.abs().sum()) > 0 for p in model.parameters())


def test_a_window_with_its_halo_gives_the_same_pixels(model):
    halo = model.network.halo_px // 2
    edge = 2 * halo + 9
    inputs = make_inputs(edge, dates=2, bands=1)
    whole = run(model, inputs)
    part = {name: value[..., 5:, 3:] if name != "guide" else value[..., 10:, 6:] for name, value in inputs.items()}
    rim = 2 * halo
    torch.testing.assert_close(
        run(model, part)[..., rim:-rim, rim:-rim], whole[..., 10:, 6:][..., rim:-rim, rim:-rim], atol=1e-9, rtol=0
    )


def test_what_lies_in_a_margin_is_left_out_and_the_rest_stays(model):
    inputs = make_inputs(60, dates=2, bands=2)
    whole = run(model, inputs)
    for margin in ([20, 17, 0, 41], [0, 0, 0, 0], [1, 30, 5, 5]):
        top, bottom, left, right = margin
        part = run(model, inputs | {"margin": torch.tensor(margin)})
        expected = whole[..., 2 * top : 120 - 2 * bottom, 2 * left : 120 - 2 * right]
        torch.testing.assert_close(part, expected, atol=1e-9, rtol=0)


def test_single_precision_gives_the_same_bits_wherever_a_window_is_cut(model):
    halo = model.network.halo_px // 2
    inputs = {name: value.float() for name, value in make_inputs(2 * halo + 16, dates=2, bands=1).items()}
    inputs["source.clear"] = inputs["source.clear"].bool()
    part = {name: value[..., 7:, 4:] if name != "guide" else value[..., 14:, 8:] for name, value in inputs.items()}
    whole = run(model, inputs | {"margin": torch.tensor([halo + 7, halo, halo + 7, halo])})
    found = run(model, part | {"margin": torch.tensor([halo, halo, halo + 3, halo])})
    assert whole.shape == (1, 2, 18, 18)
    assert torch.equal(found, whole)


def test_a_guide_is_refused():
    with pytest.raises(Exception, match="looks at no guide, got 3 channels"):
        build_network("burst-fusion", guide_channels=3, scale=2, options={})


@pytest.mark.parametrize(
    ("name", "optics", "soft_px", "gain"),
    [("burst-fusion-x2", {}, 0, 1.0), ("burst-fusion-x3", {"psf_sd": (0.27, 0.27), "aperture_px": 3}, 1, 0.7)],
)
def test_what_ships_gains_from_dates_of_an_image_that_it_never_saw(name, optics, soft_px, gain):
    model = load_model(ModelSpec(name=name))
    scale = model.contract.scale
    options = BurstOptions(dates=8, scale=scale, noise=(0.015, 0.015), gain=0.1, offset=0.1, **optics)
    image = gaussian_filter(make_image(2001, size_px=48 * scale, bands=1), (0, soft_px, soft_px))
    burst = simulate_burst(image, options, seed=2001)
    sample = sample_of_burst(burst, name="image")

    def score(found):
        inner = (..., slice(16, -16), slice(16, -16))
        return -10 * np.log10(np.square(found - burst.truth)[inner].mean())

    alone = replace(sample, stack=dates_of_burst(burst).take([burst.anchor]))
    one, eight = (predict_sample(model, each) for each in (alone, sample))
    classical = predict_sample(load_model(ModelSpec(name="burst")), sample)
    assert score(eight.mean) > score(one.mean) + gain
    assert score(eight.mean) > score(classical.mean)
    assert 0.8 < (np.abs(eight.mean - burst.truth) < 1.645 * eight.sd).mean() < 0.97
