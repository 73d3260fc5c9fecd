"""The lazy cube holds the numbers of the eager block, laid out without reading."""

from pathlib import Path

import dask
import numpy as np
import odc.stac
import pystac
import pytest
import xarray as xr
from odc.geo.geobox import GeoBox
from pyproj import Transformer
from rasterio import Affine
from run_maps import make_items, make_spec
from scenes import HERE, MAP, S1, S2, SIDE, ZONE_BORDER, box_at, flat, s2, write_item, write_passes

from mapper.catalog.freeze import save_items
from mapper.catalog.items import Items, freeze_items
from mapper.catalog.provider import Provider, load_provider
from mapper.cube.inspection import inspect_item
from mapper.cube.open import open_cube
from mapper.cube.projection import find_place
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


BANDS = ("B02", "B03", "B04", "B08", "B11", "B12")
SEASON = box_at("EPSG:3035", 4450880, 3120640, size=2048)


def describe_overpasses():
    """24 items of 16 dates over SEASON, in two UTM zones, as an archive describes them; no file exists."""
    items = []
    for date, zone in [(date, zone) for date in range(16) for zone in (32, 33) if date % 2 == 0 or zone == 32]:
        pixels = box_at(f"EPSG:326{zone}", 690000 if zone == 32 else 280000, 5555000, size=2600)
        footprint = pixels.footprint("EPSG:4326")
        projection = {"proj:epsg": 32600 + zone, "proj:shape": [2600, 2600], "proj:transform": [*pixels.transform[:6]]}
        items.append(
            {
                "type": "Feature",
                "stac_version": "1.0.0",
                "id": f"{date}-{zone}",
                "collection": "sentinel-2-l2a",
                "geometry": footprint.json,
                "bbox": list(footprint.boundingbox.bbox),
                "properties": {
                    "datetime": f"2021-06-{date + 1:02}T10:10:{zone}Z",
                    "platform": "sentinel-2a",
                    "s2:processing_baseline": "04.00",
                },
                "assets": {key: {"href": f"/none/{date}-{zone}/{key}.tif", **projection} for key in (*BANDS, "SCL")},
                "links": [],
            }
        )
    return freeze_items(items)


def count_tasks(cube):
    (best,) = dask.optimize(cube)
    return len(dict(best.__dask_graph__()))


@pytest.mark.parametrize("chunk", [1024, 512])
def test_a_cube_has_at_most_three_times_the_tasks_of_odc_stac(chunk):
    items = describe_overpasses()
    ours = open_cube(items, SEASON, bands=BANDS, rule=load_provider("demo").rule("sentinel-2-l2a"), chunks=chunk)
    theirs = odc.stac.load(
        [pystac.Item.from_dict(item) for item in items],
        bands=[*BANDS, "SCL"],
        geobox=SEASON,
        chunks={"x": chunk, "y": chunk},
        groupby="solar_day",
        stac_cfg={"sentinel-2-l2a": {"assets": {"*": {"data_type": "uint16", "nodata": 0}}}},
    )
    assert (len(items), ours.sizes["time"], theirs.sizes["time"]) == (24, 16, 16)
    assert count_tasks(ours) <= 3 * count_tasks(theirs)


def test_a_band_alone_needs_no_task_of_another():
    cube = open_cube(describe_overpasses(), SEASON, bands=BANDS, rule=load_provider("demo").rule("sentinel-2-l2a"))
    assert count_tasks(cube[["B02"]]) < count_tasks(cube) / 2


def test_chunks_have_a_size_for_each_dimension(passes):
    cube = open_cube(passes, ZONE_BORDER, bands="B02", rule=S2, chunks={"time": -1, "y": 128, "x": 100})
    assert cube["B02"].chunks == ((2,), (128, 128), (100, 100, 56))
    assert_same(passes, ZONE_BORDER, S2, ("B02",), chunks={"time": 2, "x": 100})


def test_values_have_the_type_that_is_asked_for(passes):
    cube = open_cube(passes, ZONE_BORDER, bands="B02", rule=S2, dtype="float64")
    assert cube["B02"].dtype == cube["B02"].compute(scheduler="sync").dtype == np.float64
    with pytest.raises(SpecError, match="NaN marks what is missing; got uint16"):
        open_cube(passes, ZONE_BORDER, bands="B02", rule=S2, dtype="uint16")


