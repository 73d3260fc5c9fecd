"""The target honours its source, exactly where asked, and is moved no more than that takes."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from mapper.predict.operators import OPERATORS, BlockMean, GaussianPsf, block_mean, make_operator, project
from mapper.spec import BandConsistency

SCALE = 4
values = hnp.arrays(np.float32, (8, 12), elements=st.floats(-50, 400, width=32) | st.just(np.float32(np.nan)))
sources = hnp.arrays(np.float32, (2, 3), elements=st.floats(0, 300, width=32) | st.just(np.float32(np.nan)))
spreads = hnp.arrays(np.float32, (2, 3), elements=st.floats(0, 100, width=32) | st.just(np.float32(np.nan)))


def run(value, source, sd, *, mode, non_negative=True):
    return BlockMean(SCALE).enforce(value, source, sd, mode=mode, bounds=(0 if non_negative else None, None))


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


@given(values, sources, spreads, st.floats(0, 50))
def test_below_takes_off_what_lies_above_the_source_and_the_tolerance_and_bounds_hold(value, source, sd, tolerance):
    result = BlockMean(SCALE).enforce(value, source, sd, mode="below", tolerance=tolerance, bounds=(-20, 350))
    where = judged(value, source)
    assert (block_mean(result, SCALE) - source)[where].max(initial=0) <= tolerance + 1e-3
    np.testing.assert_array_equal(np.isnan(result), np.isnan(value))
    assert np.nanmin(result, initial=0) >= -20
    assert np.nanmax(result, initial=0) <= 350


@given(
    hnp.arrays(np.float64, (3, 16), elements=st.floats(-5, 5) | st.just(np.nan)),
    st.lists(st.floats(0, 1), min_size=3, max_size=3),
    st.sampled_from([(0.0, None), (-1.5, None), (None, 2.0), (-1.0, 1.0), (0.0, 0.5)]),
)
def test_projection_is_one_shift_cut_at_the_bounds(blocks, shares, bounds):
    blocks[:, 0] = np.nan_to_num(blocks[:, 0])
    low, high = (-4.0 if bounds[0] is None else bounds[0]), (4.0 if bounds[1] is None else bounds[1])
    goal = low + np.array(shares) * (high - low)
    result = project(blocks, goal, bounds)
    np.testing.assert_array_equal(np.isnan(result), np.isnan(blocks))
    np.testing.assert_allclose(np.nanmean(result, axis=1), goal, atol=1e-9)
    lowest, highest = (-np.inf if bounds[0] is None else low), (np.inf if bounds[1] is None else high)
    for before, after in zip(blocks, result, strict=True):
        before, after = before[np.isfinite(before)], after[np.isfinite(after)]  # noqa: PLW2901
        assert ((after >= lowest) & (after <= highest)).all()
        free = (after > lowest + 1e-9) & (after < highest - 1e-9)
        if free.any():  # the nearest: one shift inside, at most that far where a bound stops it
            shift = (after - before)[free].mean()
            np.testing.assert_allclose(np.clip(before + shift, lowest, highest), after, atol=1e-8)


def make_scene(operator, cells, seed=0, missing=0.1):
    random = np.random.default_rng(seed)
    value = random.uniform(0.1, 0.3, (cells * operator.scale, cells * operator.scale)).astype(np.float32)
    source = random.uniform(0.1, 0.3, (cells, cells)).astype(np.float32)
    source[random.random(source.shape) < missing] = np.nan
    return value, source, np.full_like(source, np.nan)


psfs = pytest.mark.parametrize(("scale", "mtf"), [(2, 0.1), (4, 0.2), (3, 0.35)])


@psfs
def test_a_psf_has_its_modulation_at_the_nyquist_frequency_of_the_source(scale, mtf):
    operator = GaussianPsf(scale, mtf=mtf)
    cells = 32
    pixel = (np.arange(cells * scale) + 0.5) / scale - 0.5  # source pixel centres at whole numbers
    wave = np.broadcast_to(np.cos(np.pi * pixel), (cells * scale, cells * scale)).astype(np.float32)
    seen = operator.apply(wave)[cells // 2, 8:-8]
    np.testing.assert_allclose(np.abs(seen), mtf, rtol=0.02)
    np.testing.assert_allclose(operator.apply(np.full_like(wave, 7)), 7)


@psfs
def test_hard_leaves_less_than_a_ten_thousandth_of_the_range_inside(scale, mtf):
    operator = GaussianPsf(scale, mtf=mtf)
    value, source, sd = make_scene(operator, 2 * operator.reach + 9)
    result = operator.enforce(value, source, sd, mode="hard")
    inner = slice(operator.reach, -operator.reach)
    before, after = (np.abs(operator.apply(v) - source)[inner, inner] for v in (value, result))
    assert np.nanmax(after) < 1e-4 * 0.2 < 0.1 * np.nanmax(before)
    assert result.dtype == np.float32


@psfs
@pytest.mark.parametrize("mode", ["soft", "hard", "below"])
def test_a_psf_gives_the_same_pixels_for_any_tiling(scale, mtf, mode):
    operator = GaussianPsf(scale, mtf=mtf)
    reach, cells = operator.reach_in(mode), 2 * operator.reach + 12
    value, source, sd = make_scene(operator, cells, seed=1)
    value[5 * scale + 1, 9 * scale : 10 * scale] = np.nan
    whole = operator.enforce(value, source, sd, mode=mode, tolerance=0.01)
    for first in (1, 4):
        part = operator.enforce(
            value[first * scale :, scale:], source[first:, 1:], sd[first:, 1:], mode=mode, tolerance=0.01
        )
        inner = slice(reach * scale, -reach * scale)
        expected = whole[first * scale :, scale:][inner, inner]
        np.testing.assert_array_equal(part[inner, inner], expected)


@psfs
def test_no_pixel_hangs_on_more_than_the_reach_of_a_psf(scale, mtf):
    operator = GaussianPsf(scale, mtf=mtf)
    cells = 2 * operator.reach + 11
    value, source, sd = make_scene(operator, cells, seed=2, missing=0)
    source = operator.apply(value).astype(np.float32)
    other, at = source.copy(), cells // 2
    other[at, at] += 0.1
    moved = [operator.enforce(value, image, sd, mode="hard") for image in (source, other)]
    rows, cols = np.nonzero(moved[0] != moved[1])
    assert max(np.abs(rows // scale - at).max(), np.abs(cols // scale - at).max()) <= operator.reach


def test_soft_and_below_bring_a_psf_to_the_tolerance_and_bounds_hold():
    operator = GaussianPsf(4, mtf=0.2)
    value, source, sd = make_scene(operator, 2 * operator.reach + 9, missing=0)
    inner = (slice(operator.reach, -operator.reach),) * 2
    soft = operator.enforce(value, source, sd, mode="soft", tolerance=0.01)
    assert np.abs(operator.apply(soft) - source)[inner].max() < 0.01 + 2e-5
    below = operator.enforce(value, source, sd, mode="below", tolerance=0.01)
    assert (operator.apply(below) - source)[inner].max() < 0.01 + 2e-5
    assert (operator.apply(below) - source)[inner].min() < -0.01
    bounded = operator.enforce(value, source, sd, mode="hard", bounds=(0.05, 0.35))
    assert bounded.min() >= np.float32(0.05)
    assert bounded.max() <= np.float32(0.35)


def test_operators_are_made_by_name():
    for tie in ({}, {"operator": "gaussian-psf", "mtf": 0.2}, {"operator": "none", "mode": "none"}):
        operator = make_operator(BandConsistency(**tie), SCALE)
        assert type(operator) is OPERATORS[tie.get("operator", "block-mean")]
    assert [make_operator(BandConsistency(), SCALE).reach_in(mode) for mode in ("hard", "below")] == [1, 4]
    assert make_operator(BandConsistency(operator="none", mode="none"), SCALE).reach == 0
    assert np.isnan(operator.apply(np.zeros((8, 12), np.float32))).all()
    with pytest.raises(ValueError, match="between 0 and 1"):
        GaussianPsf(SCALE, mtf=1)
    with pytest.raises(ValueError, match=r"at least 0\.05"):
        GaussianPsf(SCALE, mtf=0.001)
