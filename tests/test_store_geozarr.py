"""Spatial metadata: both dialects say the same, and readers understand them."""

from fractions import Fraction

import numpy as np
import pyproj
import pytest
import rioxarray  # noqa: F401 - registers the accessor
import xarray as xr
import zarr
from affine import Affine
from store_maps import NATIVE, PROJECTED, make_spec, write_tiles

from mapper.store.geozarr import coordinate_values
from mapper.store.map_store import MapStore, open_map
from mapper.store.product import map_product

GRIDS = pytest.mark.parametrize("grid", [PROJECTED, NATIVE], ids=["projected", "native"])


@pytest.fixture
def written(tmp_path):
    def make(grid, **changes):
        spec = make_spec(tmp_path / "map.icechunk", grid=grid, **changes)
        MapStore.create(spec.store, map_product(spec))
        with MapStore.open(spec.store).writer(map_product(spec), run_id="r") as writer:
            write_tiles(writer, spec, list(spec.map_grid.tiles())[:2])
        return spec

    return make


@GRIDS
def test_xarray_and_rioxarray_see_crs_transform_units_and_scaling(written, grid):
    spec = written(grid)
    geobox = spec.map_grid.geobox
    with xr.open_zarr(MapStore.open(spec.store).zarr, consolidated=False, decode_coords="all", chunks=None) as dataset:
        assert dataset.agb.dims == ("y", "x")
        assert dataset.agb.attrs["units"] == "Mg ha-1"
        assert dataset.rio.crs == pyproj.CRS(grid["crs"])
        for transform in (dataset.rio.transform(), dataset.agb.rio.transform(recalc=True)):
            assert np.allclose(list(transform), list(geobox.transform), rtol=0, atol=float(spec.grid.resolution) * 1e-6)
        assert list(dataset.rio.transform()) == pytest.approx(list(geobox.transform), rel=1e-14)
        assert dataset.rio.bounds() == pytest.approx(geobox.boundingbox.bbox, abs=float(spec.grid.resolution) * 1e-6)
        assert dataset.agb.rio.encoded_nodata == 65535
        stored = zarr.open_array(MapStore.open(spec.store).zarr, path="agb", mode="r")[:64, :64]
        expected = np.where(stored == 65535, np.nan, stored * 0.1)
        np.testing.assert_allclose(dataset.agb[:64, :64], expected)
        assert dataset.qa.dtype == np.uint16
        assert dataset.n_valid.dtype == np.uint16


@GRIDS
def test_a_plain_xarray_user_needs_no_option_but_consolidated(written, grid):
    spec = written(grid)
    with xr.open_zarr(MapStore.open(spec.store).zarr, consolidated=False, chunks=None) as dataset:
        assert dataset.agb.rio.crs == pyproj.CRS(grid["crs"])
        assert set(dataset.data_vars) >= {"agb", "agb_sd", "qa", "n_valid"}


@GRIDS
def test_both_dialects_say_the_same(written, grid):
    spec = written(grid)
    root = zarr.open_group(MapStore.open(spec.store).zarr, mode="r")
    for node in (root, root["agb"], root["agb_sd"], root["qa"], root["n_valid"]):
        attributes = dict(node.attrs)
        assert attributes["proj:code"] == grid["crs"]
        assert pyproj.CRS(attributes["proj:wkt2"]) == pyproj.CRS(grid["crs"])
        assert Affine(*attributes["spatial:transform"]) == spec.map_grid.geobox.transform
        assert attributes["spatial:shape"] == list(spec.map_grid.shape)
        assert {c["name"] for c in attributes["zarr_conventions"]} == {"proj", "spatial"}
        west, south, east, north = attributes["spatial:bbox"]
        assert (west, north) == tuple(spec.map_grid.geobox.transform * (0, 0))
        assert east > west
        assert north > south
    mapping = dict(root["spatial_ref"].attrs)
    assert pyproj.CRS.from_cf(mapping) == pyproj.CRS(grid["crs"])
    c, a, b, f, d, e = (float(v) for v in mapping["GeoTransform"].split())
    assert Affine(a, b, c, d, e, f) == spec.map_grid.geobox.transform


@GRIDS
def test_coordinates_are_pixel_centres_rounded_once(tmp_path, grid):
    spec = make_spec(tmp_path / "m", grid=grid)
    map_grid, step = spec.map_grid, Fraction(spec.grid.resolution)
    found = coordinate_values(map_grid)
    left = round(map_grid.geobox.transform.c / float(step))
    top = round(map_grid.geobox.transform.f / float(step))
    assert found["x"].tolist() == [float((left + k + Fraction(1, 2)) * step) for k in range(map_grid.shape[1])]
    assert found["y"].tolist() == [float((top - k - Fraction(1, 2)) * step) for k in range(map_grid.shape[0])]


def test_geographic_coordinates_are_named_longitude_and_latitude(written):
    spec = written(NATIVE)
    dataset = open_map(spec.store)
    assert dataset.x.attrs["standard_name"] == "longitude"
    assert dataset.y.attrs["units"] == "degrees_north"


def test_projected_coordinates_have_units(written):
    spec = written(PROJECTED)
    assert open_map(spec.store).x.attrs["units"] == "m"


def test_floats_with_nan_open_as_floats(written):
    spec = written(PROJECTED, target={"encoding": {"dtype": "float32"}})
    dataset = open_map(spec.store)
    assert dataset.agb.dtype == np.float32
    assert np.isnan(dataset.agb.rio.nodata)
    assert np.isnan(dataset.agb[0, 0])
    assert np.isfinite(dataset.agb[10, 10])
