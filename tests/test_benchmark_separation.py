"""Bare earth is separated from what stands on it, where shares of source pixels tell them apart."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mapper.benchmark.separation import separate

SCALE = 10


def make_site(rows=12, cols=14, *, seed=0, heights=(6.0, 14.0)):
    """Tilted and bent ground, two classes of objects, and the block mean of the surface."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[: rows * SCALE, : cols * SCALE] / SCALE
    ground = 3 * y - 2 * x + 0.05 * (y - 6) ** 2 - 40
    shares = np.kron(random.random((2, rows * 2, cols * 2)) < 0.25, np.ones((5, 5))).astype(np.float32)
    shares[1] *= 1 - shares[0]
    surface = ground + np.tensordot(heights, shares, 1)
    source = surface.reshape(rows, SCALE, cols, SCALE).mean((1, 3)).astype(np.float32)
    return ground, shares, source


@settings(max_examples=10)
@given(st.integers(0, 1000), st.floats(1, 30), st.floats(1, 30))
def test_heights_and_ground_are_found_where_the_ground_is_smooth(seed, low, high):
    ground, shares, source = make_site(seed=seed, heights=(low, high))
    found = separate(source, shares, scale=SCALE)
    np.testing.assert_allclose(found.heights, (low, high), atol=0.3)
    inner = np.s_[20:-20, 20:-20]
    np.testing.assert_allclose(found.ground[inner], ground[inner], atol=0.25)


def test_a_plane_without_objects_is_itself_and_a_shift_of_all_heights_shifts_the_ground():
    y, x = np.mgrid[:60, :80] / SCALE
    plane = 7 * y + 0.5 * x
    source = plane.reshape(6, SCALE, 8, SCALE).mean((1, 3)).astype(np.float32)
    nothing = np.zeros((1, 60, 80), np.float32)
    found = separate(source, nothing, scale=SCALE)
    np.testing.assert_allclose(found.ground, plane, atol=1e-3)
    assert found.heights.tolist() == [0]
    shifted = separate(source - 300, nothing, scale=SCALE)
    np.testing.assert_allclose(shifted.ground, plane - 300, atol=1e-3)


def test_what_the_mask_lacks_pulls_less_than_a_mean_would():
    ground, shares, source = make_site(seed=3)
    shares[1, :, :70] = 0  # trees that nobody mapped
    error = separate(source, shares, scale=SCALE).ground - ground
    bicubic_bias = (source - ground.reshape(12, SCALE, 14, SCALE).mean((1, 3))).mean()
    assert error.mean() < 0.4 * bicubic_bias


def test_missing_source_and_land_cover_are_bridged():
    ground, shares, source = make_site()
    source[5, 5], shares[:, 20:30, 30:40] = np.nan, np.nan
    found = separate(source, shares, scale=SCALE).ground
    assert np.isfinite(found).all()
    assert np.abs(found - ground)[50:60, 50:60].max() < 0.5
    assert np.isnan(separate(source * np.nan, shares, scale=SCALE).ground).all()


def test_a_site_of_one_source_pixel_has_the_level_of_it():
    found = separate(np.full((1, 1), 5, np.float32), np.zeros((1, 10, 10), np.float32), scale=SCALE).ground
    assert found == pytest.approx(5, abs=1e-3)
