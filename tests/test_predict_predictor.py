"""The output depends on the input alone: not on patches, batches, threads or a device that ran out of memory."""

import logging
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
import torch
from contracts import make_contract

from mapper.grid import Window
from mapper.models.card import read_card
from mapper.models.contract import BandNorm, make_outputs
from mapper.models.margin import Margin, find_margin
from mapper.models.model import GuidedModel
from mapper.models.msg import MSG
from mapper.models.weights import load_model
from mapper.predict.predictor import Predictor
from mapper.spec import ModelSpec

SCALE = 10


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(3)
    network = MSG(3, SCALE, width=4, source_input="full")
    torch.nn.init.normal_(network.last.weight, std=0.1)
    contract = make_contract(
        model="msg",
        guide=tuple(BandNorm(name=f"b{k}", units="1", mean=0.5, sd=0.3) for k in range(3)),
        source_units="Mg ha-1",
        source_mean=100.0,
        source_sd=80.0,
        target="agb",
        target_units="Mg ha-1",
        scale=SCALE,
        halo_px=network.halo_px,
    )
    return GuidedModel(network, contract)


@pytest.fixture(scope="module")
def window():
    random = np.random.default_rng(0)
    guide = random.random((3, 330, 260), np.float32)
    source = random.random((33, 26), np.float32) * 300
    guide[:, 100:140, 150:210], source[20:22, 15] = np.nan, np.nan
    return guide, source


@pytest.fixture(scope="module")
def expected(model, window):
    return Predictor(model, patch_px=1000, batch=1).sharpen(*window).mean


@pytest.mark.parametrize(("patch_px", "batch"), [(160, 1), (199, 3), (250, 4)])
def test_output_does_not_depend_on_patches_and_batches(model, window, expected, patch_px, batch):
    value = Predictor(model, patch_px=patch_px, batch=batch).sharpen(*window).mean
    np.testing.assert_allclose(value, expected, atol=1e-4, rtol=0)  # of a range of 300: float32 rounding


@pytest.mark.parametrize(("patch_px", "batch"), [(1000, 1), (190, 3)])
def test_outputs_of_a_core_are_those_of_the_window(model, window, expected, patch_px, batch):
    core = Window(top=101, bottom=233, left=40, right=167)
    guide, source = window[0][None], window[1][None, None]
    found = Predictor(model, patch_px=patch_px, batch=batch).predict({"guide": guide, "source": source}, core=core)
    np.testing.assert_allclose(found.outputs["agb"], expected[core.slices], atol=1e-4, rtol=0)


def test_a_model_that_trims_is_told_of_the_margin(window):
    class Trimming:
        contract, digest, trims = read_card(ModelSpec(name="nearest")).contract, "", True

        def __call__(self, inputs):
            margin = find_margin(inputs)
            told.append(margin)
            return {"band_0": margin.trim(inputs["source"][:, 0]).repeat_interleave(10, -1).repeat_interleave(10, -2)}

    told, source, core = [], window[1][None, None], Window(top=101, bottom=233, left=40, right=167)
    found = Predictor(Trimming(), patch_px=1000).predict({"source": source}, scale=10, core=core).outputs["band_0"]
    assert told == [Margin(top=10, bottom=9, left=4, right=9)]
    np.testing.assert_array_equal(found, source[0, 0].repeat(10, 0).repeat(10, 1)[core.slices])


def test_a_short_halo_would_show(model, window, expected):
    short = GuidedModel(model.network, replace(model.contract, halo_px=20))
    value = Predictor(short, patch_px=160).sharpen(*window).mean
    assert np.abs(value - expected).max() > 1e-2


def test_threads_share_one_device(model, window, expected):
    predictor = Predictor(model, patch_px=250)
    with ThreadPoolExecutor(3) as pool:
        for prediction in pool.map(lambda _: predictor.sharpen(*window), range(3)):
            np.testing.assert_allclose(prediction.mean, expected, atol=1e-4, rtol=0)


