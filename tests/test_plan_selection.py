"""The small language of --only."""

import pytest

from mapper.errors import PlanError
from mapper.grid import Tile
from mapper.plan.selection import select_tiles

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
