"""Methods are scored on the same pixels, and no method sees the truth of the place it is scored on."""

import json
from dataclasses import replace

import numpy as np
import pytest
import yaml
from region import run_mapper

from mapper.benchmark import methods as contestants
from mapper.benchmark import runner
from mapper.benchmark import sites as places
from mapper.benchmark.methods import open_contestant
from mapper.benchmark.result_files import to_text, write_report
from mapper.benchmark.runner import deviation, run_suite
from mapper.benchmark.sites import read_places, slug, split
from mapper.benchmark.suite import read_suite
from mapper.errors import ContractError, SpecError, WeightsError
from mapper.predict.predictor import Estimate
from mapper.training.config import BioMasstersData, MapsData
from mapper.training.sample import Sample

SCALE = 5
EDGE = 40


def make_sample(seed):
    """A place whose truth is a function of its guide, with gaps in truth and source."""
    random = np.random.default_rng(seed)
    coarse = random.random((EDGE // 8, EDGE // 8)).repeat(8, 0).repeat(8, 1)
    truth = (200 * coarse + 20 * random.random((EDGE, EDGE))).astype(np.float32)
    source = truth.reshape(EDGE // SCALE, SCALE, EDGE // SCALE, SCALE).mean((1, 3)).astype(np.float32)
    guide = np.stack([truth / 200, random.random((EDGE, EDGE))]).astype(np.float32)
    truth[:3, :4], source[-1, -1], guide[:, 9, 9] = np.nan, np.nan, np.nan
    return Sample(
        guide=guide,
        source=source,
        source_sd=np.full_like(source, 8),
        truth=truth,
        bands=(("summer_a", "1"), ("summer_b", "1")),
        source_units="Mg ha-1",
        name=f"landscape {seed}",
        degradation="block mean",
        digest=f"digest {seed}",
    )


@pytest.fixture(autouse=True)
def samples(monkeypatch):
    """Small places instead of rendered landscapes."""
    monkeypatch.setattr(
        places, "read_samples", lambda data: [make_sample(seed) for part in data for seed in part.seeds]
    )


@pytest.fixture
def write_suite(tmp_path):
    def write(*methods, seeds=(1, 2, 3), **changes):
        recipe = {
            "name": "tiny", "out": "elsewhere", "steps": 2, "batch": 2, "patch_px": 20, "threads": 1,
            "data": [{"kind": "synthetic", "seeds": [9], "folder": "."}],
            "model": {"architecture": "msg", "options": {"width": 2}}, "precision": "fp32",
        }  # fmt: skip
        (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(recipe))
        content = {
            "name": "small", "title": "Small places",
            "data": [{"kind": "synthetic", "seeds": list(seeds), "folder": "scenes", "scale": SCALE, "size_px": 100}],
            "methods": list(methods), "bins": [0, 100, float("inf")],
        } | changes  # fmt: skip
        (tmp_path / "small.yaml").write_text(yaml.safe_dump(content))
        return tmp_path / "small.yaml"

    return write


def plain(name, **changes):
    return {"name": name, "group": "source", "model": name} | changes


TRAINED = {"name": "trained", "group": "guide+source", "recipe": "tiny.yaml"}
WALD = {"name": "wald", "group": "guide+source", "wald": "tiny.yaml"}


def run(path, tmp_path, **options):
    return run_suite(read_suite(path, work=tmp_path / "work"), work=tmp_path / "work", **options)


def test_interpolations_are_scored_on_the_same_pixels_of_all_places(write_suite, tmp_path):
    told = []
    report = run(write_suite(plain("nearest"), plain("bicubic")), tmp_path, notify=told.append)
    known = 3 * (EDGE**2 - 3 * 4 - SCALE**2)
    for outcome in report.outcomes:
        assert outcome.scores.pooled.n == known
        assert list(outcome.scores.sites) == ["landscape 1", "landscape 2", "landscape 3"]
        assert sum(outcome.tally.bins.n) == known
        assert outcome.coverage is None
        assert outcome.mpx_per_second > 0
    nearest, bicubic = report.outcomes
    sample = make_sample(1)
    value = sample.source.repeat(SCALE, 0).repeat(SCALE, 1)
    expected = np.sqrt(np.nanmean((value - sample.truth) ** 2))
    assert nearest.scores.sites["landscape 1"].value("rmse") == pytest.approx(expected, rel=1e-5)
    assert nearest.scores.pooled.value("residual_max") < 1e-3
    assert report.ratio(bicubic) == 1
    assert report.ratio(nearest) == pytest.approx(
        nearest.scores.pooled.value("rmse") / bicubic.scores.pooled.value("rmse")
    )
    assert any("nearest at landscape 2" in line for line in told)
    assert report.notes == ()


def test_consistency_is_that_of_the_method(write_suite, tmp_path):
    methods = (plain("bicubic"), plain("hard", model="bicubic", consistency="hard"))
    loose, hard = run(write_suite(*methods), tmp_path).outcomes
    assert hard.scores.pooled.value("residual_max") < 1e-3 < loose.scores.pooled.value("residual_max")


def test_a_recipe_is_trained_on_all_other_places(write_suite, tmp_path, monkeypatch):
    calls = []
    train = contestants.train
    monkeypatch.setattr(
        contestants, "train", lambda config, **given: calls.append((config, given)) or train(config, **given)
    )
    report = run(write_suite(TRAINED, seeds=(1, 2)), tmp_path)
    for (config, given), own, other in zip(calls, (1, 2), (2, 1), strict=True):
        assert config.name.startswith(f"tiny-without-landscape-{own}")
        assert [sample.name for sample in given["samples"]] == [f"landscape {other}"]
        assert given["validation"] == []
        assert config.validation == ()
        assert [data.seeds for data in config.data] == [(other,)]
    weights = {result.weights for result in report.outcomes[0].results.values()}
    assert {path.stem for path in (tmp_path / "work" / "weights").glob("*.safetensors")} == weights


def test_trained_weights_are_found_again(write_suite, tmp_path):
    path = write_suite(TRAINED, seeds=(1, 2))
    first = run(path, tmp_path)
    files = {p: p.stat().st_mtime_ns for p in (tmp_path / "work" / "weights").glob("*.safetensors")}
    again = run(path, tmp_path)
    assert {p: p.stat().st_mtime_ns for p in files} == files
    assert again.outcomes[0].scores.to_dict() == first.outcomes[0].scores.to_dict()


def test_walds_protocol_learns_the_place_without_its_truth(write_suite, tmp_path, monkeypatch):
    seen = []
    degrade = contestants.degrade
    monkeypatch.setattr(contestants, "degrade", lambda sample: seen.append(sample) or degrade(sample))
    run(write_suite(WALD, seeds=(1,)), tmp_path)
    (sample,) = seen
    assert np.isnan(sample.truth).all()
    learnt = degrade(sample)
    np.testing.assert_array_equal(learnt.truth[: EDGE // SCALE, : EDGE // SCALE], sample.source)
    assert (tmp_path / "work" / "weights").is_dir()


def test_no_model_is_shown_the_truth_of_its_place(write_suite, tmp_path, monkeypatch):
    shown = []
    predict = runner.predict_sample
    monkeypatch.setattr(runner, "predict_sample", lambda model, sample: shown.append(sample) or predict(model, sample))
    run(write_suite(plain("bicubic"), TRAINED, WALD, seeds=(1, 2)), tmp_path)
    assert shown
    assert all(np.isnan(sample.truth).all() for sample in shown)


def test_a_place_that_is_scored_is_refused_for_training(write_suite, tmp_path):
    suite = read_suite(write_suite(TRAINED, seeds=(1, 2)), work=tmp_path)
    one, two = read_places(suite.data)
    with pytest.raises(ValueError, match="must not be trained on"):
        open_contestant(suite.methods[0], one, [one, two], weights=tmp_path, notify=print)


def test_pixtransform_is_slow_and_fitted_to_each_place(write_suite, tmp_path):
    slow = {
        "name": "pix", "group": "guide+source", "per_scene": "pixtransform", "slow": True, "options": {"iterations": 2},
    }  # fmt: skip
    path = write_suite(plain("nearest"), slow, seeds=(1,))
    assert [outcome.method.name for outcome in run(path, tmp_path).outcomes] == ["nearest"]
    report = run(path, tmp_path, include_slow=True)
    assert report.outcomes[1].parameters == 200_993 - 32
    assert "iterations 2" in to_text(report)


def test_what_cannot_work_is_said_before_anything_is_trained(write_suite, tmp_path):
    with pytest.raises(WeightsError, match="unknown model 'stars'"):
        run(write_suite(TRAINED, plain("stars")), tmp_path)
    with pytest.raises(SpecError, match="is the only one"):
        run(write_suite(TRAINED, seeds=(1,)), tmp_path)
    with pytest.raises(SpecError, match="cannot be read"):
        run(write_suite(TRAINED | {"recipe": "none.yaml"}), tmp_path)
    with pytest.raises(ContractError, match="does not fit"):
        run(write_suite(plain("msg", model="msg-demo")), tmp_path)
    with pytest.raises(SpecError, match="appear twice"):
        run(write_suite(plain("nearest"), seeds=(1, 1)), tmp_path)
    path = write_suite(TRAINED)
    recipe = path.with_name("tiny.yaml")
    recipe.write_text(recipe.read_text().replace("architecture: msg", "architecture: gan"))
    with pytest.raises(SpecError, match="trains 'gan'"):
        run(path, tmp_path)
    assert not (tmp_path / "work" / "weights").exists()


def test_weights_that_have_seen_a_place_are_no_test_of_it(write_suite, tmp_path):
    path = write_suite(TRAINED, seeds=(1, 2))
    run(path, tmp_path)
    weights = min((tmp_path / "work" / "weights").glob("*.safetensors"))
    with pytest.raises(SpecError, match="was trained or calibrated on landscape 2"):
        run(write_suite(plain("own", model=str(weights))), tmp_path)


def test_native_resolution_is_asked_of_labels_that_have_one(write_suite, tmp_path, monkeypatch):
    with pytest.raises(SpecError, match="native"):
        run(write_suite(plain("nearest"), native=True), tmp_path)

    def repeat(data):
        cells, random = np.arange(EDGE) * 5 // 8, np.random.default_rng(0)
        labels = [random.random((EDGE, EDGE), np.float32)[cells][:, cells] for part in data for _ in part.seeds]
        return [replace(make_sample(seed), truth=label) for seed, label in zip(data[0].seeds, labels, strict=True)]

    monkeypatch.setattr(places, "read_samples", repeat)
    (outcome,) = run(write_suite(plain("nearest"), native=True), tmp_path).outcomes
    assert 0 < outcome.native.pooled.n < outcome.scores.pooled.n


def test_deviation_holds_that_of_the_source_once():
    sample = make_sample(1)
    prediction = Estimate(mean=sample.truth, sd=np.full_like(sample.truth, 6))
    np.testing.assert_allclose(deviation(prediction, sample, sees_source_sd=True), 6)
    np.testing.assert_allclose(deviation(prediction, sample, sees_source_sd=False), 10)
    unknown = replace(sample, source_sd=np.full_like(sample.source_sd, np.nan))
    np.testing.assert_allclose(deviation(prediction, unknown, sees_source_sd=False), 6)
    assert deviation(replace(prediction, sd=None), sample, sees_source_sd=True) is None


def test_the_report_is_written_to_be_read_and_computed_with(write_suite, tmp_path):
    ensemble = yaml.safe_load(write_suite(plain("nearest")).with_name("tiny.yaml").read_text())
    path = write_suite(plain("nearest"), plain("bicubic"), TRAINED, seeds=(1, 2))
    ensemble["model"]["options"]["members"] = 2
    path.with_name("tiny.yaml").write_text(yaml.safe_dump(ensemble))
    report = run(path, tmp_path)
    files = write_report(report, tmp_path / "out")
    assert {"suite.md", "suite.csv", "suite.json", "scatter.png", "bins.png", "reliability.png"} < set(files)
    assert all(path.stat().st_size > 100 for path in files.values())
    text = files["suite.md"].read_text()
    for word in ("Small places", "bicubic", "landscape 2", "in 90%", "block mean", "Bias by class", "1 thread"):
        assert word in text
    content = json.loads(files["suite.json"].read_text())
    assert set(content["methods"]) == {"nearest", "bicubic", "trained"}
    assert 0 <= content["methods"]["trained"]["coverage"]["share"]["0.9"] <= 1
    assert len(files["suite.csv"].read_text().splitlines()) == 4


def test_the_command_line_tells_a_suite_from_a_map(write_suite, tmp_path):
    path = write_suite(plain("nearest"), plain("bicubic"))
    code, said = run_mapper("evaluate", path, "--work", tmp_path / "out", "--method", "nearest")
    assert code == 0, said
    assert "nearest" in said
    assert "| bicubic" not in said
    assert (tmp_path / "out" / "suite.md").is_file()
    assert run_mapper("evaluate", path, "--method", "stars")[1].startswith("suite small has no method stars")
    assert "unknown suite" in run_mapper("evaluate", "stars")[1]
    assert "--truth" in run_mapper("evaluate", tmp_path / "map.yaml")[1]


def test_descriptions_are_split_into_places(tmp_path):
    maps = MapsData(maps=(tmp_path / "a.yaml", tmp_path / "b.yaml"), truth={"collection": "truth"})
    assert [part.maps for part in split(maps)] == [(tmp_path / "a.yaml",), (tmp_path / "b.yaml",)]
    chips = BioMasstersData(folder=tmp_path, chips=("a", "b", "c"), leave_out=("b",))
    assert [(part.chips, part.leave_out) for part in split(chips)] == [(("a",), ()), (("c",), ())]


def test_names_of_places_become_parts_of_file_names():
    assert slug("288afc34") == "288afc34"
    assert slug("a/b") != slug("a b")
    assert slug("a/b").startswith("a-b-")
