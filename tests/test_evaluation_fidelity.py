"""Scores of images agree with their plain definitions, with gaps, and with what was measured on real pieces."""

import numpy as np
import pytest
from degraded import enlarge, read_image
from hypothesis import given, settings
from hypothesis import strategies as st
from shared import SHARED

from mapper.evaluation.fidelity import (
    angle_map,
    cpsnr,
    cut_to_shift,
    find_residual,
    find_shift,
    fit_affine,
    global_spectral_angle,
    mean_absolute_error,
    psnr,
    relative_error,
    rmse,
    spectral_angle,
    ssim,
)
from mapper.predict.operators import BlockMean, GaussianPsf
from mapper.synthetic.bursts import degrade

PIECES = SHARED / "super_resolution"
needs_pieces = pytest.mark.skipif(not PIECES.is_dir(), reason=f"real pieces not found at {PIECES}")


def make_pair(seed=0, bands=2, rows=24, cols=27, gaps=0.05):
    """Value and truth that are alike, with gaps of their own."""
    random = np.random.default_rng(seed)
    truth = 900 + 100 * random.normal(size=(bands, rows, cols)).cumsum(1).cumsum(2) / 5
    value = truth + random.normal(0, 20, truth.shape)
    for image in (value, truth):
        image[random.random(image.shape) < gaps] = np.nan
    return value, truth


def test_errors_agree_with_numpy_and_leave_gaps_out():
    value, truth = make_pair()
    error = (value - truth)[np.isfinite(value - truth)]
    assert rmse(value, truth) == pytest.approx(np.sqrt(np.mean(error**2)))
    assert mean_absolute_error(value, truth) == pytest.approx(np.mean(np.abs(error)))
    assert psnr(value, truth, 255) == pytest.approx(20 * np.log10(255 / np.sqrt(np.mean(error**2))))


def test_truth_itself_is_perfect_and_nothing_is_nan():
    _, truth = make_pair()
    nothing = np.full_like(truth, np.nan)
    assert psnr(truth, truth, 1) == cpsnr(truth, truth, 1) == np.inf
    assert ssim(make_pair(gaps=0)[1], make_pair(gaps=0)[1], 1) == pytest.approx(1)
    for score in (psnr, ssim, cpsnr):
        assert np.isnan(score(truth, nothing, 1))
    assert np.isnan(spectral_angle(truth, nothing))
    assert np.isnan(global_spectral_angle(truth, nothing))
    assert np.isnan(relative_error(truth, nothing))
    assert find_shift(truth, nothing, 2) == (0, 0)


@pytest.mark.parametrize("score", [psnr, ssim, cpsnr])
def test_other_shapes_and_no_range_are_refused(score):
    value, truth = make_pair()
    with pytest.raises(ValueError, match=r"value \(2, 24, 27\) and truth \(2, 24, 26\)"):
        score(value, truth[:, :, 1:], 255)
    for wrong in (0, -1, np.nan, np.inf):
        with pytest.raises(ValueError, match="range of values"):
            score(value, truth, wrong)


def by_hand(value, truth, value_range, radius):
    """The challenge's definition, shift by shift."""
    rows, cols = truth.shape[1:]
    best = -np.inf
    inner = value[:, radius : rows - radius, radius : cols - radius]
    for top in range(2 * radius + 1):
        for left in range(2 * radius + 1):
            beneath = truth[:, top : top + rows - 2 * radius, left : left + cols - 2 * radius]
            difference = beneath - inner
            difference = difference - np.nanmean(difference, axis=(1, 2), keepdims=True)
            best = max(best, 20 * np.log10(value_range / np.sqrt(np.nanmean(difference**2))))
    return best


@settings(deadline=None, max_examples=12)
@given(st.integers(0, 1000), st.integers(1, 3), st.floats(0, 0.4), st.integers(0, 3))
def test_cpsnr_is_the_best_of_all_shifts(seed, bands, gaps, radius):
    value, truth = make_pair(seed, bands, gaps=gaps)
    assert cpsnr(value, truth, 65535, shift_px=radius) == pytest.approx(by_hand(value, truth, 65535, radius))


