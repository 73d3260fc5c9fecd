"""Distances are those of their formulas, of pixels and patches, with gaps; learned ones say what they need."""

from importlib.metadata import EntryPoint

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mapper import registry
from mapper.errors import InputError
from mapper.evaluation import distances
from mapper.evaluation.distances import DISTANCES, L1, LEARNED, Distance, choose_distance, map_distance

RANDOM = np.random.default_rng(11)
ONE, OTHER = RANDOM.uniform(0.05, 0.6, (2, 3, 32, 48))


def published(name, x, y, scale=4):
    """Return the distance of two images as the published program takes it, by torch in double precision."""
    x, y = torch.from_numpy(x), torch.from_numpy(y)
    if name == "mtf":
        axes = [torch.fft.fftfreq(size, dtype=torch.float64) for size in x.shape[-2:]]
        frequency = torch.sqrt(axes[0][:, None] ** 2 + axes[1] ** 2)
        a, b = (torch.fft.fft2(each).abs() for each in (x, y))
        return ((b - a) / b).abs()[:, (frequency > 0.5 / scale) & (frequency < 0.5)].clamp(0, 1).mean().item()
    error = x - y
    flat = {
        "nd": (error.abs() / (x + y + 1e-8).abs()).mean(),
        "l1": error.abs().mean(),
        "l2": error.square().mean(),
        "psnr": 1 / (10 * torch.log10(1 / error.square().mean())),
        "sad": torch.rad2deg(torch.nn.functional.cosine_similarity(x.ravel(), y.ravel(), dim=0).acos()),
    }
    return flat[name].item()


@pytest.mark.parametrize("name", DISTANCES)
def test_patches_have_the_distance_of_their_pixels(name):
    values = map_distance(choose_distance(name), ONE, OTHER, scale=4, patch_px=16)
    for row in range(2):
        for col in range(3):
            cell = np.s_[16 * row : 16 * row + 16, 16 * col : 16 * col + 16]
            expected = published(name, ONE[:, *cell], OTHER[:, *cell])
            np.testing.assert_allclose(values[cell], expected)


@pytest.mark.parametrize("name", [name for name in DISTANCES if name != "mtf"])
def test_a_pixel_is_a_patch_of_one(name):
    distance = choose_distance(name)
    one, other = ONE[:, :5, :4], OTHER[:, :5, :4]
    each = map_distance(distance, one, other, scale=4)
    np.testing.assert_allclose(each, map_distance(distance, one, other, scale=4, patch_px=1))
    assert each[2, 3] == pytest.approx(published(name, one[:, 2, 3], other[:, 2, 3]))


@pytest.mark.parametrize("name", DISTANCES)
@settings(max_examples=15)
@given(gain=st.floats(0.2, 1.5), seed=st.integers(0, 5))
def test_equal_images_are_nearest_and_distances_have_no_direction_but_one(name, gain, seed):
    distance = choose_distance(name)
    one = np.random.default_rng(seed).uniform(0.01, 0.9, (2, 16, 16))
    other = one[:, ::-1] * gain
    to, back, none = (distance.of_images(*pair, 4) for pair in ((one, other), (other, one), (one, one)))
    assert 0 <= none <= to
    assert none <= distance.noise(one)
    assert name == "mtf" or to == pytest.approx(back)


def test_a_spectral_angle_is_blind_to_brightness_and_others_are_not():
    for name in DISTANCES:
        distance = choose_distance(name).of_images(ONE, 1.5 * ONE, 4)
        assert (distance < 1e-5) == (name == "sad")


def test_gaps_are_left_out_of_patches_and_are_gaps_of_the_map():
    one = ONE.copy()
    one[1, 3, 4] = np.nan
    values = map_distance(choose_distance("l1"), one, OTHER, scale=4, patch_px=16)
    assert np.isnan(values[3, 4])
    assert np.isnan(values).sum() == 1
    assert values[0, 0] == pytest.approx(np.nanmean(np.abs(one - OTHER)[:, :16, :16]))
    assert np.isnan(map_distance(choose_distance("mtf"), one, OTHER, scale=4, patch_px=16)[:16, :16]).all()
    nothing = np.full_like(ONE, np.nan)
    for name in DISTANCES:
        assert np.isnan(map_distance(choose_distance(name), nothing, OTHER, scale=4, patch_px=16)).all()


def test_what_lies_beyond_an_image_counts_only_as_zeros():
    one, other = ONE[:, :24, :24], OTHER[:, :24, :24]
    plain, zeros = (
        map_distance(choose_distance("l1"), one, other, scale=4, patch_px=16, padding=padding)
        for padding in (np.nan, 0)
    )
    corner = np.abs(one - other)[:, :12, :12].mean()  # 4 px of each side are beyond the image
    assert plain[0, 0] == pytest.approx(corner)
    assert zeros[0, 0] == pytest.approx(corner * (12 / 16) ** 2)
    assert len(np.unique(plain)) == 4


def test_differences_above_the_range_and_empty_spectra_have_an_answer():
    far = choose_distance("psnr").of_images(np.zeros((1, 4, 4)), np.full((1, 4, 4), 2.0), 4)
    assert far == np.inf
    even, waves = np.zeros((1, 16, 16)), np.random.default_rng(0).normal(size=(1, 16, 16))
    transfer = choose_distance("mtf")
    assert [transfer.of_images(*pair, 4) for pair in ((even, even), (waves, even), (even, waves))] == [0, 1, 1]


def test_unknown_absent_and_unfit_distances_are_refused_in_one_line():
    for name in LEARNED:
        with pytest.raises(InputError, match=f"^distance {name} .* is not installed: install a package .*$"):
            choose_distance(name)
    with pytest.raises(InputError, match="no distance ssim; there are nd, l1, l2, psnr, sad, mtf"):
        choose_distance("ssim")
    with pytest.raises(InputError, match="mtf needs patches of 16 px at least, got 8 x 8"):
        map_distance(choose_distance("mtf"), ONE, OTHER, scale=4, patch_px=8)
    with pytest.raises(InputError, match="mtf compares patches"):
        map_distance(choose_distance("mtf"), ONE, OTHER, scale=4)


class Learned(L1):
    """Stands for a distance of learned features."""

    name = "lpips"


def test_a_learned_distance_comes_with_the_package_that_names_it(monkeypatch):
    point = EntryPoint("lpips", f"{__name__}:Learned", "mapper.distances")
    monkeypatch.setattr(registry, "entry_points", lambda group: [point] if group == point.group else [])
    offered = registry.Registry("mapper.distances", dict(DISTANCES), kind=type[Distance])
    monkeypatch.setattr(distances, "DISTANCES", offered)
    assert choose_distance("lpips").name == "lpips"
    with pytest.raises(InputError, match="clip"):
        choose_distance("clip")
