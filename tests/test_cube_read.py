"""Reading of blocks: images of passes, missing values and masks; only pixels and files that are needed are read."""

import itertools
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from scenes import (
    HERE,
    MAP,
    NEW,
    OLD,
    S1,
    S2,
    SIDE,
    ZONE_BORDER,
    box_at,
    clear,
    flat,
    reflectance,
    s2,
    write_item,
    write_passes,
)

from mapper.access.files import Access
from mapper.access.rules import AccessRule
from mapper.access.tally import AssetName
from mapper.catalog.items import Items, freeze_items
from mapper.cube.belief import Belief
from mapper.cube.read import read_block
from mapper.cube.resample import Sampler
from mapper.errors import CorruptAssetError, SpecError

BOTH = box_at("EPSG:32633", 300000, 5700000, size=(64, 96))


def block(items, geobox=HERE, bands=("B02",), rule=S2, **options):
    return read_block(freeze_items(items), geobox, bands=bands, rule=rule, **options)


def test_reflectance_has_units_and_coordinates(tmp_path):
    found = block([s2(tmp_path, "a")])
    assert found["B02"].dims == ("time", "y", "x")
    assert found["B02"].dtype == np.float32
    assert found["B02"].attrs["units"] == "1"
    assert found["time"].values[0] == np.datetime64("2020-06-01T10:00:00")
    np.testing.assert_array_equal(found["x"], 300005 + 10 * np.arange(64))
    np.testing.assert_allclose(found["B02"], 0.15, rtol=1e-6)


def test_old_and_new_baselines_of_one_day_are_not_mixed(tmp_path):
    items = [s2(tmp_path, "old", value=1500), s2(tmp_path, "new", value=2500, place=SIDE, **NEW)]
    found = block(items, BOTH)
    assert found.sizes["time"] == 2
    assert np.nanmin(found["B02"]) == pytest.approx(0.15)
    assert np.nanmax(found["B02"]) == pytest.approx(0.15)


def test_items_of_one_pass_are_one_observation_and_the_first_valid_wins(tmp_path):
    left = s2(tmp_path, "a", value=1000)
    right = s2(tmp_path, "b", "2020-06-01T10:00:10Z", value=2000, place=SIDE)
    for items in ([left, right], [right, left]):
        found = block(items, BOTH)
        assert found.sizes["time"] == 1
        np.testing.assert_allclose(found["B02"][0, :, :64], 0.1, rtol=1e-6)
        np.testing.assert_allclose(found["B02"][0, :, 64:], 0.2, rtol=1e-6)


def test_holes_of_the_first_are_filled_by_the_second(tmp_path):
    first = s2(tmp_path, "a", value=1000)
    holey = np.full((64, 64), 1000, np.uint16)
    holey[10:20] = 0
    first = write_item(tmp_path, "a", "2020-06-01T10:00:00Z", {"B02": (holey, HERE), "SCL": clear()}, **OLD)
    found = block([first, s2(tmp_path, "b", "2020-06-01T10:00:10Z", value=2000)])
    np.testing.assert_allclose(found["B02"][0, 10:20], 0.2, rtol=1e-6)
    np.testing.assert_allclose(found["B02"][0, 20:], 0.1, rtol=1e-6)


@pytest.mark.parametrize(
    "other",
    [
        {"when": "2020-06-03T10:00:00Z"},
        {"platform": "sentinel-2b"},
        {"sat:relative_orbit": 22},
        {"sat:orbit_state": "ascending"},
    ],
)
def test_another_day_satellite_or_orbit_is_another_observation(tmp_path, other):
    when = other.pop("when", "2020-06-01T10:00:00Z")
    found = block([s2(tmp_path, "a"), s2(tmp_path, "b", when, **other)])
    assert found.sizes["time"] == 2
    assert len(set(found["group"].values)) == 2


def test_a_pass_over_midnight_utc_is_one_observation(tmp_path):
    # at longitude 12 the sun is 0.8 h ahead of UTC
    first, second = s2(tmp_path, "a", "2020-06-01T23:59:55Z"), s2(tmp_path, "b", "2020-06-02T00:00:05Z", place=SIDE)
    assert block([first, second], BOTH).sizes["time"] == 1


def test_masked_pixels_and_pixels_without_mask_are_missing(tmp_path):
    scl = np.full((32, 32), 4, np.uint8)
    scl[:8], scl[8:12] = 9, 0
    coarse = box_at("EPSG:32633", 300000, 5700000, size=32, step=20.0)
    item = write_item(tmp_path, "a", "2020-06-01T10:00:00Z", {"B02": flat(1500), "SCL": (scl, coarse)}, **OLD)
    found = np.isnan(block([item])["B02"].values[0])
    assert found[:24].all()
    assert not found[24:].any()


def test_bands_of_a_wholly_masked_observation_are_not_read(tmp_path):
    cloudy = s2(tmp_path, "cloudy", scl=9)
    Path(cloudy["assets"]["B02"]["href"]).unlink()
    found = block([cloudy, s2(tmp_path, "fine", "2020-07-01T10:00:00Z")])
    assert np.isnan(found["B02"][0]).all()
    assert not np.isnan(found["B02"][1]).any()


