"""Mean, deviation and samples in few steps; all that a pixel hangs on lies within the halo that is declared."""

import numpy as np
import pytest
import torch
from receptive import lively

from mapper.models.architectures import build_network
from mapper.models.contract import Contract, Input
from mapper.models.stack_model import adapt
from mapper.predict.predictor import Predictor
from mapper.predict.sampler import Sampler

SMALL = {"width": 8, "blocks": 1, "flow_width": 8, "flow_blocks": 1, "rounds": (1, 2)}


def build(scale=4, *, steps=4, double=True, **options):
    torch.manual_seed(0)
    network = lively(build_network("flow-s2", guide_channels=0, scale=scale, options=SMALL | options))
    contract = Contract(
        model="flow-s2",
        inputs=(Input(role="source", dates=0, px=0, cells_px=network.cells_px),),
        outputs=(),
        scale=scale,
        halo_px=network.halo_px,
        noise_bands=1,
        samples=4,
        steps=steps,
        step_px=network.step_px,
        band_sd=True,
    )
    return adapt(network.double() if double else network, contract).eval()


def make_inputs(edge, *, bands=2, scale=4, steps=4):
    generator = torch.Generator().manual_seed(5)
    draw = lambda *shape: torch.randn(1, *shape, generator=generator, dtype=torch.double)  # noqa: E731
    return {
        "guide": torch.empty(1, 1, 0, edge * scale, edge * scale),
        "source": 50 + 9 * draw(1, bands, edge, edge),
        "noise": draw(steps, bands, edge * scale, edge * scale),
    }


@torch.no_grad()
def run(model, inputs):
    outputs = model(inputs)
    return torch.cat([outputs[name] for name in sorted(outputs)], 1)  # band_0, band_0_sd, band_1, band_1_sd


@pytest.fixture(scope="module")
def model():
    return build()


def test_without_noise_each_band_has_a_mean_and_a_deviation(model):
    inputs = make_inputs(12)
    del inputs["noise"]
    outputs = model(inputs)
    assert set(outputs) == {"band_0", "band_0_sd", "band_1", "band_1_sd"}
    assert all(values.shape == (1, 1, 48, 48) for values in outputs.values())
    assert (outputs["band_0_sd"] > 0).all()


def test_one_step_is_the_mean_whatever_the_noise(model):
    inputs = make_inputs(12, steps=1)
    drawn = run(model, inputs)
    del inputs["noise"]
    torch.testing.assert_close(drawn, run(model, inputs))


@pytest.mark.parametrize("steps", [2, 5])
def test_a_sample_is_as_far_from_the_truth_as_from_the_mean_and_that_from_the_truth(model, steps):
    inputs = make_inputs(12, steps=steps)
    drawn = run(model, inputs)
    del inputs["noise"]
    mean = run(model, inputs)
    assert (drawn[:, 0] - mean[:, 0]).abs().mean() > 0.1
    torch.testing.assert_close(drawn[:, 1], torch.hypot(mean[:, 1], drawn[:, 0] - mean[:, 0]))


def test_calibration_widens_the_deviation_of_the_mean_alone():
    inputs, model = make_inputs(12), build()
    wide = adapt(model.network, Contract(**(vars(model.contract) | {"sd_scale": 3.0}))).eval()
    narrow, widened = run(model, inputs), run(wide, inputs)
    torch.testing.assert_close(widened[:, 0], narrow[:, 0])
    del inputs["noise"]
    mean = run(model, inputs)
    torch.testing.assert_close(widened[:, 1], torch.hypot(3 * mean[:, 1], narrow[:, 0] - mean[:, 0]))


@pytest.mark.parametrize("scale", [2, 4])
def test_units_do_not_matter(scale):
    model, inputs = build(scale), make_inputs(12, scale=scale)
    scaled = inputs | {"source": 1000 * inputs["source"]}
    torch.testing.assert_close(run(model, scaled) / 1000, run(model, inputs), atol=1e-4, rtol=0)


def test_a_band_does_not_see_the_others(model):
    inputs, other = make_inputs(12), make_inputs(12)
    other["source"][:, :, 1] += 30
    other["noise"][:, :, 1] *= 2
    torch.testing.assert_close(run(model, other)[:, :2], run(model, inputs)[:, :2])


