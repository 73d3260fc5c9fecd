"""Folders of stacks: dates, masks, truth, and lattices that differ by parts of a pixel."""

import numpy as np
import pytest
from scene_folders import write_image
from shared import SHARED

from mapper.errors import InputError
from mapper.training.image_stacks import read_stacks
from mapper.training.scene_files import count_days, find_day

PIECES = SHARED / "super_resolution" / "naip"
ORIGIN = (500000.0, 4000000.0)


@pytest.fixture
def folder(tmp_path):
    random = np.random.default_rng(0)
    for at, (day, offset) in enumerate((("20200810", (0, 0)), ("20200831", (2.5, -4)), ("2020-09-15", (-1, 3)))):
        image = random.integers(1, 255, (3, 12, 14)).astype(np.uint8)
        image[:, at, 0] = 0
        image[1, 5, 5] = 0  # dark in one band alone
        origin = ORIGIN[0] + offset[0], ORIGIN[1] + offset[1]
        write_image(tmp_path / "hill" / f"{day}.tif", image, origin=origin, nodata=0)
    mask = np.ones((12, 14), np.uint8)
    mask[7:] = 0
    write_image(tmp_path / "hill" / "20200831_clear.tif", mask, origin=ORIGIN)
    truth = random.integers(1, 255, (3, 24, 28)).astype(np.uint8)
    write_image(tmp_path / "hill" / "truth_20200901.tif", truth, origin=(ORIGIN[0] + 2.5, ORIGIN[1] - 4), px=5.0)
    (tmp_path / "anchors.json").write_text('{"hill": "20200831"}')
    return tmp_path


def test_dates_masks_truth_and_known_shifts(folder):
    (scene,) = read_stacks(folder, value_range=255, units="DN")
    assert (scene.name, scene.scale, scene.anchor, scene.value_range) == ("hill", 2, 1, 255)
    assert scene.days.tolist() == [-22, -1, 14]
    assert [int((~np.isfinite(date)).all(0).sum()) for date in scene.dates] == [1, 1, 1]
    assert (scene.dates[:, 1, 5, 5] == 0).all()
    assert scene.clear[0].sum() == 12 * 14 - 1
    assert scene.clear[1].sum() == 7 * 14 - 1
    # the first date starts 2.5 m west and 4 m north of the truth: what that shows lies further right and down there
    np.testing.assert_allclose(scene.shift, [[0.4, 0.25], [0, 0], [0.7, 0.35]], atol=1e-9)


def test_shift_says_where_the_same_ground_is(tmp_path):
    ramp = np.add.outer(np.arange(12.0) * 7, np.arange(14.0) * 3)[None].astype(np.float32) + 5
    down, right = 0.3, -0.4
    # the same ground on a lattice whose pixel (0, 0) lies (-down, -right) from that of the first
    moved = ramp - 7 * np.float32(down) - 3 * np.float32(right)
    write_image(tmp_path / "20200101.tif", ramp, origin=ORIGIN)
    write_image(tmp_path / "20200102.tif", moved, origin=(ORIGIN[0] - 10 * right, ORIGIN[1] + 10 * down))
    (scene,) = read_stacks(tmp_path, value_range=100)
    np.testing.assert_allclose(scene.shift[1], [down, right], atol=1e-9)
    assert scene.truth is None
    assert scene.scale == 1


def test_infrared_that_a_file_calls_opacity_is_a_band(tmp_path):
    image = np.random.default_rng(1).integers(1, 255, (4, 6, 6)).astype(np.uint8)
    image[3, 0, 0] = 0
    write_image(tmp_path / "20200101.tif", image, origin=ORIGIN)
    (scene,) = read_stacks(tmp_path, value_range=255)
    np.testing.assert_array_equal(scene.dates[0], image)
    assert scene.clear.all()


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("20200810.tif", {"origin": (ORIGIN[0] + 30, ORIGIN[1])}, "20200810.tif lies .* less than 2 px away"),
        ("20200810.tif", {"origin": ORIGIN, "px": 11.0}, "20200810.tif lies .* expected one CRS and pixel"),
        ("20200810.tif", {"origin": ORIGIN, "crs": "EPSG:32634"}, "20200810.tif lies .* expected one CRS"),
        ("20200810.tif", {}, "20200810.tif lies .* expected one CRS"),
        ("20200831.tif", {"rows": 11, "origin": ORIGIN}, r"20200831.tif has .* expected \(3, 12, 14\) as 20200810.tif"),
        ("truth_20200901.tif", {"rows": 13, "origin": ORIGIN}, r"truth_20200901.tif has \(band, y, x\) \(3, 13, 14\)"),
        ("truth.tif", {"origin": ORIGIN}, "3 dates and 2 truths"),
        ("20200831_b.tif", {"origin": ORIGIN}, "2 dates that are the anchor '20200831'"),
    ],
)
def test_what_does_not_fit_is_named(folder, name, changes, message):
    place = {key: value for key, value in changes.items() if key != "rows"}
    write_image(folder / "hill" / name, np.ones((3, changes.get("rows", 12), 14), np.uint8), **place)
    with pytest.raises(InputError, match=message):
        read_stacks(folder, value_range=255)


def test_names_hold_dates():
    names = ["S2_20200229T1", "a-2020-02-30_2021_03", "x20201301", "12345678", "global_monthly_2018_07_mosaic"]
    found = [find_day(name) for name in names]
    assert [day and day.isoformat() for day in found] == ["2020-02-29", "2021-03-01", None, None, "2018-07-01"]
    np.testing.assert_array_equal(count_days(found), [608, 974, np.nan, np.nan, 0])


@pytest.mark.skipif(not PIECES.is_dir(), reason=f"real pieces not found at {PIECES}")
def test_real_summers_on_grids_that_differ():
    (scene,) = read_stacks(PIECES / "west", value_range=255)
    assert scene.dates.shape == (10, 4, 384, 384)
    assert scene.days[0] == 0
    assert scene.days[-1] == 4031
    # 2009 starts 2 m north of 2010; 2016 lies .6 m and 1.2 m off that
    np.testing.assert_allclose(scene.shift[1], [-0.4, 0], atol=1e-6)
    np.testing.assert_allclose(scene.shift[5] - scene.shift[1], [0.24, -0.12], atol=1e-6)