def test_an_item_without_mask_is_left_out(tmp_path):
    bare = write_item(tmp_path, "bare", "2020-06-01T10:00:00Z", {"B02": flat(1500)}, **OLD)
    assert block([bare, s2(tmp_path, "b", "2020-07-01T10:00:00Z")]).sizes["time"] == 1


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_a_band_missing_in_some_items_is_missing_there_in_any_order(tmp_path, order):
    assets = {"full": ("vv", "vh"), "single": ("vv",), "other": ("vh",)}
    stored = {
        name: write_item(
            tmp_path,
            f"{order[k]}-{name}",
            f"2020-06-0{order[k] + 1}T05:00:00Z",
            {band: flat(0.1, dtype=np.float32) for band in bands},
            collection="sentinel-1-rtc",
        )
        for k, (name, bands) in enumerate(assets.items())
    }
    found = block(stored.values(), bands=("vv", "vh"), rule=S1)
    have = {band: ~np.isnan(found[band]).all(axis=(1, 2)).values for band in ("vv", "vh")}
    assert have["vv"][order[0]]
    assert have["vv"][order[1]]
    assert not have["vv"][order[2]]
    assert have["vh"][order[0]]
    assert not have["vh"][order[1]]
    np.testing.assert_allclose(found["vv"][order[0]], -10, atol=1e-5)


def test_a_band_that_no_item_has_is_an_error(tmp_path):
    with pytest.raises(SpecError, match=r"none of the 1 items of sentinel-2-l2a has band B11 \(asset B11\)"):
        block([s2(tmp_path, "a")], bands=("B02", "B11"))
    with pytest.raises(SpecError, match="unknown band B99"):
        block([s2(tmp_path, "a")], bands=("B99",))


def test_no_items_make_no_time_steps():
    found = read_block(Items(items=()), HERE, bands=("B02", "B04"), rule=S2)
    assert dict(found.sizes) == {"time": 0, "y": 64, "x": 64}
    assert found["B04"].dtype == np.float32


def test_an_item_beside_the_block_is_missing_there(tmp_path):
    far = box_at("EPSG:32633", 350000, 5700000, size=64)
    assert np.isnan(block([s2(tmp_path, "a")], far)["B02"]).all()


def test_borders_of_radar_scenes_are_missing_and_not_mixed_in(tmp_path):
    power = np.full((64, 64), 0.1, np.float32)
    power[:20], power[:, :20] = 0, -32768
    item = write_item(tmp_path, "a", "2020-06-01T05:00:00Z", {"vv": (power, HERE)}, collection="s1")
    turned = box_at("EPSG:32633", 300003, 5699996, size=60)
    found = block([item], turned, bands=("vv",), rule=S1)["vv"].values[0]
    assert np.isnan(found[:19, :]).all()
    np.testing.assert_allclose(found[~np.isnan(found)], -10, atol=1e-4)
    assert (~np.isnan(found)).mean() > 0.4


def test_zero_biomass_is_real(tmp_path):
    agb = np.zeros((64, 64), np.uint16)
    agb[:4] = 65535
    item = write_item(tmp_path, "a", "2020-01-01T00:00:00Z", {"agb": (agb, HERE)}, collection="cci")
    found = block([item], bands=("agb",), rule=MAP)["agb"].values[0]
    assert np.isnan(found[:4]).all()
    assert (found[4:] == 0).all()


