"""A risk is fitted where a truth is known, and holds on sites that it was not fitted to."""

import shutil
from pathlib import Path

import numpy as np
import pytest

import mapper.training.risk as module
from mapper.errors import InputError
from mapper.models.card import read_card, weights_path
from mapper.models.risk import FEATURES
from mapper.predict.predictor import Estimate
from mapper.spec import ModelSpec
from mapper.training.risk import LEAST_PIXELS, Judged, RiskConfig, add_risk, fit_and_judge, fit_risk, read_risk_config

RECIPES = Path(module.__file__).parent / "recipes" / "risk"


def make_site(seed, pixels=8000):
    """Pixels whose risk is a known function of three features; the others say nothing, one is always the same."""
    random = np.random.default_rng(seed)
    features = random.normal(0, 1, (len(FEATURES), pixels))
    features[3] = 1.5
    risk = 0.5 / (1 + np.exp(-(features[0] + 0.8 * features[1] - 0.5 * features[4] - 0.5)))
    return Judged(features=features, observed=(random.random(pixels) < risk).astype(np.float64)), risk


def test_a_known_risk_is_found_and_holds_in_every_class():
    sites = [make_site(seed) for seed in range(9)]
    fitted = fit_and_judge([judged for judged, _ in sites])
    assert fitted.reliability.max_deviation(least_n=LEAST_PIXELS) < 0.05
    assert sum(n >= LEAST_PIXELS for _, _, n in fitted.reliability.table()) >= 4
    judged, truth = make_site(99)
    assert np.abs(fitted.risk.estimate(judged.features) - truth).mean() < 0.02
    explained = 1 - ((judged.observed - truth) ** 2).mean() / judged.observed.var()
    assert abs(fitted.skill - explained) < 0.02


def test_weights_have_the_signs_that_they_may_have():
    judged, _ = make_site(1)
    turned = judged.features.copy()
    turned[0] *= -1  # more deviation, less risk: not what a risk may say
    weights = fit_risk(Judged(features=turned, observed=judged.observed)).weights
    assert weights[0] == 0
    assert weights[1] > 0 > weights[4]
    assert weights[3] == 0


def test_the_box_holds_what_was_fitted_to():
    judged, _ = make_site(2, pixels=40_000)
    strange = fit_risk(judged).find_strange(judged.features).mean()
    assert 0.003 < strange <= 0.0051


def test_too_little_is_not_fitted_to():
    with pytest.raises(InputError, match="too few to fit a risk to"):
        fit_risk(make_site(3, pixels=LEAST_PIXELS - 1)[0])
    with pytest.raises(InputError, match="expected three or more"):
        fit_and_judge([make_site(4)[0]] * 2)


@pytest.fixture
def copied(tmp_path):
    """Weights and card of a model of several dates, to be changed."""
    for suffix in (".safetensors", ".json"):
        shutil.copy(weights_path(ModelSpec(name="burst-fusion-x2")).with_suffix(suffix), tmp_path)
    return ModelSpec(name="burst-fusion-x2", weights=tmp_path / "burst-fusion-x2.safetensors")


def guess(_, sample):
    """The truth with errors that the deviation announces: quick, and like a network to all that is fitted."""
    random = np.random.default_rng(int(sample.digest[:6], 16))
    sd = np.broadcast_to(np.linspace(0.05, 0.6, sample.truth.shape[-1], dtype=np.float32), sample.truth.shape)
    return Estimate(mean=(sample.truth + sd * random.normal(0, 1, sd.shape)).astype(np.float32), sd=sd.copy())


def small():
    data = {"kind": "bursts", "seeds": "7000-7002", "size_px": 80, "scale": 2, "dates": 2}
    return RiskConfig.model_validate({"data": [data], "dates": (1, 2)})


def test_a_risk_is_written_into_the_card_and_nothing_else_is_changed(copied, monkeypatch):
    monkeypatch.setattr(module, "predict_sample", guess)
    before = read_card(copied)
    fitted = add_risk(small(), copied, command="mapper risk")
    card = read_card(copied)  # still the card of these weights
    assert card.risk == fitted.risk
    assert (card.digest, card.form, card.training) == (before.digest, before.form, before.training)
    assert [site["name"] for site in card.risk.about["sites"]] == [f"burst {seed}" for seed in range(7000, 7003)]
    assert card.risk.about["reliability"]["n"] == sum(fitted.reliability.n) > 0
    assert fitted.mean > 0.01


def test_a_site_that_was_trained_on_is_refused(copied, monkeypatch):
    monkeypatch.setattr(module, "predict_sample", guess)
    seen = read_card(copied).training["validation"][0]
    monkeypatch.setattr(module, "read_samples", lambda _: [type("Site", (), seen)()])
    with pytest.raises(InputError, match="was trained or calibrated on burst 1000"):
        add_risk(small(), copied)


def test_a_model_without_a_deviation_has_no_risk():
    with pytest.raises(InputError, match="gives no standard deviation"):
        add_risk(small(), ModelSpec(name="bicubic"))


@pytest.mark.parametrize("path", sorted(RECIPES.glob("*.yaml")), ids=lambda path: path.stem)
def test_recipes_can_be_read(path):
    config = read_risk_config(path)
    assert config.consistency.mode == "soft"
    assert len(config.data[0].seeds) >= 30
