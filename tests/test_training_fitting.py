"""Training learns what a guide tells, says the same twice, and leaves the truth it does not know alone."""

import numpy as np
import pytest

from mapper.models.weights import load_model, save_model
from mapper.predict.predictor import Predictor
from mapper.spec import ModelSpec
from mapper.training.config import TrainConfig
from mapper.training.fitting import fit, make_model
from mapper.training.sampler import Sample

SCALE = 5


def make_sample(seed):
    """A truth of sharp stands; one guide channel shows it, the other shows nothing."""
    random = np.random.default_rng(seed)
    stands = random.random((16, 16)).repeat(6, 0).repeat(6, 1)[:90, :90].astype(np.float32)
    truth = 200 * stands
    source = truth.reshape(18, SCALE, 18, SCALE).mean((1, 3))
    guide = np.stack([0.3 - 0.2 * stands, random.random((90, 90), np.float32)])
    return Sample(
        guide=guide,
        source=source,
        truth=truth,
        bands=(("summer_B04", "1"), ("summer_noise", "1")),
        source_units="Mg ha-1",
    )


def make_config(**changes):
    settings = {
        "name": "tiny",
        "out": "out",
        "maps": ["map.yaml"],
        "truth": {"collection": "truth", "variable": "agb"},
        "model": {"options": {"width": 4, "source_input": "full"}},
        "patch_px": 30,
        "batch": 4,
        "steps": 60,
        "lr": 0.01,
        "ema": 0.9,
    }
    return TrainConfig.model_validate(settings | changes)


def rmse(value, truth):
    return np.sqrt(np.mean((value - truth) ** 2))


@pytest.fixture(scope="module")
def model():
    return fit([make_sample(0), make_sample(1)], make_config())


def test_a_trained_model_beats_bicubic_on_a_place_it_never_saw(model):
    sample = make_sample(2)
    bicubic = Predictor(load_model(ModelSpec(name="bicubic"))).predict(sample.guide, sample.source).mean
    value = Predictor(model).predict(sample.guide, sample.source).mean
    assert rmse(value, sample.truth) < 0.8 * rmse(bicubic, sample.truth)


def test_the_contract_says_what_was_trained_on(model):
    assert [band.name for band in model.contract.guide] == ["summer_B04", "summer_noise"]
    assert model.contract.scale == SCALE
    assert model.contract.source_mean == pytest.approx(100, abs=15)
    assert model.contract.halo_px == model.network.halo_px


def test_a_trained_model_survives_its_file(model, tmp_path):
    sample = make_sample(3)
    path = tmp_path / "tiny.safetensors"
    save_model(model, path, options={"width": 4, "source_input": "full"})
    loaded = load_model(ModelSpec(name="tiny", weights=path))
    first, again = (Predictor(m).predict(sample.guide, sample.source).mean for m in (model, loaded))
    np.testing.assert_array_equal(first, again)


def test_same_seed_same_weights():
    first, again, other = (fit([make_sample(0)], make_config(steps=3, seed=s)) for s in (5, 5, 6))
    states = [{k: v.numpy() for k, v in m.state_dict().items()} for m in (first, again, other)]
    assert all(np.array_equal(states[0][k], states[1][k]) for k in states[0])
    assert not all(np.array_equal(states[0][k], states[2][k]) for k in states[0])


@pytest.mark.parametrize("loss", ["l1", "huber", "mse"])
def test_unknown_truth_teaches_nothing(loss):
    sample = make_sample(0)
    sample.truth[:] = np.nan
    config = make_config(steps=2, loss=loss, weight_decay=0)
    before, after = make_model([sample], config), fit([sample], config)
    for name, weight in before.network.state_dict().items():
        np.testing.assert_array_equal(after.network.state_dict()[name], weight)
