"""The small language of --only."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from region import run_mapper

from mapper.errors import PlanError
from mapper.grid import Tile
from mapper.plan.selection import order_tiles, select_tiles
from mapper.plan.task_table import to_indices

TILES = [Tile(row, col) for row in range(5) for col in range(4)]
STATUS = {Tile(0, 0): "ok", Tile(0, 1): "failed", Tile(4, 3): "failed", Tile(2, 2): "empty"}


@pytest.mark.parametrize(
    ("only", "expected"),
    [
        ("3,2", [(3, 2)]),
        ("3,2 0,1;3,2", [(0, 1), (3, 2)]),
        ("1-2,0-1", [(1, 0), (1, 1), (2, 0), (2, 1)]),
        ("4,1-2", [(4, 1), (4, 2)]),
        ("::7", [(0, 0), (1, 3), (3, 2)]),
        ("18:", [(4, 2), (4, 3)]),
        ("-1:", [(4, 3)]),
        ("failed", [(0, 1), (4, 3)]),
        ("empty ok", [(0, 0), (2, 2)]),
        ("0,0-3 failed", [(0, 0), (0, 1), (0, 2), (0, 3), (4, 3)]),
    ],
)
def test_terms_name_tiles_in_the_order_of_the_plan(only, expected):
    assert [(tile.row, tile.col) for tile in select_tiles(TILES, only, status=STATUS)] == expected


def test_new_tiles_are_those_without_a_record():
    assert len(select_tiles(TILES, "new", status=STATUS)) == len(TILES) - len(STATUS)


@pytest.mark.parametrize("only", ["3", "3;7", "a,b", "1,2,3", "::0", "finished"])
def test_what_is_not_understood_is_refused_with_what_is(only):
    with pytest.raises(PlanError, match="expected ROW,COL"):
        select_tiles(TILES, only, status={})


@pytest.mark.parametrize("only", ["9,9", "failed", "30:40", " "])
def test_an_empty_selection_is_refused(only):
    with pytest.raises(PlanError, match="selects none of 20 tiles"):
        select_tiles(TILES, only, status={})


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
    assert all(word in text for word in ("--order", "'random'", "'blocks'", "'rows'", "'spread'"))
