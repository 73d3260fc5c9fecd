"""Patches cover a window once, on source pixel edges, with their halo."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mapper.grid import Window
from mapper.predict.patches import cut, find_margin, keep_core


@given(st.integers(1, 60), st.integers(1, 60), st.integers(1, 300), st.integers(0, 8), st.integers(1, 10))
def test_cores_cover_the_window_once_and_keep_their_halo(rows, cols, patch_px, halo, scale):
    shape, halo_px = (rows * scale, cols * scale), halo * scale
    seen = np.zeros(shape, int)
    patches = cut(shape, patch_px=patch_px, halo_px=halo_px, scale=scale)
    for patch in patches:
        seen[patch.core.slices] += 1
        for core, read, end in (
            ((patch.core.top, patch.core.bottom), (patch.read.top, patch.read.bottom), shape[0]),
            ((patch.core.left, patch.core.right), (patch.read.left, patch.read.right), shape[1]),
        ):
            assert 0 <= read[0] <= core[0] < core[1] <= read[1] <= end
            assert core[0] - read[0] >= halo_px or read[0] == 0
            assert read[1] - core[1] >= halo_px or read[1] == end
            assert read[0] % scale == read[1] % scale == 0
    assert (seen == 1).all()
    assert len({patch.read.shape for patch in patches}) == 1


@given(st.integers(30, 200), st.integers(0, 5))
def test_patches_are_no_longer_than_asked(cells, halo):
    patches = cut((cells * 10, cells * 10), patch_px=255, halo_px=halo * 10, scale=10)
    assert max(patches[0].read.shape) <= 255


def test_a_small_window_is_one_patch():
    (patch,) = cut((120, 90), patch_px=512, halo_px=40, scale=10)
    assert patch.read == patch.core


def test_windows_off_source_pixels_are_refused():
    with pytest.raises(ValueError, match="multiples"):
        cut((101, 100), patch_px=50, halo_px=10, scale=10)


@given(st.integers(1, 40), st.integers(1, 80), st.integers(0, 8), st.tuples(*[st.integers(0, 39)] * 4))
def test_the_cores_that_are_kept_cover_what_is_wanted_and_margins_none_of_it(cells, patch_px, halo, edges):
    top, bottom = sorted((min(edges[0], cells - 1), min(edges[1], cells - 1)))
    left, right = sorted((min(edges[2], cells - 1), min(edges[3], cells - 1)))
    core = Window(top=top, bottom=bottom + 1, left=left, right=right + 1)
    patches = keep_core(cut((2 * cells, 2 * cells), patch_px=patch_px, halo_px=2 * halo, scale=2), core)
    seen = np.zeros((2 * cells, 2 * cells), int)
    for patch in patches:
        seen[patch.core.slices] += 1
    wanted = np.zeros_like(seen)
    wanted[core.slices] = 1
    np.testing.assert_array_equal(seen, wanted)
    above, below, before, after = (2 * each for each in find_margin(patches, 2))
    for patch in patches:
        assert patch.read.top + above <= patch.core.top < patch.core.bottom <= patch.read.bottom - below
        assert patch.read.left + before <= patch.core.left < patch.core.right <= patch.read.right - after