@pytest.mark.parametrize("resampling", ["nearest", {"B02": "cubic"}])
def test_resampling_goes_before_the_rule(passes, resampling):
    kernel = resampling if isinstance(resampling, str) else resampling["B02"]
    cube = open_cube(passes, ZONE_BORDER, bands=["B02"], rule=S2, resampling=resampling).load()
    xr.testing.assert_allclose(
        cube, read_block(passes, ZONE_BORDER, bands=["B02"], rule=S2.model_copy(update={"resampling": kernel}))
    )


def test_time_steps_are_passes_days_or_items(tmp_path):
    items = freeze_items(
        [
            s2(tmp_path, "a", value=1500, platform="sentinel-2a"),
            s2(tmp_path, "b", value=2500, place=SIDE, platform="sentinel-2a"),
            s2(tmp_path, "c", value=3500, place=SIDE, platform="sentinel-2b"),
        ]
    )
    cubes = {way: open_cube(items, HERE, bands="B02", rule=S2, groupby=way) for way in ("pass", "solar_day", "item")}
    assert {way: cube.sizes["time"] for way, cube in cubes.items()} == {"pass": 2, "solar_day": 1, "item": 3}
    assert list(cubes["item"]["group"].values) == ["a", "b", "c"]
    assert cubes["solar_day"]["group"].item() == "2020-06-01"
    day = cubes["solar_day"]["B02"].isel(time=0).values
    np.testing.assert_allclose(day, np.full(HERE.shape, 0.15), rtol=1e-6)  # the first that is valid wins


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"resampling": "lanczos"}, "resampling is one of nearest, bilinear, cubic"),
        ({"groupby": "month"}, "groupby is one of pass, solar_day, item, got 'month'"),
        ({"chunks": {"band": 1}}, "dimension of chunks is one of time, y, x, got 'band'"),
        ({"chunks": 0}, "at least 1 pixel"),
        ({"bands": None}, "needs a geobox, bands and a rule"),
    ],
)
def test_arguments_that_are_none_are_refused(passes, options, words):
    with pytest.raises(SpecError, match=words):
        open_cube(passes, ZONE_BORDER, **({"bands": "B02", "rule": S2} | options))


def test_a_cube_too_large_for_one_graph_is_refused():
    items = describe_overpasses()
    with pytest.raises(GridError, match="give a smaller geobox or larger chunks"):
        open_cube(items, SEASON, bands="B02", rule=load_provider("demo").rule("sentinel-2-l2a"), chunks=8)


def test_a_map_says_what_its_cube_is_made_of(tmp_path):
    items = make_items(tmp_path / "rasters")
    save_items(items, tmp_path / "items.parquet")
    spec = make_spec(tmp_path, catalog={"provider": "demo", "href": str(tmp_path / "items.parquet")})
    path = tmp_path / "map.yaml"
    path.write_text(spec.to_yaml())
    cube, rule = open_cube(path, chunks=64), load_provider("demo").rule("sentinel-2-l2a")
    expected = read_block(items.of("sentinel-2-l2a"), spec.map_grid.geobox, bands=("B04", "B08"), rule=rule)
    xr.testing.assert_allclose(cube.load(), expected)
    xr.testing.assert_equal(open_cube(spec).load(), cube)
    assert (tmp_path / "map.items.parquet").exists()
    source = open_cube(str(path), collection="esa-cci-biomass")
    assert (list(source), source["agb"].attrs["units"]) == (["agb", "agb_sd"], "Mg ha-1")
    with pytest.raises(SpecError, match="reads nothing of sentinel-1"):
        open_cube(path, collection="sentinel-1-rtc")


# -- what an item says of its place and what its file says


AWAY = HERE.translate_pix(900, -400)
CONTRADICTIONS = {
    "transform of another scale": {"proj:transform": [20, 0, 300000, 0, -20, 5700000]},
    "transform of another place": {"proj:transform": [10, 0, 309000, 0, -10, 5704000]},
    "transform in the order of gdal": {"proj:transform": [300000, 10, 0, 5700000, 0, -10]},
    "transform and shape turned": {"proj:shape": [640, 6]},
    "another zone": {"proj:epsg": 32634},
    "code and epsg": {"proj:code": "EPSG:32634"},
    "no code": {"proj:epsg": None, "proj:code": "none"},
    "another wkt": {"proj:wkt2": "PROJCRS[]"},
    "another projjson": {"proj:projjson": {"type": "nothing"}},
    "a box elsewhere": {"proj:bbox": [0, 0, 640, 640]},
    "a box and no transform": {"proj:bbox": [0, 0, 640, 640], "proj:transform": None},
    "numbers that are none": {"proj:transform": ["a", 0, 0, 0, 0, 0]},
}


