"""A scene's scores come by name, in the order of the table, from the definitions that the names say."""

import re
from pathlib import Path

import numpy as np
import pytest
from degraded import enlarge

from mapper.evaluation.fidelity import cpsnr, detail_correlation, gradient_ratio, psnr
from mapper.evaluation.opensr import PUBLISHED, resize, score_opensr
from mapper.evaluation.scene_score import SCENE_METRICS, score_scene
from mapper.predict.operators import BlockMean, GaussianPsf


@pytest.fixture(scope="module")
def scene():
    """Truth of 3 bands, its source by a point spread function, and bicubic of that."""
    random = np.random.default_rng(0)
    truth = 0.2 + 0.02 * random.normal(size=(3, 64, 80)).cumsum(1)
    operators = [GaussianPsf(2, mtf=mtf) for mtf in (0.2, 0.25, 0.3)]
    anchor = np.stack([each.apply(band) for each, band in zip(operators, truth, strict=True)])
    return truth, anchor, operators


def test_every_score_of_the_table_is_given_in_its_order(scene):
    truth, anchor, operators = scene
    value = enlarge(anchor, 2)
    scores = score_scene(value, truth, anchor, operator=operators, value_range=1, border_px=4, shift_px=2)
    assert list(scores) == list(SCENE_METRICS)
    assert np.isfinite(list(scores.values())).all()
    assert scores["psnr"] == psnr(value[:, 4:-4, 4:-4], truth[:, 4:-4, 4:-4], 1)
    assert scores["cpsnr"] == cpsnr(value, truth, 1)
    assert scores["displacement"] == 0
    plain, harmonised = (score_opensr(value, truth, anchor, options=options) for options in (None, PUBLISHED))
    assert scores["spatial"] == plain.spatial
    assert scores["improvement_rescaled"] == plain.rescaled.improvement
    assert scores["hallucination_of_detail_rescaled"] == plain.rescaled_of_detail.hallucination
    assert scores["omission_harmonised"] == harmonised.shares.omission
    assert scores["synthesis_harmonised"] == harmonised.synthesis
    assert scores["gradient_excess"] == gradient_ratio(value[:, 4:-4, 4:-4], truth[:, 4:-4, 4:-4]) - 1 < 0
    assert scores["covered"] == 1


def test_truth_is_best_at_all_that_the_source_tells(scene):
    truth, anchor, operators = scene
    value = enlarge(anchor, 2)
    best, other = (score_scene(each, truth, anchor, operator=operators, value_range=1) for each in (truth, value))
    assert best["consistency_rmse"] == best["consistency_mae"] == pytest.approx(0, abs=1e-12)
    assert best["psnr"] == best["cpsnr"] == np.inf
    assert best["gradient_excess"] == pytest.approx(0, abs=1e-12)
    for name in ("ssim", "improvement", "improvement_of_detail", "affine_ssim", "detail_correlation"):
        assert best[name] > other[name]
    for name in ("angle", "global_angle", "affine_error", "hallucination", "omission"):
        assert best[name] < other[name]


def test_colours_and_displacement_cost_only_what_is_not_corrected_for_them(scene):
    truth, anchor, operators = scene
    value = np.roll(enlarge(anchor, 2), (-2, 1), (1, 2)) * 1.3 + 0.1
    plain = score_scene(enlarge(anchor, 2), truth, anchor, operator=operators, value_range=1, shift_px=3)
    scores = score_scene(value, truth, anchor, operator=operators, value_range=1, shift_px=3)
    assert scores["displacement"] == pytest.approx(np.hypot(2, 1))
    assert scores["affine_psnr"] == pytest.approx(plain["affine_psnr"], abs=0.5)
    assert scores["psnr"] < plain["psnr"] - 3
    assert scores["consistency_rmse"] > 10 * plain["consistency_rmse"]


def test_gradients_and_detail_are_judged_where_both_are_known(scene):
    truth, anchor, _ = scene
    coarse = resize(anchor, *truth.shape[1:])
    detail = truth - coarse
    assert gradient_ratio(3 * truth + 2, truth) == pytest.approx(3)
    assert np.isnan(gradient_ratio(truth, np.ones_like(truth)))
    for gain, expected in ((1, 1), (0.3, 1), (-2, -1)):
        assert detail_correlation(coarse + gain * detail + 0.1, truth, coarse) == pytest.approx(expected)
    turned = coarse + np.rot90(detail[:, :64, :64], axes=(1, 2)).repeat(2, 2)[:, :, :80]
    expected = np.mean([np.corrcoef((turned - coarse)[b].ravel(), detail[b].ravel())[0, 1] for b in range(3)])
    assert detail_correlation(turned, truth, coarse) == pytest.approx(expected)
    assert np.isnan(detail_correlation(coarse, truth, coarse))
    holed = truth.copy()
    holed[:, 10:20, 10:20] = np.nan
    assert gradient_ratio(holed, truth) == detail_correlation(holed, truth, coarse) == pytest.approx(1)


def test_gaps_are_told_and_small_scenes_lack_what_needs_room():
    random = np.random.default_rng(1)
    truth = random.uniform(0, 1, (1, 6, 6))
    value = truth.copy()
    value[0, :3] = np.nan
    anchor = truth.reshape(1, 3, 2, 3, 2).mean((2, 4))
    scores = score_scene(value, truth, anchor, operator=BlockMean(2), value_range=1)
    assert scores["covered"] == 0.5
    assert np.isnan([scores[name] for name in ("cpsnr", "reflectance", "improvement", "ssim", "angle")]).all()
    residual = value[0, 4:].reshape(1, 2, 3, 2).mean((1, 3)) - anchor[0, 2:]
    half_known = value[0, 3].reshape(3, 2).mean(1) - anchor[0, 1]
    assert scores["consistency_rmse"] == pytest.approx(np.sqrt(np.mean([*residual.ravel() ** 2, *half_known**2])))
    with pytest.raises(ValueError, match="do not nest"):
        score_scene(value, truth, anchor, operator=BlockMean(3), value_range=1)


def test_the_page_of_scores_names_all_of_them():
    page = (Path(__file__).parents[1] / "docs" / "benchmarks.md").read_text()
    table = page.split("## Images of several bands")[1].split("From `reflectance`")[0]
    written = {}
    for names, _, better in re.findall(r"^\| (`.*`) \| (.*) \| (.*) \|$", table, re.MULTILINE):
        ends = better.split(", ")
        found = re.findall(r"`(\w+)`", names)
        written.update(zip(found, ends if len(ends) > 1 else ends * len(found), strict=True))
    assert written == {name: metric.better for name, metric in SCENE_METRICS.items()}
