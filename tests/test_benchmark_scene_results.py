"""A suite of scenes is scored by number of dates, and no method sees a truth or a shift that it must not."""

import json
import math

import numpy as np
import pytest
import yaml
from scene_folders import write_image
from shared import SHARED

from mapper.benchmark import runner
from mapper.benchmark.result_files import write_report
from mapper.benchmark.runner import run_suite
from mapper.benchmark.sensor_view import SensorView
from mapper.benchmark.sites import read_sites, show_dates
from mapper.benchmark.suite import read_suite
from mapper.errors import InputError, SpecError
from mapper.evaluation.fidelity import psnr
from mapper.evaluation.scene_score import SCENE_METRICS
from mapper.synthetic.bursts import degrade
from mapper.training.scene_config import BurstData

PIECES = SHARED / "super_resolution"
BURSTS = {
    "kind": "bursts", "seeds": [7, 8], "size_px": 48, "bands": 2, "dates": 3, "noise": [0, 0], "clouds": 0.1,
    "value_range": 6, "border_px": 4, "level": 10,
}  # fmt: skip


def plain(name, **changes):
    return {"name": name, "group": "source", "model": name} | changes


ANCHOR = {"anchor_only": True}
METHODS = (
    plain("nearest", **ANCHOR),
    plain("bicubic", **ANCHOR),
    plain("fitted", model="bicubic", affine=True, **ANCHOR),
    plain("median"),
    plain("burst"),
    plain("known", model="burst", shifts="known"),
)


def write_suite(folder, *methods, **changes):
    content = {
        "name": "several", "title": "Several dates", "mixed": True, "dates": [1, 2, 4], "data": [BURSTS],
        "metrics": ["psnr", "consistency_rmse"], "methods": list(methods or METHODS),
    } | changes  # fmt: skip
    path = folder / "several.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


def run(path, work, *, data=None, **options):
    return run_suite(read_suite(path, work=work, folder=data), work=work, **options)


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    folder = tmp_path_factory.mktemp("suite")
    return run(write_suite(folder), folder / "work")


def by_method(report):
    return {outcome.method.name: outcome.results for outcome in report.outcomes}


def test_methods_are_scored_by_the_number_of_dates_that_they_see(report):
    results = by_method(report)
    assert list(results["nearest"]) == ["burst 7, 1 date", "burst 8, 1 date"]
    assert list(results["median"]) == [f"burst {seed}, {end}" for seed in (7, 8) for end in ("1 date", "2 dates")]
    rows = list(report.rows("simulated dates"))
    assert [(row["method"], row["dates"]) for row in rows if row["method"] in ("bicubic", "burst")] == [
        ("bicubic", 1), ("burst", 1), ("burst", 2),
    ]  # fmt: skip
    both = [result.scores["psnr"] for result in results["bicubic"].values()]
    assert next(row for row in rows if row["method"] == "bicubic")["psnr"] == pytest.approx(np.mean(both))


def test_scores_are_those_of_the_scene(report):
    (site, _) = read_sites([BurstData.model_validate(BURSTS)])
    sample = site.sample
    value = sample.source.repeat(2, 1).repeat(2, 2)
    scores = by_method(report)["nearest"]["burst 7, 1 date"].scores
    inside = np.s_[:, 4:-4, 4:-4]
    assert list(scores) == list(SCENE_METRICS)
    assert scores["psnr"] == pytest.approx(psnr(value[inside], sample.truth[inside], 6))
    seen = degrade(value, 2)
    assert scores["consistency_rmse"] == pytest.approx(math.sqrt(np.square(seen - sample.source).mean()), rel=1e-4)


def test_an_affine_fit_beats_none_and_known_shifts_beat_noisy_ones(report):
    results = by_method(report)
    for name, scores in results["fitted"].items():
        assert scores.scores["psnr"] >= results["bicubic"][name].scores["psnr"]
        assert scores.scores["psnr"] == pytest.approx(results["bicubic"][name].scores["affine_psnr"], abs=1e-6)
    name = "burst 7, 2 dates"
    assert results["known"][name].scores["psnr"] > results["burst"][name].scores["psnr"]
    assert results["burst"][name].scores["psnr"] > results["burst"]["burst 7, 1 date"].scores["psnr"]


