"""Real Sentinel-1 and Sentinel-2 in four UTM zones, wrapped as items: exact on their own grids, alike in both readers.

Stored codings differ (65535 or 65534 for no data, dB = 20 log10(DN) - 83, dB as such, reflectance x 10000 with its
offset removed): each item declares its own.
"""

from dataclasses import dataclass

import dask
import numpy as np
import pytest
import rasterio
import xarray as xr
from odc.geo.geobox import GeoBox
from scenes import S1, S2, box_at, write_item
from shared import SHARED, needs_shared

from mapper.catalog.items import Items, freeze_items
from mapper.catalog.provider import CollectionRule
from mapper.cube.composite import compose
from mapper.cube.open import open_cube
from mapper.cube.read import read_block

pytestmark = needs_shared

TERRAMESH = ("637U_59R_1_3", "282D_485L_3_3", "433D_629L_3_1")
TERRAMESH_BANDS = ("B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B09", "B11", "B12")
NO_OFFSET = {"raster:bands": [{"scale": 1e-4, "offset": 0}]}


@dataclass(frozen=True)
class Site:
    items: Items
    rule: CollectionRule
    grid: GeoBox
    expected: dict[str, np.ndarray]
    """What the file says, in physical units, masked: (time, y, x), by another way."""


def optical(folder, name, grid, cubes, times, *, scl=None, nodata=0):
    """Items of a Sentinel-2 cube; {band: (time, y, x) uint16}."""
    rule = S2.model_copy(
        update={"bands": {band: band for band in cubes}, "nodata": nodata, "mask": S2.mask if scl is not None else None}
    )
    items = []
    for k, time in enumerate(times):
        assets = {band: (cube[k], grid) for band, cube in cubes.items()}
        if scl is not None:
            assets["SCL"] = (scl[k].astype(np.uint8), grid)
        item = write_item(folder, f"{name}-{k:02d}", time, assets)
        for band in cubes:
            item["assets"][band] |= NO_OFFSET
        items.append(item)
    good = True if scl is None else ~np.isin(scl, S2.mask.classes)
    expected = {b: np.where(good & (c != 0) & (c != nodata), c / 1e4, np.nan) for b, c in cubes.items()}
    return Site(freeze_items(items), rule, grid, expected)


def radar(folder, name, grid, decibels, times, *, as_power):
    """Items of a Sentinel-1 cube; {band: (time, y, x) dB}, stored as power or as decibels."""
    how = {"calibration": "linear-power"} if as_power else {"calibration": "decibel", "zero_is_border": False}
    rule = S1.model_copy(update=how | {"bands": {band: band for band in decibels}})
    stored = {band: 10 ** (cube / 10) if as_power else cube for band, cube in decibels.items()}
    stored = {band: np.where(np.isnan(cube), -32768, cube).astype(np.float32) for band, cube in stored.items()}
    items = [
        write_item(folder, f"{name}-{k:02d}", time, {band: (cube[k], grid) for band, cube in stored.items()})
        for k, time in enumerate(times)
    ]
    return Site(freeze_items(items), rule, grid, decibels)


def read_netcdf(path):
    """Variables as stored, uint16; grid; times."""
    with xr.open_dataset(SHARED / path, mask_and_scale=False) as dataset:
        cubes = {
            name.rsplit("-", 1)[-1]: cube.values.view(np.uint16)
            for name, cube in dataset.data_vars.items()
            if cube.ndim == 3 and cube.dtype == np.int16
        }
        x, y = dataset["x"].values, dataset["y"].values
        times = [f"{str(time)[:19]}Z" for time in dataset["t"].values]
    return cubes, box_at("EPSG:32631", x[0] - 5, y[0] + 5, size=(len(y), len(x))), times


def from_dn(cube, nodata):
    with np.errstate(divide="ignore"):
        return np.where(cube == nodata, np.nan, 20 * np.log10(cube.astype(np.float64)) - 83)


def terramesh(folder, kind, place):
    with rasterio.open(SHARED / "terramesh" / kind / f"{place}.tif") as file:
        pixels, grid = file.read(), GeoBox(file.shape, file.transform, file.crs)
    time = ["2020-07-01T12:00:00Z"]
    if kind == "S1RTC":
        return radar(folder, place, grid, dict(zip(("vv", "vh"), pixels[:, None], strict=True)), time, as_power=False)
    some = ("B02", "B08", "B11")
    cubes = {band: pixels[TERRAMESH_BANDS.index(band)].astype(np.uint16)[None] for band in some}
    return optical(folder, place, grid, cubes, time)


def gfmap_optical(folder, path, bands):
    cubes, grid, times = read_netcdf(path)
    return optical(folder, "gfmap", grid, {band: cubes[band] for band in bands}, times, scl=cubes["SCL"])


