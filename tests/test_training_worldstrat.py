"""WorldStrat's folders with made-up images: revisits in order, dates of the table, truth on a whole multiple."""

import numpy as np
import pytest
from scene_folders import write_image

from mapper.errors import InputError
from mapper.training.worldstrat import read_areas

ORIGIN = (92.38, 20.83)


@pytest.fixture
def folder(tmp_path):
    random = np.random.default_rng(0)
    name = "Landcover-77"
    for number in (1, 2, 10):
        image = random.uniform(0, 0.4, (12, 12, 15)).astype(np.float32) + number
        path = tmp_path / "lr_dataset" / name / "L2A" / f"{name}-{number}-L2A_data.tiff"
        write_image(path, image, origin=ORIGIN, px=1e-4, crs="EPSG:4326")
    ramp = np.add.outer(np.linspace(1000, 2000, 80), np.linspace(0, 1000, 100))
    write_image(tmp_path / "hr_dataset" / name / f"{name}_ps.tiff", np.stack([ramp] * 4).astype(np.uint16))
    rows = [f"{name},{n},2021-0{month}-11,2021-03-15" for n, month in ((10, 4), (1, 2), (2, 3))]
    (tmp_path / "metadata.csv").write_text("\n".join(["tile,n,lowres_date,highres_date", *rows]) + "\n")
    return tmp_path


def test_revisits_are_in_the_order_of_their_numbers_with_bands_of_both(folder):
    (scene,) = read_areas(folder, scale=4)
    assert scene.dates.shape == (3, 4, 12, 15)
    assert np.floor(scene.dates[:, 0, 0, 0]).tolist() == [1, 2, 10]
    assert scene.bands == ("B04", "B03", "B02", "B08")
    assert scene.days.tolist() == [-32, -4, 27]
    assert scene.anchor is None


def test_truth_covers_the_same_rectangle_on_a_whole_multiple(folder):
    (scene,) = read_areas(folder, scale=4)
    assert scene.truth.shape == (4, 48, 60)
    rows, cols = np.mgrid[0:48, 0:60]
    # the ramp at the middles of the new pixels
    expected = 1000 * (1 + ((rows + 0.5) * 80 / 48 - 0.5) / 79 + ((cols + 0.5) * 100 / 60 - 0.5) / 99) / 4096
    np.testing.assert_allclose(scene.truth[0], expected, atol=0.004)
    path = folder / "hr_dataset" / "Landcover-77" / "Landcover-77_ps.tiff"
    path.unlink()
    (alone,) = read_areas(folder)
    assert alone.truth is None


def test_truth_with_a_place_is_put_there(folder):
    path = folder / "hr_dataset" / "Landcover-77" / "Landcover-77_ps.tiff"
    image = np.full((4, 96, 120), 2048, np.uint16)
    image[:, :, :60] = 0  # missing
    write_image(path, image, origin=ORIGIN, px=1e-4 / 8, crs="EPSG:4326")
    (scene,) = read_areas(folder, scale=2)
    assert np.isnan(scene.truth[:, :, :15]).all()
    np.testing.assert_allclose(scene.truth[:, :, 15:], 0.5)
    write_image(path, image, origin=(10, 10), px=1e-5, crs="EPSG:4326")
    with pytest.raises(InputError, match=r"_ps.tiff does not lie where Landcover-77-1-L2A_data.tiff lies"):
        read_areas(folder)


def test_what_is_not_as_published_is_named(folder, tmp_path):
    with pytest.raises(InputError, match="holds no lr_dataset/AREA/L2A"):
        read_areas(tmp_path / "hr_dataset")
    (folder / "metadata.csv").write_text("tile,n\nx,1\n")
    with pytest.raises(
        InputError, match=r"metadata.csv has the columns tile, n, expected also highres_date, lowres_date"
    ):
        read_areas(folder)
    (folder / "metadata.csv").unlink()
    (scene,) = read_areas(folder)
    assert np.isnan(scene.days).all()
    write_image(
        folder / "lr_dataset" / "Landcover-77" / "L2A" / "Landcover-77-2-L2A_data.tiff", np.ones((12, 9, 9), "f4")
    )
    with pytest.raises(InputError, match=r"Landcover-77-2-L2A_data.tiff has .* expected \(12, 12, 15\)"):
        read_areas(folder)
