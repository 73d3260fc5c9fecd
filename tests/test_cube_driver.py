"""Only what is asked for is read: pixels that are clear, and files that still have something to give."""

from pathlib import Path

import numpy as np
import pytest
from scenes import HERE, OLD, S2, SIDE, box_at, clear, flat, reflectance, s2, write_item

from mapper.access.files import Access
from mapper.access.rules import AccessRule
from mapper.access.tally import AssetName
from mapper.catalog.items import freeze_items
from mapper.cube.read import read_block
from mapper.cube.resample import Sampler

BOTH = box_at("EPSG:32633", 300000, 5700000, size=(64, 96))
LATER = "2020-06-01T10:00:10Z"


def block(items, geobox=HERE):
    return read_block(freeze_items(items), geobox, bands=("B02",), rule=S2)["B02"].values


def test_a_file_whose_pixels_are_all_known_is_not_opened(tmp_path):
    first, second = s2(tmp_path, "a", value=1000), s2(tmp_path, "b", LATER, value=2000)
    Path(second["assets"]["B02"]["href"]).unlink()
    np.testing.assert_allclose(block([first, second]), 0.1, rtol=1e-6)


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
    (found,) = block([first, s2(tmp_path, "b", LATER, value=2000, place=SIDE)], BOTH)
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
    options = {"access": Access(), "rule": AccessRule(), "resampling": how, "missing": (0.0,)}
    whole = Sampler().read(name, turned, **options)
    assert 0.05 < np.isnan(whole).mean() < 0.4
    wanted = rng.random(turned.shape) < 0.3
    wanted[100:250] = False
    found = Sampler().read(name, turned, **options, wanted=wanted)
    np.testing.assert_array_equal(found, np.where(wanted, whole, np.nan))
