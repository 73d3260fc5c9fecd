"""What is asked for on the command line becomes a training, and a training a model that a map can name."""

import json
import re

import pytest
import yaml
from region import JULY, run_json, run_mapper

from mapper.errors import SpecError
from mapper.models.card import read_card
from mapper.spec import ModelSpec
from mapper.training.config import Changes, MapsData, WaldData, describe_training
from mapper.training.losses import LOSSES

TRUTH = {"collection": "truth", "variable": "agb", "limit": 500}
MAPS = {"kind": "maps", "maps": ["a/map.yaml"], "truth": TRUTH}
TINY = {"model": {"options": {"width": 2}}, "patch_px": 40, "batch": 2, "steps": 2}
MINIMAL = {"name": "m", "out": "w", "data": [MAPS], **TINY}


def write(path, content):
    path.write_text(yaml.safe_dump(content))
    return path


@pytest.fixture
def recipe(tmp_path):
    return write(tmp_path / "train.yaml", MINIMAL)


def test_other_maps_keep_the_truth_described(recipe, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    changes = Changes(name="n", out=tmp_path / "o", steps=7)
    config = describe_training(recipe, maps=[recipe.parent / "x.yaml"], changes=changes)
    assert config.data == (MapsData(maps=(tmp_path / "x.yaml",), truth=TRUTH),)
    assert (config.name, config.out, config.steps) == ("n", tmp_path / "o", 7)


def test_a_truth_is_named_by_collection_and_band(recipe, tmp_path):
    config = describe_training(recipe, maps=[tmp_path / "x.yaml"], truth="lidar:height")
    assert config.data[0].truth.model_dump() == {
        "collection": "lidar", "store": None, "variable": "height", "limit": 500,
        "datum_shift": None,
    }  # fmt: skip
    with pytest.raises(SpecError, match="not COLLECTION:BAND"):
        describe_training(recipe, maps=[tmp_path / "x.yaml"], truth="lidar")


def test_a_truth_has_to_come_from_somewhere(tmp_path):
    recipe = write(tmp_path / "train.yaml", MINIMAL | {"data": [{"kind": "wald", "maps": ["m.yaml"]}]})
    with pytest.raises(SpecError, match="no maps whose truth"):
        describe_training(recipe, maps=[tmp_path / "x.yaml"])


def test_walds_protocol_takes_a_recipe_or_the_one_that_ships(recipe, region):
    own = describe_training(recipe, wald=[region.map])
    assert own.data == (WaldData(maps=(region.map,)),)
    assert own.name == "m"
    shipped = describe_training(None, wald=[region.map])
    assert shipped.data == own.data
    assert shipped.out == region.map.parent / "weights"
    assert shipped.name.startswith("wald-")
    with pytest.raises(SpecError, match="give what to train"):
        describe_training(None)


def test_a_map_is_trained_on_itself_and_then_made(region):
    region.change(guide=JULY)
    code, text = run_mapper("train", "--wald", region.map, "--steps", "2", "--name", "own")
    assert code == 0, text
    weights = region.folder / "weights" / "own.safetensors"
    card = read_card(ModelSpec(name="own", weights=weights))
    assert card.training["command"].startswith("mapper")
    assert card.training["data"][0]["degradation"].startswith("Wald's protocol")
    region.change(model={"name": "own", "weights": str(weights)})
    assert run_mapper("run", region.map)[0] == 0


def test_a_training_is_told_as_json_and_not_repeated(region, recipe):
    region.change(guide=JULY)
    first, again = (run_json("train", recipe, "--map", region.map, "--name", "mine") for _ in range(2))
    assert first == again
    assert first["properties"]["mapper:training"]["data"][0]["pixels"] > 0
    assert json.loads((recipe.parent / "w" / "mine.json").read_text()) == first


def test_nothing_to_train_on_is_bad_usage():
    code, text = run_mapper("train")
    assert code == 2
    assert "--wald" in text


def test_help_names_every_loss():
    code, text = run_mapper("train", "--help")
    assert code == 0
    assert all(re.search(rf"\b{name}\b", text) for name in LOSSES)
