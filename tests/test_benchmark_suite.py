"""A suite says what is compared; what is wrong with it is one clear line before anything is read."""

import pytest
import yaml

from mapper.benchmark.suite import is_suite, read_suite, suite_names
from mapper.errors import SpecError

BICUBIC = {"name": "bicubic", "group": "source", "model": "bicubic"}


def write(folder, **changes):
    content = {
        "name": "small",
        "title": "Two small landscapes",
        "data": [{"kind": "synthetic", "seeds": [1, 2], "folder": "scenes", "size_px": 100}],
        "methods": [BICUBIC],
    } | changes
    path = folder / "small.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


def test_what_ships_is_valid(tmp_path):
    assert suite_names() == ["biomassters", "elevation", "generative", "multi-image", "synthetic-x10", "synthetic-x8"]
    for name in suite_names():
        suite = read_suite(name, work=tmp_path, folder=tmp_path)
        assert suite.name == name
        assert any(method.model == "bicubic" for method in suite.methods)


def test_landscapes_go_to_the_results_and_all_else_is_beside_the_suite(tmp_path):
    work = tmp_path / "results"
    methods = [
        BICUBIC,
        {"name": "own", "group": "guide+source", "model": "own.safetensors"},
        {"name": "trained", "group": "guide", "recipe": "recipes/own.yaml"},
    ]
    suite = read_suite(write(tmp_path, methods=methods), work=work)
    assert suite.data[0].folder == work / "scenes"
    assert suite.methods[0].model == "bicubic"
    assert suite.methods[1].model == str(tmp_path / "own.safetensors")
    assert suite.methods[2].recipe == tmp_path / "recipes" / "own.yaml"


def test_the_folder_of_chips_has_to_be_given_where_it_is_left_open(tmp_path):
    with pytest.raises(SpecError, match="--data"):
        read_suite("biomassters", work=tmp_path)
    suite = read_suite("biomassters", work=tmp_path, folder=tmp_path / "chips")
    assert suite.data[0].folder == tmp_path / "chips"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"methods": [{"name": "a", "group": "source"}]},
            "exactly one of model, recipe, training, wald, per_scene, ground and yardstick, got none",
        ),
        ({"methods": [BICUBIC | {"recipe": "a.yaml"}]}, "got model and recipe"),
        ({"methods": [BICUBIC, BICUBIC]}, "methods appear twice: bicubic"),
        ({"methods": [BICUBIC | {"group": "stars"}]}, "methods.0.group"),
        ({"methods": [{"name": "p", "group": "source", "per_scene": "gan"}]}, "expected one of pixtransform"),
        ({"methods": [BICUBIC | {"options": {"iterations": 3}}]}, "options are of methods per scene"),
        ({"methods": []}, "methods"),
        ({"data": []}, "data"),
        ({"data": [{"kind": "stars"}]}, "data.0"),
        ({"bins": [0, 10, 5]}, "edges that rise"),
        ({"data_range": 0}, "data_range"),
        ({"colour": "red"}, "colour"),
    ],
)
def test_a_wrong_suite_is_one_line_that_says_where(tmp_path, changes, message):
    with pytest.raises(SpecError, match=r"small\.yaml") as caught:
        read_suite(write(tmp_path, **changes), work=tmp_path)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_what_cannot_be_read_is_named(tmp_path):
    with pytest.raises(SpecError, match="unknown suite 'stars': mapper ships biomassters, elevation, generative"):
        read_suite("stars", work=tmp_path)
    with pytest.raises(SpecError, match="cannot be read"):
        read_suite(tmp_path / "none.yaml", work=tmp_path)
    path = write(tmp_path)
    path.write_text("name: [")
    with pytest.raises(SpecError, match="is not YAML"):
        read_suite(path, work=tmp_path)
    path.write_text("just words")
    with pytest.raises(SpecError, match="suite"):
        read_suite(path, work=tmp_path)


def test_a_suite_is_told_from_a_map(tmp_path):
    assert is_suite("biomassters")
    assert is_suite(str(write(tmp_path)))
    (tmp_path / "map.yaml").write_text("name: a\nstore: b\n")
    assert not is_suite(str(tmp_path / "map.yaml"))
    assert not is_suite(str(tmp_path / "none.yaml"))
    assert not is_suite("stars")


def test_slow_methods_are_taken_by_name_or_when_asked_for(tmp_path):
    slow = {"name": "pix", "group": "guide+source", "per_scene": "pixtransform", "slow": True}
    suite = read_suite(write(tmp_path, methods=[BICUBIC, slow]), work=tmp_path)
    assert [m.name for m in suite.choose()] == ["bicubic"]
    assert [m.name for m in suite.choose(slow=True)] == ["bicubic", "pix"]
    assert [m.name for m in suite.choose(["pix"])] == ["pix"]
    with pytest.raises(SpecError, match="has no method stars: it has bicubic, pix"):
        suite.choose(["stars"])
    only = read_suite(write(tmp_path, methods=[slow]), work=tmp_path)
    with pytest.raises(SpecError, match="--slow"):
        only.choose()
