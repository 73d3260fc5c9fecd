"""The target honours its source, exactly where asked, and is moved no more than that takes."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from mapper.predict.consistency import block_mean, enforce

SCALE = 4
values = hnp.arrays(np.float32, (8, 12), elements=st.floats(-50, 400, width=32) | st.just(np.float32(np.nan)))
sources = hnp.arrays(np.float32, (2, 3), elements=st.floats(0, 300, width=32) | st.just(np.float32(np.nan)))
spreads = hnp.arrays(np.float32, (2, 3), elements=st.floats(0, 100, width=32) | st.just(np.float32(np.nan)))


def run(value, source, sd, *, mode, non_negative=True):
    return enforce(value, source, sd, mode=mode, scale=SCALE, non_negative=non_negative)


def judged(value, source):
    return np.isfinite(source) & np.isfinite(block_mean(value, SCALE))


@given(values)
def test_block_mean_agrees_with_numpy(value):
    result = block_mean(value, SCALE)
    for row, col in np.ndindex(2, 3):
        block = value[row * SCALE : (row + 1) * SCALE, col * SCALE : (col + 1) * SCALE].astype(np.float64)
        expected = np.nanmean(block) if np.isfinite(block).any() else np.nan
        np.testing.assert_allclose(result[row, col], expected, atol=1e-9)


@given(values, sources, spreads, st.booleans())
@settings(max_examples=200)
def test_hard_makes_block_means_equal_the_source(value, source, sd, non_negative):
    result = run(value, source, sd, mode="hard", non_negative=non_negative)
    where = judged(value, source)
    np.testing.assert_allclose(block_mean(result, SCALE)[where], source[where], atol=1e-3)


@given(values, sources, spreads)
def test_soft_brings_block_means_within_one_sd_and_no_further(value, source, sd):
    result = run(value, source, sd, mode="soft")
    where = judged(value, source)
    before, after = block_mean(np.maximum(value, 0), SCALE)[where], block_mean(result, SCALE)[where]
    tolerance = np.nan_to_num(sd[where]).astype(np.float64)
    goal = np.clip(before, np.maximum(source[where] - tolerance, 0), source[where] + tolerance)
    np.testing.assert_allclose(after, goal, atol=1e-3)


@given(values, sources, spreads, st.sampled_from(["none", "soft", "hard"]))
def test_non_negative_and_missing_pixels_stay_missing(value, source, sd, mode):
    result = run(value, source, sd, mode=mode)
    assert np.nanmin(result, initial=0) >= 0
    np.testing.assert_array_equal(np.isnan(result), np.isnan(value))
    assert result.dtype == np.float32


@given(values, sources, spreads, st.sampled_from(["soft", "hard"]))
def test_twice_is_once(value, source, sd, mode):
    once = run(value, source, sd, mode=mode)
    np.testing.assert_allclose(run(once, source, sd, mode=mode), once, atol=1e-3)


@given(values, sources, spreads, st.sampled_from(["soft", "hard"]))
def test_source_pixels_are_independent(value, source, sd, mode):
    whole = run(value, source, sd, mode=mode)
    part = run(value[4:, 8:], source[1:, 2:], sd[1:, 2:], mode=mode)
    np.testing.assert_array_equal(part, whole[4:, 8:])


@given(hnp.arrays(np.float32, (8, 12), elements=st.floats(-50, 400, width=32)), sources, spreads)
def test_hard_is_the_nearest_such_map(value, source, sd):
    result = run(value, source, sd, mode="hard").astype(np.float64)
    for row, col in zip(*np.nonzero(judged(value, source)), strict=True):
        block = np.s_[row * SCALE : (row + 1) * SCALE, col * SCALE : (col + 1) * SCALE]
        moved = result[block] - value[block]
        # nearest on a simplex: one shift for all that stay above 0, and at least that shift for those that meet it
        kept = result[block] > 0
        if kept.any():
            assert np.ptp(moved[kept]) < 1e-3
            assert (moved[~kept] >= moved[kept].max() - 1e-3).all()


def test_where_the_source_is_missing_nothing_is_moved():
    value = np.arange(96, dtype=np.float32).reshape(8, 12)
    missing = np.full((2, 3), np.nan, np.float32)
    for mode in ("soft", "hard"):
        np.testing.assert_array_equal(run(value, missing, missing, mode=mode), value)


def test_a_source_of_zero_gives_zero():
    value = np.arange(96, dtype=np.float32).reshape(8, 12)
    zero = np.zeros((2, 3), np.float32)
    assert (run(value, zero, zero, mode="hard") == 0).all()


def test_shapes_that_do_not_nest_are_refused():
    with pytest.raises(ValueError, match="nest"):
        run(np.zeros((8, 11), np.float32), np.zeros((2, 3), np.float32), np.zeros((2, 3), np.float32), mode="hard")
