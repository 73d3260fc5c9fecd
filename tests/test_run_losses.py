"""Tiles that cannot be made, and what is done about exactly those."""

import pytest
from chaos import WORKERS, make_region, start_cluster
from chaos_checks import checksums_of
from region import JULY, run_json
from run_maps import make_items, make_spec

from mapper.execute.executors import SerialExecutor
from mapper.execute.outcome import Outcome
from mapper.grid import Tile
from mapper.plan.context import make_context
from mapper.plan.plan import make_plan
from mapper.run.runner import run_plan
from mapper.store.map_store import MapStore

POISON = Tile(1, 1)


@pytest.fixture(scope="module")
def planned(tmp_path_factory):
    """A spec, its items, context and plan."""
    folder = tmp_path_factory.mktemp("scenes")
    spec, items = make_spec(folder), make_items(folder)
    context = make_context(spec)
    return spec, items, context, make_plan(spec, items, context=context)


def test_a_tile_that_no_memory_is_enough_for_fails_alone_and_says_that_workers_died_of_it(tmp_path):
    region = make_region(tmp_path / "region", size_px=150).change(guide=JULY)
    (tmp_path / "poison").write_text(str(POISON))
    with start_cluster(tmp_path, DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES="0", SLOW_TILES_SECONDS="0") as cluster:
        report, place = cluster.run(region, name="poison", attempts=1)
        deaths = sum(len(cluster.processes[f"worker-{number}"].exits) for number in range(WORKERS))
    first = {record.tile: record for record in MapStore.open(place.store).ledger.records()}
    assert report.exits == (1,), "a failed tile is a failed attempt of the Job"
    assert deaths >= 1
    assert [tile for tile, record in first.items() if record.status == "failed"] == [POISON]
    assert "KilledWorker" in first[POISON].reason
    assert run_json("run", place.map, "--only", "failed")["tiles"] == 1
    run_json("run", region.map)
    assert checksums_of(place) == checksums_of(region)


class Failing:
    """Serial, but some tiles fail."""

    dashboard = ""

    def __init__(self, tiles):
        self.tiles, self.throttle, self.given = tiles, SerialExecutor().throttle, []

    def run(self, function, inputs, **_):
        for value in inputs:
            self.given.append(value.task.tile)
            failed = value.task.tile in self.tiles
            outcome = {"error": OSError("broken")} if failed else {"result": function(value)}
            yield Outcome(input=value, **outcome)


def test_only_failed_tiles_are_tried_again_on_request_though_others_are_missing(planned, tmp_path):
    spec, items, context, plan = planned
    store, broken = str(tmp_path / "map.icechunk"), {Tile(0, 1), POISON}
    half = make_plan(spec, items, context=context, only="0-2,0-3")
    first = run_plan(half, context, store, Failing(broken))
    assert first.failed == len(broken)
    failed = make_plan(spec, items, context=context, only="failed", ledger=MapStore.open(store).ledger)
    again = Failing(set())
    second = run_plan(failed, context, store, again)
    assert set(again.given) == broken
    assert (second.tiles, second.exit_code) == (len(broken), 0)
    assert len(MapStore.open(store).ledger.entries) == len(half.tasks) < len(plan.tasks)
    statuses = [record.status for batch in (1, 2) for record in MapStore.open(store).ledger.records_of(batch)]
    assert statuses.count("failed") == len(broken)
    assert len(statuses) == len(half.tasks) + len(broken), "no other tile was made again"
