"""A training description is checked before anything is read."""

from importlib.resources import files
from pathlib import Path

import pytest
import yaml

from mapper.errors import SpecError
from mapper.models.architectures import ARCHITECTURES
from mapper.training.config import (
    BioMasstersData,
    Changes,
    MapsData,
    SyntheticData,
    TruthConfig,
    WaldData,
    read_config,
)

TRUTH = {"collection": "truth", "variable": "agb", "limit": 500}
MAPS = {"kind": "maps", "maps": ["a/map.yaml"], "truth": TRUTH}
MINIMAL = {"name": "m", "out": "w", "data": [MAPS]}


def write(path, content):
    path.write_text(content if isinstance(content, str) else yaml.safe_dump(content))
    return path


def test_paths_are_relative_to_the_file(tmp_path):
    wald = {"kind": "wald", "maps": ["b.yaml", "/abs/map.yaml"]}
    config = read_config(write(tmp_path / "train.yaml", MINIMAL | {"validation": [wald]}))
    assert config.data[0].maps == (tmp_path / "a" / "map.yaml",)
    assert config.out == tmp_path / "w"
    assert [str(path) for path in config.validation[0].maps] == [str(tmp_path / "b.yaml"), "/abs/map.yaml"]


def test_data_of_every_kind_are_described(tmp_path):
    data = [
        MAPS,
        {"kind": "wald", "maps": ["m.yaml"]},
        {"kind": "biomassters", "folder": "chips", "seasons": "monthly"},
        {"kind": "synthetic", "seeds": [1, 2], "folder": "scenes"},
    ]
    config = read_config(write(tmp_path / "train.yaml", MINIMAL | {"data": data}))
    assert [type(part) for part in config.data] == [MapsData, WaldData, BioMasstersData, SyntheticData]
    assert config.data[2].folder == tmp_path / "chips"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"stepz": 3}, "stepz"),
        ({"steps": 0}, "steps"),
        ({"data": []}, "data"),
        ({"data": [{"kind": "map"}]}, "data.0.*'maps', 'wald', 'biomassters', 'synthetic'"),
        ({"data": [{"kind": "maps", "maps": [], "truth": TRUTH}]}, "data.0.maps.maps"),
        ({"data": [{"kind": "maps", "maps": ["a"], "truth": {}}]}, "exactly one of collection and store"),
        ({"augment": {"guide_dropout": 1}}, "augment.guide_dropout"),
        ({"hold_out": {"share": 1}}, "hold_out.share"),
        ({"loss": "rmse"}, "loss: unknown loss, expected one of l1, huber, mse, nll"),
        ({"validation": [MAPS]}, "may not be trained on"),
    ],
)
def test_faults_are_one_line_naming_the_key(tmp_path, change, message):
    with pytest.raises(SpecError, match=message) as caught:
        read_config(write(tmp_path / "train.yaml", MINIMAL | change))
    assert "\n" not in str(caught.value)


def test_missing_and_broken_files_are_refused(tmp_path):
    with pytest.raises(SpecError, match="cannot be read"):
        read_config(tmp_path / "none.yaml")
    with pytest.raises(SpecError, match="not YAML"):
        read_config(write(tmp_path / "train.yaml", "a: [1"))
    with pytest.raises(SpecError, match="training"):
        read_config(write(tmp_path / "train.yaml", "3"))


RECIPES = sorted(Path(str(files("mapper"))).glob("training/recipes/*.yaml"))


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_recipes_that_ship_are_valid_and_named_after_their_file(path):
    config = read_config(path)
    assert config.name == path.stem
    assert config.model.architecture in ARCHITECTURES


def test_networks_of_several_dates_are_compared_at_equal_training():
    names = "highres-net-x2", "srresnet-x2", "burst-fusion-same-data-x2"
    configs = [read_config(next(path for path in RECIPES if path.stem == name)) for name in names]
    assert len({config.model.architecture for config in configs}) == 3
    own = {"name", "model", "lr"}
    alike = [config.model_dump(exclude=own) for config in configs]
    assert alike[1:] == alike[:-1]


def test_scale_and_chips_are_changed_where_they_mean_something(tmp_path):
    maps = MINIMAL["data"][0]
    data = [maps, {"kind": "biomassters", "folder": "here"}, {"kind": "synthetic", "seeds": [1], "folder": "there"}]
    path = write(tmp_path / "train.yaml", MINIMAL | {"data": data})
    changed = read_config(path, changes=Changes(scale=8, chips=tmp_path / "chips", start=tmp_path / "a.safetensors"))
    plain, chips, landscapes = changed.data
    assert plain == read_config(path).data[0]
    assert (chips.scale, chips.folder) == (8, tmp_path / "chips")
    assert (landscapes.scale, landscapes.folder) == (8, tmp_path / "there")
    assert changed.start == tmp_path / "a.safetensors"


def test_nothing_is_assumed_of_the_target(tmp_path):
    config = read_config(write(tmp_path / "train.yaml", {k: v for k, v in MINIMAL.items() if k != "target"}))
    assert config.target == ""
    assert config.model.non_negative is None
    assert TruthConfig(collection="truth").variable is None
    assert BioMasstersData(folder=tmp_path).limit is None
