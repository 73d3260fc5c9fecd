"""Scores of opensr-test agree with the published program on its formula-made images, and say what they promise."""

import dataclasses
import hashlib

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812

from mapper.errors import InputError
from mapper.evaluation.opensr import PUBLISHED, OpenSrOptions, map_likeness, resize, score_opensr

OPTIONS = {
    "plain": OpenSrOptions(),
    "published": PUBLISHED,
    "patches": dataclasses.replace(PUBLISHED, patch_px=16, correctness="l1"),
}
# reflectance, spectral, spatial, synthesis, hallucination, omission, improvement, judged pixels: opensr-test 1.3.3
GOLDEN = {
    "plain": {
        "truth": (0.000203, 0.046157, 0.0, 0.029228, 0.017668, 0.017668, 0.964663, 12544),
        "bilinear": (0.004201, 1.04651, 0.02, 0.000141, 0.018422, 0.963267, 0.018311, 12647),
        "bicubic": (0.003056, 0.754974, 0.02, 0.001792, 0.02317, 0.952446, 0.024384, 13730),
        "half": (0.00211, 0.527862, 0.0, 0.014608, 0.066589, 0.497238, 0.436173, 12544),
        "waves": (0.003061, 0.75509, 0.02, 0.012164, 0.187792, 0.713696, 0.098512, 20476),
        "bias": (0.02, 0.915378, 0.0, 0.029367, 0.192663, 0.212082, 0.595255, 23964),
        "shift": (0.006923, 1.723607, 0.266833, 0.029481, 0.425374, 0.225037, 0.349589, 27708),
    },
    "published": {
        "truth": (0.000203, 0.046157, 0.0, 0.029228, 0.017668, 0.017668, 0.964663, 12544),
        "bilinear": (0.004201, 1.04651, 0.02, 0.015082, 0.197652, 0.658129, 0.144219, 26058),
        "bicubic": (0.003056, 0.754974, 0.02, 0.015083, 0.197208, 0.654815, 0.147977, 25614),
        "half": (0.00211, 0.527862, 0.0, 0.021169, 0.041539, 0.106422, 0.852039, 12579),
        "waves": (0.003061, 0.75509, 0.02, 0.018625, 0.317563, 0.533783, 0.148653, 27581),
        "bias": (0.02, 0.915378, 0.0, 0.029228, 0.017668, 0.017668, 0.964663, 12544),
        "shift": (0.006923, 1.723607, 0.266833, 0.028822, 0.116187, 0.089281, 0.794532, 20430),
    },
    "patches": {
        "truth": (0.000155, 0.238311, 0.0, 0.029228, 0.017668, 0.017668, 0.964663, 12544),
        "bilinear": (0.003216, 1.417844, 0.02, 0.015082, 0.13743, 0.735831, 0.126739, 14848),
        "bicubic": (0.00234, 1.02664, 0.02, 0.015083, 0.137187, 0.729766, 0.133047, 12544),
        "half": (0.001615, 0.709983, 0.0, 0.021169, 0.052994, 0.151143, 0.795863, 12544),
        "waves": (0.002344, 1.02822, 0.02, 0.018625, 0.201059, 0.656836, 0.142105, 49664),
        "bias": (0.015313, 1.02059, 0.0, 0.029228, 0.017668, 0.017668, 0.964663, 12544),
        "shift": (0.005301, 2.333063, 0.266833, 0.028822, 0.068321, 0.066985, 0.864693, 12544),
    },
}
SINGLE_PRECISION = {
    ("plain", "truth"): 0.0042,
    ("published", "truth"): 0.0042,
    ("patches", "truth"): 0.0011,
    ("patches", "half"): 0.0003,
    ("patches", "waves"): 0.0004,
    ("patches", "bias"): 0.0002,
}
"""Degrees by which its spectral angle is off for arc cosines near 1 in single precision; others are within 1e-4."""
TRUTH_SHA256 = "d22422f0a4cec0302a5f73a583d93e6b0b838337335157ec24cfd369b3755f07"


def zoom(image, mode, factor):
    return F.interpolate(image[None], scale_factor=factor, mode=mode, antialias=True)[0]


