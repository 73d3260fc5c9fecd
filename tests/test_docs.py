"""The documentation is what the code is: names exist, references are made from the model."""

import re
from importlib import import_module
from pathlib import Path

import pytest
import yaml
from jsonschema import Draft202012Validator
from region import run_mapper
from test_spec import CONTENT

import mapper
from mapper.models.architectures import ARCHITECTURES
from mapper.predict.quality import BITS, DOMAIN_BITS, MAP_BITS, WIDE_BITS, WIDE_DATES_BITS
from mapper.store.product import NOT_WRITTEN

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PACKAGE = ROOT / "mapper"
ARCHITECTURE = (DOCS / "architecture.md").read_text()
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "deploy" / "README.md", *sorted(DOCS.glob("*.md"))]
GROUPS = {ARCHITECTURES.group, "mapper.metrics", "mapper.losses", "mapper.distances"}


def named_modules():
    return sorted(set(re.findall(r"`(mapper(?:\.\w+)+)`", ARCHITECTURE)) - GROUPS)


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


def test_the_table_of_flags_is_that_of_the_code():
    maps = dict.fromkeys(BITS, "of a stack") | dict.fromkeys(MAP_BITS, "all")
    maps |= dict.fromkeys((*WIDE_BITS, *DOMAIN_BITS), "with `bqa`")
    maps |= dict.fromkeys(WIDE_DATES_BITS, "of several dates, with `bqa`")
    rows = [(bit.value, bit.name, bit.description, maps[bit.name]) for bit in BITS.values()]
    rows.append((NOT_WRITTEN, "not_written", "the tile was never written, or failed", "all"))
    written = re.findall(r"^\| (\d+) \| `(\w+)` \| (.*) \| (.*) \|$", (DOCS / "quality.md").read_text(), re.MULTILINE)
    assert [(int(mask), *words) for mask, *words in written] == rows


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_and_names_of_files_lead_somewhere(page):
    text = page.read_text()
    links = re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", text)
    assert [link for link in links if "://" not in link and not (page.parent / link).exists()] == []
    assert [name for name in re.findall(r"\btests/\w+(?:/\w+)*\.py", text) if not (ROOT / name).exists()] == []
    tests = re.findall(r"`(test_\w+)`", text)
    assert [name for name in tests if not (ROOT / "tests" / f"{name}.py").exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_that_are_shown_exist(page):
    code, printed = run_mapper("--help")
    assert code == 0
    for command in re.findall(r"(?:^|`)mapper (\w+)", page.read_text(), re.MULTILINE):
        assert re.search(rf"^\W*{command}\b", printed, re.MULTILINE), command


def test_what_is_cited_is_this_version():
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert cited["version"] == mapper.__version__


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
