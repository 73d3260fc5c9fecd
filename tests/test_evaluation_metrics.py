"""Scores agree with numpy and pool over parts."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from mapper.evaluation.metrics import Score

pairs = hnp.arrays(np.float64, (2, 24), elements=st.floats(0, 500))


@given(pairs)
def test_scores_agree_with_numpy(pair):
    value, truth = pair
    score = Score.of(value, truth)
    assert score.rmse == pytest.approx(np.sqrt(np.mean((value - truth) ** 2)))
    assert score.mae == pytest.approx(np.mean(np.abs(value - truth)))
    assert score.bias == pytest.approx(np.mean(value - truth), abs=1e-9)


@given(pairs, st.integers(0, 24))
def test_scores_of_parts_pool_to_the_score_of_the_whole(pair, cut):
    value, truth = pair
    pooled = Score.of(value[:cut], truth[:cut]) + Score.of(value[cut:], truth[cut:])
    whole = Score.of(value, truth)
    assert pooled.n == whole.n
    assert pooled.rmse == pytest.approx(whole.rmse)
    assert pooled.bias == pytest.approx(whole.bias, abs=1e-9)


def test_missing_pixels_of_either_side_do_not_count():
    value = np.array([1.0, np.nan, 3.0, 5.0])
    truth = np.array([1.0, 2.0, np.nan, 4.0])
    score = Score.of(value, truth)
    assert score.n == 2
    assert score.bias == 0.5


def test_no_pixel_gives_nan_not_zero():
    assert np.isnan(Score().rmse)
    assert np.isnan(Score().bias)
    assert np.isnan(Score().r2)


def test_r2_of_the_truth_is_one_and_of_its_mean_is_zero():
    truth = np.array([0.0, 10.0, 20.0, 50.0])
    assert Score.of(truth, truth).r2 == pytest.approx(1)
    assert Score.of(np.full(4, truth.mean()), truth).r2 == pytest.approx(0)


def test_other_shapes_are_refused():
    with pytest.raises(ValueError, match="shape"):
        Score.of(np.zeros(3), np.zeros(4))
