"""Intervals of true deviations cover what they promise, and calibrated ones whatever they were before."""

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.stats import norm
from targets import BIOMASS

from mapper.evaluation.uncertainty import (
    LEVELS,
    RELIABILITY_LEVELS,
    Coverage,
    ErrorBySd,
    RiskReliability,
    calibrate_scale,
    cover_by_sd,
    find_worst_coverage,
    gaussian_quantile,
)

N = 40_000

pairs = hnp.arrays(np.float64, (2, 25), elements=st.floats(0.5, 50))


@pytest.fixture
def honest():
    """Errors drawn with the deviations that go with them."""
    rng = np.random.default_rng(8)
    sd = rng.uniform(2, 60, N)
    return rng.normal(0, sd), sd


@pytest.mark.parametrize("level", LEVELS)
def test_quantiles_are_those_of_the_normal_distribution(level):
    assert gaussian_quantile(level) == pytest.approx(norm.ppf((1 + level) / 2))


def test_gaussian_errors_are_covered_as_promised(honest):
    coverage = Coverage.of(*honest, RELIABILITY_LEVELS)
    for nominal, observed in coverage.table():
        assert observed == pytest.approx(nominal, abs=4 * math.sqrt(0.25 / N))
    assert coverage.calibration_error < 0.005
    assert coverage.sharpness == pytest.approx(np.sqrt(np.mean(honest[0] ** 2)), rel=0.02)


def test_widths_are_those_of_the_mean_interval(honest):
    coverage = Coverage.of(*honest)
    assert coverage.width(0.95) == pytest.approx(2 * 1.959964 * honest[1].mean(), rel=1e-6)


@pytest.mark.parametrize("level", [0.5, 0.68, 0.9, 0.95])
@pytest.mark.parametrize("factor", [0.3, 1.0, 4.0])
@pytest.mark.parametrize("heavy", [False, True])
def test_a_calibrated_scale_covers_unseen_pixels_whatever_the_errors(honest, level, factor, heavy):
    error, sd = honest
    error = np.random.default_rng(2).standard_t(2, N) * sd if heavy else error
    half = N // 2
    scale = calibrate_scale(error[:half], factor * sd[:half], level=level)
    share = Coverage.of(error[half:], scale * factor * sd[half:], (level,)).share(level)
    assert share == pytest.approx(level, abs=0.015)


@given(pairs, st.floats(0.5, 0.9))
def test_the_scale_covers_at_least_the_level_of_the_pixels_it_comes_from(pair, level):
    error, sd = pair
    scale = calibrate_scale(error, sd, level=level)
    covered = np.mean(np.abs(error) <= scale * sd * gaussian_quantile(level) * (1 + 1e-12))
    assert covered >= level
    assert calibrate_scale(error, 2 * sd, level=level) == pytest.approx(scale / 2)


@given(pairs, st.integers(0, 25))
def test_parts_pool_to_the_whole(pair, cut):
    error, sd = pair
    pooled = Coverage() + Coverage.of(error[:cut], sd[:cut]) + Coverage.of(error[cut:], sd[cut:])
    whole = Coverage.of(error, sd)
    assert (pooled.n, pooled.hits) == (whole.n, whole.hits)
    assert pooled.sharpness == pytest.approx(whole.sharpness)
    parts = (
        ErrorBySd()
        + ErrorBySd.of(error[:cut], sd[:cut], BIOMASS.sd_classes)
        + ErrorBySd.of(error[cut:], sd[cut:], BIOMASS.sd_classes)
    )
    np.testing.assert_allclose(parts.table(), ErrorBySd.of(error, sd, BIOMASS.sd_classes).table())


def test_pixels_without_error_or_deviation_do_not_count():
    error = np.array([1.0, np.nan, 1.0, 0.0])
    sd = np.array([1.0, 1.0, np.nan, 1.0])
    assert Coverage.of(error, sd).n == 2
    assert Coverage.of(error, sd).share(0.68) == 0.5


def test_certainty_covers_only_what_is_right():
    assert Coverage.of(np.array([0.0, 0.1]), np.zeros(2)).share(0.95) == 0.5
    with pytest.raises(ValueError, match="50% of the pixels err at a deviation of 0"):
        calibrate_scale(np.tile([0.0, 0.1], 20), np.zeros(40))


def test_error_by_deviation_follows_honest_deviations(honest):
    table = ErrorBySd.of(*honest, BIOMASS.sd_classes).table()
    assert sum(n for _, _, n in table) == N
    for announced, rmse, _ in table:
        assert rmse == pytest.approx(announced, rel=0.06)


def test_no_pixel_gives_nan_not_zero():
    nothing = Coverage.of(np.empty(0), np.empty(0))
    assert math.isnan(nothing.share(0.9))
    assert nothing.to_dict()["share"] == {"0.68": None, "0.9": None, "0.95": None}


def test_what_cannot_be_calibrated_is_refused():
    with pytest.raises(ValueError, match="at least 9 pixels with error and deviation, got 8"):
        calibrate_scale(np.ones(8), np.ones(8))
    assert calibrate_scale(np.ones(9), np.ones(9)) == pytest.approx(1 / 1.644854)
    with pytest.raises(ValueError, match="-1"):
        calibrate_scale(np.ones(3), np.array([1.0, -1.0, 2.0]))
    with pytest.raises(ValueError, match=r"\(3,\)"):
        Coverage.of(np.ones(3), np.ones(4))


