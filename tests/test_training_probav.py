"""PROBA-V's folders with made-up images, and the real ones."""

import numpy as np
import pytest
from scene_folders import write_image
from shared import SHARED

from mapper.errors import InputError
from mapper.training.probav import read_image_sets

PIECES = SHARED / "super_resolution" / "probav"


@pytest.fixture
def folder(tmp_path):
    random = np.random.default_rng(0)
    for name, dates in (("imgset0001", 3), ("imgset0002", 2)):
        for at in range(dates):
            write_image(tmp_path / name / f"LR{at:03d}.png", random.integers(1, 2**14, (8, 10)).astype(np.uint16))
            mask = np.full((8, 10), 255, np.uint8)
            mask[at] = 0
            write_image(tmp_path / name / f"QM{at:03d}.png", mask)
        write_image(tmp_path / name / "HR.png", random.integers(1, 2**14, (24, 30)).astype(np.uint16))
    status = np.ones((24, 30), np.uint8)
    status[:5] = 0
    write_image(tmp_path / "imgset0001" / "SM.png", status)
    (tmp_path / "anchors.json").write_text('{"imgset0001": 2, "imgset0002": 13}')
    return tmp_path


def test_sets_have_their_masks_truth_and_anchor(folder):
    first, second = read_image_sets(folder)
    assert [first.name, second.name] == ["imgset0001", "imgset0002"]
    assert first.dates.shape == (3, 1, 8, 10)
    assert (first.scale, first.anchor, second.anchor) == (3, 2, None)  # date 13 is not at hand
    np.testing.assert_array_equal(~first.clear.all(2), np.eye(3, 8, dtype=bool))
    assert np.isnan(first.truth[0, :5]).all()
    assert np.isfinite(first.truth[0, 5:]).all()
    assert np.isfinite(second.truth).all()
    assert np.isnan(first.days).all()
    assert first.shift is None
    assert first.bands == ("band_1",)
    (alone,) = read_image_sets(folder / "imgset0002")
    np.testing.assert_array_equal(alone.dates, second.dates)


@pytest.mark.parametrize(
    ("name", "shape", "message"),
    [
        ("HR.png", (24, 33), r"HR.png has \(band, y, x\) \(1, 24, 33\), expected one band of 3 times 8 x 10 px"),
        ("LR001.png", (9, 10), r"LR001.png has \(band, y, x\) \(1, 9, 10\), expected \(1, 8, 10\) as LR000.png"),
        ("QM001.png", (4, 4), "QM001.png has 4 x 4 px, expected 8 x 10 as its image"),
        ("SM.png", (8, 10), "SM.png has 8 x 10 px, expected 24 x 30 as its image"),
    ],
)
def test_a_file_of_another_size_is_named(folder, name, shape, message):
    write_image(folder / "imgset0001" / name, np.ones(shape, np.uint16))
    with pytest.raises(InputError, match=message):
        read_image_sets(folder)


def test_what_is_no_set_or_no_image_is_named(folder, tmp_path):
    with pytest.raises(InputError, match=r"elsewhere is no folder"):
        read_image_sets(tmp_path / "elsewhere")
    (tmp_path / "empty" / "x").mkdir(parents=True)
    with pytest.raises(InputError, match=r"empty holds no LR\*.png"):
        read_image_sets(tmp_path / "empty")
    (folder / "anchors.json").write_text('{"imgset0001": 1.5}')
    with pytest.raises(InputError, match=r"anchors.json is no list of anchors"):
        read_image_sets(folder)
    (folder / "anchors.json").unlink()
    (folder / "imgset0002" / "LR001.png").write_bytes(b"\x89PNG nothing")
    with pytest.raises(InputError, match=r"LR001.png cannot be read"):
        read_image_sets(folder)


@pytest.mark.skipif(not PIECES.is_dir(), reason=f"real pieces not found at {PIECES}")
def test_real_sets():
    scenes = {scene.name: scene for scene in read_image_sets(PIECES)}
    assert {name: len(scene.dates) for name, scene in scenes.items()} == {
        "NIR_0594": 21, "NIR_0595": 10, "NIR_0651": 1, "RED_0000": 17,
    }  # fmt: skip
    assert (scenes["NIR_0594"].anchor, scenes["RED_0000"].anchor, scenes["NIR_0651"].anchor) == (8, 4, None)
    assert scenes["NIR_0594"].truth.shape == (1, 384, 384)
    assert scenes["RED_0000"].truth is None
    assert (scenes["NIR_0594"].bands, scenes["RED_0000"].bands) == (("nir",), ("red",))
