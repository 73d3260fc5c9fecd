"""SpaceNet-7's folders with made-up months, and the real pictures with their buildings."""

import json

import numpy as np
import pytest
from scene_folders import write_image
from shared import SHARED

from mapper.errors import InputError
from mapper.training.spacenet7 import read_months

PIECES = SHARED / "super_resolution" / "spacenet7"
CORNER = (1113194.9079327357, 0.0)  # 10 degrees east on the equator, EPSG:3857
DEGREE_M = CORNER[0] / 10


@pytest.fixture
def area(tmp_path):
    random = np.random.default_rng(0)
    for month in ("2018_02", "2018_01", "2018_04"):
        image = random.integers(0, 255, (4, 10, 12)).astype(np.uint8)
        image[3] = 255
        image[3, :2] = 0
        stem = f"global_monthly_{month}_mosaic_L15"
        write_image(tmp_path / "L15" / "images_masked" / f"{stem}.tif", image, origin=CORNER, px=5.0, crs="EPSG:3857")
        west, south = 10 + 10 / DEGREE_M, -40 / DEGREE_M  # columns 2 to 5, rows 4 to 7
        east, north = 10 + 30 / DEGREE_M, -20 / DEGREE_M
        ring = [[west, south], [east, south], [east, north], [west, north], [west, south]]
        shape = {"type": "Feature", "properties": {}, "geometry": {"type": "Polygon", "coordinates": [ring]}}
        labels = tmp_path / "L15" / "labels_match" / f"{stem}_Buildings.geojson"
        labels.parent.mkdir(exist_ok=True)
        labels.write_text(json.dumps({"type": "FeatureCollection", "features": [shape]}))
    return tmp_path / "L15"


def test_months_are_in_order_with_opacity_and_outlines(area):
    for folder in (area, area.parent):
        (scene,) = read_months(folder)
        assert (scene.name, scene.scale, scene.truth) == ("L15", 1, None)
        assert scene.dates.shape == (3, 3, 10, 12)
        assert scene.days.tolist() == [0, 31, 90]
        np.testing.assert_array_equal(scene.clear.all((0, 2)), np.arange(10) >= 2)
        expected = np.zeros((10, 12), bool)
        expected[4:8, 2:6] = True
        np.testing.assert_array_equal(scene.buildings, np.stack([expected] * 3))


def test_a_month_without_outlines_is_named(area):
    for month in ("2018_02", "2018_01", "2018_04"):
        (area / "labels_match" / f"global_monthly_{month}_mosaic_L15_Buildings.geojson").unlink()
        if month != "2018_04":
            with pytest.raises(InputError, match=r"global_monthly_2018_0\d_mosaic_L15.tif has no outlines"):
                read_months(area)
    (scene,) = read_months(area)
    assert scene.buildings is None


def test_other_folders_are_refused(area, tmp_path):
    with pytest.raises(InputError, match="holds no AREA/images_masked and no"):
        read_months(tmp_path / "L15" / "labels_match")
    write_image(area / "images_masked" / "global_monthly_2018_02_mosaic_L15.tif", np.ones((4, 10, 13), np.uint8))
    with pytest.raises(InputError, match=r"2018_02_mosaic_L15"):
        read_months(area)


@pytest.mark.skipif(not PIECES.is_dir(), reason=f"real pieces not found at {PIECES}")
def test_real_pictures():
    scenes = read_months(PIECES)
    assert [scene.name for scene in scenes] == ["01", "03", "05"]
    assert [round(float(scene.buildings.mean()), 3) for scene in scenes] == [0.203, 0.01, 0.194]
    assert all(scene.dates.shape == (1, 3, 512, 512) for scene in scenes)