@pytest.mark.parametrize("level", [0, 1, 90, -0.1])
def test_levels_are_shares(level):
    with pytest.raises(ValueError, match="between 0 and 1"):
        Coverage.of(np.ones(3), np.ones(3), (level,))


def test_levels_that_were_not_counted_are_refused():
    with pytest.raises(ValueError, match=r"0\.5 was not counted"):
        Coverage.of(np.ones(3), np.ones(3)).share(0.5)
    with pytest.raises(ValueError, match="do not add up"):
        Coverage.of(np.ones(3), np.ones(3)) + Coverage.of(np.ones(3), np.ones(3), (0.5,))


def test_honest_deviations_hold_in_every_decile(honest):
    coverages = cover_by_sd(*honest)
    assert [coverage.n for coverage in coverages] == [N // 10] * 10
    assert (np.diff([coverage.mean_sd for coverage in coverages]) > 0).all()
    for coverage in coverages:
        for nominal, observed in coverage.table():
            assert observed == pytest.approx(nominal, abs=4 * math.sqrt(0.25 / coverage.n))


def test_one_factor_for_all_hides_what_a_decile_shows(honest):
    error, sd = honest
    even = np.full(N, sd.mean())
    scaled = even * calibrate_scale(error, even)
    known_by = cover_by_sd(error, scaled + 1e-6 * sd)
    assert Coverage.of(error, scaled).share(0.9) == pytest.approx(0.9, abs=0.01)
    assert find_worst_coverage(known_by, 0.9) < 0.8
    assert known_by[0].share(0.9) == 1


@given(pairs, st.integers(1, 12))
def test_classes_of_the_deviation_add_up_to_all(pair, classes):
    error, sd = pair
    coverages = cover_by_sd(error, np.round(sd), classes=classes)
    whole, pooled = Coverage.of(error, np.round(sd)), sum(coverages, Coverage())
    assert (pooled.n, pooled.hits, len(coverages)) == (whole.n, whole.hits, classes)
    assert find_worst_coverage(coverages, 0.9) <= whole.share(0.9)


def test_equal_deviations_lie_in_one_class_and_none_in_none():
    coverages = cover_by_sd(np.arange(8.0), np.full(8, 2.0))
    assert [coverage.n for coverage in coverages] == [8] + 9 * [0]
    nothing = cover_by_sd(np.full(3, np.nan), np.ones(3))
    assert {coverage.n for coverage in nothing} == {0}
    assert math.isnan(find_worst_coverage(nothing, 0.9))
    with pytest.raises(ValueError, match="one class or more"):
        cover_by_sd(np.ones(2), np.ones(2), classes=0)


def test_a_true_risk_lies_on_the_diagonal_and_a_wrong_one_as_far_off_as_it_is():
    random = np.random.default_rng(4)
    risk = random.uniform(0, 1, N)
    came = (random.uniform(0, 1, N) < risk).astype(float)
    assert RiskReliability.of(risk, came).max_deviation() < 0.03
    soft = RiskReliability.of(risk, np.clip(risk + 0.1, 0, 1))
    assert soft.max_deviation() == pytest.approx(0.1)
    assert soft.mean_deviation == pytest.approx(np.minimum(1 - risk, 0.1).mean())
    careless = RiskReliability.of(0.5 * risk, came)
    assert careless.max_deviation() == pytest.approx(0.475, abs=0.03)


@given(hnp.arrays(np.float64, (2, 30), elements=st.floats(0, 1)), st.integers(0, 30), st.integers(1, 20))
def test_risks_pool_to_the_whole_and_every_pixel_is_in_a_class(pair, cut, classes):
    risk, came = pair
    whole = RiskReliability.of(risk, came, classes=classes)
    parts = [RiskReliability.of(risk[part], came[part], classes=classes) for part in (slice(cut), slice(cut, None))]
    pooled = RiskReliability() + parts[0] + parts[1]
    assert (sum(whole.n), pooled.n) == (30, whole.n)
    np.testing.assert_allclose(pooled.table(), whole.table())
    for predicted, _, _ in whole.table():
        assert any(low - 1e-12 <= predicted <= high + 1e-12 for low, high in pairwise(whole.edges))
    assert 0 <= whole.mean_deviation <= whole.max_deviation() + 1e-12


def test_risks_without_pixels_are_unknown_and_impossible_ones_refused():
    nothing = RiskReliability.of(np.array([np.nan, 0.3]), np.array([0.5, np.nan]))
    assert math.isnan(nothing.max_deviation())
    assert nothing.to_dict() == {"n": 0, "max_deviation": None, "mean_deviation": None, "curve": []}
    few = RiskReliability.of(np.array([0.05, 0.95, 0.96]), np.array([1.0, 1.0, 1.0]))
    assert few.max_deviation() == pytest.approx(0.95)
    assert few.max_deviation(least_n=2) == pytest.approx(0.045)
    with pytest.raises(ValueError, match=r"predicted risks must lie between 0 and 1, got 0.2 to 1.2"):
        RiskReliability.of(np.array([0.2, 1.2]), np.zeros(2))
    with pytest.raises(ValueError, match=r"shape \(2,\), observed ones \(3,\)"):
        RiskReliability.of(np.zeros(2), np.zeros(3))
    with pytest.raises(ValueError, match="10 and 5 classes do not add up"):
        few + RiskReliability.of(np.zeros(2), np.zeros(2), classes=5)
