"""The lazy cube holds the numbers of the eager block, laid out without reading."""

from pathlib import Path

import dask
import numpy as np
import pytest
from odc.geo.geobox import GeoBox
from rasterio import Affine
from scenes import HERE, MAP, S1, S2, SIDE, ZONE_BORDER, flat, s2, write_item, write_passes

from mapper.catalog.items import Items, freeze_items
from mapper.cube.open import open_cube
from mapper.cube.read import read_block
from mapper.errors import CorruptAssetError, GridError, SpecError


@pytest.fixture(scope="module")
def passes(tmp_path_factory):
    return write_passes(tmp_path_factory.mktemp("passes"))


def assert_same(items, grid, rule, bands, **options):
    with dask.config.set(scheduler="threads", num_workers=2):
        lazy = open_cube(items, grid, bands=bands, rule=rule, **options).load()
    eager = read_block(items, grid, bands=bands, rule=rule)
    assert list(lazy.data_vars) == list(eager.data_vars)
    np.testing.assert_array_equal(lazy["group"], eager["group"])
    np.testing.assert_array_equal(lazy["time"], eager["time"])
    np.testing.assert_array_equal(lazy["x"], eager["x"])
    np.testing.assert_array_equal(lazy["y"], eager["y"])
    for band in bands:
        assert lazy[band].dtype == np.float32
        # both go through one resampler; positions differ by rounding (1e-6 px) between chunk and block
        np.testing.assert_allclose(lazy[band], eager[band], rtol=1e-6, atol=1e-7)
    return eager


@pytest.mark.parametrize("chunks", [100, 256, 1024])
def test_cube_and_block_agree_across_utm_zones_dates_and_baselines(passes, chunks):
    eager = assert_same(passes, ZONE_BORDER, S2, ("B02",), chunks=chunks)
    assert eager.sizes["time"] == 2
    assert 0.1 < np.isnan(eager["B02"]).mean() < 0.9


def test_cube_and_block_agree_on_a_geographic_grid(passes):
    lon, lat = ZONE_BORDER.extent.centroid.to_crs("EPSG:4326").coords[0]
    step = 1 / 11250
    grid = GeoBox(
        (150, 200), Affine(step, 0, (round(lon / step) - 100) * step, 0, -step, round(lat / step) * step), 4326
    )
    assert_same(passes, grid, S2, ("B02",), chunks=64)


def stac_1_1(item):
    """The same item as a newer archive serves it."""
    assets = {
        key: {"proj:code": f"EPSG:{asset['proj:epsg']}", **{k: v for k, v in asset.items() if k != "proj:epsg"}}
        for key, asset in item["assets"].items()
    }
    return item | {"stac_version": "1.1.0", "assets": assets}


def test_items_of_stac_1_1_and_items_without_projection_are_placed_alike(passes):
    grid = ZONE_BORDER
    expected = read_block(passes, grid, bands=("B02",), rule=S2)["B02"]
    bare = [
        item | {"assets": {key: {"href": asset["href"]} for key, asset in item["assets"].items()}} for item in passes
    ]
    for items in (freeze_items(map(stac_1_1, passes)), freeze_items(bare)):
        found = open_cube(items, grid, bands=("B02",), rule=S2, chunks=128)["B02"].compute(scheduler="sync")
        np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_nothing_is_read_before_it_is_asked_for(tmp_path):
    item = s2(tmp_path, "a")
    Path(item["assets"]["B02"]["href"]).unlink()
    cube = open_cube(freeze_items([item]), HERE, bands=("B02",), rule=S2)
    with pytest.raises(CorruptAssetError) as caught:
        cube["B02"].compute(scheduler="sync")
    assert (caught.value.item, caught.value.asset) == ("a", "B02")


def test_bands_missing_in_some_items_and_items_beside_the_grid_agree(tmp_path):
    far = HERE.translate_pix(5000, 0)
    items = freeze_items(
        write_item(tmp_path, name, f"2020-06-0{k}T05:00:00Z", {b: flat(k / 10, place, np.float32) for b in bands})
        for k, (name, place, bands) in enumerate(
            [("a", HERE, ("vv",)), ("b", SIDE, ("vv", "vh")), ("c", far, ("vv", "vh"))], start=1
        )
    )
    eager = assert_same(items, HERE, S1, ("vv", "vh"))
    assert eager.sizes["time"] == 3
    with pytest.raises(SpecError, match="vh"):
        open_cube(freeze_items([items.items[0]]), HERE, bands=("vh",), rule=S1)


def test_no_items_make_an_empty_cube():
    assert dict(open_cube(Items(items=()), HERE, bands=("agb",), rule=MAP).sizes) == {"time": 0, "y": 64, "x": 64}


def test_a_rotated_grid_is_refused():
    turned = GeoBox((4, 4), Affine.rotation(10), "EPSG:3035")
    with pytest.raises(GridError, match="north-up"):
        open_cube(Items(items=()), turned, bands=("agb",), rule=MAP)
