"""The ground lies below the surface and on it where that is even; corrections have no steps and keep what is asked."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.ndimage import gaussian_filter

from mapper.predict.ground import find_ground, measure_unevenness, spread_means
from mapper.predict.operators import BlockMean, block_mean

SCALE = 5
heights = st.floats(-450, 4000, width=32)
surfaces = hnp.arrays(np.float32, (5, 6), elements=heights | st.just(np.float32(np.nan)))
targets = hnp.arrays(np.float32, (5 * SCALE, 6 * SCALE), elements=st.floats(-30, 12, width=32))
tolerances = st.floats(0, 5) | st.just(0.0)


def lower(value, surface, tolerance, scale=SCALE, **options):
    nothing = np.full_like(surface, np.nan)
    return BlockMean(scale).enforce(value, surface, nothing, mode="below", tolerance=tolerance, **options)


def fit_plane(patch):
    """The oracle: the largest residual of the least-squares plane of 3 x 3 pixels."""
    rows, cols = np.mgrid[:3, :3].reshape(2, -1)
    design = np.stack([rows, cols, np.ones(9)], axis=1)
    answer, *_ = np.linalg.lstsq(design, patch.ravel(), rcond=None)
    return np.abs(design @ answer - patch.ravel()).max()


@given(hnp.arrays(np.float64, (3, 3), elements=st.floats(-450, 4000)))
def test_unevenness_is_the_largest_residual_of_the_plane_of_least_squares(patch):
    assert measure_unevenness(patch)[1, 1] == pytest.approx(fit_plane(patch), abs=1e-6)


def test_a_plane_is_even_up_to_a_gap_and_to_an_edge_and_nothing_is_known_of_a_lone_pixel():
    rows, cols = np.mgrid[:6, :7].astype(float)
    plane = -12 + 30 * rows - 7 * cols
    plane[2, 3] = np.nan
    found = measure_unevenness(plane)
    assert found[2:4, 1].max() < 1e-9
    assert found[0, 1:-1].max() < 1e-9
    assert np.isinf(found[0, 0]), "four pixels of nine"
    assert np.isinf(measure_unevenness(np.array([[3.0]]))).all()


@given(targets, surfaces, tolerances)
@settings(max_examples=80, deadline=None)
def test_means_lie_below_the_surface_but_for_the_tolerance(objects, surface, tolerance):
    value = np.nan_to_num(surface, nan=0.0).repeat(SCALE, 0).repeat(SCALE, 1) + objects
    result, known = lower(value, surface, tolerance), np.isfinite(surface)
    seen = block_mean(result, SCALE)
    assert (seen - surface)[known].max(initial=-1) <= tolerance + 1e-3
    expected = find_ground(block_mean(value, SCALE), surface.astype(float), np.float64(tolerance))
    np.testing.assert_allclose(seen[known], expected[known], atol=1e-3)
    missing = ~known.repeat(SCALE, 0).repeat(SCALE, 1)
    np.testing.assert_array_equal(result[missing], value[missing])


@given(
    st.floats(-450, 3000), st.floats(-90, 90), st.floats(-90, 90), st.floats(0.5, 3),
    hnp.arrays(np.float64, (7, 7), elements=st.floats(-1, 1)), st.floats(-0.99, 0.99),
)  # fmt: skip
@settings(max_examples=60, deadline=None)
def test_open_even_ground_is_the_surface_whatever_its_height_and_slope(level, down, right, tolerance, rough, moved):
    rows, cols = np.mgrid[:7, :7]
    surface = (level + down * rows + right * cols + 0.4 * tolerance * rough).astype(np.float32)
    value = surface.repeat(SCALE, 0).repeat(SCALE, 1) - np.float32(moved * tolerance)
    inner = slice(1, -1)  # of a corner too little is known
    seen = block_mean(lower(value, surface, tolerance), SCALE)
    np.testing.assert_allclose(seen[inner, inner], surface[inner, inner], atol=1.5e-3)


def test_what_a_model_took_off_stays_off_and_so_does_what_is_uneven():
    surface = np.full((9, 9), -3.0, np.float32)
    surface[4:, 4:] += 15  # a forest, the top of which is even
    value = np.full((9 * SCALE, 9 * SCALE), -3.0, np.float32)
    result = lower(value, surface, 1.0)
    np.testing.assert_array_equal(result, value)
    value[4 * SCALE :, 4 * SCALE :] -= 0.5
    seen = block_mean(lower(value, surface, 1.0), SCALE)
    np.testing.assert_allclose(seen[4:, 4:], -3.5, atol=1e-4)
    np.testing.assert_allclose(seen[:3, :3], -3.0, atol=1e-4)


@pytest.mark.parametrize("change", ["model", "surface"])
def test_a_small_change_changes_the_ground_a_little(change):
    tolerance, rng = 1.0, np.random.default_rng(0)
    surface = np.zeros((3, 3))
    surface[0, 0] = 2.0
    at, step = np.linspace(-4, 4, 401), 8 / 400
    found = []
    for value in at:
        means, heights_ = np.full((3, 3), -0.7), surface + rng.normal(0, 1e-12, (3, 3))
        if change == "model":
            means[1, 1], heights_ = value, surface / 2
        else:
            heights_[1, 2] += value
        found.append(find_ground(means, heights_, np.float64(tolerance))[1, 1])
    assert np.abs(np.diff(found)).max() < 8 * step
    assert np.ptp(found) > 0.5


@given(hnp.arrays(np.float64, (4, 6), elements=st.floats(-40, 40) | st.just(np.nan)), st.integers(1, 12))
@settings(deadline=None)
def test_means_that_are_spread_are_kept(coarse, scale):
    found = spread_means(coarse, scale)
    np.testing.assert_allclose(block_mean(found, scale), np.nan_to_num(coarse, nan=0.0), atol=1e-10)
    np.testing.assert_array_equal(found[np.isnan(coarse).repeat(scale, 0).repeat(scale, 1)], 0)


@given(hnp.arrays(np.float64, (5, 6), elements=st.floats(-40, 40) | st.just(np.nan)))
@settings(max_examples=50, deadline=None)
def test_corrections_meet_at_the_edges_of_source_pixels(coarse):
    # averages of ever finer pixels approach the same value from both sides of an edge
    steps = []
    for scale in (10, 100):
        found, known = spread_means(coarse, scale), np.isfinite(coarse)
        across = np.abs(found[:, scale::scale] - found[:, scale - 1 : -1 : scale])
        steps.append(np.where((known[:, 1:] & known[:, :-1]).repeat(scale, 0), across, 0).max())
    assert steps[1] <= 0.2 * steps[0] + 1e-9


@pytest.mark.parametrize("scale", [3, 10])
def test_corrections_are_hardly_steeper_at_edges_than_inside(scale):
    noise = np.random.default_rng(0).normal(0, 5, (60, 60))
    for coarse, limit in ((noise, 1.7), (gaussian_filter(noise, 1), 1.05)):
        steps = np.diff(spread_means(coarse, scale), axis=0) ** 2
        at_edges = np.arange(1, len(steps) + 1) % scale == 0
        assert np.sqrt(steps[at_edges].mean() / steps[~at_edges].mean()) < limit
    np.testing.assert_allclose(spread_means(np.full((4, 5), -2.5), scale), -2.5, atol=1e-12)
    ramp = np.arange(12.0)[:, None] + np.zeros((12, 12))
    inner = slice(2 * scale, -2 * scale)
    np.testing.assert_allclose(np.diff(spread_means(ramp, scale), axis=0)[inner], 1 / scale, atol=1e-12)


@pytest.mark.parametrize("bounds", [(None, None), (-40.0, None), (-400.0, 60.0)])
def test_any_tiling_gives_the_same_ground(bounds):
    rng, reach = np.random.default_rng(3), BlockMean(SCALE).reach_in("below")
    surface = np.cumsum(rng.normal(0, 1.2, (24, 24)), axis=1).astype(np.float32) - 5
    surface[rng.random(surface.shape) < 0.05] = np.nan
    value = surface.repeat(SCALE, 0).repeat(SCALE, 1) + rng.normal(0, 2, (120, 120)).astype(np.float32)
    value[rng.random(value.shape) < 0.01] = np.nan
    whole = lower(value, surface, 0.8, bounds=bounds)
    assert (whole[np.isfinite(whole)] != value[np.isfinite(whole)]).mean() > 0.5
    for first, last in ((1, 15), (4, 19), (7, 24)):
        part = lower(value[first * SCALE :, : last * SCALE], surface[first:, :last], 0.8, bounds=bounds)
        expected = whole[first * SCALE :, : last * SCALE]
        # a pixel of a tile lies in a source pixel that reaches beyond it by less than one
        edge = (reach - 1) * SCALE
        np.testing.assert_array_equal(part[edge:-edge, edge:-edge], expected[edge:-edge, edge:-edge])


def test_no_pixel_hangs_on_more_than_the_reach():
    rng, reach = np.random.default_rng(1), BlockMean(SCALE).reach_in("below")
    surface = rng.normal(0, 0.5, (13, 13)).astype(np.float32)
    value = surface.repeat(SCALE, 0).repeat(SCALE, 1) - np.float32(0.3)
    other = surface.copy()
    other[6, 6] += 1
    rows, cols = np.nonzero(lower(value, surface, 1.0) != lower(value, other, 1.0))
    farthest = max(np.abs(rows // SCALE - 6).max(), np.abs(cols // SCALE - 6).max())
    assert farthest == reach - 1 == 3


@given(targets, st.sampled_from([-400.0, 1500.0]))
@settings(max_examples=20, deadline=None)
def test_heights_are_treated_alike_at_any_level(objects, level):
    surface = np.round(np.random.default_rng(0).normal(0, 1, (5, 6)), 2).astype(np.float32)
    value = surface.repeat(SCALE, 0).repeat(SCALE, 1) + objects
    plain, moved = lower(value, surface, 1.0), lower(value + np.float32(level), surface + np.float32(level), 1.0)
    np.testing.assert_allclose(moved - np.float32(level), plain, atol=5e-3)
