"""SEN2VENUS as GeoTIFFs: pairs by name, both groups of bands; pickles are refused unread."""

import numpy as np
import pytest
from scene_folders import write_image

from mapper.errors import InputError
from mapper.training.sen2venus import read_patches

STEM = "ALSACE_C_32ULU_2019-02-17"


@pytest.fixture
def folder(tmp_path):
    random = np.random.default_rng(0)
    for px, bands, rows in ((10, "b2b3b4b8", 8), (5, "b2b3b4b8", 16), (20, "b5b6b7b8a", 4), (5, "b5b6b7b8a", 16)):
        image = random.integers(0, 4000, (4, rows, rows)).astype(np.int16)
        image[:, 0, 0] = -10000
        write_image(tmp_path / "ALSACE" / f"{STEM}_{px:02d}m_{bands}.tif", image)
    return tmp_path


def test_pairs_are_scenes_of_one_date(folder):
    first, second = read_patches(folder)
    assert (first.scale, first.bands, second.scale, second.bands) == (
        2, ("B02", "B03", "B04", "B08"), 4, ("B05", "B06", "B07", "B8A"),
    )  # fmt: skip
    for scene in (first, second):
        assert (scene.anchor, scene.place, len(scene.dates)) == (0, "ALSACE", 1)
        assert np.isnan(scene.truth[:, 0, 0]).all()
        assert not scene.clear[0, 0, 0]
        assert scene.clear.sum() == scene.clear.size - 1
        assert 0 <= np.nanmin(scene.dates) <= np.nanmax(scene.dates) <= 0.4


def test_pickles_are_refused(tmp_path):
    (tmp_path / f"{STEM}_10m_b2b3b4b8.pt").write_bytes(b"")
    with pytest.raises(InputError, match=r"b2b3b4b8.pt is a pickle, .* GeoTIFFs first"):
        read_patches(tmp_path)
    (tmp_path / f"{STEM}_10m_b2b3b4b8.pt").unlink()
    with pytest.raises(InputError, match=r"holds no \*_10m_b2b3b4b8.tif"):
        read_patches(tmp_path)


def test_a_pair_that_does_not_fit_is_named(folder):
    truth = folder / "ALSACE" / f"{STEM}_05m_b2b3b4b8.tif"
    write_image(truth, np.ones((3, 16, 16), np.int16))
    with pytest.raises(InputError, match=r"05m_b2b3b4b8.tif has \(band, y, x\) \(3, 16, 16\), expected \(4, 16, 16\)"):
        read_patches(folder)
    truth.unlink()
    with pytest.raises(InputError, match=r"10m_b2b3b4b8.tif has no truth beside it: expected .*_05m_b2b3b4b8.tif"):
        read_patches(folder)