def test_no_model_is_shown_a_truth_or_a_true_shift(tmp_path, monkeypatch):
    shown = []
    predict = runner.predict_sample
    watched = lambda model, sample, **options: shown.append(sample) or predict(model, sample, **options)  # noqa: E731
    monkeypatch.setattr(runner, "predict_sample", watched)
    run(write_suite(tmp_path, plain("burst"), plain("known", model="burst", shifts="known"), dates=[2]), tmp_path)
    assert all(np.isnan(sample.truth).all() and sample.stack.true_shift is None for sample in shown)
    (site, _) = show_dates(read_sites([BurstData.model_validate(BURSTS)]), [2])
    estimated, _, known, _ = shown
    np.testing.assert_array_equal(estimated.stack.shift, site.sample.stack.shift)
    np.testing.assert_array_equal(known.stack.shift[:, :, 3, 3], site.sample.stack.true_shift)
    np.testing.assert_array_equal(known.source, known.stack.values[0])


def test_files_hold_the_table_and_all_scores(report, tmp_path):
    write_report(report, tmp_path)
    stored = json.loads((tmp_path / "suite.json").read_text())
    place = stored["places"]["burst 7, 2 dates"]
    assert (place["scale"], place["value_range"], place["dates"], place["psf"]["aperture_px"]) == (2, 6, 2, 2)
    scores = stored["methods"]["burst"]["scores"]["burst 8, 1 date"]
    assert set(scores) == {*SCENE_METRICS, "s_per_mpx", "tflop_per_mpx"}
    assert scores["s_per_mpx"] > 0
    assert 0 < scores["tflop_per_mpx"] < 0.01  # no network: the little that interpolation multiplies
    assert len(stored["table"]["simulated dates"]) == 3 + 3 * 2
    text = (tmp_path / "suite.md").read_text()
    assert "## simulated dates (x2, mean of 2; PSNR of a range of 6, units 1)" in text
    header = next(line for line in text.splitlines() if line.startswith("| method"))
    assert [cell.strip() for cell in header.strip("|").split("|")] == [
        "method", "dates", "PSNR (dB)", "consistency RMSE (units)",
    ]  # fmt: skip
    assert (tmp_path / "suite.csv").read_text().startswith("place,method,dates,psnr,")


def test_a_training_is_done_once_on_its_own_data_and_skipped_where_it_does_not_fit(tmp_path):
    data = {"kind": "bursts", "seeds": [1, 2], "size_px": 48, "dates": 3}
    recipe = {
        "name": "tiny", "out": "elsewhere", "steps": 2, "batch": 2, "patch_px": 24, "threads": 1, "precision": "fp32",
        "data": [data], "validation": [data | {"seeds": [3]}], "loss": "l1",
        "model": {
            "architecture": "burst-fusion",
            "options": {"width": 4, "blocks": 1, "features": 4, "rounds": [1, 2]},
        },
    }  # fmt: skip
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(recipe))
    method = {"name": "trained", "group": "source", "training": "tiny.yaml"}
    three = BURSTS | {"scale": 3, "size_px": 48, "seeds": [9], "label": "x3"}
    told = []
    path = write_suite(tmp_path, method, data=[BURSTS | {"seeds": [7]}, three], dates=[2])
    report = run(path, tmp_path / "work", notify=told.append)
    (outcome,) = report.outcomes
    assert list(outcome.results) == ["burst 7, 2 dates"]
    assert "scale is 3, expected 2" in outcome.skipped["burst 9, 2 dates"]
    assert sum("tiny learns from its own data" in line for line in told) == 1
    assert [row["method"] for row in report.rows("simulated dates") if 0 <= row["in_90"] <= 1] == ["trained"]
    assert (tmp_path / "work" / "weights" / "tiny.safetensors").is_file()
    path = write_suite(tmp_path, method, plain("bicubic", **ANCHOR), data=[three], dates=[2, 3])
    report = run(path, tmp_path / "work")
    assert [list(outcome.results) for outcome in report.outcomes] == [["burst 9, 2 dates"]]  # of bicubic, once
    assert any("trained is not scored at x3: model burst-fusion" in note for note in report.notes)
    for seed in (2, 3):  # learnt, validated
        path = write_suite(tmp_path, method, data=[BURSTS | {"seeds": [seed]}])
        with pytest.raises(SpecError, match=f"tiny.yaml is trained or calibrated on burst {seed}"):
            run(path, tmp_path / "work")


