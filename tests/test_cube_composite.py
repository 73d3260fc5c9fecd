"""From dates to the guide: reducers against numpy, channels in order, gaps counted, broken items left out and noted."""

from pathlib import Path

import numpy as np
import pytest
import rasterio
import shapely
import xarray as xr
from scenes import HERE, NEW, OLD, S1, S2, box_at, clear, flat, reflectance, s2, write_item

from mapper.catalog.items import Items, freeze_items
from mapper.catalog.provider import Provider
from mapper.catalog.query import make_queries
from mapper.cube.composite import check_guide, compose, read_guide
from mapper.cube.read import read_block
from mapper.errors import SpecError
from mapper.spec import parse_spec

PROVIDER = Provider(
    name="test",
    title="",
    kind="static",
    licence="",
    attribution="",
    collections={"sentinel-2-l2a": S2, "sentinel-1-rtc": S1},
)
SUMMER = {"summer": [6, 7, 8]}


def spec_of(*layers, seasons=SUMMER):
    content = {
        "name": "test",
        "area": {"bbox": [8, 50, 9, 51]},
        "period": {"start": "2020-01-01", "end": "2020-12-31"},
        "grid": {"resolution": 10},
        "catalog": {"provider": "demo"},
        "guide": {"layers": list(layers), "seasons": seasons},
        "source": {"collection": "esa-cci-biomass", "variable": "agb", "resolution": 100},
        "model": {"name": "bicubic"},
        "store": "map.icechunk",
    }
    return parse_spec(content, base=Path())


def optical(*bands, **more):
    return {"collection": "sentinel-2-l2a", "bands": list(bands or ["B02"]), **more}


def radar(*bands, **more):
    return {"collection": "sentinel-1-rtc", "bands": list(bands or ["vv"]), **more}


def s1(folder, item_id, when, *, power=0.1, bands=("vv",), **properties):
    assets = {band: flat(power, dtype=np.float32) for band in bands}
    return write_item(folder, item_id, when, assets, collection="sentinel-1-rtc", **properties)


def guide(items, spec, geobox=HERE, **options):
    return read_guide(freeze_items(items), geobox, spec=spec, provider=PROVIDER, **options)


def stack(units="1", *, dates=9, seed=0):
    rng = np.random.default_rng(seed)
    values = rng.normal(-12, 4, (dates, 20, 30)).astype(np.float32)
    values[rng.random(values.shape) < 0.4] = np.nan
    values[:, 0, 0] = np.nan
    return xr.Dataset({"a": (("time", "y", "x"), values, {"units": units}), "b": (("time", "y", "x"), values * 2)})


@pytest.mark.filterwarnings("ignore:All-NaN slice:RuntimeWarning")
def test_the_median_is_that_of_numpy():
    dataset = stack()
    values, n_valid = compose(dataset, "median")
    np.testing.assert_allclose(values[0], np.nanmedian(dataset["a"], axis=0), rtol=1e-6)
    np.testing.assert_allclose(values[1], np.nanmedian(dataset["b"], axis=0), rtol=1e-6)
    np.testing.assert_array_equal(n_valid, np.isfinite(dataset["a"]).sum("time"))
    assert (values.dtype, n_valid.dtype) == (np.float32, np.uint16)
    assert np.isnan(values[:, 0, 0]).all()


@pytest.mark.filterwarnings("ignore:Mean of empty slice:RuntimeWarning")
def test_the_mean_of_decibels_is_taken_in_linear_power():
    dataset = stack("dB")
    expected = 10 * np.log10(np.nanmean(10 ** (dataset["a"].values.astype(np.float64) / 10), axis=0))
    np.testing.assert_allclose(compose(dataset, "mean")[0][0], expected, atol=1e-4)
    np.testing.assert_allclose(compose(stack("1"), "mean")[0][0], np.nanmean(dataset["a"], axis=0), rtol=1e-5)


def test_no_dates_make_a_missing_image():
    values, n_valid = compose(stack().isel(time=slice(0, 0)), "median")
    assert np.isnan(values).all()
    assert not n_valid.any()


