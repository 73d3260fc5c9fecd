"""Water on surfaces: levels against a priority flood by hand, streams in valleys that are known."""

import heapq
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from mapper.evaluation.drainage import compare_streams, fill_depressions, find_streams


def flood(heights):
    """Filled heights by a priority queue, pixel by pixel: R. Barnes, C. Lehman, D. Mulla, 2014, algorithm 1."""
    known = np.isfinite(heights)
    inner = ndimage.minimum_filter(known, 3, mode="constant", cval=False)
    filled, seen = heights.astype(float), ~known | (known & ~inner)
    queue = [(heights[at], at) for at in map(tuple, np.argwhere(known & ~inner))]
    heapq.heapify(queue)
    while queue:
        level, (row, col) = heapq.heappop(queue)
        for at in [(row + i, col + j) for i in (-1, 0, 1) for j in (-1, 0, 1)]:
            if 0 <= at[0] < heights.shape[0] and 0 <= at[1] < heights.shape[1] and not seen[at]:
                seen[at] = True
                filled[at] = max(heights[at], level)
                heapq.heappush(queue, (filled[at], at))
    return filled


@settings(max_examples=20)
@given(st.integers(0, 2**32 - 1), st.integers(1, 4), st.sampled_from([0, 1, 6]))
def test_depressions_fill_to_the_level_of_a_priority_flood(seed, smooth, decimals):
    random = np.random.default_rng(seed)
    heights = 20 * ndimage.gaussian_filter(random.normal(size=(19, 23)), smooth) - 3
    heights = heights.round(decimals)  # flats and ties too
    heights[random.random(heights.shape) < 0.03] = np.nan
    np.testing.assert_array_equal(fill_depressions(heights), flood(heights))


def test_a_bowl_fills_to_its_rim_and_a_hill_not_at_all():
    rows, cols = np.mgrid[-10:11, -10:11]
    bowl = (rows**2 + cols**2) / 4.0
    np.testing.assert_allclose(fill_depressions(bowl), np.maximum(bowl, 25))
    np.testing.assert_array_equal(fill_depressions(-bowl), -bowl)


@pytest.mark.parametrize("shape", [(0, 0), (1, 1), (1, 5), (2, 2)])
def test_arrays_without_an_inside_hold_no_water(shape):
    heights = np.arange(np.prod(shape), dtype=float).reshape(shape)
    np.testing.assert_array_equal(fill_depressions(heights), heights)
    assert not find_streams(heights).any()
    assert np.isnan(fill_depressions(np.full((4, 5), np.nan))).all()


def test_a_valley_drains_along_its_bottom():
    rows, cols = np.mgrid[:60, :41].astype(float)
    valley = 2 * np.abs(cols - 20) + 0.1 * rows  # falls to the north
    streams = find_streams(valley, least_px=500)
    assert streams[:40, 20].all()
    assert not np.delete(streams, 20, axis=1).any()


def test_water_crosses_a_dam_once_it_is_filled():
    rows, cols = np.mgrid[:60, :41].astype(float)
    valley = 2 * np.abs(cols - 20) + 0.1 * rows
    valley[25] += 3
    streams = find_streams(valley, least_px=500)
    assert streams[:45].any(axis=1).all()
    assert streams[:20, 20].all()


@settings(max_examples=20)
@given(st.integers(0, 2**32 - 1))
def test_all_water_leaves(seed):
    random = np.random.default_rng(seed)
    heights = ndimage.gaussian_filter(random.normal(size=(17, 21)), 1.5).round(1)  # many flats
    counts = [find_streams(heights, least_px=least) for least in (1, 2, 10, 17 * 21 + 1)]
    assert counts[0].all()
    assert not counts[-1].any()
    assert all((after <= before).all() for before, after in pairwise(counts))


def test_streams_within_two_pixels_are_found():
    true, found = np.zeros((2, 20, 20), bool)
    true[:, 10], found[:, 12] = True, True
    np.testing.assert_array_equal(compare_streams(found, true), [20, 20, 20, 20])
    np.testing.assert_array_equal(compare_streams(np.roll(found, 1, 1), true), [20, 0, 20, 0])
    np.testing.assert_array_equal(compare_streams(found & False, true), [0, 0, 20, 0])
    found[5:] = False
    np.testing.assert_array_equal(compare_streams(found, true), [5, 5, 20, 5])