@pytest.mark.parametrize(("steps", "options"), [(1, {}), (3, {}), (2, {"flow_blocks": 2, "rounds": (2, 4)})])
def test_the_halo_is_what_a_pixel_hangs_on(steps, options):
    model = build(steps=steps, **options)
    edge = 2 * model.contract.halo(4) // 4 + 1
    inputs = make_inputs(edge, bands=1, steps=steps)
    inputs["source"].requires_grad_()
    inputs["noise"].requires_grad_()
    middle = edge * 2
    sources = torch.autograd.grad(run_with_gradients(model, inputs)[0, 0, middle, middle], inputs["noise"])
    seen = sources[0].abs().amax((0, 1, 2)).nonzero()
    farthest = int((seen - middle).abs().max()) if len(seen) else 0
    assert farthest <= model.contract.halo(4)
    assert farthest >= (steps - 1) * model.contract.step_px - 4 or steps == 1
    assert (farthest == 0) == (steps == 1)


def run_with_gradients(model, inputs):
    return model(inputs)["band_0"]


def test_a_window_with_its_halo_gives_the_same_pixels():
    model = build(2, steps=3)
    halo = model.contract.halo(2) // 2
    edge = 2 * halo + 7
    inputs = make_inputs(edge, bands=1, scale=2, steps=3)
    part = {name: array[..., 5:, 3:] if name == "source" else array[..., 10:, 6:] for name, array in inputs.items()}
    inner = (..., slice(2 * halo, -2 * halo), slice(2 * halo, -2 * halo))
    torch.testing.assert_close(run(model, part)[inner], run(model, inputs)[..., 10:, 6:][inner], atol=1e-9, rtol=0)


def test_dates_of_a_burst_come_in_any_order_and_change_the_sample():
    model, inputs = build(2, burst=True), make_inputs(14, bands=1, scale=2)
    generator = torch.Generator().manual_seed(1)
    more = inputs["source"] + torch.randn(1, 2, 1, 14, 14, generator=generator, dtype=torch.double)
    stack = inputs | {"source": torch.cat([inputs["source"], more], 1), "source.anchor": inputs["source"]}
    turned = stack | {"source": stack["source"][:, [2, 0, 1]]}
    torch.testing.assert_close(run(model, turned), run(model, stack), atol=1e-9, rtol=0)
    alone = inputs | {"source.anchor": inputs["source"]}
    assert not torch.allclose(run(model, stack), run(model, alone))


def test_maps_of_samples_have_the_same_bits_for_any_cut_in_single_precision():
    model = build(double=False, flow_width=16, width=24)
    halo = model.contract.halo(4)
    random = np.random.default_rng(0)
    source = random.normal(1500, 200, (1, 2, 66, 68)).astype(np.float32)
    position = (-100, 4_000_000)
    make = lambda **options: Sampler(predictor=Predictor(model, device="cpu", **options), samples=4, steps=4, kept=1)  # noqa: E731
    whole = make().predict({"source": source}, position=position, scale=4).outputs
    assert set(whole) == {"band_0", "band_0_sd", "band_1", "band_1_sd", "band_0_s00", "band_1_s00"}
    parts = make(patch_px=2 * halo + 40, batch=3).predict({"source": source}, position=position, scale=4).outputs
    for name, expected in whole.items():
        np.testing.assert_array_equal(parts[name], expected)
    top, left = 7, 3
    part = make().predict({"source": source[..., top:, left:]}, position=(-100 + 28, 4_000_012), scale=4).outputs
    for name, expected in whole.items():
        np.testing.assert_array_equal(
            part[name][halo:-halo, halo:-halo], expected[4 * top :, 4 * left :][halo:-halo, halo:-halo]
        )


@pytest.mark.parametrize("options", [{"guide_channels": 3}, {"scale": 1}, {"options": {"flow_blocks": 0}}])
def test_what_it_cannot_be_built_with_is_refused(options):
    with pytest.raises(Exception, match="takes no guide channels, a scale of at least 2 and a block of each kind"):
        build_network("flow-s2", **({"guide_channels": 0, "scale": 4, "options": {}} | options))


@pytest.mark.parametrize("steps", [0, 1, 4])
@pytest.mark.parametrize("burst", [False, True])
def test_what_lies_in_a_margin_is_left_out_and_the_rest_stays(steps, burst):
    model, inputs = build(burst=burst), make_inputs(70, bands=1, steps=steps)
    inputs = inputs if steps else {name: value for name, value in inputs.items() if name != "noise"}
    whole = run(model, inputs)
    for margin in ([20, 17, 0, 41], [0, 0, 0, 0], [1, 30, 5, 5]):
        top, bottom, left, right = margin
        part = run(model, inputs | {"margin": torch.tensor(margin)})
        expected = whole[..., 4 * top : 280 - 4 * bottom, 4 * left : 280 - 4 * right]
        torch.testing.assert_close(part, expected, atol=1e-9, rtol=0)
