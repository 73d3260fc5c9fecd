"""Archives of plain arrays as scenes, the real one among them."""

import numpy as np
import pytest
from shared import SHARED

from mapper.errors import InputError
from mapper.training.scene import Scene
from mapper.training.stored_scenes import read_archives

PIECES = SHARED / "super_resolution" / "s2_deimos"


def make_arrays(**changes):
    arrays = {
        "s2": np.ones((2, 3, 4, 5), np.float32),
        "hr": np.ones((3, 12, 15), np.float32),
        "s2_dates": np.array(["2020-06-18T09:45:19", "2020-08-09T00:00:00"]),
        "hr_date": np.array(["2020-08-07T09:25:18"]),
        "bands": np.array(["B02", "B03", "B04"]),
    }
    return {name: value for name, value in (arrays | changes).items() if value is not None}


def test_archives_are_scenes(tmp_path):
    np.savez(tmp_path / "b.npz", **make_arrays())
    np.savez(tmp_path / "a.npz", **make_arrays())
    first, _ = read_archives(tmp_path, value_range=4)
    assert (first.name, first.scale, first.bands, first.value_range) == ("a", 3, ("B02", "B03", "B04"), 4)
    assert first.days.tolist() == [-50, 2]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"bands": None}, "has the arrays .*, expected also bands"),
        ({"s2": np.array([{"a": 1}], object)}, "x.npz is no archive of plain arrays"),
        ({"s2": np.ones((3, 4, 5))}, r"x.npz has s2 \(3, 4, 5\)"),
        ({"hr": np.ones((3, 12, 14), np.float32)}, r"scene x of dates \(2, 3, 4, 5\) has truth \(3, 12, 14\)"),
        ({"bands": np.array(["B02"])}, "1 names of bands, expected 3"),
        ({"hr_date": np.array(["August"])}, "x.npz has a date that is none"),
    ],
)
def test_what_is_not_as_expected_is_named(tmp_path, changes, message):
    np.savez(tmp_path / "x.npz", **make_arrays(**changes))
    with pytest.raises(InputError, match=message):
        read_archives(tmp_path, value_range=1)


def test_no_archive_and_a_broken_one_are_named(tmp_path):
    with pytest.raises(InputError, match=r"holds no \*.npz"):
        read_archives(tmp_path, value_range=1)
    (tmp_path / "x.npz").write_bytes(b"PK nothing")
    with pytest.raises(InputError, match=r"x.npz is no archive of plain arrays"):
        read_archives(tmp_path, value_range=1)


def test_a_scene_is_whole_or_refused():
    whole = {
        "name": "x", "dates": np.ones((2, 1, 4, 4), np.float32), "clear": np.ones((2, 4, 4), bool),
        "days": np.zeros(2, np.float32), "anchor": 1, "truth": None, "scale": 1, "bands": ("b",), "units": "1",
        "value_range": 1.0, "place": "x",
    }  # fmt: skip
    assert Scene(**whole).shift is None
    for changes, message in (
        ({"anchor": 2}, "anchor 2, expected 0 to 1"),
        ({"clear": np.ones((4, 4), bool)}, r"clear \(4, 4\), expected \(2, 4, 4\)"),
        ({"value_range": 0.0}, "range of values 0.0"),
        ({"dates": np.full((2, 1, 4, 4), np.nan, np.float32)}, "has no pixel with a value"),
    ):
        with pytest.raises(InputError, match=message):
            Scene(**whole | changes)


@pytest.mark.skipif(not PIECES.is_dir(), reason=f"real pieces not found at {PIECES}")
def test_real_archive():
    (scene,) = read_archives(PIECES, value_range=4)
    assert (scene.scale, scene.dates.shape, scene.bands[-1]) == (4, (5, 4, 32, 32), "B08")
    assert scene.days.tolist() == [-50, -42, -40, -22, -5]