@pytest.fixture(scope="module")
def year(tmp_path_factory):
    """Optical and radar scenes of every second month, noisy and half cloudy."""
    folder, rng = tmp_path_factory.mktemp("year"), np.random.default_rng(5)
    items = []
    for month in range(1, 13, 2):
        mask = rng.choice(np.array([4, 9], np.uint8), HERE.shape), HERE
        noisy = {band: (reflectance(rng, HERE.shape), HERE) for band in ("B02", "B04")} | {"SCL": mask}
        items.append(
            write_item(folder, f"s2-{month}", f"2020-{month:02d}-03T10:00:00Z", noisy, **(NEW if month > 6 else OLD))
        )
        powers = {band: (rng.gamma(4, 0.02, HERE.shape).astype(np.float32), HERE) for band in ("vv", "vh")}
        orbit = "ascending" if month % 4 == 1 else "descending"
        items.append(
            write_item(
                folder,
                f"s1-{month}",
                f"2020-{month:02d}-05T05:00:00Z",
                powers,
                collection="sentinel-1-rtc",
                **{"sat:orbit_state": orbit},
            )
        )
    return freeze_items(items)


def test_channels_are_composites_of_blocks_in_the_order_of_the_spec(year):
    spec = spec_of(
        optical("B04", "B02"),
        radar("vv", "vh", orbit="ascending"),
        seasons={"summer": [5, 6, 7, 8], "winter": [11, 12, 1, 2, 3]},
    )
    found = read_guide(year, HERE, spec=spec, provider=PROVIDER)
    assert found.values.shape == (8, *HERE.shape)
    for k, channel in enumerate(spec.guide.channels):
        rule = PROVIDER.rule(channel.collection)
        items = year.of(channel.collection).in_months(channel.months).on_orbit(channel.orbit)
        expected, _ = compose(read_block(items, HERE, bands=(channel.band,), rule=rule), rule.reducer)
        np.testing.assert_array_equal(found.values[k], expected[0])
    np.testing.assert_array_equal(found.gaps, np.isnan(found.values).any(axis=0))
    counts = [
        np.isfinite(read_block(year.of("sentinel-2-l2a").in_months(months), HERE, bands=("B04",), rule=S2)["B04"])
        for months in spec.guide.seasons.values()
    ]
    np.testing.assert_array_equal(found.n_valid, sum(count.sum("time") for count in counts))


def test_the_spec_chooses_the_reducer(year):
    mean = read_guide(year, HERE, spec=spec_of(optical(reducer="mean")), provider=PROVIDER)
    block = read_block(year.of("sentinel-2-l2a").in_months((6, 7, 8)), HERE, bands=("B02",), rule=S2)
    np.testing.assert_array_equal(mean.values[0], compose(block, "mean")[0][0])


def test_a_guide_is_the_same_read_whole_or_in_parts(year):
    spec = spec_of(optical("B02"), radar("vv"), seasons={"year": list(range(1, 13))})
    grid = HERE.pad(3)
    whole = read_guide(year, grid, spec=spec, provider=PROVIDER)
    part = read_guide(year, grid[10:41, 3:70], spec=spec, provider=PROVIDER, threads=2)
    np.testing.assert_allclose(part.values, whole.values[:, 10:41, 3:70], rtol=1e-6)
    np.testing.assert_array_equal(part.n_valid, whole.n_valid[10:41, 3:70])


def test_a_season_without_items_is_missing_and_counted_as_such(year):
    found = read_guide(year, HERE, spec=spec_of(optical(), seasons={"none": [2], "some": [3]}), provider=PROVIDER)
    assert np.isnan(found.values[0]).all()
    assert found.gaps.all()
    assert found.n_valid.max() == 1
    assert [use.id for use in found.uses] == ["s2-3"]
    empty = read_guide(Items(items=()), HERE, spec=spec_of(optical()), provider=PROVIDER)
    assert np.isnan(empty.values).all()
    assert empty.uses == ()


