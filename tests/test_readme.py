"""What README shows is true."""

import re
from pathlib import Path

import yaml

from mapper.catalog.provider import provider_of
from mapper.spec import parse_spec

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
ARCHIVES = (ROOT / "docs" / "archives.md").read_text()


def blocks(language, text=README):
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def test_the_example_is_a_valid_description(tmp_path):
    spec = parse_spec(yaml.safe_load(blocks("yaml")[0]), base=tmp_path)
    assert spec.scale == 10
    assert len(spec.guide.channels) == 27
    provider = provider_of(spec)
    for channel in spec.guide.channels:
        assert channel.band in provider.rule(channel.collection).bands
    assert {spec.source.variable, spec.source.sd} <= set(provider.rule(spec.source.collection).bands)


def test_the_archive_of_ones_own_is_valid(tmp_path):
    example, own = (yaml.safe_load(blocks("yaml", text)[0]) for text in (README, ARCHIVES))
    layers = [{"collection": "s2_l2a", "bands": ["B04"]}]
    spec = parse_spec(example | own | {"guide": {**example["guide"], "layers": layers}}, base=tmp_path)
    assert provider_of(spec).rule("s2_l2a").bands["B04"].asset == "red"


def test_quick_start_holds_exactly_two_commands_of_one_line():
    section = README.split("## Quick start")[1].split("\n## ")[0]
    commands = re.findall(r"^```sh\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)
    assert len(commands) == 2
    assert all(command.count("\n") == 1 for command in commands)


def test_the_first_page_is_short_and_its_links_lead_somewhere():
    assert len(README.splitlines()) <= 150
    links = re.findall(r"\]\(([^)#]+)\)", README)
    assert links
    assert all((ROOT / link).exists() for link in links if "://" not in link)
