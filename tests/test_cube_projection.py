"""Where pixels lie, in every spelling of the projection extension."""

import re

import pytest
import rasterio
import shapely
from pyproj import CRS
from rasterio.warp import transform_bounds

from mapper.cube.projection import declared_crs, declared_grid, find_outline, find_place

GRID = {"proj:shape": [200, 100], "proj:transform": [10, 0, 600000, 0, -10, 7600020]}
WKT, JSON = CRS(32655).to_wkt(), CRS(32655).to_json_dict()
LAMBERT = CRS("ESRI:102003").to_wkt()


def item(asset, **properties):
    return {"id": "x", "properties": properties, "assets": {"B02": asset}}


@pytest.mark.parametrize(
    ("asset", "properties"),
    [
        (GRID | {"proj:code": "EPSG:32655"}, {}),
        (GRID | {"proj:epsg": 32655}, {}),
        (GRID, {"proj:epsg": 32655}),
        (GRID, {"proj:code": "EPSG:32655"}),
        ({}, GRID | {"proj:epsg": 32655}),
        (GRID | {"proj:code": None, "proj:wkt2": WKT}, {}),
        (GRID | {"proj:epsg": None, "proj:projjson": JSON}, {}),
        (GRID, {"proj:epsg": None, "proj:wkt2": WKT}),
        (GRID | {"proj:code": None}, {"proj:epsg": 32655}),
        (GRID | {"proj:epsg": 32655}, {"proj:code": "EPSG:4326"}),
        (GRID | {"proj:transform": [10, 0, 600000, 0, -10, 7600020, 0, 0, 1], "proj:epsg": 32655}, {}),
        ({"proj:shape": [200, 100], "proj:bbox": [600000, 7598020, 601000, 7600020], "proj:code": "EPSG:32655"}, {}),
        (GRID | {"proj:epsg": 32655}, {"proj:shape": [1, 1], "proj:transform": [60, 0, 0, 0, -60, 0]}),
    ],
)
def test_a_grid_is_read_in_any_spelling_and_the_asset_goes_first(asset, properties):
    grid = declared_grid(item(asset, **properties), "B02")
    assert grid.crs == CRS(32655)
    assert grid.shape == (200, 100)
    assert grid.bounds == (600000, 7598020, 601000, 7600020)


@pytest.mark.parametrize(
    ("asset", "properties"),
    [
        ({}, {}),
        (GRID, {}),
        (GRID | {"proj:code": None, "proj:epsg": None}, {}),
        ({"proj:shape": [200, 100], "proj:code": "EPSG:32655"}, {}),
        ({"proj:transform": GRID["proj:transform"], "proj:code": "EPSG:32655"}, {}),
        ({"proj:shape": [], "proj:epsg": 32655}, {}),
    ],
)
def test_what_is_not_declared_completely_is_unknown(asset, properties):
    assert declared_grid(item(asset, **properties), "B02") is None


def test_a_crs_without_a_code_is_one_too():
    assert declared_crs(item({"proj:epsg": None, "proj:wkt2": LAMBERT}), "B02") == CRS("ESRI:102003")


def test_a_code_that_is_none_leaves_the_word_to_another_field():
    for code in ("EPSG:None", "EPSG:999999", "none", {"type": "link"}):
        assert declared_crs(item(GRID | {"proj:code": code, "proj:wkt2": WKT}), "B02") == CRS(32655)
        assert declared_grid(item(GRID | {"proj:code": code}, **{"proj:epsg": 32655.0}), "B02").crs == CRS(32655)


FOOTPRINT = transform_bounds("EPSG:32655", "EPSG:4326", 600000, 7598020, 601000, 7600020)


