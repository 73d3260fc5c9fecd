"""Slopes, pits and steps of surfaces whose shape is known."""

import numpy as np
import pytest
import rasterio
from affine import Affine
from hypothesis import given
from hypothesis import strategies as st
from pyproj import Geod

from mapper.evaluation.relief import find_pits, find_slope, sum_steps
from mapper.grid import measure_pixels

ROWS, COLS = np.mgrid[:24, :31].astype(float)
EVEN = np.ones(24)


@given(st.floats(-3, 3), st.floats(-3, 3), st.floats(0.2, 90), st.floats(0.2, 90))
def test_the_slope_of_a_plane_is_that_of_its_normal(down, right, dy, dx):
    plane = down * dy * ROWS + right * dx * COLS - 500
    slope = find_slope(plane, EVEN * dy, EVEN * dx)
    assert np.isnan(slope[[0, -1]]).all()
    assert np.isnan(slope[:, [0, -1]]).all()
    np.testing.assert_allclose(slope[1:-1, 1:-1], np.degrees(np.arctan(np.hypot(down, right))), atol=1e-6)


def test_a_cone_has_one_slope_away_from_its_tip_and_a_paraboloid_that_of_its_radius():
    radius = np.hypot(ROWS - 12, COLS - 15)
    far = (radius > 8)[1:-1, 1:-1]
    cone = find_slope(40 - 0.5 * radius, EVEN, EVEN)[1:-1, 1:-1]
    np.testing.assert_allclose(cone[far], np.degrees(np.arctan(0.5)), atol=0.15)
    bowl = find_slope(0.01 * radius**2, EVEN, EVEN)
    np.testing.assert_allclose(np.tan(np.radians(bowl))[1:-1, 1:-1], 0.02 * radius[1:-1, 1:-1], atol=1e-9)


def test_a_gap_takes_the_slopes_around_it_and_no_others():
    plane = ROWS.copy()
    plane[9, 7] = np.nan
    missing = np.isnan(find_slope(plane, EVEN, EVEN))
    expected = np.zeros(plane.shape, bool)
    expected[8:11, 6:9] = True
    expected[[0, -1]] = expected[:, [0, -1]] = True
    np.testing.assert_array_equal(missing, expected)


@pytest.mark.parametrize("north", [-78.0, -12.0, 0.01, 45.5, 59.9])
def test_pixels_of_degrees_are_as_large_as_the_ellipsoid_says(north):
    step = 1 / 3600
    dy, dx = measure_pixels("EPSG:4326", Affine(1.5 * step, 0, 7, 0, -step, north), 3)
    geod = Geod(ellps="WGS84")
    for row in range(3):
        middle = north - (row + 0.5) * step
        assert dx[row] == pytest.approx(geod.inv(7, middle, 7 + 1.5 * step, middle)[2], rel=1e-6)
        assert dy[row] == pytest.approx(geod.inv(7, middle - step / 2, 7, middle + step / 2)[2], rel=1e-6)


def test_pixels_of_feet_are_turned_into_metres_and_rows_may_grow_northwards():
    dy, dx = measure_pixels("EPSG:2263", Affine(3, 0, 0, 0, 5, 0), 2)
    np.testing.assert_allclose(dx, 3 * 1200 / 3937)
    np.testing.assert_allclose(dy, 5 * 1200 / 3937)
    np.testing.assert_allclose(measure_pixels(None, Affine(2, 0, 0, 0, -2, 0), 2), 2)
    np.testing.assert_allclose(measure_pixels(rasterio.CRS.from_epsg(2154), Affine(0.5, 0, 0, 0, -0.5, 0), 2), 0.5)


def test_a_slope_of_degrees_is_that_of_the_same_ground_in_metres():
    transform = Affine(1 / 1200, 0, 10, 0, -1 / 3600, 60)
    dy, dx = measure_pixels("EPSG:4326", transform, 24)
    slope = find_slope(0.2 * COLS * dx[:, None] + 0 * ROWS, dy, dx)
    # widths change from row to row by so little that the plane stays one
    np.testing.assert_allclose(slope[1:-1, 1:-1], np.degrees(np.arctan(0.2)), atol=0.03)


def test_pits_are_lower_than_all_eight_neighbours():
    heights = np.full((9, 9), 5.0)
    heights[2, 2], heights[6, 6], heights[6, 7], heights[0, 4], heights[4, 0] = 4, 3, 3, -9, -9
    pits, whole = find_pits(heights)
    assert np.argwhere(pits).tolist() == [[2, 2]]
    assert whole.sum() == 49
    heights[1, 1] = np.nan
    pits, whole = find_pits(heights)
    assert not pits.any()
    assert whole.sum() == 49 - 4


@given(st.integers(0, 2**32 - 1))
def test_pits_agree_with_a_search_by_hand(seed):
    heights = np.random.default_rng(seed).integers(0, 6, (8, 9)).astype(float)
    pits, _ = find_pits(heights)
    for row in range(1, 7):
        for col in range(1, 8):
            around = np.delete(heights[row - 1 : row + 2, col - 1 : col + 2].ravel(), 4)
            assert pits[row, col] == (heights[row, col] < around.min())


def seam_ratio(heights, *edges):
    n, square, n_else, square_else = sum_steps(heights, [np.array(e, int) for e in edges])
    return np.sqrt((square / n) / (square_else / n_else))


def test_the_seam_ratio_is_one_without_seams_and_tells_a_step_of_one_tile():
    rough = np.random.default_rng(1).normal(size=(400, 400)).cumsum(0).cumsum(1) / 50
    edges = range(50, 400, 50)
    assert seam_ratio(rough, edges, edges) == pytest.approx(1, abs=0.05)
    stepped = rough.copy()
    stepped[:, 200:] += 3
    assert seam_ratio(stepped, edges, edges) > 1.3
    assert seam_ratio(stepped, edges, [e + 7 for e in edges]) < 1


def test_steps_across_an_edge_are_those_with_pixels_on_both_sides():
    heights = np.zeros((6, 1))
    heights[3:] = 2
    assert sum_steps(heights, [np.array([3]), np.array([], int)], period_px=3).tolist() == [2, 8, 0, 0]
    np.testing.assert_array_equal(sum_steps(heights, [np.array([3]), np.array([], int)]), [2, 8, 2, 0])
    heights[0] = np.nan
    np.testing.assert_array_equal(sum_steps(heights, [np.array([3]), np.array([], int)]), [2, 8, 1, 0])


def test_edges_of_tiles_are_compared_with_other_edges_of_source_pixels():
    means = np.random.default_rng(2).normal(size=(80, 80))
    blocky = np.kron(means, np.ones((5, 5)))
    edges = [np.arange(50, 400, 50)] * 2
    n, square, n_else, square_else = sum_steps(blocky, edges, period_px=5)
    assert np.sqrt((square / n) / (square_else / n_else)) == pytest.approx(1, abs=0.06)
    n, square, n_else, square_else = sum_steps(blocky, edges)
    assert np.sqrt((square / n) / (square_else / n_else)) > 1.4
