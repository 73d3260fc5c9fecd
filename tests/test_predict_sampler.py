"""Samples differ by their noise alone, and noise is a function of the pixel: no seams, whatever a map is cut into."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812  the name everyone knows

from mapper.models.contract import BandNorm, Contract, Input, Output
from mapper.models.interpolation import upsample
from mapper.noise import derive_key, node_normal
from mapper.predict.predictor import Predictor
from mapper.predict.sampler import Sampler

SCALE, STEPS, BANDS = 4, 3, 2
CONTRACT = Contract(
    model="toy",
    inputs=(Input(role="source", bands=(BandNorm(name="B04", units="1"), BandNorm(name="B08", units="1")), px=0),),
    outputs=(
        Output(name="B04", units="1", kind="sample"),
        Output(name="B08", units="1", kind="sample"),
        Output(name="doubt", units="1", kind="quality"),
    ),
    scale=SCALE,
    halo_px=12,
    noise_bands=BANDS,
)


class Toy(torch.nn.Module):
    """Bilinear, to which each step adds noise and smooths what it got so far."""

    contract, digest = CONTRACT, "toy"

    def forward(self, inputs):
        state = upsample(inputs["source"][:, 0], SCALE, "bilinear")
        for step in inputs["noise"].unbind(1):
            state = F.avg_pool2d(state + step, 3, 1, 1)
        quality = state[:, :1] * 0 + inputs["sample"][:, None, None, None]
        return {"B04": state[:, :1], "B08": state[:, 1:], "doubt": quality}


def make_sampler(samples=5, seed=0, **options):
    return Sampler(predictor=Predictor(Toy(), device="cpu", **options), samples=samples, steps=STEPS, seed=seed)


@pytest.fixture(scope="module")
def source():
    return np.random.default_rng(0).random((1, 2, 40, 36)).astype(np.float32)


@pytest.fixture(scope="module")
def whole(source):
    return make_sampler().predict({"source": source}, position=(-50, 4_000_000)).outputs


def test_mean_and_deviation_are_those_of_single_samples(source, whole):
    singles = []
    for sample in range(5):
        sampler = make_sampler()
        draw = lambda window, sampler=sampler, sample=sample: sampler._draw(sample, BANDS, window)  # noqa: E731
        drawn = sampler.predictor.predict({"source": source}, position=(-50, 4_000_000), draw=draw)
        singles.append(drawn.outputs["B04"].astype(np.float64))
    np.testing.assert_allclose(whole["B04"], np.mean(singles, 0), atol=1e-6)
    np.testing.assert_allclose(whole["B04_sd"], np.std(singles, 0, ddof=1), atol=1e-6)
    assert whole["B04_sd"].min() > 0
    assert (whole["doubt"] == 2).all()  # the mean of 0 to 4


@pytest.mark.parametrize(("patch_px", "batch"), [(44, 1), (60, 3)])
def test_patches_and_batches_leave_no_trace(source, whole, patch_px, batch):
    parts = make_sampler(patch_px=patch_px, batch=batch).predict({"source": source}, position=(-50, 4_000_000)).outputs
    for name, expected in whole.items():
        np.testing.assert_allclose(parts[name], expected, atol=1e-5, rtol=0)


def test_tiles_leave_no_trace(source, whole):
    halo, first = CONTRACT.halo(SCALE), (5, 8)
    part = source[:, :, first[0] : 30, first[1] : 34]
    position = (-50 + first[0] * SCALE, 4_000_000 + first[1] * SCALE)
    outputs = make_sampler().predict({"source": part}, position=position).outputs
    inner = (slice(halo, -halo),) * 2
    for name, expected in whole.items():
        cut = expected[first[0] * SCALE : 30 * SCALE, first[1] * SCALE : 34 * SCALE]
        np.testing.assert_allclose(outputs[name][inner], cut[inner], atol=1e-5, rtol=0)


def test_another_seed_or_position_is_another_map_and_the_same_is_the_same(source, whole):
    where = {"position": (-50, 4_000_000)}
    again = make_sampler().predict({"source": source}, **where).outputs
    np.testing.assert_array_equal(again["B08"], whole["B08"])
    assert not np.allclose(make_sampler(seed=1).predict({"source": source}, **where).outputs["B08"], whole["B08"])
    assert not np.allclose(make_sampler().predict({"source": source}).outputs["B08"], whole["B08"])
    assert not np.allclose(whole["B04_sd"], whole["B08_sd"])


def test_noise_is_standard_normal_and_differs_by_key():
    rows, cols = np.arange(-400, 400), np.arange(2_000_000, 2_000_800)
    first, second = (node_normal(derive_key(3, "sample", k), rows, cols) for k in range(2))
    assert first.dtype == np.float32
    assert np.isfinite(first).all()
    assert first.mean() == pytest.approx(0, abs=0.005)
    assert first.std() == pytest.approx(1, abs=0.005)
    for other in (second, np.roll(first, 1, 0), np.roll(first, 1, 1)):
        assert abs(np.corrcoef(first.ravel(), other.ravel())[0, 1]) < 0.005
    np.testing.assert_array_equal(node_normal(derive_key(3, "sample", 0), rows[9:], cols[5:70]), first[9:, 5:70])


def test_the_contract_of_samples_is_of_means_and_from_two_on_of_deviations():
    assert [output.name for output in make_sampler().contract.outputs] == ["B04", "B04_sd", "B08", "B08_sd", "doubt"]
    assert make_sampler().contract.sd_of("B08") == "B08_sd"
    assert not make_sampler(samples=1).contract.gives_sd
    assert make_sampler().contract.name_means(["B04", "B08"]) == ("B04", "B08")


def test_what_cannot_be_sampled_is_refused():
    with pytest.raises(ValueError, match="samples and steps must be positive"):
        make_sampler(samples=0)
    toy = Toy()
    toy.contract = replace(CONTRACT, noise_bands=0)
    with pytest.raises(ValueError, match="takes no noise"):
        Sampler(predictor=Predictor(toy, device="cpu"), samples=2, steps=1)
