"""What items are worth to a map, counted from footprints and cloud cover; what is short is said before a run."""

import time
from fractions import Fraction

import numpy as np
import pytest
import shapely
from catalog_fakes import CONTENT, make_item
from region import run_json, run_mapper

from mapper.catalog.coverage import FEW_OBSERVATIONS, CollectionView, find_shortages, survey
from mapper.catalog.items import freeze_items
from mapper.catalog.provider import load_provider, name_pass, solar_day
from mapper.catalog.sample_points import SamplePoints
from mapper.evaluation.search_plot import plot_search
from mapper.grid import Tile
from mapper.spec import parse_spec

WEST, SOUTH, SIZE = 10.0, 50.0, 0.5
OPTICAL = CollectionView(collection="sentinel-2-l2a")
SOURCE = CollectionView(collection="esa-cci-biomass")


def make_map(tmp_path, *, tiles=4, **guide):
    """A map of degrees: ``tiles`` x ``tiles`` tiles that fill the area, so that footprints cut them where one likes."""
    pixel = Fraction(SIZE) / tiles / 100
    content = {
        **CONTENT,
        "area": {"bbox": [WEST, SOUTH, WEST + SIZE, SOUTH + SIZE]},
        "period": {"start": "2020-04-01", "end": "2020-06-30"},
        "grid": {"kind": "native", "crs": "EPSG:4326", "resolution": str(pixel), "tile": 100, "chunk": 100},
        "source": {**CONTENT["source"], "resolution": str(pixel * 10)},
        "guide": {
            "layers": [{"collection": "sentinel-2-l2a", "bands": ["B04"]}],
            "seasons": {"spring": [4, 5], "summer": [6]},
            **guide,
        },
    }
    return parse_spec(content, base=tmp_path)


def scene(name, share=1.0, *, when="2020-05-10", collection="sentinel-2-l2a", start=0.0, **properties):
    """An item that covers a share of the area from west to east, from ``start`` of it on."""
    bounds = (WEST + start * SIZE, SOUTH - 1, WEST + (start + share) * SIZE, SOUTH + SIZE + 1)
    return make_item(name, collection, when=f"{when}T10:00:00Z", bounds=bounds, **properties)


def clear(coverage, season="spring", view=OPTICAL):
    (found,) = (each for each in coverage.expectations if each.season == season and each.view == view)
    return found.clear.reshape(4, 4)


def rows(coverage, view=OPTICAL):
    return {row.month: row for row in coverage.months if row.view == view}


def test_a_month_has_items_passes_clouds_and_a_share_of_the_area(tmp_path):
    items = [
        scene("a", 0.5, **{"eo:cloud_cover": 10}),
        scene("b", 0.5, start=0.25, **{"eo:cloud_cover": 30}),
        scene("c", 0.25, when="2020-05-20"),
        scene("d", when="2020-06-01"),
    ]
    found = rows(survey(make_map(tmp_path), freeze_items(items)))
    may, june = found["2020-05"], found["2020-06"]
    assert (may.items, may.passes, may.cloud) == (3, 2, 20)
    assert may.share == pytest.approx(0.75, abs=0.01)
    assert (june.items, june.cloud, june.share) == (1, None, 1)
    assert (found["2020-04"].items, found["2020-04"].share) == (0, 0), "a month without items is told, not left out"


def test_shares_are_those_of_the_ground_and_of_the_mapped_area(tmp_path):
    outline = shapely.Polygon([(0, 0), (20, 0), (20, 75)])
    (tmp_path / "area.geojson").write_text(shapely.to_geojson(outline))
    content = make_map(tmp_path).model_dump(mode="json", exclude={"area"}) | {"area": {"geojson": "area.geojson"}}
    content["grid"] |= {"resolution": "1/20", "tile": 100}
    content["source"] |= {"resolution": "1/2"}
    spec = parse_spec(content, base=tmp_path)
    south = make_item("south", when="2020-05-10T10:00:00Z", bounds=(-1, -1, 21, 30))
    share = rows(survey(spec, freeze_items([south])))["2020-05"].share
    latitude = np.linspace(0, 75, 100_001)
    width = (20 - latitude / 75 * 20) * np.cos(np.radians(latitude))
    assert share == pytest.approx(width[latitude <= 30].sum() / width.sum(), abs=0.01)