def test_cpsnr_forgives_bias_and_displacement_within_its_radius():
    value, truth = make_pair(bands=2, gaps=0, rows=40, cols=40)
    plain = cpsnr(value, truth, 65535)
    biased = value + np.array([30.0, -400.0])[:, None, None]
    assert cpsnr(biased, truth, 65535) == pytest.approx(plain)
    for shift in ((3, -2), (-3, 3)):
        moved = np.roll(truth, (-shift[0], -shift[1]), (1, 2))
        assert cpsnr(moved, truth, 65535) > 200
        assert cpsnr(np.roll(moved, -np.sign(shift[0]), 1), truth, 65535) < 80  # one pixel too far


def test_concealed_truth_does_not_count():
    value, truth = make_pair(gaps=0)
    clouded = truth.copy()
    clouded[:, :9, :9] += 5000
    masked = np.where(clouded == truth, truth, np.nan)
    assert cpsnr(value, clouded, 65535) < cpsnr(value, masked, 65535)
    assert cpsnr(value, masked, 65535) == pytest.approx(by_hand(value, masked, 65535, 3))


@settings(deadline=None, max_examples=12)
@given(st.integers(0, 1000), st.integers(-4, 4), st.integers(-4, 4), st.booleans())
def test_shift_is_found_despite_gaps_colours_and_reversed_contrast(seed, down, right, reverse):
    random = np.random.default_rng(seed)
    truth = random.normal(size=(2, 40, 36))
    value = np.roll(truth, (-down, -right), (1, 2)) * (-3 if reverse else 2) + 500
    value[random.random(value.shape) < 0.1] = np.nan
    truth[0, 5:12, 9:30] = np.nan
    shift = find_shift(value, truth, 4)
    assert shift == (down, right)
    inner, beneath = cut_to_shift(value, truth, shift, 4)
    assert rmse(fit_affine(inner, beneath), beneath) < 1e-6


def test_images_too_small_for_a_shift_are_refused():
    value, truth = make_pair(rows=8, cols=30)
    with pytest.raises(ValueError, match="8 x 30 px is too small for shifts of 4 px"):
        find_shift(value, truth, 4)


def test_affine_fit_is_least_squares():
    value, truth = make_pair(bands=3)
    fitted = fit_affine(value * 7 - 3000, truth)
    for one, other, got in zip(value, truth, fitted, strict=True):
        known = np.isfinite(one) & np.isfinite(other)
        slope, level = np.polyfit(one[known], other[known], 1)
        np.testing.assert_allclose(got, level + slope * one, rtol=1e-9)
    np.testing.assert_allclose(fit_affine(np.ones((1, 4, 4)), truth[:1, :4, :4])[0], np.nanmean(truth[0, :4, :4]))


def test_relative_error_of_the_mean_is_one():
    _, truth = make_pair()
    flat = np.broadcast_to(np.nanmean(truth, (1, 2), keepdims=True), truth.shape)
    assert relative_error(flat, truth) == pytest.approx(1)


def test_angles_see_colours_and_not_brightness():
    _, truth = make_pair(bands=3, gaps=0)
    assert spectral_angle(truth * 1.7, truth) == pytest.approx(0, abs=1e-5)
    assert global_spectral_angle(truth * 1.7, truth) == pytest.approx(0, abs=1e-5)
    axes = np.zeros((2, 2, 3, 3))
    axes[0, 0], axes[1, 1] = 5, 2
    assert spectral_angle(*axes) == global_spectral_angle(*axes) == 90
    axes[0, :, 0] = 0  # no spectrum at all
    assert np.isnan(angle_map(*axes)[0]).all()
    assert spectral_angle(*axes) == 90
    assert np.isnan(spectral_angle(truth[:1], truth[:1]))


