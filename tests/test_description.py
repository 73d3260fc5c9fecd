"""Paths of a description refer to its folder; URLs and absolute paths stay."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from mapper.description import FilePath, Location, Part, describe_faults, read_yaml
from mapper.errors import SpecError


class Described(Part):
    recipe: FilePath | None = None
    maps: tuple[FilePath, ...] = ()
    store: Location = "s3://bucket/store"


def test_relative_paths_refer_to_the_folder_of_the_description():
    made = Described.model_validate(
        {"recipe": "a.yaml", "maps": ["b/c.yaml", "/d.yaml"], "store": "out"}, context=Path("/home/me")
    )
    assert made.recipe == Path("/home/me/a.yaml")
    assert made.maps == (Path("/home/me/b/c.yaml"), Path("/d.yaml"))
    assert made.store == "/home/me/out"


def test_urls_and_what_is_made_without_a_folder_stay_as_they_are():
    assert Described.model_validate({"store": "s3://b/x"}, context=Path("/home")).store == "s3://b/x"
    assert Described(recipe=Path("a.yaml"), store="out") == Described.model_validate(
        {"recipe": "a.yaml", "store": "out"}
    )
    assert Described(store="out").store == "out"


def test_a_copy_does_not_move_paths():
    made = Described.model_validate({"recipe": "a.yaml"}, context=Path("/home/me"))
    assert made.model_copy(update={"store": "/x"}).recipe == Path("/home/me/a.yaml")


def test_faults_name_key_and_input():
    with pytest.raises(ValidationError) as caught:
        Described.model_validate({"recipe": 3, "colour": "red"})
    text = describe_faults(caught.value, "map")
    assert "recipe: " in text
    assert "(got 3)" in text
    assert "colour: unknown key" in text


def test_what_cannot_be_read_is_named(tmp_path):
    with pytest.raises(SpecError, match=r"prices .*none\.yaml cannot be read"):
        read_yaml(tmp_path / "none.yaml", what="prices")
    (tmp_path / "odd.yaml").write_text("a: [")
    with pytest.raises(SpecError, match="is not YAML"):
        read_yaml(tmp_path / "odd.yaml")
