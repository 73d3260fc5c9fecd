"""The map of tiles in a terminal."""

import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from region import run_json, run_mapper
from rich.console import Console
from store_maps import make_record, make_spec, write_tiles

from mapper.cli.status import FEW_COLOURS, MANY_COLOURS, draw_tile_map
from mapper.markup.tile_map import STATES, count_states, shrink_states
from mapper.store.map_store import MapStore
from mapper.store.product import map_product

MISSING, OK, EMPTY, FAILED, OUTSIDE = range(5)


def print_plain(states, width, **options):
    return draw_tile_map(np.array(states, np.uint8), width=width, palette=None, **options).plain


def test_two_characters_a_tile_and_a_legend_of_what_occurs():
    assert print_plain([[OK, EMPTY, OUTSIDE], [FAILED, MISSING, MISSING]], 80).splitlines() == [
        "██░░",
        "XX····",
        "· 2 missing  █ 1 ok  ░ 1 empty  X 1 failed",
    ]


def test_two_tiles_share_a_character_where_there_are_colours():
    text = draw_tile_map(
        np.array([[OK, OK], [FAILED, OUTSIDE], [OUTSIDE, OK]], np.uint8), width=40, palette=MANY_COLOURS
    )
    assert text.plain.splitlines()[:2] == ["▀▀", " ▀"]
    assert [str(span.style) for span in text.spans[:2]] == ["#009e73 on #d55e00", "#009e73"]


def test_a_cell_of_several_tiles_is_failed_where_one_is_else_what_most_are():
    states = np.full((4, 6), OK, np.uint8)
    states[0, 0], states[2:, :2], states[:2, 4:], states[2, 4] = FAILED, MISSING, OUTSIDE, MISSING
    cells, factor = shrink_states(states, rows=2, cols=3)
    assert factor == 2
    assert cells.tolist() == [[FAILED, OK, OUTSIDE], [MISSING, OK, OK]]


@given(
    shape=st.tuples(st.integers(1, 90), st.integers(1, 90)),
    width=st.integers(8, 60),
    lines=st.integers(2, 30),
    palette=st.sampled_from([None, FEW_COLOURS, MANY_COLOURS]),
    seed=st.integers(0, 99),
)
def test_it_fits_into_any_terminal(shape, width, lines, palette, seed):
    states = np.random.default_rng(seed).integers(0, 5, shape).astype(np.uint8)
    text = draw_tile_map(states, width=width, palette=palette, lines=lines)
    shown = [line for line in text.plain.splitlines() if not any(state in line for state in (*STATES, "cell"))]
    assert len(shown) <= lines
    assert max(map(len, shown), default=0) <= max(width - 1, 8)
    assert (FAILED in states) == (" failed" in text.plain)


def test_the_legend_of_a_narrow_terminal_takes_more_lines():
    states = np.array([[OK, FAILED, MISSING, EMPTY]], np.uint8)
    console = Console(file=io.StringIO(), width=20)
    console.print(draw_tile_map(states, width=20, palette=None))
    assert max(map(len, console.file.getvalue().splitlines())) <= 20


def test_a_hundred_thousand_tiles_are_counted_and_drawn_small():
    states = np.random.default_rng(0).integers(0, 4, (400, 250)).astype(np.uint8)
    assert sum(count_states(states).values()) == 100_000
    assert len(draw_tile_map(states, width=80, palette=MANY_COLOURS).plain) < 4000


@pytest.fixture
def growing(tmp_path):
    """A map on which a run is at work."""
    spec = make_spec(tmp_path / "map.icechunk")
    MapStore.create(spec.store, map_product(spec))
    tiles = list(spec.map_grid.tiles())
    with MapStore.open(spec.store).writer(map_product(spec), run_id="run-1") as writer:
        write_tiles(writer, spec, tiles[:4])
        writer.add(None, make_record(tiles[4], status="failed", reason="unreadable"))
        writer.commit()
        yield spec, len(tiles)


def test_status_shows_the_map_while_a_run_is_on(growing):
    spec, tiles = growing
    code, text = run_mapper("status", spec.store)
    assert code == 0
    assert text.count("X") == 3, "two in the map, one in the legend"
    assert f"· {tiles - 5} missing  █ 4 ok  X 1 failed" in text


def test_status_leaves_the_map_out_where_it_is_told_to(growing):
    spec, _ = growing
    assert "█ 4 ok" not in run_mapper("status", spec.store, "--no-map")[1]
    assert "states" not in run_json("status", spec.store)