def test_residual_is_zero_once_the_operator_is_enforced():
    random = np.random.default_rng(2)
    operators = [GaussianPsf(2, mtf=0.2), GaussianPsf(2, mtf=0.3)]
    anchor = random.uniform(0.1, 0.4, (2, 20, 22)).astype(np.float32)
    value = enlarge(anchor, 2).astype(np.float32)
    unknown = np.full_like(anchor[0], np.nan)
    held = np.stack(
        [each.enforce(*pair, unknown, mode="hard") for each, *pair in zip(operators, value, anchor, strict=True)]
    )
    before, after = (find_residual(image, anchor, operators)[:, 3:-3, 3:-3] for image in (value, held))
    assert np.abs(after).max() < 1e-3 * np.abs(before).max() + 1e-6
    with pytest.raises(ValueError, match="do not nest for 1 operators of scale 4"):
        find_residual(value, anchor, [BlockMean(4)])


@needs_pieces
def test_proba_v_as_measured():
    folder = PIECES / "probav" / "NIR_0594"
    truth = read_image(folder / "HR.png")
    scores = [cpsnr(enlarge(read_image(folder / f"LR{at:03d}.png"), 3), truth, 65535) for at in (8, 0)]
    assert scores == pytest.approx([50.05, 47.23], abs=0.005)


@needs_pieces
@pytest.mark.parametrize(
    ("name", "border", "scale", "expected"),
    [
        ("naip/west/20200831.tif", 16, 2, (30.46, 0.889)),
        ("naip/west/20200831.tif", 16, 4, (26.80, 0.774)),
        ("spacenet7/01_rgb.png", 8, 2, (33.05, 0.904)),
        ("spacenet7/03_rgb.png", 8, 4, (30.30, 0.868)),
    ],
)
def test_simulations_as_measured(name, border, scale, expected):
    truth = read_image(PIECES / name)
    inner, beneath = cut_to_shift(enlarge(degrade(truth, scale), scale), truth, (0, 0), border)
    scores = psnr(inner, beneath, 255), ssim(inner, beneath, 255)
    assert scores == (pytest.approx(expected[0], abs=0.006), pytest.approx(expected[1], abs=0.0006))


@needs_pieces
def test_another_sensor_as_measured():
    stored = np.load(PIECES / "s2_deimos" / "0277_66_2.npz")
    truth = stored["hr"].astype(np.float64)
    for date, expected in ((3, (0.661, 0.218)), (4, (0.667, 0.206))):
        value = enlarge(stored["s2"][date], 4)
        inner, beneath = cut_to_shift(value, truth, find_shift(value, truth, 6), 6)
        fitted = fit_affine(inner, beneath)
        scores = relative_error(fitted, beneath), ssim(fitted, beneath, 4)
        assert scores == pytest.approx(expected, abs=0.0006)


@needs_pieces
@pytest.mark.parametrize(("at", "expected"), [(4, (21.47, 0.551)), (6, (22.13, 0.454)), (8, (19.47, 0.462))])
def test_edge_of_a_strip_as_measured(at, expected):
    coarse = read_image(PIECES / "spacenet_rio" / f"img{at}_8band.tif")[[4, 2, 1]]
    truth = read_image(PIECES / "spacenet_rio" / f"img{at}_3band.tif")
    filled = int((coarse > 0).all((0, 1)).sum()) - 1  # the last one is filled in part
    value = enlarge(coarse, 4)[:, : truth.shape[1], : 4 * filled]
    truth = truth[:, :, : 4 * filled]
    inner, beneath = cut_to_shift(value, truth, find_shift(value, truth, 4), 4)
    fitted = fit_affine(inner, beneath)
    assert psnr(fitted, beneath, 255) == pytest.approx(expected[0], abs=0.1)
    assert ssim(fitted, beneath, 255) == pytest.approx(expected[1], abs=0.006)
