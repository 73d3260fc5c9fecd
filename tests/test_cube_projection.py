"""Where pixels lie, in every spelling of the projection extension."""

import pytest
from pyproj import CRS

from mapper.cube.projection import declared_crs, declared_grid
from mapper.errors import SpecError

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


@pytest.mark.parametrize(
    ("asset", "line"),
    [
        (GRID | {"proj:code": "EPSG:999999"}, "item x declares a CRS for asset B02 that is none: 'EPSG:999999'"),
        (GRID | {"proj:epsg": 32655, "proj:transform": [1, 2, "a"]}, "item x declares a grid for asset B02"),
        (GRID | {"proj:epsg": 32655, "proj:shape": [1]}, "item x declares a grid for asset B02"),
    ],
)
def test_what_cannot_be_understood_is_refused_by_name(asset, line):
    with pytest.raises(SpecError, match=line):
        declared_grid(item(asset), "B02")
