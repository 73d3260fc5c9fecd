"""What README shows is true."""

import re
from pathlib import Path

import yaml

from mapper.spec import parse_spec

README = (Path(__file__).parents[1] / "README.md").read_text()
PACKAGE = Path(__file__).parents[1] / "mapper"


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


def test_the_example_is_a_valid_description(tmp_path):
    (example,) = blocks("yaml")
    spec = parse_spec(yaml.safe_load(example), base=tmp_path)
    assert spec.scale == 10
    assert len(spec.guide.channels) == 27


def test_quick_start_holds_exactly_two_commands_of_one_line():
    section = README.split("## Quick start")[1].split("\n## ")[0]
    commands = re.findall(r"^```sh\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)
    assert len(commands) == 2
    assert all(command.count("\n") == 1 for command in commands)


def test_the_module_table_names_every_package():
    table = README.split("## Modules")[1].split("\n## ")[0]
    names = {path.stem for path in PACKAGE.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()}
    for name in names - {"__init__", "__pycache__"}:
        assert f"`{name}`" in table, f"{name} is not in README's table"
