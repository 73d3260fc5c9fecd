"""Interpolation agrees with torch's own, and leaves no trace of where a window was cut."""

import warnings

import numpy as np
import pytest
import torch
from contracts import sharpen
from torch.nn.functional import interpolate

from mapper.models.card import read_card
from mapper.models.interpolation import Interpolation, fill_missing, find_mean, find_median, upsample
from mapper.models.weights import load_model
from mapper.spec import ModelSpec

SOURCE = torch.rand((2, 1, 9, 11), generator=torch.Generator().manual_seed(0)) * 300


@pytest.mark.parametrize("scale", [2, 3, 8, 10])
@pytest.mark.parametrize("method", ["bilinear", "bicubic"])
def test_agrees_with_torch(method, scale):
    expected = interpolate(SOURCE, scale_factor=scale, mode=method, align_corners=False)
    torch.testing.assert_close(upsample(SOURCE, scale, method), expected, atol=2e-3, rtol=0)


@pytest.mark.parametrize("scale", [1, 2, 5, 10])
def test_nearest_repeats(scale):
    expected = SOURCE.repeat_interleave(scale, 2).repeat_interleave(scale, 3)
    assert torch.equal(upsample(SOURCE, scale, "nearest"), expected)


@pytest.mark.parametrize("name", ["nearest", "bilinear", "bicubic"])
@pytest.mark.parametrize("scale", [3, 10])
def test_a_window_with_its_halo_gives_the_same_pixels(name, scale):
    model = load_model(ModelSpec(name=name))
    source = torch.rand((1, 1, 20, 20)) * 300
    source[0, 0, 3:6, 8:11] = torch.nan
    whole = sharpen(model, torch.empty(1, 0, 20 * scale, 20 * scale), source)
    halo = model.contract.halo(scale) // scale
    first, last = 5 - halo, 9 + halo
    part = sharpen(model, torch.empty(1, 0, (last - first) * scale, 20 * scale), source[:, :, first:last])
    inner = slice(halo * scale, -halo * scale)
    torch.testing.assert_close(part[:, :, inner], whole[:, :, 5 * scale : 9 * scale], atol=1e-5, rtol=0, equal_nan=True)


def test_a_missing_value_is_filled_from_its_neighbours():
    source = torch.tensor([[1.0, 3.0], [torch.nan, 2.0]])[None, None]
    assert fill_missing(source)[0, 0, 1, 0] == 2.0


def test_what_is_far_from_any_value_stays_missing():
    source = torch.full((1, 1, 1, 9), torch.nan)
    source[0, 0, 0, 0] = 5
    assert fill_missing(source)[0, 0, 0].isfinite().tolist() == [True] * 3 + [False] * 6


def test_missing_values_do_not_spread_into_valid_pixels():
    source = np.full((1, 1, 9, 9), np.nan, np.float32)
    source[0, 0, 4, 4] = 7
    model = Interpolation(read_card(ModelSpec(name="bicubic")))
    value = sharpen(model, torch.empty(1, 0, 90, 90), torch.from_numpy(source))
    torch.testing.assert_close(value[0, 0, 40:50, 40:50], torch.full((10, 10), 7.0))


def test_unknown_method_is_refused():
    with pytest.raises(ValueError, match="lanczos"):
        upsample(SOURCE, 2, "lanczos")


def test_several_bands_are_interpolated_each_and_a_stack_by_its_anchor():
    model = load_model(ModelSpec(name="bilinear"))
    stack = torch.rand(2, 3, 2, 5, 4)  # batch, date, band
    guide = torch.empty(2, 1, 0, 20, 16)
    days = torch.tensor([[-9.0, 2.0, 5.0], [0.0, 3.0, 4.0]])
    for inputs, expected in (
        ({"source.days": days}, torch.stack([stack[0, 1], stack[1, 0]])),
        ({"source.days": days, "source.anchor": stack[:, 2:]}, stack[:, 2]),
    ):
        outputs = model({"guide": guide, "source": stack} | inputs)
        assert list(outputs) == ["band_0", "band_1"]
        torch.testing.assert_close(torch.cat(list(outputs.values()), 1), upsample(expected, 4, "bilinear"))
    with pytest.raises(ValueError, match=r"3 dates needs source\.anchor or source\.days"):
        model({"guide": guide, "source": stack})


@pytest.mark.parametrize("dates", [1, 4, 5])
def test_the_median_is_over_clear_dates_alone(dates):
    random = np.random.default_rng(dates)
    stack = random.random((2, dates, 3, 6, 5)).astype(np.float32)
    stack[random.random(stack.shape) < 0.2] = np.nan
    clear = random.random((2, dates, 6, 5)) < 0.8
    found = find_median({"source": torch.from_numpy(stack), "source.clear": torch.from_numpy(clear)})
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = np.nanmedian(np.where(clear[:, :, None], stack, np.nan), axis=1)
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-6)
    order = torch.randperm(dates)
    shuffled = {"source": torch.from_numpy(stack)[:, order], "source.clear": torch.from_numpy(clear)[:, order]}
    assert torch.equal(find_median(shuffled).nan_to_num(), found.nan_to_num())


def test_the_median_of_a_stack_is_interpolated_bicubically():
    inputs = {"guide": torch.empty(1, 1, 0, 18, 21), "source": torch.rand(1, 3, 1, 6, 7)}
    value = load_model(ModelSpec(name="median"))(inputs)["band_0"]
    torch.testing.assert_close(value, upsample(inputs["source"].median(1).values, 3, "bicubic"))


def test_the_mean_of_a_stack_is_over_clear_dates_alone():
    stack = torch.rand(1, 4, 2, 6, 7)
    clear = torch.rand(1, 4, 6, 7) < 0.6
    clear[..., 0, 0] = False
    inputs = {"guide": torch.empty(1, 1, 0, 18, 21), "source": stack, "source.clear": clear}
    found = find_mean(inputs)
    expected = torch.where(clear[:, :, None], stack, torch.nan).nanmean(1)
    torch.testing.assert_close(found, expected, equal_nan=True)
    value = load_model(ModelSpec(name="mean"))(inputs)["band_1"]
    torch.testing.assert_close(value, upsample(fill_missing(found), 3, "bicubic")[:, 1:])