def lay_elsewhere(served):
    outline = AWAY.footprint("EPSG:4326")
    return served | {"geometry": outline.json, "bbox": list(outline.boundingbox.bbox)}


@pytest.fixture(scope="module")
def placed(tmp_path_factory):
    return s2(tmp_path_factory.mktemp("placed"), "a")


@pytest.mark.parametrize("name", [*CONTRADICTIONS, "a footprint elsewhere", "both elsewhere, apart"])
def test_where_an_item_contradicts_itself_cube_block_and_check_agree(placed, name):
    asset = placed["assets"]["B02"] | CONTRADICTIONS.get(name, {})
    served = placed | {"assets": {"B02": asset, "SCL": placed["assets"]["SCL"]}}
    if name.startswith(("a footprint", "both")):
        served = lay_elsewhere(served)
    if name.startswith("both"):
        served["assets"]["B02"] = asset | {"proj:transform": [10, 0, 250000, 0, -10, 5600000]}
    eager = assert_same(freeze_items([served]), HERE, S2, ("B02",), chunks=40)
    np.testing.assert_allclose(eager["B02"], 0.15, rtol=1e-6)
    place = find_place(served, "B02")
    if name not in ("no code", "another wkt", "another projjson", "transform of another scale"):
        assert place.grid is None
        assert "contradicts itself" in place.doubt
    provider = Provider(
        name="p", title="", kind="static", licence="", attribution="", collections={"sentinel-2-l2a": S2}
    )
    (reading, *_) = inspect_item(served, provider)
    assert (reading.error, reading.place) == ("", place.doubt)


def test_what_an_item_says_without_contradiction_is_where_its_file_is_looked_for(placed):
    served = lay_elsewhere(placed | {"assets": {k: dict(v) for k, v in placed["assets"].items()}})
    for asset in served["assets"].values():
        asset["proj:transform"] = list(AWAY.transform)[:6]
    for place, opened in ((HERE, False), (AWAY, True)):
        eager = assert_same(freeze_items([served]), place, S2, ("B02",))
        assert np.isnan(eager["B02"]).all()  # beside the file, whether it is opened or not
        assert len(freeze_items([served]).touching(place)) == opened


def test_a_file_is_opened_for_the_chunks_that_its_item_may_lie_in_only(placed):
    wide, opened = HERE.pad_wh(1000, 64), []
    cube = open_cube(freeze_items([placed]), wide, bands=("B02",), rule=S2, chunks=64)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("mapper.cube.open.Sampler.read", lambda *_, **__: opened.append(1))
        cube["B02"].compute(scheduler="sync")
    assert len(opened) == 2 * 2  # the mask and the band, in the chunk it covers and the one it touches


@pytest.mark.parametrize("x", [829000, 833000])
def test_a_cube_across_180_degrees_is_the_block(tmp_path, x):
    # the file in the zone west of 180 degrees, the window in that east of it
    fiji = box_at("EPSG:32760", x, 8170000, size=256, step=20.0)
    east, north = Transformer.from_crs("EPSG:32760", "EPSG:32701", always_xy=True).transform(x + 2560, 8170000 - 2560)
    grid = box_at("EPSG:32701", round(east, -2) - 2000, round(north, -2) + 2000, size=200, step=20.0)
    item = s2(tmp_path, "fiji", place=fiji) | {"geometry": None}
    west, south, right, top = Transformer.from_crs("EPSG:32760", "EPSG:4326", always_xy=True).transform_bounds(
        *fiji.boundingbox.bbox
    )
    items = freeze_items([item | {"geometry": None, "bbox": [west, south, right, top]}])
    eager = assert_same(items, grid, S2, ("B02",), chunks=64)
    assert np.isfinite(eager["B02"]).mean() > 0.9
    assert len(items.touching(grid)) == 1