@pytest.fixture(scope="module")
def images():
    """Truth, source and the results of the golden table, (4, 256, 256) and (4, 64, 64) float32."""
    y, x = np.mgrid[0:256, 0:256].astype(np.float64)
    bands = [
        0.15
        + 0.03 * b
        + 0.05 * np.sin(2 * np.pi * x / (37 + 5 * b)) * np.cos(2 * np.pi * y / (29 + 3 * b))
        + 0.03 * np.sign(np.sin(2 * np.pi * (x + 2 * y) / (11 + b)))
        + 0.02 * ((x // 16 + y // 16) % 2)
        for b in range(4)
    ]
    truth = torch.from_numpy(np.stack(bands)).float()
    source = zoom(truth, "bilinear", 0.25)
    bilinear, bicubic = zoom(source, "bilinear", 4), zoom(source, "bicubic", 4)
    waves = torch.from_numpy(0.03 * np.sin(2 * np.pi * x / 5) * np.sin(2 * np.pi * y / 7)).float()
    results = {
        "truth": truth,
        "bilinear": bilinear,
        "bicubic": bicubic,
        "half": 0.5 * truth + 0.5 * bilinear,
        "waves": bicubic + waves,
        "bias": truth + 0.02,
        "shift": torch.roll(truth, 2, dims=2),
    }
    return truth.numpy(), source.numpy(), {name: result.numpy() for name, result in results.items()}


def as_table(score):
    shares = score.shares
    consistency = score.reflectance, score.spectral, score.spatial, score.synthesis
    return (*consistency, shares.hallucination, shares.omission, shares.improvement)


def skip_other_platforms(truth):
    if hashlib.sha256(truth.tobytes()).hexdigest() != TRUTH_SHA256:
        pytest.skip("this platform rounds sin otherwise, so that the sign term differs")


@pytest.mark.parametrize("name", GOLDEN["plain"])
@pytest.mark.parametrize("way", OPTIONS)
def test_scores_are_those_of_the_published_program(images, way, name):
    truth, source, results = images
    skip_other_platforms(truth)
    score = score_opensr(results[name], truth, source, options=OPTIONS[way])
    reflectance, spectral, *others, judged = GOLDEN[way][name]
    assert score.spectral == pytest.approx(spectral, abs=SINGLE_PRECISION.get((way, name), 1e-4))
    assert as_table(score) == pytest.approx((reflectance, score.spectral, *others), abs=1e-4)
    assert score.shares.pixels == pytest.approx(judged, abs=1 if (way, name) == ("published", "bicubic") else 0)


@pytest.mark.parametrize(("way", "name"), [key for key in SINGLE_PRECISION if key[0] != "published"])
def test_spectral_angles_that_differ_are_roundings_of_the_published_program(images, way, name):
    truth, source, results = images
    skip_other_platforms(truth)
    angles = [find_angle(source, results[name], way, dtype) for dtype in (torch.float32, torch.float64)]
    assert angles[0] == pytest.approx(GOLDEN[way][name][1], abs=2e-5)
    score = score_opensr(results[name], truth, source, options=OPTIONS[way])
    assert angles[1] == pytest.approx(score.spectral, abs=1e-6)


def find_angle(source, value, way, dtype):
    """Return the spectral angle as the published program takes it, from views, in a precision."""
    inner = torch.from_numpy(value).to(dtype)[:, 16:-16, 16:-16]
    seen, source = zoom(inner, "bilinear", 0.25), torch.from_numpy(source).to(dtype)[:, 4:-4, 4:-4]
    if way == "patches":
        cells = [F.pad(each, (4, 4, 4, 4)).unfold(1, 16, 16).unfold(2, 16, 16) for each in (source, seen)]
        pairs = [[each[:, row, col] for each in cells] for row in range(4) for col in range(4)]
        cosines = torch.stack([(one * other).sum() / (one.norm() * other.norm()) for one, other in pairs])
    else:
        cosines = (source * seen).sum(0) / (source.norm(dim=0) * seen.norm(dim=0))
    return torch.rad2deg(cosines.clamp(-1, 1).acos()).mean().item()


def test_classes_of_detail_are_of_the_same_pixels_for_all_results(images):
    truth, source, results = images
    scores = {name: score_opensr(result, truth, source) for name, result in results.items()}
    assert {score.shares_of_detail.pixels for score in scores.values()} == {12544}
    for score in scores.values():
        for shares in (score.shares, score.shares_of_detail):
            assert shares.improvement + shares.omission + shares.hallucination == pytest.approx(1)
    # invented detail is seen where the truth has little
    assert scores["waves"].shares.hallucination > 1.5 * scores["waves"].shares_of_detail.hallucination


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_resizing_is_that_of_torch(scale):
    image = np.random.default_rng(scale).uniform(0, 1, (2, 12 * scale, 10 * scale))
    small = zoom(torch.from_numpy(image), "bilinear", 1 / scale)
    np.testing.assert_allclose(resize(image, 12, 10), small, atol=1e-12)
    np.testing.assert_allclose(
        resize(small.numpy(), 12 * scale, 10 * scale), zoom(small, "bilinear", scale), atol=1e-12
    )


def test_a_gap_reaches_as_far_as_the_weights_and_no_further():
    image = np.random.default_rng(0).uniform(0, 1, (1, 32, 32))
    whole = resize(image, 8, 8)
    image[0, 14, 15] = np.nan
    gap = np.isnan(resize(image, 8, 8))
    assert gap.sum() == 4
    np.testing.assert_allclose(resize(image, 8, 8)[~gap], whole[~gap])


def test_gaps_leave_the_rest_as_it_was(images):
    truth, source, results = images
    value, holed = results["half"].copy(), source.copy()
    value[:, 40:48, 60:90] = np.nan
    holed[2, 30, 40] = np.nan
    whole, score = score_opensr(results["half"], truth, source), score_opensr(value, truth, holed)
    assert score.shares.pixels < whole.shares.pixels
    assert as_table(score)[3:] == pytest.approx(as_table(whole)[3:], abs=0.01)
    assert score.reflectance == pytest.approx(whole.reflectance, rel=0.05)
    nothing = score_opensr(np.full_like(value, np.nan), truth, source)
    assert np.isnan(as_table(nothing)).all()
    assert nothing.shares.pixels == nothing.shares_of_detail.pixels == 0


def test_images_that_do_not_nest_or_are_all_border_are_refused():
    image = np.ones((2, 64, 64))
    with pytest.raises(ValueError, match=r"source \(2, 16, 15\) do not nest"):
        score_opensr(image, image, np.ones((2, 16, 15)))
    with pytest.raises(ValueError, match="32 x 32 px holds nothing within a border of 16 px"):
        score_opensr(image[:, :32, :32], image[:, :32, :32], np.ones((2, 8, 8)))


def test_one_band_has_no_spectral_angle_and_scale_three_a_smaller_border():
    random = np.random.default_rng(5)
    truth = random.uniform(0.1, 0.2, (1, 60, 66))
    score = score_opensr(truth, truth, resize(truth, 20, 22))
    assert np.isnan(score.spectral)
    assert score.shares_of_detail.pixels == pytest.approx(30 * 36 / 4, abs=1)


@pytest.fixture(scope="module")
def scene():
    """Truth of 3 bands with detail everywhere, its source of half the pixels, and that enlarged."""
    random = np.random.default_rng(7)
    truth = 0.3 + 0.05 * random.uniform(-1, 1, (3, 72, 64)) + 0.02 * np.arange(3)[:, None, None]
    source = resize(truth, 36, 32)
    return truth, source


def enlarge_inside(source):
    """Return the enlarged source as it is compared: resized within the border."""
    inside = resize(source[:, 8:-8, 8:-8], 40, 32)
    return np.pad(inside, ((0, 0), (16, 16), (16, 16)), constant_values=0.3)


def table_of(shares):
    return shares.improvement, shares.omission, shares.hallucination


def test_truth_improves_all_its_enlarged_source_nothing_and_invention_is_seen(scene):
    truth, source = scene
    waves = 10 * np.random.default_rng(3).uniform(-1, 1, truth.shape)
    expected = {(1, 0, 0): truth, (0, 1, 0): enlarge_inside(source), (0, 0, 1): enlarge_inside(source) + waves}
    for shares, value in expected.items():
        score = score_opensr(value, truth, source)
        for rescaled in (score.rescaled, score.rescaled_of_detail):
            assert table_of(rescaled) == pytest.approx(shares, abs=0.02 if shares[2] else 1e-9)


def test_more_of_the_truth_is_more_improvement_and_more_invention_more_hallucination(scene):
    truth, source = scene
    enlarged, noise = enlarge_inside(source), np.random.default_rng(3).normal(0, 1, truth.shape)
    mixes = [score_opensr(w * truth + (1 - w) * enlarged, truth, source) for w in np.linspace(0, 1, 6)]
    invented = [score_opensr(truth + amount * noise, truth, source) for amount in (0, 0.01, 0.02, 0.04, 0.08)]
    for name in ("shares", "shares_of_detail", "rescaled", "rescaled_of_detail"):
        shares = np.array([table_of(getattr(score, name)) for score in mixes])
        assert (np.diff(shares[:, 0]) > 0).all()
        assert (np.diff(shares[:, 1]) < 0).all()
        hallucination = [getattr(score, name).hallucination for score in invented]
        assert (np.diff(hallucination) > 0).all()


@pytest.mark.parametrize("correctness", ["nd", "l1"])
def test_classes_know_no_unit_and_normalised_differences_none_of_a_band(scene, correctness):
    truth, source = scene
    noise = np.random.default_rng(5).normal(0, 0.01, truth.shape)
    value = 0.6 * truth + 0.4 * enlarge_inside(source) + noise
    options = OpenSrOptions(correctness=correctness)
    plain = score_opensr(value, truth, source, options=options)
    gains = {"all": np.full((3, 1, 1), 1e4), "one": np.array([1e4, 1, 1]).reshape(3, 1, 1)}
    other = {
        name: score_opensr(gain * value, gain * truth, gain * source, options=options) for name, gain in gains.items()
    }
    assert table_of(other["all"].shares) == pytest.approx(table_of(plain.shares), abs=1e-6)
    same = table_of(other["one"].shares) == pytest.approx(table_of(plain.shares), abs=1e-6)
    assert same == (correctness == "nd")


def test_even_images_have_nothing_to_judge_but_what_is_invented():
    truth = np.full((2, 64, 64), np.float32(0.2))
    source = np.full((2, 16, 16), np.float32(0.2))
    score = score_opensr(truth, truth, source)
    assert (score.shares.pixels, score.shares_of_detail.pixels) == (0, 0)
    assert np.isnan([*table_of(score.shares), *table_of(score.rescaled)]).all()
    assert (score.reflectance, score.synthesis) == pytest.approx((0, 0), abs=1e-7)
    value = truth.copy()
    value[:, 30, 30:34] += 0.1
    invented = score_opensr(value, truth, source)
    assert (invented.shares.pixels, invented.shares_of_detail.pixels) == (4, 0)
    assert table_of(invented.shares) == pytest.approx((0, 0, 1), abs=1e-6)


def test_likeness_of_pixels_is_what_shares_are_made_of(scene):
    truth, source = scene
    value = 0.5 * truth + 0.5 * enlarge_inside(source)
    value[:, 30:34, 20] = np.nan
    likeness, score = map_likeness(value, truth, source), score_opensr(value, truth, source)
    assert likeness.classes.shape == (3, 72, 64)
    assert likeness.classes[:, likeness.judged].mean(1) == pytest.approx(table_of(score.shares))
    assert likeness.rescale()[:, likeness.detail].mean(1) == pytest.approx(table_of(score.rescaled_of_detail))
    known = np.isfinite(likeness.classes).all(0)
    assert known.sum() == 40 * 32 - 4
    assert not (likeness.judged & ~known).any()
    assert not (likeness.detail & ~likeness.judged).any()
    np.testing.assert_allclose(likeness.classes[:, known].sum(0), 1)
    np.testing.assert_allclose(likeness.rescale()[:, known].sum(0), 1)


def test_harmonisation_hides_a_bias_that_is_seen_without_it(scene):
    truth, source = scene
    plain, harmonised = (score_opensr(truth + 0.03, truth, source, options=each) for each in (None, PUBLISHED))
    assert harmonised.rescaled.improvement == pytest.approx(1, abs=1e-3)
    assert plain.rescaled.improvement < 0.9
    assert plain.reflectance == harmonised.reflectance == pytest.approx(0.03, abs=0.01)


def test_options_that_make_no_sense_are_refused(scene):
    truth, source = scene
    with pytest.raises(ValueError, match="share between 0 and 1, got 16, None and 1"):
        OpenSrOptions(judged_from=1)
    with pytest.raises(InputError, match="distance mtf compares patches: give the edge"):
        score_opensr(truth, truth, source, options=OpenSrOptions(correctness="mtf"))