def test_only_what_was_asked_for_is_used_and_how_it_was_calibrated_is_noted(year, tmp_path):
    far = s2(tmp_path, "far", "2020-07-01T10:00:00Z", place=HERE.translate_pix(3000, 0))
    found = guide([*year, far], spec_of(optical("B02", "B04")))
    (use,) = found.uses
    assert (use.id, use.role, use.collection, use.dropped) == ("s2-7", "guide", "sentinel-2-l2a", "")
    assert use.calibration == "(DN - 1000) / 10000: processing baseline 05.00"
    assert [Path(href).name for href in use.hrefs] == ["B02.tif", "B04.tif", "SCL.tif"]
    assert use.datetime.isoformat() == "2020-07-03T10:00:00+00:00"


def test_a_broken_item_is_left_out_of_all_bands_and_noted(tmp_path, caplog):
    spec = spec_of(optical("B02", "B04"))
    items = [
        write_item(tmp_path, name, f"2020-06-0{k}T10:00:00Z", {"B02": flat(v), "B04": flat(v), "SCL": clear()}, **OLD)
        for k, (name, v) in enumerate({"low": 1000, "bad": 5000, "high": 2000}.items(), start=1)
    ]
    Path(items[1]["assets"]["B04"]["href"]).write_bytes(b"II*\0 cut off")
    found = guide(items, spec)
    np.testing.assert_allclose(found.values, 0.15, rtol=1e-6)
    assert (found.n_valid == 2).all()
    dropped = {use.id: use.dropped for use in found.uses}
    assert dropped["low"] == dropped["high"] == ""
    assert "asset B04 of item bad cannot be read" in dropped["bad"]
    assert "bad" in caplog.text


def test_with_every_item_broken_the_guide_is_missing(tmp_path):
    item = s2(tmp_path, "bad")
    Path(item["assets"]["SCL"]["href"]).unlink()
    found = guide([item], spec_of(optical()))
    assert np.isnan(found.values).all()
    assert found.uses[0].dropped


def test_an_item_without_mask_is_left_out_and_noted(tmp_path):
    bare = write_item(tmp_path, "bare", "2020-06-01T10:00:00Z", {"B02": flat(9000)}, **OLD)
    found = guide([bare, s2(tmp_path, "fine", "2020-06-03T10:00:00Z")], spec_of(optical()))
    np.testing.assert_allclose(found.values, 0.15, rtol=1e-6)
    assert {use.id: use.dropped for use in found.uses} == {"bare": "item has no mask asset SCL", "fine": ""}


def test_a_band_missing_in_some_items_or_in_the_tile_is_a_gap_and_noted(tmp_path):
    spec = spec_of(radar("vv", "vh"))
    single, full = (
        s1(tmp_path, "single", "2020-06-01T05:00:00Z"),
        s1(tmp_path, "full", "2020-06-03T05:00:00Z", power=0.001, bands=("vv", "vh")),
    )
    both = guide([single, full], spec)
    np.testing.assert_allclose(both.values[1], -30, atol=1e-4)
    assert "no vh" in {use.id: use.calibration for use in both.uses}["single"]
    alone = guide([single], spec)
    assert np.isnan(alone.values[1]).all()
    np.testing.assert_allclose(alone.values[0], -10, atol=1e-4)


def test_a_map_of_which_no_item_has_a_band_or_says_its_calibration_is_refused(tmp_path):
    single = freeze_items([s1(tmp_path, "single", "2020-06-01T05:00:00Z")])
    check_guide(single, spec=spec_of(radar("vv")), provider=PROVIDER)
    with pytest.raises(SpecError, match="vh"):
        check_guide(single, spec=spec_of(radar("vv", "vh")), provider=PROVIDER)
    silent = freeze_items([s2(tmp_path, "silent", **{"s2:processing_baseline": None})])
    with pytest.raises(SpecError, match="item silent declares neither"):
        check_guide(silent, spec=spec_of(optical()), provider=PROVIDER)


