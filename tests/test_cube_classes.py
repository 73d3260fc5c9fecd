"""Indicators of classes: read from stored codes by nearest neighbour, eager, lazy and as a guide; never averaged."""

from pathlib import Path

import numpy as np
import pytest
import rasterio.warp
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from scenes import HERE, S2, box_at, flat, write_item

from mapper.catalog.items import freeze_items
from mapper.catalog.provider import CollectionRule, Provider
from mapper.cube import resample
from mapper.cube.composite import compose, read_guide, take_first
from mapper.cube.inspection import inspect_item
from mapper.cube.open import open_cube
from mapper.cube.read import read_block
from mapper.spec import parse_spec

COVER = CollectionRule(
    bands={
        "building": {"asset": "map", "classes": [50]},
        "tree": {"asset": "map", "classes": [10, 95]},
        "code": "map",
    },
    units="m",
    calibration="identity",
    dtype="uint8",
    nodata=0,
    resampling="cubic",
    group_by=[],
)
CODES = np.array([0, 10, 50, 80, 95, 200], np.uint8)
BANDS = ("building", "tree")
GRIDS = {
    "its own": HERE,
    "finer": box_at("EPSG:32633", 300101.3, 5699871.7, size=(120, 80), step=3.0),
    "coarser": box_at("EPSG:32633", 299871.3, 5700104.9, size=(30, 40), step=23.0),
    "another CRS": box_at("EPSG:32632", 717053.7, 5700901.2, size=90, step=11.0),
}
PROVIDER = Provider(name="test", title="", kind="static", licence="", attribution="", collections={"cover": COVER})
SPEC = parse_spec(
    {
        "name": "test",
        "area": {"bbox": [8, 50, 9, 51]},
        "period": {"start": "2020-01-01", "end": "2021-12-31"},
        "grid": {"resolution": 10, "crs": "EPSG:32633"},
        "catalog": {"provider": "demo"},
        "guide": {"layers": [{"collection": "cover", "bands": BANDS, "static": True, "reducer": "mean"}]},
        "source": {"collection": "esa-cci-biomass", "variable": "agb", "resolution": 100},
        "model": {"name": "bicubic"},
        "store": "map.icechunk",
    },
    base=Path(),
)


def land(folder, name, when="2020-06-01T10:00:00Z", *, seed=0, dtype=np.uint8):
    """An item of codes, and the codes."""
    codes = np.random.default_rng(seed).choice(CODES, HERE.shape).astype(dtype)
    return write_item(folder, name, when, {"map": (codes, HERE)}, collection="cover"), codes


def seen(codes, geobox, classes):
    """The oracle: codes by GDAL onto the grid, then numpy; NaN where there is none."""
    warped = np.zeros(geobox.shape, codes.dtype)
    place = {"src_transform": HERE.transform, "src_crs": str(HERE.crs), "src_nodata": 0}
    to = {"dst_transform": geobox.transform, "dst_crs": str(geobox.crs), "dst_nodata": 0}
    rasterio.warp.reproject(codes, warped, **place, **to, resampling=rasterio.warp.Resampling.nearest, tolerance=0)
    return np.where(warped == 0, np.nan, np.isin(warped, classes).astype(np.float32))


@pytest.mark.parametrize("geobox", GRIDS.values(), ids=GRIDS)
@pytest.mark.parametrize("dtype", [np.uint8, np.int32])
def test_indicators_are_those_of_gdal_and_numpy_eager_and_lazy(tmp_path, geobox, dtype):
    item, codes = land(tmp_path, "a", dtype=dtype)
    items = freeze_items([item])
    block = read_block(items, geobox, bands=BANDS, rule=COVER)
    cube = open_cube(items, geobox, bands=BANDS, rule=COVER, chunks=37, resampling="bilinear").load()
    guide = read_guide(items, geobox, spec=SPEC, provider=PROVIDER).values
    for number, (band, classes) in enumerate({"building": [50], "tree": [10, 95]}.items()):
        found = block[band].values[0]
        expected = seen(codes, geobox, classes)
        differs = ~((found == expected) | (np.isnan(found) & np.isnan(expected)))
        assert differs.mean() < 2e-3, "at edges of pixels only, where GDAL rounds otherwise"
        assert {0, 1} <= set(np.unique(found[np.isfinite(found)]))
        assert block[band].attrs["units"] == "1"
        np.testing.assert_array_equal(found, cube[band].values[0])
        np.testing.assert_array_equal(found, guide[number])


