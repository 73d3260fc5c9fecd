"""The documentation is what the code is: names exist, references are made from the model."""

import re
from importlib import import_module
from pathlib import Path

import pytest
import yaml
from jsonschema import Draft202012Validator
from region import run_mapper
from test_spec import CONTENT

DOCS = Path(__file__).parents[1] / "docs"
PACKAGE = Path(__file__).parents[1] / "mapper"
ARCHITECTURE = (DOCS / "architecture.md").read_text()


def named_modules():
    return sorted(set(re.findall(r"`(mapper(?:\.\w+)+)`", ARCHITECTURE)) - {"mapper.metrics", "mapper.losses"})


@pytest.mark.parametrize("name", named_modules())
def test_modules_of_the_architecture_exist(name):
    import_module(name)


@pytest.mark.parametrize(
    ("types", "modules"), re.findall(r"^\| (`[A-Z][^|]*) \| (`mapper[^|]*) \|", ARCHITECTURE, re.MULTILINE)
)
def test_types_of_the_architecture_are_where_it_says(types, modules):
    homes = [import_module(name) for name in re.findall(r"`([\w.]+)`", modules)]
    for name in re.findall(r"`(\w+)`", types):
        assert any(hasattr(home, name) for home in homes), f"{name} is in none of {modules}"


def test_the_table_names_every_package():
    table = ARCHITECTURE.split("## Packages")[1]
    names = {path.stem for path in PACKAGE.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()}
    assert {name for name in names - {"__init__", "__pycache__"} if f"`{name}`" not in table} == set()


@pytest.mark.parametrize(("page", "options"), [("map-yaml.md", ["--reference"]), ("map.schema.json", [])])
def test_references_are_what_the_command_prints(page, options):
    code, printed = run_mapper("schema", *options)
    assert code == 0
    assert (DOCS / page).read_text() == printed, f"run: mapper schema {' '.join(options)} > docs/{page}"


def test_every_key_says_what_it_means():
    assert not re.findall(r"^\| `\w+` \|.*\|  \|$", (DOCS / "map-yaml.md").read_text(), re.MULTILINE)


def test_descriptions_fit_the_schema():
    schema = Draft202012Validator(yaml.safe_load((DOCS / "map.schema.json").read_text()))
    assert not list(schema.iter_errors(CONTENT))
    for text in re.findall(r"```yaml\n(.*?)```", (DOCS / "examples.md").read_text(), re.DOTALL):
        content = yaml.safe_load(text)
        content["period"] = {key: str(day) for key, day in content["period"].items()}
        assert not list(schema.iter_errors(content))
    assert list(schema.iter_errors(CONTENT | {"colour": "red"}))
