"""`mapper pyramid`, and what other commands make of a store that has one."""

import json

import numpy as np
import pytest
import zarr
from region import run_json, run_mapper

from mapper.execute.executors import SerialExecutor
from mapper.run.pyramid import build_pyramid
from mapper.store.map_store import MapStore, open_map


@pytest.fixture(scope="module")
def finished(made_region, tmp_path_factory):
    """A finished map of 4 x 4 tiles, without a guide; read only."""
    region = made_region.copy(tmp_path_factory.mktemp("finished"))
    region.change(model={"name": "bicubic"}, grid__tile=60, grid__chunk=60)
    assert run_mapper("run", region.map, "--workers", 1)[0] == 0
    return region


@pytest.fixture
def made(finished, tmp_path):
    """The same, to be changed."""
    return finished.copy(tmp_path)


def edit(store, path):
    session = MapStore.open(str(store)).repository.writable_session("main")
    zarr.open_array(session.store, path=path, mode="r+")[:2, :2] = 7
    session.commit("edited by hand")


def head_of(store):
    return MapStore.open(str(store)).snapshot


def test_a_pyramid_is_made_once_and_other_commands_go_on(made):
    log = made.folder / "events.jsonl"
    report = run_json("pyramid", made.map, "--log", log, "--workers", 2)
    assert (report["levels"], report["done"], report["failed"]) == (2, 5, {})
    events = [json.loads(line)["event"] for line in log.read_text().splitlines()]
    assert events.count("TileFinished") == 5
    assert (events[0], events[-1]) == ("RunStarted", "RunFinished")
    head = head_of(made.store)
    code, text = run_mapper("pyramid", made.store)
    assert code == 0
    assert "the pyramid of 2 levels is up to date" in text
    assert head_of(made.store) == head
    assert run_json("pyramid", made.store, "--rebuild")["done"] == 5
    point = open_map(made.store, level=1).isel(x=3, y=3)
    assert run_mapper("verify", made.map)[0] == 0
    assert run_mapper("status", made.map)[0] == 0
    assert run_json("why", made.map, float(point.x), float(point.y), "--crs", "EPSG:3035")["tile"]
    run_json("store", "expire", made.map, "--older-than", "0")
    run_json("store", "gc", made.map)
    assert run_json("verify", made.map)["pyramid"] == {"levels": 2, "ok": 5, "missing": [], "stale": [], "corrupt": {}}
    assert run_json("run", made.map)["done"] == 0


def test_verify_finds_damage_and_repair_mends_map_and_levels(made):
    run_json("pyramid", made.map)
    edit(made.store, "agb")
    edit(made.store, "pyramid/1/qa")
    code, text = run_mapper("verify", made.map)
    assert code == 1
    assert "corrupt 0,0: " in text
    assert "corrupt 1/0,0 of the pyramid: " in text
    assert "mends the pyramid" in text
    report = run_json("verify", made.map, "--repair", "--cluster", "serial")
    assert report["complete"]
    assert report["repair"]["done"] == 1
    assert report["pyramid_repair"]["done"] == 2
    assert report["before"]["pyramid"]["corrupt"].keys() == {"1/0,0"}


def test_damage_in_levels_alone_is_mended_without_a_map(made):
    build_pyramid(str(made.store), SerialExecutor())
    before = open_map(made.store, level=2).load()
    edit(made.store, "pyramid/1/agb")
    assert run_mapper("verify", made.store)[0] == 1
    assert run_json("pyramid", made.store)["tiles"] == 0
    assert run_json("pyramid", made.store, "--check")["done"] == 2
    assert run_mapper("verify", made.store)[0] == 0
    assert open_map(made.store, level=2).identical(before)
    edit(made.store, "pyramid/1/agb")
    code, text = run_mapper("verify", made.map, "--repair", "--cluster", "serial")
    assert code == 0
    assert "2 of 2 tiles of 2 levels made" in text
    assert "nothing to repair" not in text


def test_tiles_that_come_later_reach_the_levels(region):
    region.change(model={"name": "bicubic"}, grid__tile=60, grid__chunk=60)
    run_json("run", region.map, "--only", "0,0")
    run_json("pyramid", region.map)
    assert np.isnan(open_map(region.store, level=2).agb.values[20:, 20:]).all()
    run_json("run", region.map)
    assert run_json("pyramid", region.map)["done"] == 5
    assert np.isfinite(open_map(region.store, level=2).agb.values[20:, 20:]).any()


def test_a_store_that_is_not_there_is_one_line(tmp_path):
    code, line = run_mapper("pyramid", tmp_path / "nothing")
    assert code == 1
    assert "does not exist or is no store" in line


def test_help_teaches():
    code, text = run_mapper("pyramid", "--help")
    assert code == 0
    for word in ("mean of the valid values", "open_map", "every", "--check", "--rebuild", "--cluster"):
        assert word in " ".join(text.split())