@pytest.mark.parametrize("kind", ["truncated", "absent"])
def test_a_broken_file_is_named(tmp_path, kind):
    rng = np.random.default_rng(0)
    big = box_at("EPSG:32633", 300000, 5700000, size=512)
    assets = {"B02": (reflectance(rng, (512, 512)), big), "SCL": clear(big)}
    item = write_item(tmp_path, "bad", "2020-06-01T10:00:00Z", assets, **OLD)
    path = Path(item["assets"]["B02"]["href"])
    content = path.read_bytes()
    path.unlink()
    if kind == "truncated":
        path.write_bytes(content[: len(content) // 2])
    with pytest.raises(CorruptAssetError) as caught:
        block([s2(tmp_path, "good", "2020-05-01T10:00:00Z"), item], big)
    assert (caught.value.item, caught.value.asset, caught.value.href) == ("bad", "B02", str(path))


@pytest.fixture(scope="module")
def passes(tmp_path_factory):
    return write_passes(tmp_path_factory.mktemp("passes"))


def test_a_block_is_the_same_read_whole_or_in_parts_and_by_any_number_of_threads(passes):
    grid = ZONE_BORDER
    whole = read_block(passes, grid, bands=("B02",), rule=S2)["B02"].values
    assert 0.1 < np.isnan(whole).mean() < 0.9
    for rows, cols in (
        (slice(0, 100), slice(0, 256)),
        (slice(31, 64), slice(100, 231)),
        (slice(200, 256), slice(5, 9)),
    ):
        part = read_block(passes, grid[rows, cols], bands=("B02",), rule=S2, threads=3)["B02"].values
        np.testing.assert_allclose(part, whole[:, rows, cols], rtol=1e-6)


def test_a_block_wider_than_a_load_chunk_is_whole(tmp_path):
    wide = box_at("EPSG:32633", 300000, 5700000, size=(3, 2100))
    item = s2(tmp_path, "a", place=wide)
    assert not np.isnan(block([item], wide)["B02"]).any()


LATER = "2020-06-01T10:00:10Z"


def test_a_file_whose_pixels_are_all_known_is_not_opened(tmp_path):
    first, second = s2(tmp_path, "a", value=1000), s2(tmp_path, "b", LATER, value=2000)
    Path(second["assets"]["B02"]["href"]).unlink()
    np.testing.assert_allclose(block([first, second])["B02"].values, 0.1, rtol=1e-6)


def test_each_band_is_mosaicked_on_its_own(tmp_path):
    # what one band lacks, another may have
    holey = np.full(HERE.shape, 1000, np.uint16)
    holey[:20] = 0
    assets = {"B02": (holey, HERE), "B04": flat(1000), "SCL": clear()}
    first = write_item(tmp_path, "a", "2020-06-01T10:00:00Z", assets, **OLD)
    second = write_item(tmp_path, "b", LATER, {"B02": flat(2000), "B04": flat(2000), "SCL": clear()}, **OLD)
    found = read_block(freeze_items([first, second]), HERE, bands=("B02", "B04"), rule=S2)
    np.testing.assert_allclose(found["B02"][0, :20], 0.2, rtol=1e-6)
    np.testing.assert_allclose(found["B02"][0, 20:], 0.1, rtol=1e-6)
    np.testing.assert_allclose(found["B04"][0], 0.1, rtol=1e-6)


def test_what_is_not_clear_is_not_filled_by_another_file(tmp_path):
    scl = np.full(HERE.shape, 4, np.uint8)
    scl[:, :10] = 9
    first = write_item(tmp_path, "a", "2020-06-01T10:00:00Z", {"B02": flat(1000), "SCL": (scl, HERE)}, **OLD)
    (found,) = block([first, s2(tmp_path, "b", LATER, value=2000, place=SIDE)], BOTH)["B02"].values
    assert np.isnan(found[:, :10]).all()
    np.testing.assert_allclose(found[:, 10:64], 0.1, rtol=1e-6)
    np.testing.assert_allclose(found[:, 64:], 0.2, rtol=1e-6)


@pytest.mark.parametrize("how", ["nearest", "bilinear", "cubic"])
@pytest.mark.parametrize("dtype", [np.uint16, np.int16, np.int32, np.float32])
def test_wanted_pixels_are_the_same_as_among_all(tmp_path, how, dtype):
    rng = np.random.default_rng(0)
    place = box_at("EPSG:32633", 300000, 5700000, size=320)
    pixels = reflectance(rng, place.shape).astype(dtype)
    pixels[rng.random(place.shape) < 0.1] = 0
    item = write_item(tmp_path, "a", "2020-06-01T10:00:00Z", {"B02": (pixels, place)})
    name = AssetName(item="a", asset="B02", href=item["assets"]["B02"]["href"])
    turned = box_at("EPSG:3035", 4440500, 3128000, size=300)
    turned = turned.translate_pix(*(~turned.transform @ place.to_crs("EPSG:3035").extent.centroid.coords[0]))
    turned = turned.translate_pix(-150, -150)
    options = {"access": Access(), "rule": AccessRule(), "resampling": how}
    options["beliefs"] = [Belief(band="B02", missing=(0.0,))]
    whole = Sampler().read(name, turned, **options)
    assert 0.05 < np.isnan(whole).mean() < 0.4
    wanted = rng.random(turned.shape) < 0.3
    wanted[100:250] = False
    found = Sampler().read(name, turned, **options, wanted=wanted)
    np.testing.assert_array_equal(found, np.where(wanted, whole, np.nan))


def test_threads_that_read_stay_and_none_is_at_work_after_an_error(tmp_path, monkeypatch):
    names, working = set(), set()
    read = Sampler.read

    def watched(sampler, name, geobox, **options):
        me = threading.current_thread()
        names.add(me.name)
        working.add(me)
        try:
            time.sleep(0.02 if name.item == "a" else 0.1)
            return read(sampler, name, geobox, **options)
        finally:
            working.discard(me)

    monkeypatch.setattr(Sampler, "read", watched)
    items = [s2(tmp_path, name, f"2020-06-0{k}T10:00:00Z") for k, name in enumerate("abc", start=1)]
    for _ in range(3):
        assert block(items, threads=3).sizes["time"] == 3
    assert len(names) <= 3
    Path(items[0]["assets"]["B02"]["href"]).write_bytes(b"nothing")
    with pytest.raises(CorruptAssetError) as raised:
        block(items, threads=3)
    assert raised.value.item == "a"
    assert not working
    assert threading.main_thread().name not in names