class Greedy(torch.nn.Module):
    """A model that fits in memory two at a time."""

    def __init__(self, model):
        super().__init__()
        self.inner, self.contract, self.digest = model, model.contract, model.digest

    def forward(self, inputs):
        if len(inputs["guide"]) > 2:
            raise torch.OutOfMemoryError("no memory left")
        return self.inner(inputs)


def test_out_of_memory_halves_the_batch_and_changes_nothing(model, window, expected, caplog):
    predictor = Predictor(Greedy(model), patch_px=200, batch=8)
    with caplog.at_level(logging.WARNING):
        value = predictor.sharpen(*window).mean
    assert predictor.batch == 2
    assert "batches of 4" in caplog.text
    np.testing.assert_allclose(value, expected, atol=1e-4, rtol=0)


def test_other_errors_are_not_hidden(model, window):
    class Broken(Greedy):
        def forward(self, _inputs):
            raise RuntimeError("shape mismatch")

    with pytest.raises(RuntimeError, match="shape mismatch"):
        Predictor(Broken(model), patch_px=200, batch=8).sharpen(*window)


def test_a_standard_deviation_comes_out_in_target_units(model, window):
    class Certain(Greedy):
        def forward(self, inputs):
            mean = self.inner(inputs)["agb"]
            return {"agb": mean, "agb_sd": torch.full_like(mean, 5.0)}

    certain = Certain(model)
    certain.contract = replace(model.contract, outputs=make_outputs("agb", "Mg ha-1", gives_sd=True))
    prediction = Predictor(certain, patch_px=200).sharpen(*window)
    assert (prediction.sd == 5).all()


@pytest.mark.parametrize("scale", [2, 10])
def test_interpolation_needs_no_guide(scale):
    source = np.arange(12, dtype=np.float32).reshape(3, 4)
    guide = np.empty((0, 3 * scale, 4 * scale), np.float32)
    value = Predictor(load_model(ModelSpec(name="nearest"))).sharpen(guide, source)
    np.testing.assert_array_equal(value.mean, source.repeat(scale, 0).repeat(scale, 1))
    assert value.sd is None


def test_shapes_that_do_not_nest_are_refused(model):
    with pytest.raises(ValueError, match="nest"):
        Predictor(model).sharpen(np.zeros((3, 101, 100), np.float32), np.zeros((10, 10), np.float32))
    with pytest.raises(ValueError, match="expected 10"):
        Predictor(model).sharpen(np.zeros((3, 80, 80), np.float32), np.zeros((10, 10), np.float32))


def test_bad_settings_are_refused(model):
    with pytest.raises(ValueError, match="batch"):
        Predictor(model, batch=0)
    with pytest.raises(ValueError, match="precision"):
        Predictor(model, precision="int8")


def test_the_number_of_torch_threads_does_not_change_a_bit(model):
    rng = np.random.default_rng(5)
    guide = rng.normal(0.2, 0.3, (len(model.contract.guide), 200, 200)).astype(np.float32)
    source = rng.uniform(0, 300, (200 // model.contract.scale, 200 // model.contract.scale)).astype(np.float32)
    results = []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        results.append(Predictor(model).sharpen(guide, source).mean)
        assert torch.get_num_threads() == threads
    torch.set_num_threads(1)
    np.testing.assert_array_equal(*results)


class Taken:
    """A device that others hold for a while, whenever it is asked for."""

    def __enter__(self):
        time.sleep(0.2)

    def __exit__(self, *error):
        pass


def test_waiting_for_a_device_is_told_apart_from_holding_it(model, window, expected, monkeypatch):
    monkeypatch.setattr("mapper.predict.predictor._semaphore", lambda _: Taken())
    begin = time.monotonic()
    guide, source = window
    late = Predictor(model, patch_px=250, batch=4).predict({"guide": guide[None], "source": source[None, None]})
    took = time.monotonic() - begin
    assert late.waited_s >= 0.2
    assert 0 < late.device_s <= took - late.waited_s
    np.testing.assert_allclose(late.outputs["agb"], expected, atol=1e-4, rtol=0)
