"""Detail beyond what a source shows is measured on a fixed window, against the bicubic interpolation."""

import numpy as np
import pytest

from mapper.predict.detail import interpolate, measure_energy, measure_gain
from mapper.predict.quality import DETAIL_REACH

SCALE = 2


def wave(cycles, *, size=96, amplitude=1.0):
    """A wave of so many cycles in a source pixel, along x; (1, y, x) of target pixels."""
    x = np.arange(size) / SCALE
    return np.broadcast_to(amplitude * np.sin(2 * np.pi * cycles * x + 0.3), (1, size, size)).copy()


def everywhere(image):
    return np.ones(image.shape[1:], bool)


@pytest.fixture(scope="module")
def pair():
    """A source of two bands, its interpolation, and an image with detail of its own."""
    random = np.random.default_rng(0)
    source = random.normal(0.3, 0.05, (2, 48, 48)).astype(np.float32)
    base = interpolate(source, SCALE)
    return base, (base + random.normal(0, 0.01, base.shape)).astype(np.float32)


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_bicubic_itself_gains_nothing(scale):
    source = np.random.default_rng(1).normal(0.2, 0.05, (3, 40, 40)).astype(np.float32)
    base = interpolate(source, scale)
    gain, _ = measure_gain(base.astype(np.float32), base, everywhere(base), scale)
    known = np.isfinite(gain)
    assert known.mean() > 0.5
    np.testing.assert_allclose(gain[known], 1, rtol=1e-4)


def test_a_wave_that_is_sharpened_gains_the_square_of_its_amplitude():
    fine = wave(0.9)
    gain, energy = measure_gain(1.5 * fine, fine, everywhere(fine), SCALE)
    inner = (slice(32, -32),) * 2
    np.testing.assert_allclose(gain[inner], 1.5**2, rtol=1e-6)
    np.testing.assert_allclose(energy[inner], 1.5**2 / 2, rtol=0.05)  # all of the wave is above the limit


def test_what_the_source_shows_is_no_detail():
    fine, coarse = wave(0.9), wave(0.1, amplitude=5)
    gain, _ = measure_gain(fine + coarse, fine, everywhere(fine), SCALE)
    np.testing.assert_allclose(gain[32:-32, 32:-32], 1, rtol=1e-3)
    assert np.nanmax(measure_energy(coarse, everywhere(coarse), SCALE)[32:-32, 32:-32]) < 1e-4


def test_where_neither_has_detail_nothing_is_gained():
    flat = np.full((1, 64, 64), 0.3)
    np.testing.assert_allclose(measure_gain(flat, flat, everywhere(flat), SCALE)[0][28:36, 28:36], 1, rtol=1e-6)


def test_any_window_gives_the_same_bits(pair):
    base, image = pair
    known = everywhere(base)
    known[10:14, 60:64] = False
    gain, energy = measure_gain(image, base, known, SCALE)
    top, left, edge = 6, 14, DETAIL_REACH * SCALE
    part = (slice(top, None), slice(left, None))
    for whole, cut in zip(
        (gain, energy), measure_gain(image[:, *part], base[:, *part], known[part], SCALE), strict=True
    ):
        np.testing.assert_array_equal(cut[edge:, edge:], whole[part][edge:, edge:])


def test_a_pixel_hangs_on_nothing_beyond_the_reach():
    source = np.random.default_rng(2).normal(0.3, 0.05, (1, 40, 40)).astype(np.float32)
    other = source.copy()
    other[0, 20, 20] += 1
    gains = []
    for each in (source, other):
        base = interpolate(each, SCALE)
        gains.append(measure_gain(base + wave(0.8, size=80, amplitude=0.1), base, everywhere(base), SCALE)[0])
    rows, cols = np.nonzero(np.nan_to_num(gains[0]) != np.nan_to_num(gains[1]))
    farthest = max(np.abs(np.concatenate([rows, cols]) // SCALE - 20))
    assert DETAIL_REACH - 1 <= farthest <= DETAIL_REACH


def test_what_is_missing_does_not_count(pair):
    base, image = pair
    known = everywhere(base)
    known[:, 50:] = False
    gain, _ = measure_gain(np.where(known, image, np.nan), np.where(known, base, np.nan), known, SCALE)
    assert np.isnan(gain[:, 80:]).all()
    inside = (slice(30, 60), slice(24, 26))
    np.testing.assert_allclose(gain[inside], measure_gain(image, base, everywhere(base), SCALE)[0][inside], rtol=0.5)