def test_a_tile_expects_the_clear_part_of_every_pass_that_covers_it(tmp_path):
    items = [
        scene("clear", 0.5, when="2020-04-03", **{"eo:cloud_cover": 0}),
        scene("cloudy", 0.375, when="2020-05-03", **{"eo:cloud_cover": 75}),
        scene("june", when="2020-06-03", **{"eo:cloud_cover": 50}),
    ]
    coverage = survey(make_map(tmp_path), freeze_items(items))
    np.testing.assert_allclose(clear(coverage), [[1.25, 1.125, 0, 0]] * 4, atol=0.02)
    np.testing.assert_allclose(clear(coverage, "summer"), 0.5)


def test_items_of_one_pass_are_one_observation_where_they_overlap(tmp_path):
    flown = {"platform": "sentinel-2a", "eo:cloud_cover": 0}
    one_pass = [scene("a", 0.75, **flown), scene("b", 0.75, start=0.25, **flown)]
    np.testing.assert_allclose(clear(survey(make_map(tmp_path), freeze_items(one_pass))), 1)
    another = scene("c", **{**flown, "platform": "sentinel-2b"})
    np.testing.assert_allclose(clear(survey(make_map(tmp_path), freeze_items([*one_pass, another]))), 2)


def test_a_layer_counts_only_what_it_reads(tmp_path):
    layers = [
        {"collection": "sentinel-2-l2a", "bands": ["B04"], "cloud_limit": 20},
        {"collection": "sentinel-1-rtc", "bands": ["vv"], "orbit": "ascending"},
        {"collection": "sentinel-1-rtc", "bands": ["vv"], "orbit": "descending"},
    ]
    items = [
        scene("clear", **{"eo:cloud_cover": 20}),
        scene("cloudy", when="2020-05-11", **{"eo:cloud_cover": 21}),
        scene("up", collection="sentinel-1-rtc", **{"sat:orbit_state": "ASCENDING"}),
        scene("up too", when="2020-05-22", collection="sentinel-1-rtc", **{"sat:orbit_state": "ascending"}),
        scene("down", collection="sentinel-1-rtc", **{"sat:orbit_state": "descending"}),
    ]
    coverage = survey(make_map(tmp_path, layers=layers), freeze_items(items))
    np.testing.assert_allclose(clear(coverage), 0.8)
    up, down = (CollectionView(collection="sentinel-1-rtc", orbit=orbit) for orbit in ("ascending", "descending"))
    np.testing.assert_allclose(clear(coverage, view=up), 2)
    np.testing.assert_allclose(clear(coverage, view=down), 1)
    assert (rows(coverage, up)["2020-05"].items, rows(coverage, down)["2020-05"].items) == (2, 1)


def test_a_lattice_measures_what_geometry_measures(tmp_path):
    spec = make_map(tmp_path)
    points = SamplePoints.of(spec.map_grid)
    footprint = shapely.Polygon([(9.9, 49.9), (10.37, 50.05), (10.2, 50.33), (10.31, 50.6), (9.9, 50.2)])
    (cover,) = points.find_covered(np.array([footprint], dtype=object))
    share = np.zeros(points.weight.shape[0])
    share[cover.tiles] = (cover.covered * points.weight[cover.tiles]).sum(1) / points.weight[cover.tiles].sum(1)
    boxes = [shapely.box(*spec.map_grid.geobox_of(spec.map_grid.window(t)).boundingbox.bbox) for t in points.tiles]
    exact = [shapely.area(shapely.intersection(footprint, box)) / shapely.area(box) for box in boxes]
    np.testing.assert_allclose(share, exact, atol=0.02)
    assert 0 < np.mean(exact) < 1


