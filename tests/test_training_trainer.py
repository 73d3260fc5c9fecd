"""From places to weights: validated, calibrated, described, and not repeated."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from places import SCALE, know_plain, make_config, make_place

from mapper.errors import ContractError, InputError, WeightsError
from mapper.models.card import read_card
from mapper.models.model import GuidedModel
from mapper.models.weights import load_model
from mapper.predict.predictor import Estimate, Predictor
from mapper.spec import ModelSpec
from mapper.training import scoring, trainer
from mapper.training.initial_model import make_model
from mapper.training.trainer import predict_sample, train

TRAIN = [make_place(seed, edge=12, dates=2) for seed in (0, 1)]
VALIDATE = [make_place(seed, edge=12, dates=2) for seed in (2, 3)]
PLAIN = {"architecture": "plain"}


@pytest.fixture(autouse=True)
def plain():
    with know_plain():
        yield


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained")
    with know_plain():
        config = make_config(folder, steps=40, loss="nll", model=PLAIN, validate_every=20, threads=1)
        return train(config, samples=TRAIN, validation=VALIDATE, command="mapper train tiny.yaml"), folder


def test_weights_load_and_the_card_tells_how_they_came_about(trained):
    card, folder = trained
    chosen = ModelSpec(name="tiny", weights=folder / "tiny.safetensors")
    assert read_card(chosen) == card
    assert load_model(chosen).network.dates == 2
    facts = card.training
    assert json.loads((folder / "tiny.json").read_text())["properties"]["mapper:training"] == facts
    assert facts["command"] == "mapper train tiny.yaml"
    described = {"name": "place 0", "digest": "digest 0", "degradation": "block mean", "pixels": 3600}
    assert facts["data"][0] == described
    assert [place["name"] for place in facts["validation"]] == ["place 2", "place 3"]
    assert facts["config"]["steps"] == 40
    assert (facts["device"], facts["threads"]) == ("cpu", 1)
    assert facts["seconds"] > 0


def test_scores_are_those_of_the_model_that_was_saved(trained):
    card, folder = trained
    model = load_model(ModelSpec(name="tiny", weights=folder / "tiny.safetensors"))
    scores = {sample.name: scoring.score(predict_sample(model, sample), sample).value("rmse") for sample in VALIDATE}
    assert card.training["scores"]["model"]["places"] == pytest.approx(scores, rel=1e-4)
    assert card.training["scores"]["model"]["rmse"] < card.training["scores"]["bicubic"]["rmse"]
    last = (folder / "tiny.run/tiny.curves.csv").read_text().splitlines()[-1]
    assert float(last.split(",")[3]) == pytest.approx(card.training["scores"]["model"]["rmse"], rel=1e-4)


def test_a_deviation_is_calibrated_to_hold_nine_of_ten_errors(trained):
    card, folder = trained
    model = load_model(ModelSpec(name="tiny", weights=folder / "tiny.safetensors"))
    predictions = [predict_sample(model, sample) for sample in VALIDATE]
    held = [np.abs(p.mean - s.truth) <= 1.6449 * p.sd for p, s in zip(predictions, VALIDATE, strict=True)]
    assert np.mean(held) == pytest.approx(0.9, abs=0.001)
    coverage = card.training["scores"]["coverage"]
    assert coverage["scale"] == pytest.approx(card.contract.sd_scale, abs=1e-4)
    assert coverage["by"] == "each site by the scale of the others"
    assert coverage["share"]["0.9"] == pytest.approx(0.9, abs=0.05)


def test_the_best_weights_are_a_model_too(trained):
    _, folder = trained
    assert load_model(ModelSpec(name="best", weights=folder / "tiny.run/best.safetensors")).contract.gives_sd


def test_a_finished_training_is_not_read_again(trained, monkeypatch):
    card, folder = trained
    monkeypatch.setattr(trainer, "read_samples", lambda _data: pytest.fail("read"))
    said = []
    config = make_config(folder, steps=40, loss="nll", model=PLAIN, validate_every=20, threads=1)
    assert train(config, notify=said.append) == card
    assert "trained already" in said[0]
    with pytest.raises(pytest.fail.Exception, match="read"):
        train(config.model_copy(update={"steps": 41}))


def test_other_places_are_another_training(trained):
    card, folder = trained
    config = make_config(folder, steps=40, loss="nll", model=PLAIN, validate_every=20, threads=1)
    assert train(config, samples=TRAIN, validation=VALIDATE) == card
    assert trainer.RunFolder(folder / "tiny.run").differences({"learnt": {}})


def test_blocks_held_out_validate(tmp_path):
    config = make_config(tmp_path, steps=2, model=PLAIN, hold_out={"block_source_px": 4, "share": 0.3})
    card = train(config, samples=TRAIN[:1], validation=())
    learnt, scored = card.training["data"][0]["pixels"], card.training["validation"][0]["pixels"]
    assert 0 < scored < learnt < 3600 - scored
    assert card.training["scores"]["coverage"]["by"] == "the site it was calibrated on"


def test_without_validation_nothing_is_claimed(tmp_path):
    card = train(make_config(tmp_path, steps=2, model=PLAIN), samples=TRAIN, validation=())
    assert card.training["scores"] == {}
    assert card.contract.sd_scale == 1


def test_places_are_read_as_described(tmp_path, monkeypatch):
    monkeypatch.setattr(trainer, "read_samples", lambda data: [TRAIN[0]] if data else [])
    assert train(make_config(tmp_path, steps=2, model=PLAIN)).training["data"][0]["name"] == "place 0"


@pytest.mark.parametrize(
    ("samples", "message"), [([], "no site to learn from"), ([VALIDATE[1]], "may not be trained on: place 3")]
)
def test_places_that_cannot_be_learnt_are_refused(tmp_path, samples, message):
    with pytest.raises(InputError, match=message):
        train(make_config(tmp_path, model=PLAIN), samples=samples, validation=VALIDATE)


def test_places_of_any_size_are_predicted():
    sample = make_place(0, edge=12, dates=2)
    small = replace(
        sample,
        guide=sample.guide[:, : 7 * SCALE, : 9 * SCALE],
        source=sample.source[:7, :9],
        source_sd=sample.source_sd[:7, :9],
        truth=sample.truth[: 7 * SCALE, : 9 * SCALE],
    )
    model = make_model(TRAIN, make_config(model=PLAIN)).eval()
    prediction = predict_sample(model, small)
    assert prediction.mean.shape == prediction.sd.shape == small.truth.shape
    inner = tuple(slice(edge - model.contract.halo_px) for edge in small.truth.shape)
    whole = Predictor(model).sharpen(sample.guide, sample.source, sample.source_sd)
    np.testing.assert_allclose(prediction.mean[inner], whole.mean[inner], atol=1e-3)


def test_a_place_of_other_channels_is_refused():
    model = make_model(TRAIN, make_config(model=PLAIN)).eval()
    with pytest.raises(ContractError, match="date1_B04 is missing"):
        predict_sample(model, make_place(0, edge=12))


@pytest.mark.parametrize("holds_source_sd", [True, False])
def test_the_scale_makes_what_a_map_stores_hold_nine_of_ten_errors(holds_source_sd):
    random = np.random.default_rng(0)
    sample = make_place(0, source_sd=8.0)
    sd = random.uniform(1, 5, sample.truth.shape).astype(np.float32)
    total = 3 * sd if holds_source_sd else np.hypot(3 * sd, 8)
    mean = (sample.truth + random.normal(0, total)).astype(np.float32)
    sample.source[0, 0] = np.nan
    mean[:SCALE, :SCALE] = 1e6  # no source there: not counted
    predictions = [Estimate(mean=mean, sd=sd)]
    scale = scoring.calibrate(predictions, [sample], holds_source_sd=holds_source_sd)
    assert scale == pytest.approx(3, rel=0.05)
    covered = scoring.cover(predictions[0], sample, scale=scale, holds_source_sd=holds_source_sd)
    assert covered.share(0.9) == pytest.approx(0.9, abs=0.002)
    assert covered.n == sample.truth.size - SCALE**2


def test_too_few_pixels_calibrate_nothing():
    sample = make_place(0)
    truth = np.full_like(sample.truth, np.nan)
    truth[40, 40:45] = 1
    prediction = Estimate(mean=np.ones_like(truth), sd=np.ones_like(truth))
    assert scoring.calibrate([prediction], [replace(sample, truth=truth)], holds_source_sd=True) is None


def test_calibration_changes_the_deviation_alone():
    model = make_model(TRAIN, make_config(model=PLAIN)).eval()
    wide = GuidedModel(model.network, replace(model.contract, sd_scale=2.0)).eval()
    first, second = (predict_sample(m, TRAIN[0]) for m in (model, wide))
    np.testing.assert_array_equal(first.mean, second.mean)
    np.testing.assert_allclose(2 * first.sd, second.sd, rtol=1e-6)


def test_threads_are_given_back(tmp_path):
    before = torch.get_num_threads()
    train(make_config(tmp_path, steps=1, model=PLAIN, threads=before + 1), samples=TRAIN, validation=())
    assert torch.get_num_threads() == before


def test_a_training_begins_with_the_weights_it_is_given(trained, tmp_path):
    _, folder = trained
    start = folder / "tiny.safetensors"
    config = make_config(tmp_path, steps=1, loss="nll", model=PLAIN, lr=1e-12, start=start, name="more")
    train(config, samples=VALIDATE, validation=[], command="")
    before, after = (load_model(ModelSpec(name="x", weights=p)) for p in (start, tmp_path / "more.safetensors"))
    assert after.contract == replace(before.contract, sd_scale=1.0)
    assert after.contract != before.contract  # calibrated for other places: not any more
    for ours, theirs in zip(after.parameters(), before.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-9)


def test_a_start_of_another_kind_is_refused(trained, tmp_path):
    _, folder = trained
    start = folder / "tiny.safetensors"
    other = make_config(tmp_path, steps=1, model=PLAIN | {"options": {"dates": 1}}, start=start)
    with pytest.raises(WeightsError, match="expected plain"):
        make_model(TRAIN, other)
    fewer = replace(TRAIN[0], guide=TRAIN[0].guide[::-1], bands=TRAIN[0].bands[::-1])
    with pytest.raises(ContractError, match="another order"):
        make_model([fewer], make_config(tmp_path, steps=1, model=PLAIN, start=start))