def test_of_several_dates_the_first_with_a_code_counts(tmp_path):
    late, later = land(tmp_path, "late", "2021-06-01T10:00:00Z", seed=1)
    early, first = land(tmp_path, "early", seed=2)
    guide = read_guide(freeze_items([late, early]), HERE, spec=SPEC, provider=PROVIDER)
    codes = np.where(first == 0, later, first)
    expected = np.where(codes == 0, np.nan, np.isin(codes, [10, 95]))
    np.testing.assert_array_equal(guide.values[1], expected)
    assert set(np.unique(guide.values[np.isfinite(guide.values)])) == {0, 1}
    cube = open_cube(freeze_items([late, early]), HERE, bands="tree", rule=COVER).load()
    np.testing.assert_array_equal(compose(cube, "median")[0][0], expected)


def test_a_file_of_several_indicators_is_decoded_once(tmp_path, monkeypatch):
    item, _ = land(tmp_path, "a")
    read, decoded = resample.read_bands, []
    monkeypatch.setattr(resample, "read_bands", lambda *args: decoded.append(args) or read(*args))
    block = read_block(freeze_items([item]), HERE, bands=("building", "code", "tree"), rule=COVER)
    assert len(decoded) == 1
    assert block["code"].attrs == {"units": "m", "grid_mapping": "spatial_ref"}


def test_what_item_and_file_call_no_data_is_missing_and_scales_are_no_codes(tmp_path):
    item, codes = land(tmp_path, "a")
    path = item["assets"]["map"]["href"]
    with rasterio.open(path, "r+", IGNORE_COG_LAYOUT_BREAK="YES") as file:
        file.nodata = 200
        file.scales = (0.5,)
    item["assets"]["map"]["raster:bands"] = [{"nodata": 80, "scale": 0.1}]
    found = read_block(freeze_items([item]), HERE, bands=("building",), rule=COVER)["building"].values[0]
    expected = np.where(np.isin(codes, [0, 80, 200]), np.nan, codes == 50)
    np.testing.assert_array_equal(found, expected)


def test_a_mask_of_classes_may_be_an_indicator_too(tmp_path):
    rule = S2.model_copy(update={"bands": {"B02": "B02", "plants": {"asset": "SCL", "classes": [4]}}})
    scl = np.random.default_rng(0).choice(np.array([0, 4, 5, 9], np.uint8), HERE.shape)
    assets = {"B02": flat(3000), "SCL": (scl, HERE)}
    item = write_item(tmp_path, "a", "2020-06-01T10:00:00Z", assets, **{"s2:processing_baseline": "05.00"})
    block = read_block(freeze_items([item]), HERE, bands=("B02", "plants"), rule=rule)
    np.testing.assert_array_equal(block["plants"].values[0], np.where(np.isin(scl, [4, 5]), scl == 4, np.nan))
    said = {each.band: each.calibration for each in inspect_item(item, make_provider(rule))}
    assert said["plants"] == "1 where stored is 4, else 0: classes by the collection"


def make_provider(rule):
    collections = {"sentinel-2-l2a": rule}
    return Provider(name="t", title="", kind="static", licence="", attribution="", collections=collections)


@pytest.mark.parametrize(("classes", "words"), [([50, 0], "list 0, the stored value"), ([2**24 + 1], "less than")])
def test_codes_that_are_none_are_refused(classes, words):
    with pytest.raises(ValidationError, match=words):
        COVER.model_copy(update={"bands": {"building": {"asset": "map", "classes": classes}}})


@settings(max_examples=40, deadline=None)
@given(st.lists(st.sampled_from([0.0, 1.0, np.nan]), min_size=0, max_size=30))
def test_the_first_valid_value_is_taken(values):
    stack = np.array(values, np.float32).reshape(-1, 1, 1)
    valid = [value for value in values if not np.isnan(value)]
    np.testing.assert_array_equal(take_first(stack), np.float32([[valid[0] if valid else np.nan]]))