def test_tiles_that_see_too_little_and_tiles_without_source_are_named(tmp_path):
    days = [f"2020-{month:02d}-{day:02d}" for month in (5, 6) for day in (1, 2, 3)]
    full = [scene(f"s {day}", when=day, **{"eo:cloud_cover": 0}) for day in days]
    halves = [item if item["properties"]["datetime"] < "2020-06" else {**item, "geometry": half()} for item in full]
    year = {"collection": "esa-cci-biomass", "when": "2019-01-01"}
    spec, enough = make_map(tmp_path), scene("agb", **year)
    assert find_shortages(spec, survey(spec, freeze_items([*full, enough]))) == ()
    few, bare = find_shortages(spec, survey(spec, freeze_items([*halves, scene("agb", 0.75, **year)])))
    assert (few.kind, few.of, few.seasons, len(few.tiles)) == ("few-observations", "sentinel-2-l2a", ("summer",), 8)
    assert set(few.tiles) == {Tile(row, col) for row in range(4) for col in (2, 3)}
    for part in (
        "8 of 16 tiles",
        f"fewer than {FEW_OBSERVATIONS / 2:g}",
        "8 of them none at all",
        "summer",
        "longer seasons",
    ):
        assert part in few.text
    assert few.to_dict()["tiles"] == ["0,2", "0,3", "1,2", "1,3", "2,2"]
    assert (bare.kind, bare.of, len(bare.tiles)) == ("no-source", "esa-cci-biomass", 4)
    assert "4 of 16 tiles have no item of the source: (0,3)" in bare.text


def half():
    return scene("half", 0.5)["geometry"]


def test_what_could_help_depends_on_what_the_layer_leaves_out(tmp_path):
    layers = [
        {"collection": "sentinel-2-l2a", "bands": ["B04"], "cloud_limit": 20},
        {"collection": "sentinel-1-rtc", "bands": ["vv"], "orbit": "ascending"},
    ]
    spec = make_map(tmp_path, layers=layers)
    optical, radar, _ = find_shortages(spec, survey(spec, freeze_items([])))
    assert "a higher cloud_limit than 20" in optical.text
    assert "orbits other than ascending" in radar.text
    assert "cloud_limit" not in radar.text


def test_a_pass_over_midnight_is_one_pass():
    rule = load_provider("demo").rule("sentinel-2-l2a")
    east = {"bounds": (170, 10, 171, 11), "platform": "Sentinel-2A"}
    before, after = (
        make_item("a", when="2020-05-10T23:59:00Z", **east),
        make_item("b", when="2020-05-11T00:01:00Z", **east),
    )
    assert name_pass(before, rule) == name_pass(after, rule) == "2020-05-11 sentinel-2a"
    assert solar_day(make_item("c", when="2020-05-10T20:00:00Z", bounds=(-100, 0, -99, 1))).day == 10


def test_a_map_of_many_tiles_and_items_is_surveyed_in_seconds(tmp_path):
    draw = np.random.default_rng(3)
    items = []
    for k in range(1500):
        start, share = draw.uniform(-0.5, 1), draw.uniform(0.1, 0.5)
        when = f"2020-{draw.integers(4, 7):02d}-{draw.integers(1, 29):02d}"
        items.append(scene(f"s{k}", share, start=start, when=when, **{"eo:cloud_cover": float(draw.uniform(0, 100))}))
    begun = time.process_time()
    coverage = survey(make_map(tmp_path, tiles=60), freeze_items(items))
    assert len(coverage.tiles) == 3600
    assert time.process_time() - begun < 20


def test_the_picture_shows_gaps_and_a_whole_map(tmp_path):
    year = {"collection": "esa-cci-biomass", "when": "2019-01-01"}
    whole = [scene(f"s{k}", when=f"2020-05-{k:02d}") for k in range(1, 4)]
    spec = make_map(tmp_path)
    for name, items in (("gaps", [scene("a", 0.3)]), ("whole", [*whole, scene("agb", **year)])):
        path = plot_search(survey(spec, freeze_items(items)), tmp_path / "plots" / f"{name}.png", title=name)
        assert path.read_bytes().startswith(b"\x89PNG")
        assert path.stat().st_size > 10_000


def test_a_search_prints_a_table_draws_a_picture_and_warns(region):
    code, said = run_mapper("search", region.map)
    assert code == 0
    for part in ("sentinel-2-l2a", "2020-07", "area covered", "passes", "100 %"):
        assert part in said
    assert (region.folder / "map.items.png").stat().st_size > 10_000
    (region.folder / "map.items.png").unlink()
    facts = run_json("search", region.map, "--no-plot")
    assert not (region.folder / "map.items.png").exists()
    months = {row["month"]: row for row in facts["months"] if row["collection"] == "sentinel-2-l2a"}
    assert months["2020-05"]["area_share"] == 1
    assert 0 <= months["2020-05"]["cloud_cover"] <= 100
    assert {warning["kind"] for warning in facts["warnings"]} == {"few-observations"}
    assert all("2 clear" not in warning["text"] for warning in facts["warnings"])
