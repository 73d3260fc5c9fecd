"""A risk rises and falls with what it may, is read as it was written, and refused where it says what none can."""

from dataclasses import replace

import numpy as np
import pytest

from mapper.errors import WeightsError
from mapper.models.card import parse_card, read_card
from mapper.models.risk import FEATURES, REGIONAL, Risk, parse_risk, stack_features
from mapper.spec import ModelSpec

RISK = Risk(
    weights=(0.5, 1.0, 0.25, 0.0, -0.5),
    scores=(-2.0, 0.0, 1.0, 3.0),
    risks=(0.0, 0.1, 0.1, 0.4),
    least=(-1.0, 0.0, -3.0, 0.0),
    most=(2.0, 4.0, 0.0, 2.0),
    about={"sites": []},
)


@pytest.mark.parametrize("name", FEATURES)
def test_risk_is_monotone_in_every_feature(name):
    place = list(FEATURES).index(name)
    features = np.repeat(np.random.default_rng(0).normal(0, 1, (len(FEATURES), 50, 1)), 40, axis=2)
    features[place] = np.linspace(-4, 4, 40)
    risk = RISK.estimate(features)
    assert (FEATURES[name] * np.diff(risk, axis=1) >= 0).all()
    assert risk.min() >= 0
    assert risk.max() <= 0.4
    assert np.ptp(risk, axis=1).any() == (RISK.weights[place] != 0)


def test_an_unknown_feature_leaves_the_risk_unknown():
    known = np.ones(3)
    features = stack_features(
        sd=np.array([0.1, np.nan, 0.1]),
        detail=known,
        gain=known,
        residual=np.array([1, 1, np.nan]),
        n_dates=known,
        energy=known,
    )
    np.testing.assert_array_equal(np.isnan(RISK.estimate(features)), [False, True, False])
    np.testing.assert_array_equal(RISK.find_strange(features), [True, False, True])  # sd is a tenth, below exp(-1)


def test_only_regional_features_are_strange():
    inside = np.zeros((len(FEATURES), 1))
    inside[list(FEATURES).index("consistency_residual")] = -1
    assert not RISK.find_strange(inside).any()
    for name in FEATURES:
        far = inside.copy()
        far[list(FEATURES).index(name)] = 9
        assert RISK.find_strange(far).all() == (name in REGIONAL)


def test_a_card_keeps_its_risk_and_its_digest():
    card = read_card(ModelSpec(name="burst-fusion-x3"))
    again = parse_card(replace(card, risk=RISK).to_json())
    assert again.risk == RISK
    assert again.digest == card.digest
    assert replace(RISK, about={}).digest == RISK.digest
    assert replace(RISK, risks=(0.0, 0.1, 0.1, 0.5)).digest != RISK.digest


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"weights": (0.5, 1.0, 0.25, 0.0, 0.5)}, "wrong sign: n_dates"),
        ({"weights": (0.5,)}, "expected 5 numbers"),
        ({"risks": (0.0, 0.2, 0.1, 0.4)}, "falls"),
        ({"risks": (0.0, 0.1, 0.1, 1.4)}, "leaves 0 to 1"),
        ({"scores": (0.0, 0.0, 1.0, 3.0)}, "falls"),
        ({"least": (float("nan"),) * 4}, "expected 4 numbers"),
        ({"scores": (0.0,), "risks": (0.0,)}, "1 points"),
    ],
)
def test_a_risk_that_none_can_be_is_refused(change, message):
    with pytest.raises(ValueError, match=message):
        parse_risk(vars(replace(RISK, **change)))
    card = replace(read_card(ModelSpec(name="burst-fusion-x3")), risk=replace(RISK, **change))
    with pytest.raises(WeightsError, match="not a model card"):
        parse_card(card.to_json())
