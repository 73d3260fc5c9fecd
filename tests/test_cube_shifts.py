"""Shifts of simulated dates are found to hundredths of a pixel, by pixels of the cells around alone."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter, shift

from mapper.cube.shifts import estimate_shifts

TRUE = np.array([[0, 0], [0.4, -0.7], [-1.6, 2.2]])


def make_stack(size=128, *, bands=2, noise=0.02, seed=0):
    """Return dates (3, band, y, x) of one smooth random ground of spread 1, shifted by ``TRUE``."""
    random = np.random.default_rng(seed)
    ground = gaussian_filter(random.standard_normal((bands, size + 16, size + 16)), (0, 1.5, 1.5))
    ground /= ground.std()
    dates = [shift(ground, (0, *each), order=5, mode="wrap")[:, 8:-8, 8:-8] for each in TRUE]
    dates = np.stack(dates) + noise * random.standard_normal((3, bands, size, size))
    return dates.astype(np.float32), np.ones((3, size, size), bool)


@pytest.fixture(scope="module")
def stack():
    return make_stack()


def errors_of(found):
    return np.abs(found.cells - TRUE[:, :, None, None]).max()


def test_shifts_are_found_to_a_hundredth_of_a_pixel(stack):
    dates, clear = stack
    found = estimate_shifts(dates, clear, dates[0], row=0, col=0)
    assert errors_of(found) < 0.01
    assert not found.cells[0].any(), "the anchor's own date"
    np.testing.assert_allclose(found.mean, TRUE, atol=0.01)
    np.testing.assert_allclose(found.shift, np.broadcast_to(TRUE[:, :, None, None], found.shift.shape), atol=0.01)
    assert found.shift.dtype == np.float32
    assert (found.trust > 0.9).all()
    assert (found.likeness > 0.95).all()


def test_gains_changes_clouds_and_noise_do_not_move_them(stack):
    dates, clear = (array.copy() for array in stack)
    random = np.random.default_rng(1)
    for date in (1, 2):
        dates[date] = dates[date] * random.uniform(0.8, 1.3, (2, 1, 1)) + random.uniform(-3, 3, (2, 1, 1))
        for _ in range(12):  # a tenth
            row, col = random.integers(0, 112, 2)
            dates[date, :, row : row + 12, col : col + 12] = random.uniform(-3, 3)
    dates += 0.1 * random.standard_normal(dates.shape).astype(np.float32)
    clear[1, 20:50, 10:60] = False
    dates[1][:, ~clear[1]] = 40
    dates[2, :, 100:, 80:] = np.nan
    found = estimate_shifts(dates, clear, dates[0], row=0, col=0)
    assert errors_of(found) < 0.03
    assert np.isfinite(found.shift).all()
    errors = np.abs(found.cells - TRUE[:, :, None, None])[1:].max(1)
    assert (errors < 5 * found.error[1:]).all(), "it knows about how wrong it is"


def test_a_window_of_whole_cells_and_one_around_gives_the_same_bits():
    dates, clear = make_stack(128, noise=0.3, seed=2)
    dates, clear = dates[..., :96, :], clear[:, :96]
    clear[1, 20:50, 40:70] = False
    whole = estimate_shifts(dates, clear, dates[0], row=-64, col=32, cell=32)
    part = estimate_shifts(dates[..., 32:], clear[..., 32:], dates[0, ..., 32:], row=-64, col=64, cell=32)
    np.testing.assert_array_equal(part.shift[..., 32:64, 32:], whole.shift[..., 32:64, 64:])
    assert not np.array_equal(part.shift[..., :32], whole.shift[..., 32:64]), "an edge shows"
    alone = estimate_shifts(dates[1:2], clear[1:2], dates[0], row=-64, col=32, cell=32)
    np.testing.assert_array_equal(alone.shift[0], whole.shift[1], "dates do not know of each other")


def test_cells_that_a_window_cuts_count_from_the_origin():
    dates, clear = make_stack(100)
    found = estimate_shifts(dates, clear, dates[0], row=-10, col=60)
    assert found.trust.shape == (3, 3, 3)
    assert not found.trust[:, 0].any(), "ten rows of a cell are too few"
    assert not found.trust[:, :, 0].any()
    assert (found.trust[:, 1:, 1] > 0.5).any()
    np.testing.assert_allclose(found.shift[1, :, 0, 0], TRUE[1], atol=0.03), "known from the cells beside"


def test_trust_of_a_date_is_that_of_the_cells_that_it_shows(stack):
    dates, clear = stack
    wide = ((0, 0), (128, 64), (64, 0))
    around = np.pad(dates, ((0, 0), *wide), constant_values=np.nan)
    cloudy = np.pad(clear, wide)
    cloudy[2] = False
    found = estimate_shifts(around, cloudy, around[0], row=-128, col=-64)
    whole = estimate_shifts(dates, clear, dates[0], row=0, col=0)
    assert found.trust[1].mean() < 0.5, "cells without a pixel have none"
    np.testing.assert_allclose(found.mean_trust, [*whole.trust[:2].mean((1, 2)), 0])
    few = clear.copy()
    few[1, :, 70:] = False
    little = estimate_shifts(dates, few, dates[0], row=0, col=0)
    expected = (little.trust[1, :, 0].sum() * 64 + little.trust[1, :, 1].sum() * 6) / (2 * 70)
    np.testing.assert_allclose(little.mean_trust[1], expected)
    assert not little.trust[1, :, 1].any()


@pytest.mark.parametrize("kind", ["flat", "clouded", "unlike", "too far"])
def test_what_cannot_be_registered_has_no_shift_and_no_trust(kind):
    dates, clear = make_stack(64)
    anchor = dates[0].copy()
    if kind == "flat":
        anchor[:], dates[:] = 7, 9
    elif kind == "clouded":
        clear[:, 4:] = False
    elif kind == "unlike":
        dates = np.random.default_rng(3).standard_normal(dates.shape).astype(np.float32)
    else:
        dates = np.roll(dates, 9, axis=3)
    found = estimate_shifts(dates, clear, anchor, row=0, col=0)
    assert not found.trust.any()
    assert not found.shift.any()
    assert np.isnan(found.mean).all()
    assert np.isnan(found.error).all()


def test_no_date_gives_no_shift():
    found = estimate_shifts(
        np.zeros((0, 1, 64, 64), np.float32),
        np.zeros((0, 64, 64), bool),
        np.zeros((1, 64, 64), np.float32),
        row=0,
        col=0,
    )
    assert found.shift.shape == (0, 2, 64, 64)


def test_arrays_that_do_not_fit_are_refused(stack):
    dates, clear = stack
    with pytest.raises(ValueError, match="do not fit together"):
        estimate_shifts(dates, clear[:, 1:], dates[0], row=0, col=0)
    with pytest.raises(ValueError, match="too small to be registered"):
        estimate_shifts(dates, clear, dates[0], row=0, col=0, cell=16)
