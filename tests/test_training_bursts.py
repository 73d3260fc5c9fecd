import numpy as np
import pytest
import rasterio
from affine import Affine
from scipy.ndimage import gaussian_filter

from mapper.errors import InputError
from mapper.training.bursts import rank_dates, read_bursts, sample_of_scene
from mapper.training.scene import Scene
from mapper.training.scene_config import BurstData


@pytest.fixture(scope="module")
def sample():
    (sample,) = read_bursts(BurstData(seeds=(3,), size_px=64, bands=2, dates=4, clouds=0.2, shift_error_px=0))
    return sample


def test_a_burst_is_a_sample_of_dates_with_its_truth(sample):
    assert sample.source.shape == (2, 32, 32)
    assert sample.truth.shape == (2, 64, 64)
    assert sample.stack.values.shape == (4, 2, 32, 32)
    np.testing.assert_array_equal(sample.stack.values[sample.stack.own], sample.source)
    assert not sample.stack.shift[sample.stack.own].any()
    hidden = ~sample.stack.clear
    assert hidden.any()
    assert np.isnan(sample.stack.values.transpose(0, 2, 3, 1)[hidden]).all()


def test_the_same_seed_is_the_same_burst_with_errors_of_registration_or_without(sample):
    options = {"seeds": (3,), "size_px": 64, "bands": 2, "dates": 4, "clouds": 0.2}
    (again,) = read_bursts(BurstData(**options, shift_error_px=0.1))
    np.testing.assert_array_equal(again.truth, sample.truth)
    error = (again.stack.shift - sample.stack.shift)[:, :, 0, 0]
    assert 0 < np.abs(error).max() < 0.6
    assert not again.stack.shift[again.stack.own].any()


def test_shifts_are_estimated_where_they_are_asked_for_and_images_have_their_units():
    options = {"seeds": (4,), "size_px": 128, "dates": 3, "shift_px": 0.5, "border_px": 4, "value_range": 0.5}
    (sample,) = read_bursts(BurstData(**options, register_dates=True, level=0.3, contrast=0.05))
    error = sample.stack.shift[:, :, 32, 32] - sample.stack.true_shift
    assert 0 < np.abs(error).max() < 0.1
    assert sample.value_range == 0.5
    assert np.isfinite(sample.truth).sum() == 120**2
    assert sample.source.mean() == pytest.approx(0.3, abs=0.01)
    (plain,) = read_bursts(BurstData(**options | {"border_px": 0}, shift_error_px=0))
    np.testing.assert_array_equal(plain.stack.true_shift, sample.stack.true_shift)
    scaled = plain.truth * np.float32(0.05) + np.float32(0.3)
    np.testing.assert_allclose(sample.truth[:, 4:-4, 4:-4], scaled[:, 4:-4, 4:-4], atol=1e-6)


def test_images_of_a_folder_are_taken_in_turn_and_one_without_images_is_named(tmp_path):
    with pytest.raises(InputError, match="has no image to simulate dates of"):
        read_bursts(BurstData(seeds=(0,), images=tmp_path))
    pixels = np.random.default_rng(0).integers(1, 200, (3, 50, 44), dtype=np.uint8)
    profile = {"driver": "GTiff", "width": 44, "height": 50, "count": 3, "dtype": "uint8", "crs": "EPSG:32633"}
    with rasterio.open(tmp_path / "fine.tif", "w", **profile, transform=Affine(2, 0, 5e5, 0, -2, 5e6)) as file:
        file.write(pixels)
    first, second = read_bursts(BurstData(seeds="0-1", images=tmp_path, size_px=40, dates=2))
    assert first.truth.shape == second.truth.shape == (3, 40, 40)
    assert float(first.truth.std()) == pytest.approx(1, abs=1e-3)


def test_dates_are_ranked_by_likeness_whatever_their_gain():
    random = np.random.default_rng(1)
    anchor = random.normal(size=(1, 20, 20)).astype(np.float32)
    near, far = 3 * anchor + 7, anchor + random.normal(size=anchor.shape).astype(np.float32)
    missing = np.full_like(anchor, np.nan)
    hazy = anchor + 0.3 * far
    assert rank_dates(np.stack([missing, far, anchor, hazy, near]), 2).tolist() == [2, 4, 3]


def make_scene(**changes):
    random = np.random.default_rng(2)
    dates = (random.normal(size=(8, 8)) + 0.1 * random.normal(size=(3, 1, 8, 8))).astype(np.float32)
    parts = {
        "name": "place", "dates": dates, "clear": np.ones((3, 8, 8), bool), "days": np.zeros(3, np.float32),
        "anchor": 1,
        "truth": random.normal(size=(1, 24, 24)).astype(np.float32), "scale": 3, "bands": ("nir",), "units": "DN",
        "value_range": 100.0, "place": "place", "shift": np.array([[0.5, 0], [0.25, -0.5], [0, 0]]),
    }  # fmt: skip
    return Scene(**parts | changes)


def test_shifts_of_a_scene_count_from_its_anchor_and_dates_are_cut():
    sample = sample_of_scene(make_scene(), dates=2)
    assert len(sample.stack.days) == 2
    assert not sample.stack.shift[0].any()
    assert sample.stack.shift[1, :, 0, 0].tolist() in ([0.25, 0.5], [-0.25, 0.5])
    assert sample.scale == 3


@pytest.mark.parametrize(("changes", "message"), [({"anchor": None}, "an anchor"), ({"truth": None}, "a truth")])
def test_a_scene_that_cannot_be_learnt_from_says_what_it_lacks(changes, message):
    scene = make_scene(**changes) if "anchor" in changes else make_scene(**changes, scale=1)
    with pytest.raises(InputError, match=f"scene place lacks {message}"):
        sample_of_scene(scene)


def test_fine_images_may_be_as_soft_as_those_of_a_camera():
    sharp, soft = (read_bursts(BurstData(seeds=(3,), size_px=48, blur_px=(blur, blur)))[0].truth for blur in (0, 1.2))
    np.testing.assert_allclose(soft, gaussian_filter(sharp, (0, 1.2, 1.2), mode="reflect"), atol=1e-6)
