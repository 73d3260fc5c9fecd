"""Identities that must not change: digests and tasks, what models make, and maps that were finished long ago."""

import json
import shutil
from pathlib import Path

import pytest
from golden_maps import FINISHED, MAPS, explain, identify_plan, make_tile, read_golden, unpack_finished
from golden_scenes import write_scenes
from region import run_json

MODELS = sorted(read_golden("models"))


@pytest.fixture(scope="module")
def catalog(tmp_path_factory):
    return write_scenes(tmp_path_factory.mktemp("golden") / "catalog")


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    return unpack_finished(tmp_path_factory.mktemp("finished"))


@pytest.mark.parametrize("name", MAPS)
def test_digests_and_tasks_of_a_map_and_its_guide(name):
    assert identify_plan(name) == read_golden("plans")[name]


@pytest.mark.parametrize("model", MODELS)
def test_pixels_of_a_model(model, catalog):
    found, expected = make_tile(model, catalog), read_golden("models")[model]
    assert found["value_mean"] == pytest.approx(expected["value_mean"], rel=1e-4), "on any machine"
    assert found["content_sha256"] == expected["content_sha256"], "to the bit, on this kind of machine"


def test_every_model_that_is_shipped_is_pinned():
    names = {card["properties"]["mlm:name"] for card in run_json("models")}
    stacks = {"median", "mean", "back-projection", "burst"}
    heights, dates = {"bare-earth-x10", "bare-earth-x10-cover"}, {"burst-fusion-x2", "burst-fusion-x3"}
    newer = {*stacks, *heights, *dates, "band-fusion-20m", "flow-s2-x4"}
    assert names - newer <= set(MODELS)


@pytest.mark.parametrize("question", FINISHED)
def test_a_finished_map_is_read_resumed_verified_explained_and_served(question, finished):
    assert json.loads(json.dumps(FINISHED[question](finished))) == read_golden("finished")[question]


def test_a_map_is_made_from_a_guide_that_was_finished_long_ago(finished, tmp_path, monkeypatch):
    shutil.copytree(finished.parent, tmp_path, dirs_exist_ok=True)
    shutil.rmtree(tmp_path / "map.icechunk")
    monkeypatch.chdir(tmp_path)  # locations of items are relative
    run_json("run", "map.yaml", "--guide", "map.guide.icechunk", "--only", "1,2", "--cluster", "serial")
    _, found, *_ = explain(Path("map.yaml"))
    _, expected, *_ = read_golden("finished")["explain"]
    assert (found["value"], found["sd"], found["qa"]) == (expected["value"], expected["sd"], expected["qa"])
    same = ("task_id", "items", "content_sha256")
    assert [found["record"][name] for name in same] == [expected["record"][name] for name in same]
    assert (bool(found["record"]["guide_store"]), expected["record"]["guide_store"]) == (True, "")
