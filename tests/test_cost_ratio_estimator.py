"""Calibration: unbiased, and its ranges hold what they promise."""

import numpy as np
import pytest

from mapper.cost.ratio_estimator import Calibration


def calibrate(estimated, actual, pilot, *, known=None, measured=None):
    pilot = np.asarray(pilot, bool)
    return Calibration(
        estimated=np.asarray(estimated, float),
        actual=np.asarray(actual, float) * (pilot if known is None else known)[:, None],
        known=pilot if known is None else known,
        pilot=pilot,
        measured=np.ones(np.shape(estimated)[1], bool) if measured is None else np.asarray(measured),
    )


def test_what_took_twice_its_estimate_everywhere_is_doubled_without_doubt():
    estimated = np.array([[1.0, 10], [2, 20], [3, 30], [4, 40]])
    total = calibrate(estimated, 2 * estimated, [1, 1, 1, 0]).total(np.array([1.0, 0]))
    assert (total.low, total.mid, total.high) == pytest.approx((20, 20, 20))


def test_a_range_holds_nine_outcomes_of_ten():
    rng = np.random.default_rng(3)
    weights, held = np.array([1.0, 0.3]), 0
    for _ in range(600):
        estimated = rng.gamma(20, 1, (60, 2))
        shared = rng.normal(1, 0.2, (60, 1))  # quantities of a tile err together
        actual = estimated * (1.7, 0.4) * (shared + rng.normal(0, 0.1, (60, 2)))
        total = calibrate(estimated, actual, np.arange(60) % 8 == 0).total(weights)
        held += total.low <= (actual @ weights).sum() <= total.high
    assert 0.87 <= held / 600 <= 0.93


def test_parts_sum_to_their_whole_but_their_ranges_do_not():
    rng = np.random.default_rng(4)
    estimated = rng.gamma(5, 1, (30, 2))
    spread = rng.normal(1, 0.3, (30, 1))
    actual = estimated * np.hstack([spread, 2 - spread])  # what one takes more, the other takes less
    found = calibrate(estimated, actual, np.arange(30) < 10)
    one, other, both = (found.total(np.array(weights)) for weights in ((1.0, 0), (0, 1.0), (1.0, 1.0)))
    assert both.mid == pytest.approx(one.mid + other.mid)
    assert both.high - both.mid < (one.high - one.mid) + (other.high - other.mid)


def test_two_tiles_are_no_pilot():
    estimated = np.ones((9, 1))
    assert calibrate(estimated, estimated, np.arange(9) < 2).total(np.ones(1)) is None
    assert calibrate(estimated, estimated, np.arange(9) < 3).total(np.ones(1)) is not None


def test_tiles_that_have_run_count_as_they_were():
    estimated, actual = np.ones((4, 1)), np.array([[1.0], [2], [3], [50]])
    known = np.ones(4, bool)
    total = calibrate(estimated, actual, [1, 1, 1, 0], known=known).total(np.ones(1))
    assert (total.low, total.mid, total.high) == (56, 56, 56)


def test_what_the_pilot_cannot_tell_keeps_its_estimate():
    estimated = np.ones((6, 2))
    actual = np.tile([3.0, 7.0], (6, 1))
    found = calibrate(estimated, actual, np.arange(6) < 3, measured=[True, False])
    assert found.factors.tolist() == [3, 1]
    assert found.total(np.array([0, 1.0])) is None
    assert found.total(np.ones(2)).mid == pytest.approx(3 * 10 + 3 * 4)


def test_a_range_never_goes_below_what_was_spent():
    estimated = np.ones((100, 1))
    actual = np.zeros((100, 1))
    actual[:3, 0] = 0, 0, 9
    total = calibrate(estimated, actual, np.arange(100) < 3).total(np.ones(1))
    assert total.low == 9 < total.mid < total.high
