"""Errors by class of the truth agree with numpy, class by class, and pool."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from targets import BIOMASS

from mapper.evaluation.bins import Bins

EDGES = (0.0, 50.0, 100.0, 200.0)

pairs = hnp.arrays(np.float32, (2, 30), elements=st.floats(0, 300, width=32))


@given(pairs)
def test_each_class_agrees_with_numpy(pair):
    value, truth = pair.astype(float)
    bins = Bins.of(value, truth, EDGES)
    for index, (low, high) in enumerate(pairwise(EDGES)):
        error = (value - truth)[(truth >= low) & (truth < high)]
        assert bins.n[index] == error.size
        if error.size:
            assert bins.bias[index] == pytest.approx(error.mean(), abs=1e-6)
            assert bins.rmse[index] == pytest.approx(np.sqrt((error**2).mean()), abs=1e-6)
            middle = np.sort(error)[(error.size - 1) // 2]
            assert abs(bins.median_error[index] - middle) <= 0.5 + 1e-6
        else:
            assert np.isnan([bins.bias[index], bins.rmse[index], bins.median_error[index]]).all()


@given(pairs, st.integers(0, 30))
def test_parts_pool_to_the_whole(pair, cut):
    value, truth = pair
    pooled = Bins() + Bins.of(value[:cut], truth[:cut], EDGES) + Bins.of(value[cut:], truth[cut:], EDGES)
    whole = Bins.of(value, truth, EDGES)
    assert pooled.n == whole.n
    assert pooled.median_error == pytest.approx(whole.median_error, nan_ok=True)
    assert pooled.rmse == pytest.approx(whole.rmse, nan_ok=True)


def test_truth_beyond_the_edges_and_gaps_are_left_out():
    truth = np.array([-1.0, 0.0, 49.0, 200.0, np.nan, 60.0])
    value = np.array([0.0, 0.0, 0.0, 0.0, 0.0, np.nan])
    assert Bins.of(value, truth, EDGES).n == (2, 0, 0)


def test_saturation_shows_as_bias_of_the_upper_classes():
    truth = np.linspace(0, 500, 2000)
    bins = Bins.of(np.minimum(truth, 200), truth, BIOMASS.classes)
    assert bins.labels[-1] == "≥ 400"
    assert bins.bias[:5] == (0,) * 5
    assert bins.bias[-1] == pytest.approx(-250, abs=1)
    assert bins.to_dict()[-1]["median_error"] == pytest.approx(-250, abs=1)


def test_nothing_compared_has_classes_without_pixels():
    nothing = np.empty(0)
    assert [(row["n"], row["bias"]) for row in Bins.of(nothing, nothing, EDGES).to_dict()] == [(0, None)] * 3
    assert Bins().to_dict() == []


@pytest.mark.parametrize("edges", [(0.0,), (0.0, 0.0, 5.0), (3.0, 1.0)])
def test_edges_that_do_not_rise_are_refused(edges):
    with pytest.raises(ValueError, match="rise"):
        Bins.of(np.zeros(3), np.zeros(3), edges)


def test_other_classes_do_not_pool():
    with pytest.raises(ValueError, match="do not add up"):
        Bins.of(np.zeros(3), np.zeros(3), (0, 1)) + Bins.of(np.zeros(3), np.zeros(3), (0, 2))
