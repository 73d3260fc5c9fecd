"""Yardsticks are what their names say; on real pieces they have the figures that others published of them."""

from dataclasses import replace

import numpy as np
import pytest
from shared import SHARED

from mapper.benchmark.runner import run_suite
from mapper.benchmark.sensor_view import SensorView, interpolate, tie_to_source
from mapper.benchmark.suite import read_suite
from mapper.benchmark.yardsticks import YARDSTICKS, project_back_at_best
from mapper.evaluation.fidelity import find_residual, gradient_ratio, rmse
from mapper.training.bursts import read_bursts
from mapper.training.scene_config import BurstData, PsfConfig

PIECES = SHARED / "super_resolution"
needs_pieces = pytest.mark.skipif(not PIECES.is_dir(), reason=f"real data not found at {PIECES}")
NOISY = {"size_px": 96, "scale": 4, "dates": 1, "noise": [0.1, 0.1], "border_px": 8}


@pytest.fixture(scope="module")
def scene():
    (sample,) = read_bursts(BurstData(seeds=[3], **NOISY))
    return sample


def inner(image):
    return image[:, 8:-8, 8:-8]


def residual(image, sample):
    return rmse(find_residual(image, sample.source, [SensorView.of(sample)]), np.zeros_like(sample.source))


def test_rounds_tie_an_image_to_its_source_more_and_more(scene):
    image = interpolate(scene)
    left = [residual(tie_to_source(image, scene, rounds=rounds), scene) for rounds in (0, 1, 3, 6)]
    assert left[0] == residual(image, scene)
    assert left == sorted(left, reverse=True)
    assert left[3] < 0.3 * left[0]


def test_rounds_after_bicubic_are_back_projection(scene):
    tied = tie_to_source(interpolate(scene), scene, rounds=15)
    made = YARDSTICKS["back-projection-best"]  # stops earlier: its source is noisy
    assert rmse(made(scene, ()).mean, scene.truth) < rmse(tied, scene.truth)
    clean = replace(scene, source=SensorView.of(scene).apply(np.nan_to_num(scene.truth[0]))[None].astype(np.float32))
    assert np.array_equal(project_back_at_best(clean), tie_to_source(interpolate(clean), clean, rounds=15))


def test_invention_has_the_energy_of_the_truth_and_not_its_place(scene):
    image = YARDSTICKS["invention"](scene, ()).mean
    truth, plain = inner(scene.truth), inner(tie_to_source(interpolate(scene), scene, rounds=15))
    assert rmse(inner(image), truth) > rmse(plain, truth)
    assert np.std(inner(image) - plain) == pytest.approx(np.std(truth - plain), rel=0.05)


def test_an_unsharp_mask_is_steeper_and_sees_no_truth(scene):
    blind = replace(scene, truth=np.full_like(scene.truth, np.nan))
    image = YARDSTICKS["unsharp-mask"](blind, ()).mean
    assert gradient_ratio(image, interpolate(scene)) > 1.2


def test_what_a_sensor_is_said_to_see_may_be_wrong(scene):
    wrong = replace(scene, seen_through=PsfConfig(sd=0.6, aperture_px=2))
    assert SensorView.of(wrong) == SensorView.of(scene) == SensorView.which_made(scene)
    assert SensorView.which_made(wrong).psf.sd == 0.6


NAMES = ("bicubic", "unsharp-mask", "back-projection", "back-projection-best", "invention", "truth")


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """Scores by method and place."""
    work = tmp_path_factory.mktemp("generative")
    suite = read_suite("generative", work=work, folder=PIECES)
    wanted = {"whole", "lower rows", "lower rows, noise 1 DN", "lower rows, point spread .63"}
    data = tuple(part for part in suite.data if part.label in wanted)
    small = suite.model_copy(update={"data": data, "dates": (1,)})
    outcomes = run_suite(small, work=work, methods=NAMES).outcomes
    return {outcome.method.name: {name: r.scores for name, r in outcome.results.items()} for outcome in outcomes}


@needs_pieces
@pytest.mark.parametrize(
    ("name", "psnr", "of_detail", "published", "synthesis", "correlation"),
    [
        ("bicubic", 26.80, (0.074, 0.033), (0.075, 0.041), 0.0048, 0.55),
        ("unsharp-mask", 27.93, (0.282, 0.093), (0.258, 0.190), 0.0142, 0.60),
        ("back-projection", 28.66, (0.401, 0.124), (0.359, 0.235), 0.0189, 0.67),
        ("invention", 25.63, (0.370, 0.198), (0.213, 0.545), 0.0321, 0.45),
        ("truth", np.inf, (0.965, 0.018), (0.965, 0.018), 0.0277, 1),
    ],
)
def test_the_whole_chip_without_noise(results, name, psnr, of_detail, published, synthesis, correlation):
    scores = results[name]["west whole, 1 date"]
    assert scores["psnr"] == pytest.approx(psnr, abs=0.01)
    found = [[scores[f"{what}{end}"] for what in ("improvement", "hallucination")] for end in ("_of_detail", "")]
    np.testing.assert_allclose(found, [of_detail, published], atol=0.0015)
    assert scores["synthesis"] / 255 == pytest.approx(synthesis, abs=1e-4)
    assert scores["detail_correlation"] == pytest.approx(correlation, abs=0.01)


@needs_pieces
@pytest.mark.parametrize(
    ("place", "bicubic", "best"),
    [
        ("west lower rows, 1 date", 27.41, 29.11),
        ("west lower rows, noise 1 DN, 1 date", 27.38, 28.76),
        ("west lower rows, point spread .63, 1 date", None, 28.45),
    ],
)
def test_lower_rows_with_noise_and_wrong_point_spreads(results, place, bicubic, best):
    assert results["back-projection-best"][place]["psnr"] == pytest.approx(best, abs=0.04)
    if bicubic is not None:
        assert results["bicubic"][place]["psnr"] == pytest.approx(bicubic, abs=0.04)


@needs_pieces
def test_only_one_of_both_operators_knows_the_truth(results):
    for place, scores in results["truth"].items():
        if "noise" not in place:
            assert scores["consistency_mae"] < 1e-4  # the wrong point spread too: it is seen through the right one
            assert scores["reflectance"] > 0.5
    assert results["truth"]["west whole, 1 date"]["reflectance"] / 255 == pytest.approx(0.0043, abs=1e-4)
    assert results["back-projection"]["west whole, 1 date"]["consistency_mae"] / 255 < 0.0002