def gfmap_radar(folder):
    cubes, grid, times = read_netcdf("openeo_gfmap/cdse_sentinel1_grd.nc")
    decibels = {band.lower(): from_dn(cubes[band], 65534) for band in ("VV", "VH")}
    return radar(folder, "gfmap", grid, decibels, times, as_power=True)


def worldcereal_optical(folder):
    cubes, grid, times = read_netcdf("worldcereal/worldcereal_preprocessed_inputs.nc")
    return optical(folder, "wc", grid, {band: cubes[band] for band in ("B02", "B08", "B11")}, times, nodata=65535)


def worldcereal_radar(folder):
    cubes, grid, times = read_netcdf("worldcereal/worldcereal_preprocessed_inputs.nc")
    return radar(folder, "wc", grid, {"vh": from_dn(cubes["VH"], 65535)}, times, as_power=True)


SITES = {
    **{f"terramesh-s2-{place}": (terramesh, "S2L2A", place) for place in TERRAMESH},
    **{f"terramesh-s1-{place}": (terramesh, "S1RTC", place) for place in TERRAMESH},
    "gfmap-s2": (gfmap_optical, "openeo_gfmap/cdse_sentinel2_l2a.nc", ("B04", "B08", "B11")),
    "gfmap-s2-autumn": (gfmap_optical, "openeo_gfmap/test_optical_cube.nc", ("B02", "B08")),
    "gfmap-s1": (gfmap_radar,),
    "worldcereal-s2": (worldcereal_optical,),
    "worldcereal-s1": (worldcereal_radar,),
}


@pytest.fixture(scope="module", params=SITES, ids=str)
def site(request, tmp_path_factory):
    make, *arguments = SITES[request.param]
    return make(tmp_path_factory.mktemp(request.param), *arguments)


def test_on_its_own_grid_a_block_holds_what_the_file_says(site):
    found = read_block(site.items, site.grid, bands=tuple(site.expected), rule=site.rule)
    for band, expected in site.expected.items():
        # reflectance is exact to float32; decibels went through float32 power and back
        np.testing.assert_allclose(found[band], expected, rtol=1e-6, atol=1e-4 if site.rule.units == "dB" else 0)


def projected(grid, step=10.0):
    """A grid in another CRS around the same place, larger than it."""
    crs = "EPSG:3035" if str(grid.crs) in ("EPSG:32631", "EPSG:32632") else "EPSG:6933"
    box = grid.extent.to_crs(crs).boundingbox
    size = int(max(box.span_x, box.span_y) / step) + 20
    return box_at(crs, round(box.left, -1) - 100, round(box.top, -1) + 100, size=size, step=step)


def test_cube_and_block_agree_on_another_grid(site):
    """To 1e-6 of the value: one resampler serves both, only positions are rounded differently (1e-6 px) in chunks."""
    grid, bands = projected(site.grid), tuple(site.expected)
    block = read_block(site.items, grid, bands=bands, rule=site.rule)
    with dask.config.set(scheduler="sync"):
        cube = open_cube(site.items, grid, bands=bands, rule=site.rule, chunks=100).load()
    for band in bands:
        np.testing.assert_allclose(cube[band], block[band], rtol=1e-6, atol=1e-5 if site.rule.units == "dB" else 1e-7)
        assert np.isfinite(block[band]).any()
        assert np.isnan(block[band][0]).any()


def test_a_block_on_another_grid_holds_values_of_the_place(site):
    band = next(iter(site.expected))
    found = read_block(site.items, projected(site.grid), bands=(band,), rule=site.rule)[band]
    expected = site.expected[band]
    low, high = np.nanmin(expected), np.nanmax(expected)
    assert np.nanmin(found) >= low - 1e-4
    assert np.nanmax(found) <= high + 1e-4
    if site.rule.mask is None:  # clouds leave too little to compare means
        assert np.nanmean(found) == pytest.approx(np.nanmean(expected), rel=0.05)


@pytest.mark.filterwarnings("ignore:(All-NaN slice|Mean of empty slice):RuntimeWarning")
def test_composites_are_those_of_numpy(site):
    bands = tuple(site.expected)
    block = read_block(site.items, site.grid, bands=bands, rule=site.rule)
    median, n_valid = compose(block, "median")
    mean, _ = compose(block, "mean")
    np.testing.assert_array_equal(n_valid, np.isfinite(site.expected[bands[0]]).sum(axis=0))
    for k, band in enumerate(bands):
        expected = site.expected[band]
        decibel = site.rule.units == "dB"
        np.testing.assert_allclose(median[k], np.nanmedian(expected, axis=0), rtol=1e-5, atol=1e-4 if decibel else 0)
        power = 10 ** (expected / 10) if decibel else expected
        average = np.nanmean(power, axis=0)
        average = 10 * np.log10(average) if decibel else average
        np.testing.assert_allclose(mean[k], average, rtol=1e-5, atol=1e-4 if decibel else 0)