@pytest.mark.parametrize(
    ("declared", "line"),
    [
        ({"proj:epsg": 999999}, r"proj:epsg '999999' is no CRS"),
        ({"proj:epsg": 32655, "proj:wkt2": CRS(32656).to_wkt()}, r"proj:epsg says EPSG:32655, proj:wkt2 EPSG:32656"),
        ({"proj:code": "EPSG:4326", "proj:projjson": JSON}, r"proj:code says EPSG:4326, proj:projjson"),
        ({"proj:epsg": 32655, "proj:transform": [1, 2, "a"]}, r"make no grid"),
        ({"proj:epsg": 32655, "proj:transform": [600000, 10, 0, 7600020, 0, -10]}, r"make no grid"),
        ({"proj:epsg": 32655, "proj:transform": [10, 0, float("nan"), 0, -10, 0]}, r"make no grid"),
        ({"proj:epsg": 32655, "proj:shape": [1]}, r"make no grid"),
        ({"proj:epsg": 32655, "proj:shape": [-200, 100]}, r"make no grid"),
        ({"proj:epsg": 32655, "proj:shape": [10**400, 100]}, r"make no grid"),
        ({"proj:epsg": 32655, "proj:bbox": [0, 0, 1000, 2000]}, r"proj:bbox says"),
        ({"proj:epsg": 32655, "proj:bbox": [0, 0, 0]}, r"proj:bbox .* has neither four nor six numbers"),
        ({"proj:epsg": 32655, "proj:shape": [100, 200]}, r"its footprint is"),
        ({"proj:epsg": 32655, "proj:transform": [1, 0, 600000, 0, -1, 7600020]}, r"its footprint is"),
        ({"proj:epsg": 32655, "proj:transform": [10, 0, 603000, 0, -10, 7600020]}, r"its footprint is"),
        ({"proj:epsg": 32654}, r"its footprint is"),
        ({"proj:epsg": 4326}, r"its footprint is|no image"),
    ],
)
def test_a_contradiction_is_named_and_nothing_of_it_is_taken_for_the_grid(declared, line):
    served = item(GRID | declared) | {"geometry": shapely.geometry.mapping(shapely.box(*FOOTPRINT))}
    place = find_place(served, "B02")
    assert place.grid is None
    assert re.search(f"item x contradicts itself about the place of asset B02: .*({line})", place.doubt)
    assert "\n" not in place.doubt
    assert find_outline(served, "B02") is None


@pytest.mark.parametrize(
    "geometry",
    [
        shapely.box(*FOOTPRINT),
        shapely.box(*FOOTPRINT).centroid.buffer(0.001),  # where data are
        shapely.box(*FOOTPRINT).buffer(0.0005),
    ],
)
@pytest.mark.parametrize(
    "declared",
    [
        {"proj:epsg": 32655},
        {"proj:code": "EPSG:32655", "proj:epsg": 32655, "proj:wkt2": WKT, "proj:projjson": JSON},
        {"proj:wkt2": rasterio.crs.CRS.from_epsg(32655).to_wkt(), "proj:epsg": 32655},
        {"proj:epsg": 32655, "proj:bbox": [600000, 7598020, 0, 601000, 7600020, 120]},
    ],
)
def test_words_that_agree_are_no_contradiction(geometry, declared):
    served = item(GRID | declared) | {"geometry": shapely.geometry.mapping(geometry)}
    assert find_place(served, "B02").doubt == ""
    assert find_outline(served, "B02").contains(shapely.box(*FOOTPRINT))


@pytest.mark.parametrize("west", [0, -180, 170])
def test_a_grid_across_180_degrees_agrees_with_a_footprint_that_is_cut_there(west):
    grid = {"proj:code": "EPSG:4326", "proj:shape": [20, 40], "proj:transform": [0.5, 0, west, 0, -0.5, 10]}
    served = item(grid) | {"geometry": None, "bbox": [west, 0, west + 20 - 360 * (west + 20 > 180), 10]}
    place = find_place(served, "B02")
    assert (place.doubt, place.grid.shape) == ("", (20, 40))
    assert find_outline(served, "B02").area == pytest.approx(200)
