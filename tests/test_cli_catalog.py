"""`mapper catalog list` and `check`: providers as a table, mistakes with their place, items before anything runs."""

import json

import pytest
import yaml
from dialects import PASSES, describe
from region import run_json, run_mapper
from shared import SHARED, needs_shared

from mapper.catalog.provider import format_schema

FILES = {scene.product: dict.fromkeys(("B02", "B04", "B8A", "B11", "SCL"), "x.tif") for scene in PASSES}


@pytest.fixture
def items(tmp_path):
    """One item, a collection of features and a list, in a directory."""
    first, *others = describe(PASSES, FILES, "copernicus-dataspace")
    folder = tmp_path / "items"
    folder.mkdir()
    (folder / "a.json").write_text(json.dumps(first))
    (folder / "b.json").write_text(json.dumps({"type": "FeatureCollection", "features": others[:1]}))
    (folder / "c.json").write_text(json.dumps(others[1:]))
    (folder / "collection.json").write_text(json.dumps({"type": "Collection", "id": "s"}))
    return folder


def test_providers_are_listed_with_what_one_needs_to_know():
    code, said = run_mapper("catalog", "list")
    text = " ".join(said.split())
    assert code == 0
    for word in ("planetary-computer", "tokens,", "CDSE_S3_ACCESS_KEY", "(refused)", "Copernicus Sentinel data"):
        assert word in text
    names = [provider["name"] for provider in run_json("catalog", "list")]
    assert names == sorted(names)
    assert "stac-api" in names


def test_a_description_is_printed_with_its_defaults():
    code, said = run_mapper("catalog", "check", "earth-search")
    assert code == 0
    assert yaml.safe_load(said)["collections"]["sentinel-2-c1-l2a"]["trust"] == "none"
    assert run_json("catalog", "check", "earth-search") == yaml.safe_load(said)


def test_the_schema_is_printed():
    assert run_mapper("catalog", "check", "--schema") == (0, format_schema())


def test_a_mistake_in_a_file_is_told_with_its_place(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump({"extends": "demo", "collections": {"truth": {"trust": "me"}}}))
    code, said = run_mapper("catalog", "check", path)
    assert code == 2
    assert "collections.truth.trust: Input should be" in said
    assert run_mapper("catalog", "check")[0] == 2


def test_items_are_shown_as_they_would_be_read(items):
    code, said = run_mapper("catalog", "check", "copernicus-dataspace", "--item", items)
    assert code == 0, said
    for word in ("B8A_20m", "EPSG:32660", "(DN - 1000) / 10000: offset declared by the item", "2020-06-01 sentinel-2a"):
        assert word in said
    facts = run_json("catalog", "check", "copernicus-dataspace", "--item", items / "a.json", "--item", items / "b.json")
    assert len(facts) == 2 * 4
    assert facts[0] | {"calibration": "", "image": ""} == {
        "item": PASSES[0].product, "collection": "sentinel-2-l2a", "band": "B02", "asset": "B02_10m",
        "crs": "EPSG:32660", "resolution": 10.0, "dtype": "uint16", "nodata": [0.0], "calibration": "", "image": "",
    }  # fmt: skip


def test_an_item_that_cannot_be_read_is_told_in_a_line_and_by_the_exit_code(items):
    served = json.loads((items / "a.json").read_text())
    served["assets"]["B04_10m"]["raster:offset"] = 0
    (items / "a.json").write_text(json.dumps(served))
    code, said = run_mapper("catalog", "check", "copernicus-dataspace", "--item", items)
    assert code == 1
    (line,) = [line for line in said.splitlines() if "refused" in line]
    assert "contradicts itself about the offset of B04_10m" in line
    assert "B8A_20m" in said


def test_items_may_be_read_as_those_of_another_collection(items):
    arguments = ("catalog", "check", "stac-api", "--item", items / "a.json")
    code, said = run_mapper(*arguments)
    assert code == 1
    assert "unknown collection 'sentinel-2-l2a'" in said
    code, said = run_mapper(*arguments, "--collection", "sentinel-2")
    assert code == 1
    assert "holds none of the bands" in said


@pytest.mark.parametrize(("content", "word"), [("{", "is not JSON"), ("{}", "holds no STAC item"), (None, "cannot be")])
def test_files_without_items_are_refused(tmp_path, content, word):
    path = tmp_path / "item.json"
    if content is not None:
        path.write_text(content)
    code, said = run_mapper("catalog", "check", "demo", "--item", path)
    assert code == 2
    assert word in said


@needs_shared
def test_what_an_archive_serves_can_be_looked_at_as_a_whole():
    code, said = run_mapper("catalog", "check", "earth-search", "--item", SHARED / "stac_items" / "earth-search")
    assert code == 1
    assert said.count("refused") >= 4
    assert "elevation" in said
