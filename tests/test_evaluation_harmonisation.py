"""Displacements are found below a pixel, and harmonisation gives a result the histograms and the place of the truth."""

import numpy as np
import pytest
from scipy import ndimage

from mapper.evaluation.harmonisation import find_displacement, harmonise, match_histogram, translate


@pytest.mark.parametrize(("down", "right"), [(0.5, -0.26), (-1.74, 2.0), (3, 3)])
def test_displacement_is_found_below_a_pixel(down, right):
    image = ndimage.gaussian_filter(np.random.default_rng(4).normal(size=(64, 48)), 1.5, mode="wrap")
    moved = ndimage.fourier_shift(np.fft.fft2(image), (down, right))
    moved = np.fft.ifft2(moved).real
    assert find_displacement(image, moved) == pytest.approx(np.hypot(down, right), abs=0.02)
    assert find_displacement(moved + 7, 2 * image) == pytest.approx(np.hypot(down, right), abs=0.02)


def test_an_alignment_that_fails_is_unknown_and_not_zero():
    random = np.random.default_rng(1)
    image = random.normal(size=(64, 64))
    assert np.isnan(find_displacement(image, np.roll(image, 9, 0)))
    image[:40] = np.nan
    assert np.isnan(find_displacement(image, image))


def test_a_matched_band_has_the_numbers_of_the_other_in_its_own_order():
    random = np.random.default_rng(2)
    band, reference = random.normal(size=(20, 30)), random.gamma(2, size=(20, 30))
    matched = match_histogram(band, reference)
    np.testing.assert_allclose(np.sort(matched, axis=None), np.sort(reference, axis=None))
    assert (np.argsort(matched, axis=None) == np.argsort(band, axis=None)).all()
    np.testing.assert_allclose(match_histogram(3 * band - 8, reference), matched)


def test_equal_values_stay_equal_and_gaps_stay_gaps():
    band = np.array([[1.0, 1.0, 2.0, np.nan], [2.0, 3.0, 3.0, 3.0]])
    matched = match_histogram(band, np.array([[10.0, 20.0, np.nan, 30.0]]))
    assert np.isnan(matched[0, 3])
    assert np.isnan(matched).sum() == 1
    # cumulative shares 2/7, 4/7, 1 between those of the reference, 1/3, 2/3, 1
    assert matched[0, :3] == pytest.approx([10, 10, 10 + 10 * (4 / 7 - 1 / 3) * 3])
    assert matched[1, 1:] == pytest.approx([30, 30, 30])
    assert np.isnan(match_histogram(band, np.full((2, 2), np.nan))).all()


@pytest.mark.parametrize("shift", [(0, 0), (1, -2), (0.25, 0), (-0.5, 1.75)])
def test_moving_is_bilinear_with_repeated_edges(shift):
    image = np.random.default_rng(0).uniform(0, 1, (2, 9, 7))
    expected = ndimage.shift(image, (0, *shift), order=1, mode="nearest")
    np.testing.assert_allclose(translate(image, shift), expected, atol=1e-12)


def test_what_does_not_move_keeps_its_gaps_as_they_are():
    image = np.random.default_rng(0).uniform(0, 1, (1, 6, 6))
    image[0, 2, 3] = np.nan
    np.testing.assert_array_equal(translate(image, (0, 0)), image)
    assert np.isnan(translate(image, (0.5, 0))).sum() == 2


def test_a_bias_and_a_displacement_are_taken_out():
    truth = ndimage.gaussian_filter(np.random.default_rng(1).normal(size=(3, 60, 50)), (0, 2, 2), mode="wrap")
    value = 4 * np.roll(truth, (1, -2), (1, 2)) - 7
    inner = (slice(None), slice(3, -3), slice(3, -3))
    np.testing.assert_allclose(harmonise(value, truth)[inner], truth[inner], atol=1e-9)
    nothing = harmonise(np.full_like(value, np.nan), truth)
    assert np.isnan(nothing).all()
