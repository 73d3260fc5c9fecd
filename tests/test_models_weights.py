"""Weights and card come back as they were written, and neither can be changed without notice."""

import hashlib
import json
import pickle
import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from contracts import make_contract, sharpen

from mapper.errors import WeightsError
from mapper.models.architectures import build_network
from mapper.models.card import model_names, parse_card, read_card
from mapper.models.contract import BandNorm, digest_form
from mapper.models.model import GuidedModel
from mapper.models.msg import MSG
from mapper.models.weights import load_model, save_model
from mapper.spec import ModelSpec

OPTIONS = {"width": 2, "source_input": "full"}


@pytest.fixture
def model():
    torch.manual_seed(0)
    network = MSG(2, 6, **OPTIONS)
    contract = make_contract(
        model="msg",
        guide=(BandNorm(name="summer_B04", units="1", mean=0.1, sd=0.05), BandNorm(name="summer_vv", units="dB")),
        source_units="Mg ha-1",
        source_mean=81.5,
        source_sd=60.25,
        target="agb",
        target_units="Mg ha-1",
        scale=6,
        halo_px=network.halo_px,
    )
    return GuidedModel(network, contract).eval()


@pytest.fixture
def path(model, tmp_path):
    path = tmp_path / "small.safetensors"
    save_model(model, path, options=OPTIONS, training={"seed": 0, "data": ["abc"]})
    return path


def spec_of(path):
    return ModelSpec(name="small", weights=path)


def test_round_trip_is_exact(model, path):
    guide, source = torch.rand(1, 2, 36, 36), torch.rand(1, 1, 6, 6) * 200
    loaded = load_model(spec_of(path))
    assert torch.equal(sharpen(loaded, guide, source), sharpen(model, guide, source))
    assert loaded.contract == model.contract
    assert loaded.digest == read_card(spec_of(path)).sha256


def test_same_weights_give_the_same_file(model, path, tmp_path):
    other = tmp_path / "again" / "small.safetensors"
    save_model(model, other, options=OPTIONS)
    assert other.read_bytes() == path.read_bytes()


def test_card_round_trips_and_speaks_stac(path):
    card = read_card(spec_of(path))
    assert parse_card(card.to_json()) == card
    properties = json.loads(card.to_json())["properties"]
    assert properties["mlm:total_parameters"] == card.parameters > 0
    assert properties["mlm:input"][0]["bands"] == ["summer_B04", "summer_vv"]
    assert properties["mlm:input"][0]["value_scaling"][0] == {"type": "z-score", "mean": 0.1, "stddev": 0.05}
    assert card.training == {"seed": 0, "data": ["abc"]}


def test_changed_weights_are_refused(path):
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(WeightsError, match="were changed"):
        read_card(spec_of(path))
    with pytest.raises(WeightsError, match="were changed"):
        load_model(spec_of(path))


def test_changed_normalisation_is_refused(path):
    card = path.with_suffix(".json")
    card.write_text(card.read_text().replace("81.5", "82.5"))
    with pytest.raises(WeightsError, match="its contract is not that of the weights"):
        load_model(spec_of(path))


def test_changed_options_are_refused(path):
    card = path.with_suffix(".json")
    card.write_text(card.read_text().replace('"full"', '"high"'))
    with pytest.raises(WeightsError, match="was changed"):
        load_model(spec_of(path))


def test_a_pickle_is_refused_even_with_a_matching_checksum(path):
    path.write_bytes(pickle.dumps({"last.weight": [1.0]}))
    card = read_unchecked(path)
    path.with_suffix(".json").write_text(replace(card, sha256=sha256(path)).to_json())
    with pytest.raises(WeightsError, match="was changed"):
        load_model(spec_of(path))


def read_unchecked(path):
    return parse_card(path.with_suffix(".json").read_text())


def sha256(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize(("damage", "message"), [("{", "not a model card"), ("[]", "not a model card"), ("{}", "card")])
def test_a_damaged_card_is_one_clear_line(path, damage, message):
    path.with_suffix(".json").write_text(damage)
    with pytest.raises(WeightsError, match=message) as caught:
        read_card(spec_of(path))
    assert "\n" not in str(caught.value)


def test_missing_card_and_missing_weights_are_named(path):
    path.with_suffix(".json").unlink()
    with pytest.raises(WeightsError, match=r"no card at .*small\.json"):
        read_card(spec_of(path))
    path.unlink()
    with pytest.raises(WeightsError, match=r"no weights at .*small\.safetensors"):
        read_card(spec_of(path))


def test_unknown_name_lists_what_there_is():
    with pytest.raises(WeightsError, match=r"unknown model 'nonsense': mapper ships .*bicubic"):
        load_model(ModelSpec(name="nonsense"))


def test_interpolations_need_no_weights():
    for name in ("nearest", "bilinear", "bicubic"):
        assert name in model_names()
        card = read_card(ModelSpec(name=name))
        assert load_model(ModelSpec(name=name)).digest == card.digest == digest_form(card.form)


def test_shipped_models_load_and_fit_their_cards():
    for name in model_names():
        model = load_model(ModelSpec(name=name))
        assert model.contract == read_card(ModelSpec(name=name)).contract


def test_unknown_architecture_and_option_are_refused():
    with pytest.raises(WeightsError, match="unknown architecture 'gan'"):
        build_network("gan", guide_channels=1, scale=2, options={})
    with pytest.raises(WeightsError, match="does not take"):
        build_network("msg", guide_channels=1, scale=2, options={"depth": 3})


def test_reading_a_card_needs_no_torch(path):
    code = (
        "import sys; from pathlib import Path\n"
        "from mapper.models.card import read_card; from mapper.spec import ModelSpec\n"
        f"read_card(ModelSpec(name='small', weights=Path({str(path)!r}))); sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
