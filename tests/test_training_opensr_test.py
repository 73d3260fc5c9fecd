"""Data sets of opensr-test in any plain form are the same scenes; pickles are refused unread."""

import pickle

import numpy as np
import pytest
from safetensors.numpy import save_file
from scene_folders import write_image

from mapper.errors import InputError
from mapper.training.opensr_test import read_pairs


@pytest.fixture(scope="module")
def arrays():
    """Two images of all bands of Sentinel-2 and two truths, as stored."""
    random = np.random.default_rng(0)
    source = random.integers(1, 4000, (2, 12, 6, 5)).astype(np.uint16)
    truth = {name: random.integers(1, 4000, (2, 4, 24, 20)).astype(np.uint16) for name in ("HRharm", "HR")}
    source[0, :, 2, 3] = 0
    source[1, 3, 0, 0] = 0
    truth["HRharm"][1, :, 5, 5] = 0
    return {"L2A": source, "L1C": np.concatenate([source, source[:, :1]], 1) // 2, **truth}


def write_npz(folder, arrays):
    np.savez(folder / "naip.npz", **arrays)


def write_safetensors(folder, arrays):
    save_file(arrays, folder / "naip.safetensors")


def write_npy(folder, arrays):
    (folder / "naip").mkdir()
    for name, array in arrays.items():
        np.save(folder / "naip" / f"{name}.npy", array)


def write_first_version(folder, arrays):
    write_npy(folder, {"lr": arrays["L2A"][:, [3, 2, 1, 7]], "hr": arrays["HRharm"]})


def write_tifs(folder, arrays):
    for name, array in arrays.items():
        for index, image in enumerate(array):
            write_image(folder / "naip" / name / f"{index:03d}.tif", image)


WAYS = [write_npz, write_safetensors, write_npy, write_first_version, write_tifs]


@pytest.mark.parametrize("write", WAYS)
def test_all_plain_forms_are_the_same_scenes(tmp_path, arrays, write):
    write(tmp_path, arrays)
    scenes = read_pairs(tmp_path)
    assert [scene.name for scene in scenes] == ["naip_000", "naip_001"]
    for scene, source, truth in zip(scenes, arrays["L2A"], arrays["HRharm"], strict=True):
        assert (scene.bands, scene.scale, scene.anchor, scene.units) == (("B04", "B03", "B02", "B08"), 4, 0, "1")
        expected = np.where((source == 0).all(0), np.nan, source[[3, 2, 1, 7]] / 1e4)
        np.testing.assert_allclose(scene.dates[0], expected, rtol=1e-6)
        np.testing.assert_allclose(scene.truth, np.where((truth == 0).all(0), np.nan, truth / 1e4), rtol=1e-6)
        np.testing.assert_array_equal(scene.clear[0], np.isfinite(expected).all(0))
    assert scenes[1].dates[0, 0, 0, 0] == 0
    assert np.isnan(scenes[0].dates[0, :, 2, 3]).all()


def test_the_other_source_and_truth_are_read_by_name(tmp_path, arrays):
    write_npz(tmp_path, arrays)
    plain, other = read_pairs(tmp_path), read_pairs(tmp_path / "naip.npz", source="L1C", truth="HR")
    np.testing.assert_allclose(other[1].truth, arrays["HR"][1] / 1e4, rtol=1e-6)
    assert not np.allclose(plain[1].dates, other[1].dates)
    with pytest.raises(InputError, match="has the arrays HR, HRharm, L1C, L2A, expected also VHR"):
        read_pairs(tmp_path, truth="VHR")


def test_fractions_are_reflectance_and_three_bands_are_colours(tmp_path, arrays):
    source, truth = (arrays[name][:, :3].astype(np.float64) / 1e4 for name in ("L2A", "HRharm"))
    source[0, :, 1, 1] = np.inf
    np.savez(tmp_path / "spot.npz", L2A=source, HRharm=truth)
    first, second = read_pairs(tmp_path)
    assert first.bands == ("B04", "B03", "B02")
    assert np.isnan(first.dates[0, :, 1, 1]).all()
    np.testing.assert_allclose(second.dates[0], source[1], rtol=1e-6)
    np.savez(tmp_path / "spot.npz", L2A=1e4 * source, HRharm=truth)
    with pytest.raises(InputError, match=r"spot_000 reaches .*, expected reflectance: store x 10000 as whole numbers"):
        read_pairs(tmp_path)


class Trap:
    """Creates a file where it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (self.path, "w")


@pytest.mark.parametrize("name", ["naip.pkl", "naip.pt", "naip.npz", "naip/L2A.npy"])
def test_pickles_are_refused_unread(tmp_path, name):
    trap, path = tmp_path / "sprung", tmp_path / name
    path.parent.mkdir(exist_ok=True)
    if path.suffix == ".npz":
        np.savez(path, L2A=np.array([Trap(str(trap))]), HRharm=np.ones((1, 4, 8, 8)))
    else:
        path.write_bytes(pickle.dumps({"L2A": Trap(str(trap))}))
    with pytest.raises(InputError, match="pickle") as refusal:
        read_pairs(tmp_path)
    assert "\n" not in str(refusal.value)
    assert not trap.exists()


def test_a_pickle_beside_its_plain_file_is_left_alone(tmp_path, arrays):
    write_npz(tmp_path, arrays)
    (tmp_path / "naip.pkl").write_bytes(b"")
    assert len(read_pairs(tmp_path)) == 2
    (tmp_path / "spot.pkl").write_bytes(b"")
    with pytest.raises(InputError, match=r"spot\.pkl is a pickle, .*: save its arrays as spot.npz first"):
        read_pairs(tmp_path)


def test_what_does_not_fit_is_refused(tmp_path, arrays):
    with pytest.raises(InputError, match="holds no data set of opensr-test"):
        read_pairs(tmp_path)
    path = tmp_path / "naip.npz"
    wrong = {
        "images without a partner": {"HRharm": arrays["HRharm"][:1]},
        "expected .image, band, y, x.": {"HRharm": arrays["HRharm"][0]},
        "has 7 bands with a truth of 4": {"L2A": arrays["L2A"][:, :7]},
        "has 12 bands with a truth of 12": {"HRharm": arrays["L2A"]},
        "truth .4, 24, 19., expected .4, 18, 15.": {"HRharm": arrays["HRharm"][..., :19]},
        "holds <U1, expected numbers": {"L2A": np.full((2, 4, 6, 5), "a")},
    }
    for message, part in wrong.items():
        np.savez(path, **{**arrays, **part})
        with pytest.raises(InputError, match=message):
            read_pairs(tmp_path)
    path.write_bytes(b"PK")
    with pytest.raises(InputError, match=r"naip\.npz holds no plain arrays"):
        read_pairs(tmp_path)
    path.rename(tmp_path / "naip.safetensors")
    with pytest.raises(InputError, match=r"naip\.safetensors is no safetensors file"):
        read_pairs(tmp_path)
    write_npz(tmp_path, arrays)
    with pytest.raises(InputError, match="holds naip twice"):
        read_pairs(tmp_path)
