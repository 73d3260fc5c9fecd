"""Held out are whole blocks; what is learnt keeps its distance."""

from dataclasses import replace

import numpy as np
import pytest
from places import SCALE, make_place
from scipy.ndimage import distance_transform_cdt

from mapper.errors import InputError
from mapper.training.config import HoldOutConfig
from mapper.training.split import hold_out


def coarse(sample):
    rows, cols = sample.source.shape
    cells = np.isfinite(sample.truth).reshape(rows, SCALE, cols, SCALE)
    assert (cells.any((1, 3)) == cells.all((1, 3))).all()
    return cells.any((1, 3))


@pytest.mark.parametrize("gap", [0, 1, 2])
def test_blocks_are_whole_and_apart(gap):
    sample = make_place(0, edge=26)
    config = HoldOutConfig(share=0.25, block_source_px=5, gap_source_px=gap)
    learnt, scored = (coarse(part) for part in hold_out(sample, config, 3))
    for top in range(0, 26, 5):
        for left in range(0, 26, 5):
            block = scored[top : top + 5, left : left + 5]
            assert block.all() or not block.any()
    assert not (learnt & scored).any()
    away = distance_transform_cdt(~scored, "chessboard")
    np.testing.assert_array_equal(learnt, away > gap)
    assert scored.mean() == pytest.approx(0.25, abs=0.12)


def test_truth_is_kept_and_inputs_are_whole():
    sample = make_place(0)
    for part in hold_out(sample, HoldOutConfig(block_source_px=4), 0):
        known = np.isfinite(part.truth)
        np.testing.assert_array_equal(part.truth[known], sample.truth[known])
        assert part.guide is sample.guide
        assert part.source is sample.source


def test_same_seed_same_blocks():
    config = HoldOutConfig(block_source_px=3, share=0.3)
    first, again, other = (coarse(hold_out(make_place(0), config, seed)[1]) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def test_blocks_without_truth_are_not_chosen():
    sample = make_place(0)
    truth = sample.truth.copy()
    truth[: 9 * SCALE] = np.nan
    config = HoldOutConfig(block_source_px=9, share=0.5, gap_source_px=0)
    learnt, scored = hold_out(replace(sample, truth=truth), config, 0)
    assert np.isfinite(learnt.truth).sum() == np.isfinite(scored.truth).sum() == truth[9 * SCALE :].size / 2


@pytest.mark.parametrize(("block", "gap", "message"), [(18, 0, "no two blocks"), (9, 9, "leaves no truth")])
def test_a_place_too_small_is_refused(block, gap, message):
    with pytest.raises(InputError, match=f"place 0.*{message}"):
        hold_out(make_place(0), HoldOutConfig(block_source_px=block, gap_source_px=gap), 0)