def test_what_does_not_change_is_one_channel_whatever_its_date(tmp_path):
    heights = Provider(
        name="test",
        title="",
        kind="static",
        licence="",
        attribution="",
        collections={
            "sentinel-2-l2a": S2,
            "dem": {
                "bands": {"elevation": "data"},
                "units": "m",
                "calibration": "identity",
                "dtype": "float32",
                "nodata": None,
            },
        },
    )
    dem = write_item(tmp_path, "dem", "2011-02-03T00:00:00Z", {"data": flat(812.5, dtype=np.float32)}, collection="dem")
    layers = {"collection": "dem", "bands": ["elevation"], "static": True}, optical()
    spec = spec_of(*layers, seasons={"spring": [4, 5], "summer": [6, 7]})
    assert [channel.name for channel in spec.guide.channels] == ["spring_B02", "summer_B02", "elevation"]
    items = freeze_items(
        [dem, s2(tmp_path, "may", "2020-05-03T10:00:00Z"), s2(tmp_path, "june", "2020-06-03T10:00:00Z")]
    )
    found = read_guide(items, HERE, spec=spec, provider=heights)
    assert (found.values[2] == 812.5).all()
    assert (found.n_valid == 2).all()
    queries = {query.collection: query for query in make_queries(spec)}
    assert queries["dem"].accepts(dem | {"geometry": shapely.geometry.mapping(spec.area.geometry)})
    assert queries["sentinel-2-l2a"].months == {4, 5, 6, 7}


def test_a_collection_is_static_or_not():
    with pytest.raises(SpecError, match="sentinel-2-l2a is both static and not"):
        spec_of(optical("B02"), optical("B03", static=True))


def local_crs(path):
    """Give a file an engineering CRS, of which PROJ knows no way to any other."""
    with rasterio.open(path, "r+", IGNORE_COG_LAYOUT_BREAK="YES") as file:
        file.crs = rasterio.crs.CRS.from_wkt('LOCAL_CS["site",UNIT["metre",1],AXIS["x",EAST],AXIS["y",NORTH]]')


def no_place(path):
    with rasterio.open(path, "r+", IGNORE_COG_LAYOUT_BREAK="YES") as file:
        file.transform = rasterio.Affine(10, 0, float("nan"), 0, -10, 5700000)


def text(path):
    Path(path).write_text('<VRTDataset rasterXSize="1">')


@pytest.mark.parametrize("spoil", [local_crs, no_place, text])
def test_whatever_is_wrong_with_a_file_costs_its_item_and_no_other(tmp_path, spoil):
    items = [
        write_item(tmp_path, name, f"2020-06-0{k}T10:00:00Z", {"B02": flat(v), "SCL": clear()}, **OLD)
        for k, (name, v) in enumerate({"low": 1000, "bad": 5000, "high": 2000}.items(), start=1)
    ]
    spoil(items[1]["assets"]["B02"]["href"])
    found = guide(items, spec_of(optical("B02")))
    np.testing.assert_allclose(found.values, 0.15, rtol=1e-6)
    dropped = {use.id: use.dropped for use in found.uses}
    assert dropped["low"] == dropped["high"] == ""
    assert "asset B02 of item bad cannot be read" in dropped["bad"]
    assert "\n" not in dropped["bad"]


def test_an_item_drawn_round_the_world_adds_nothing_where_its_file_is_not(tmp_path):
    far = box_at("EPSG:32760", 500000, 9950000, size=64)
    items = [s2(tmp_path, "near"), s2(tmp_path, "far", "2020-06-03T10:00:00Z", value=9000, place=far)]
    items[1] |= {"geometry": shapely.geometry.mapping(shapely.box(-180, -90, 180, 90)), "bbox": [-180, -90, 180, 90]}
    found = guide(items, spec_of(optical("B02")))
    np.testing.assert_allclose(found.values, 0.15, rtol=1e-6)
    assert (found.n_valid == 1).all()
