"""Orders: every tile once; blocks keep neighbours together, spread keeps them apart."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from region import run_mapper

from mapper.grid import Tile
from mapper.plan.selection import order_tiles
from mapper.plan.task_table import to_indices

indices = st.lists(st.builds(Tile, st.integers(0, 2000), st.integers(0, 2000)), unique=True, max_size=80)


def square(edge):
    return [Tile(row, col) for row in range(edge) for col in range(edge)]


def in_order(tiles, order):
    return [tiles[number] for number in order_tiles(to_indices(tiles), order)]


@settings(deadline=None)
@given(indices, st.sampled_from(["blocks", "rows", "spread"]), st.randoms(use_true_random=False))
def test_every_tile_comes_once_and_its_place_in_the_list_does_not_matter(tiles, order, random):
    ordered = in_order(tiles, order)
    assert sorted(ordered) == sorted(tiles)
    random.shuffle(tiles)
    assert in_order(tiles, order) == ordered


@settings(deadline=None)
@given(indices)
def test_rows_are_the_order_of_the_plan(tiles):
    assert in_order(tiles, "rows") == sorted(tiles)


@settings(deadline=None)
@given(indices, st.sampled_from([2, 8, 64]))
def test_blocks_finish_a_square_before_they_begin_the_next(tiles, edge):
    squares = [(tile.row // edge, tile.col // edge) for tile in in_order(tiles, "blocks")]
    assert len(list(itertools.groupby(squares))) == len(set(squares))


def test_a_commit_of_blocks_lies_in_a_small_square():
    ordered = np.array([(tile.row, tile.col) for tile in in_order(square(32), "blocks")]).reshape(-1, 64, 2)
    assert (np.ptp(ordered, axis=1) == 7).all()


@pytest.mark.parametrize(("together", "apart"), [(4, 16), (16, 8), (64, 4)])
def test_tiles_in_flight_together_are_spread_far_apart(together, apart):
    ordered = np.array([(tile.row, tile.col) for tile in in_order(square(32), "spread")]).reshape(-1, together, 2)
    distance = np.abs(ordered[:, :, None] - ordered[:, None]).max(axis=-1)
    distance[:, np.arange(together), np.arange(together)] = 32
    assert distance.min() == apart


def test_an_unknown_order_is_refused():
    with pytest.raises(ValueError, match="blocks, rows or spread"):
        order_tiles(to_indices(square(2)), "random")


def test_the_command_line_names_the_orders(tmp_path):
    code, text = run_mapper("run", tmp_path / "map.yaml", "--order", "random")
    assert code == 2
    for word in ("--order", "'random'", "'blocks'", "'rows'", "'spread'"):
        assert word in text
