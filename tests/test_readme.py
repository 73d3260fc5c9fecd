"""What README shows is true."""

import re
from pathlib import Path

import yaml

from mapper.catalog.provider import provider_of
from mapper.spec import parse_spec

README = (Path(__file__).parents[1] / "README.md").read_text()
PACKAGE = Path(__file__).parents[1] / "mapper"


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


def test_the_example_is_a_valid_description(tmp_path):
    spec = parse_spec(yaml.safe_load(blocks("yaml")[0]), base=tmp_path)
    assert spec.scale == 10
    assert len(spec.guide.channels) == 27
    provider = provider_of(spec)
    for channel in spec.guide.channels:
        assert channel.band in provider.rule(channel.collection).bands
    assert {spec.source.variable, spec.source.sd} <= set(provider.rule(spec.source.collection).bands)


def test_the_archive_of_ones_own_is_valid(tmp_path):
    example, own = (yaml.safe_load(block) for block in blocks("yaml"))
    layers = [{"collection": "s2_l2a", "bands": ["B04"]}]
    spec = parse_spec(example | own | {"guide": {**example["guide"], "layers": layers}}, base=tmp_path)
    assert provider_of(spec).rule("s2_l2a").bands["B04"].asset == "red"


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