def test_data_of_ones_own_are_looked_for_and_told_where_they_are_not(tmp_path):
    folder = {"kind": "spacenet7", "folder": ".", "optional": True, "simulate": {"dates": 2}}
    path = write_suite(tmp_path, plain("bicubic"), data=[folder | {"subfolder": "here"}, BURSTS], dates=[1])
    (note,) = run(path, tmp_path).notes
    assert note == "here is left out: say with --data where its folder is"
    image = np.random.default_rng(0).integers(1, 255, (3, 48, 48)).astype(np.uint8)
    write_image(tmp_path / "data" / "here" / "07_rgb.png", image)
    report = run(path, tmp_path, data=tmp_path / "data")
    assert (report.notes, report.groups) == ((), ("07", "simulated dates"))
    with pytest.raises(InputError, match=r"none is no folder of data"):
        run(path, tmp_path, data=tmp_path / "none")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"empty holds none of here"):
        run(path, tmp_path, data=tmp_path / "empty")


def test_a_model_that_fits_no_scene_that_is_there_is_left_out(tmp_path):
    shipped = plain("burst-fusion-x3")
    report = run(write_suite(tmp_path, shipped, plain("bicubic"), dates=[1]), tmp_path)
    assert [outcome.method.name for outcome in report.outcomes] == ["bicubic"]
    (note,) = report.notes
    assert note.startswith("burst-fusion-x3 is left out: fits none of the sites: ")
    with pytest.raises(SpecError, match=r"burst-fusion-x3 fits none of the sites: .* scale is 2, expected 3"):
        run(write_suite(tmp_path, shipped), tmp_path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"metrics": ["beauty"]}, "unknown metrics beauty, expected some of psnr"),
        ({"methods": [plain("bicubic", consistency="hard")]}, "bicubic: methods of scenes are a model, a training"),
        ({"data": [BURSTS, {"kind": "terrain", "seeds": [1]}]}, "make two suites"),
        ({"data": [{"kind": "terrain", "seeds": [1]}]}, "dates, metrics, fitted, known ask for scenes"),
    ],
)
def test_a_suite_of_scenes_asks_for_what_scenes_have(tmp_path, changes, message):
    with pytest.raises(SpecError, match=message):
        read_suite(write_suite(tmp_path, **changes), work=tmp_path)


def test_what_nobody_declares_is_refused(tmp_path):
    path = write_suite(tmp_path, plain("bicubic"), data=[BURSTS | {"value_range": None}])
    with pytest.raises(SpecError, match="nobody declares the range of the values of burst 7"):
        run(path, tmp_path)


@pytest.mark.skipif(not PIECES.is_dir(), reason=f"real data not found at {PIECES}")
def test_published_figures_of_a_real_stack_come_out(tmp_path):
    suite = read_suite("multi-image", work=tmp_path, folder=PIECES)
    part = next(part for part in suite.data if part.kind == "probav" and not part.coarser)
    small = suite.model_copy(update={"data": (part.model_copy(update={"places": ("NIR_0594",)}),), "dates": (1,)})
    bicubic, projected = run_suite(small, work=tmp_path, methods=("bicubic", "back-projection")).outcomes
    assert bicubic.results["NIR_0594, 1 date"].scores["cpsnr"] == pytest.approx(50.05, abs=0.02)
    assert projected.results["NIR_0594, 1 date"].scores["cpsnr"] == pytest.approx(50.72, abs=0.1)


def test_the_view_of_a_sensor_is_that_of_its_declaration():
    (site, _) = read_sites([BurstData.model_validate(BURSTS)])
    truth = site.sample.truth[0, 4:-4, 4:-4]
    np.testing.assert_allclose(SensorView.of(site.sample).apply(truth), degrade(truth[None], 2)[0], rtol=1e-6)
