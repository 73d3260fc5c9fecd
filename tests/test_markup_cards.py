"""What notebooks show of objects: sound HTML, escaped, and small however much there is."""

import numpy as np
import pytest
import shapely
from html_pages import read_html
from hypothesis import given
from hypothesis import strategies as st
from run_maps import make_items, make_spec, make_task

from mapper.catalog.items import freeze_items
from mapper.grid import Tile
from mapper.markup.cards import show_shares, show_tiles
from mapper.markup.html import Markup, make_pairs, make_table
from mapper.markup.outlines import draw_outlines
from mapper.markup.tile_map import draw_tiles
from mapper.plan.plan import Plan, make_plan
from mapper.plan.task_table import TaskTable
from mapper.run.report import RunReport, TileFailure
from mapper.store.identity import Identity
from mapper.store.totals import Totals

NASTY = "<script>alert(1)</script> \"'&"


def test_a_map_shows_its_description_and_its_area(tmp_path):
    spec = make_spec(tmp_path)
    reader, text = read_html(spec._repr_html_())
    for words in ("Map little-map", "EPSG:3035, pixels of 10, tiles of 40 px", "sentinel-2-l2a: B04 B08", "bicubic"):
        assert words in text
    assert "svg" in reader.tags
    assert reader.drawn.count("M") == len(list(spec.map_grid.tiles())) + 1, "tiles and the area"


def test_a_continent_shows_several_tiles_as_one(tmp_path):
    spec = make_spec(tmp_path, area=(-5.0, 42.0, 8.0, 50.0))
    assert np.prod(spec.map_grid.tile_shape) > 1_000_000
    card = spec._repr_html_()
    assert len(card) < 60_000
    assert "as one" in read_html(card)[1]


def test_a_map_without_a_grid_says_why(tmp_path):
    spec = make_spec(tmp_path, grid={"crs": "EPSG:3035", "resolution": 7, "tile": 40, "chunk": 20})
    assert "none: the source does not nest in the grid" in read_html(spec._repr_html_())[1]


def test_items_are_counted_by_collection_beside_their_footprints(tmp_path):
    items = make_items(tmp_path)
    reader, text = read_html(items._repr_html_())
    assert "3 items" in text
    assert "sentinel-2-l2a 2 2020-06-03 2020-07-08" in text
    assert reader.drawn.count("M") == 3, "an outline each"


def test_no_items_are_shown_too():
    assert "0 items" in read_html(freeze_items([])._repr_html_())[1]


def test_a_plan_shows_its_tiles(tmp_path):
    plan = make_plan(make_spec(tmp_path), make_items(tmp_path))
    reader, text = read_html(plan._repr_html_())
    assert f"Plan of {len(plan)} tiles" in text
    assert plan.digest[:12] in text
    assert "svg" in reader.tags


REPORT = RunReport(
    run_id="run-1", tiles=9, skipped=1, commits=2, snapshot="ABC", seconds=12.5,
    totals=Totals(tiles={"ok": 7, "empty": 1, "failed": 1}, pixels=12_345_678,
                  seconds={"read": 20.0, "predict": 5.0, "wait": 0.0}),
    failures=(TileFailure(tile=(3, 4), reason=NASTY),), stopped=NASTY,
)  # fmt: skip


def test_a_report_shows_counts_stages_and_failures():
    reader, text = read_html(REPORT._repr_html_())
    for words in ("Run of 9 tiles", "with pixels 7", "0.99 M a second", "read 20", "predict 5", f"tile 3,4 {NASTY}"):
        assert words in text
    assert "wait" not in text, "what took no time"
    assert reader.tags.count("table") == 2


@given(st.text(), st.text(), st.one_of(st.text(), st.integers(), st.floats(), st.none()))
def test_any_text_is_shown_as_it_is(title, name, value):
    for card in (show_shares(title, {name: value}, {name: 1.0}), make_table([title, name], [(value, name)])):
        reader, _ = read_html(card)
        assert set(reader.tags) <= {"div", "b", "table", "tbody", "thead", "tr", "th", "td"}


def test_only_markup_is_taken_as_it_is():
    assert "<i>" in str(make_pairs({"a": Markup("<i>x</i>")}))
    assert "<i>" not in str(make_pairs({"a": "<i>x</i>"}))


def test_columns_of_numbers_stand_right():
    text = str(make_table(("a", "b"), [("x", 1), ("y", None)]))
    assert text.count("text-align:right") == 3


@pytest.mark.parametrize("pattern", ["chequered", "noise", "whole"])
def test_a_hundred_thousand_tiles_are_a_small_drawing(pattern):
    rows, cols = np.mgrid[:400, :250]
    states = {
        "chequered": (rows + cols) % 2,
        "noise": np.random.default_rng(0).integers(0, 5, rows.shape),
        "whole": rows * 0 + 1,
    }[pattern].astype(np.uint8)
    drawn = draw_tiles(states)
    assert len(str(drawn)) < 100_000
    assert "one cell is 7 x 7 tiles" in read_html(drawn)[1]


def test_a_plan_of_a_hundred_thousand_tiles_is_small():
    places = np.argwhere(np.ones((400, 250), bool))
    card = show_tiles("plan", {}, places)
    assert len(card) < 20_000
    assert "one cell is 7 x 7 tiles" in read_html(card)[1]


def test_a_plan_shows_its_tiles_where_they_are():
    tasks = TaskTable.of([make_task(tile) for tile in (Tile(7, 7), Tile(8, 9))])
    plan = Plan(identity=Identity(), tasks=tasks)
    assert read_html(plan._repr_html_())[0].drawn.startswith("M0 0h1v1h-1zM2 1h1v1h-1z")


def test_many_items_are_shown_in_bounds():
    outline = {"type": "Polygon", "coordinates": [[[0, 0], [1, 0], [1, 1], [0, 1], [0, 0]]]}
    items = freeze_items(
        {
            "id": f"s{k}",
            "collection": "sentinel-2-l2a",
            "geometry": outline,
            "properties": {"datetime": f"2020-01-{k % 28 + 1:02d}T00:00:00Z", "eo:cloud_cover": 20.0},
            "assets": {},
        }
        for k in range(12_000)
    )
    card = items._repr_html_()
    assert len(card) < 60_000
    text = read_html(card)[1]
    assert "12,000 items (table and map show one in 3)" in text
    assert "4,000 2020-01-01 2020-01-28 20" in text


@pytest.mark.parametrize(
    "shape",
    [
        shapely.box(-180, -90, 180, 90),
        shapely.box(10, 50, 10.0001, 50.0001),
        shapely.MultiPolygon([shapely.box(0, 0, 1, 1), shapely.box(5, 5, 6, 6)]),
        shapely.Point(3, 4).buffer(1, quad_segs=20_000),
        shapely.box(0, 0, 40, 0.1),
    ],
)
def test_any_area_is_drawn_in_bounds(shape):
    drawn = str(draw_outlines({"a": [shape]}, area=shape, width=200, height=150))
    reader, _ = read_html(drawn)
    points = [
        tuple(map(float, point.split())) for point in reader.drawn.replace("M", "L").replace("z", "").split("L")[1:]
    ]
    assert len(drawn) < 100_000
    assert all(0 <= x <= 200.1 and 0 <= y <= 150.1 for x, y in points)
