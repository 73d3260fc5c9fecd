"""A training description is checked before anything is read."""

import pytest
import yaml

from mapper.errors import SpecError
from mapper.training.config import read_config

MINIMAL = {"name": "m", "out": "w", "maps": ["a/map.yaml"], "truth": {"collection": "truth", "variable": "agb"}}


def write(path, content):
    path.write_text(content if isinstance(content, str) else yaml.safe_dump(content))
    return path


def test_paths_are_relative_to_the_file(tmp_path):
    config = read_config(write(tmp_path / "train.yaml", MINIMAL | {"validation": ["/abs/map.yaml"]}))
    assert config.maps == (tmp_path / "a" / "map.yaml",)
    assert config.out == tmp_path / "w"
    assert str(config.validation[0]) == "/abs/map.yaml"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"stepz": 3}, "stepz"),
        ({"steps": 0}, "steps"),
        ({"maps": []}, "maps"),
        ({"augment": {"guide_dropout": 1}}, "augment.guide_dropout"),
        ({"validation": ["a/map.yaml"]}, "may not be trained on"),
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
