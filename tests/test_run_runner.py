"""Runs: committed in batches, resumed, stopped when they go wrong, the same however they are executed."""

import copy
import os
import signal
import threading
from dataclasses import replace

import pytest
from run_maps import SlowExecutor, assert_same_map, contents_of, make_items, make_spec, save_network

from mapper.access.throttle import process_throttle
from mapper.errors import ClusterError, FailureBudgetError, PlanError, StoreFullError, StoreLockedError, WeightsError
from mapper.events import BatchCommitted, RunFinished, RunStarted, TileFinished, TileRetried
from mapper.execute.executors import SerialExecutor, ThreadExecutor
from mapper.execute.outcome import Outcome
from mapper.grid import Tile
from mapper.plan.context import make_context
from mapper.plan.pending import find_pending
from mapper.plan.plan import make_plan
from mapper.plan.selection import order_tasks
from mapper.run.commit_loop import RunPolicy
from mapper.run.runner import run_plan
from mapper.store.map_store import MapStore
from mapper.store.product import map_product
from mapper.store.writer import Writer


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    folder = tmp_path_factory.mktemp("scenes")
    return make_items(folder, hole=(slice(36, 43), slice(34, 42))), folder


@pytest.fixture(scope="module")
def planned(scenes):
    items, folder = scenes
    spec = make_spec(folder)
    context = make_context(spec)
    return context, make_plan(spec, items, context=context)


@pytest.fixture
def store(tmp_path):
    return str(tmp_path / "map.icechunk")


@pytest.fixture(scope="module")
def reference(planned, tmp_path_factory):
    """The map of an undisturbed serial run."""
    context, plan = planned
    location = str(tmp_path_factory.mktemp("reference") / "map.icechunk")
    report = run_plan(plan, context, location, SerialExecutor())
    assert report.exit_code == 0
    return contents_of(location, context.spec)


class Breaking:
    """Serial, but what some tiles return is an error."""

    throttle = staticmethod(process_throttle)
    dashboard = ""

    def __init__(self, errors, *, after=None):
        self.errors, self.after = errors, after

    def run(self, function, inputs, **_):
        for number, value in enumerate(inputs):
            if number in self.errors:
                yield Outcome(input=value, error=self.errors[number], attempts=2)
            else:
                yield Outcome(input=value, result=function(value))
            if number == self.after:
                os.kill(os.getpid(), signal.SIGTERM)


def statuses(store):
    found = [entry.status for entry in MapStore.open(store).ledger.entries.values()]
    return {status: found.count(status) for status in set(found)}


def test_every_tile_is_committed_once_in_batches_with_its_record(planned, location):
    context, plan = planned
    events = []
    policy = RunPolicy(commit_tiles=5)
    report = run_plan(plan, context, location, SerialExecutor(), callbacks=[events.append], policy=policy)
    assert (report.done + report.empty, report.failed, report.skipped, report.exit_code) == (16, 0, 0, 0)
    assert report.empty > 0
    assert [event.tiles for event in events if isinstance(event, BatchCommitted)] == [5, 5, 5, 1]
    assert isinstance(events[0], RunStarted)
    assert isinstance(events[-1], RunFinished)
    assert sum(isinstance(event, TileFinished) for event in events) == 16
    assert set(report.totals.seconds) == {"read", "predict", "wait", "write"}
    ledger = MapStore.open(location).ledger
    assert ledger.batches == report.commits == 4
    assert {entry.task_id for entry in ledger.entries.values()} == {task.id for task in plan.tasks}
    assert {record.run_id for record in ledger.records()} == {report.run_id}
    assert ledger.snapshot_of(4).id == report.snapshot


def test_a_rerun_of_a_finished_map_has_no_task_and_no_commit(planned, store):
    context, plan = planned
    run_plan(plan, context, store, SerialExecutor())
    before = MapStore.open(store).ledger.session.snapshot_id
    events = []
    report = run_plan(plan, context, store, Breaking({0: AssertionError("called")}), callbacks=[events.append])
    assert (report.tiles, report.skipped, report.commits, report.snapshot, report.exit_code) == (0, 16, 0, "", 0)
    assert MapStore.open(store).ledger.session.snapshot_id == before
    assert [type(event) for event in events] == [RunStarted, RunFinished]


def test_tiles_can_be_computed_again_on_request(planned, store, reference):
    context, plan = planned
    run_plan(plan, context, store, SerialExecutor())
    again = (Tile(0, 0), Tile(3, 2))
    assert run_plan(plan, context, store, SerialExecutor(), redo=again).tiles == 2
    assert_same_map(contents_of(store, context.spec), reference)


@pytest.mark.parametrize("order", ["blocks", "spread"])
def test_the_map_is_the_same_in_any_order(planned, store, reference, order):
    context, plan = planned
    events = []
    policy = RunPolicy(order=order)
    run_plan(plan, context, store, SerialExecutor(), callbacks=[events.append], policy=policy)
    tiles = [Tile(*event.tile) for event in events if isinstance(event, TileFinished)]
    assert tiles == [task.tile for task in order_tasks(plan.tasks, order)]
    assert tiles != sorted(tiles)
    assert_same_map(contents_of(store, context.spec), reference)


def test_commits_happen_by_time_too(planned, store):
    context, plan = planned
    report = run_plan(plan, context, store, SerialExecutor(), policy=RunPolicy(commit_tiles=1000, commit_seconds=0))
    assert report.commits == 16


def test_threads_give_the_same_map_as_serial(planned, reference, tmp_path):
    context, plan = planned
    run_plan(plan, context, str(tmp_path / "threads"), ThreadExecutor(3), policy=RunPolicy(commit_tiles=4))
    assert_same_map(contents_of(tmp_path / "threads", context.spec), reference)


def test_commits_do_not_wait_for_tiles_in_flight(planned, location):
    """Tiles are handed out before and taken back after a commit, and nothing is lost by it."""
    context, plan = planned
    events = []
    policy = RunPolicy(commit_tiles=1, window=4)
    executor = SlowExecutor(ThreadExecutor(4), 0.02)
    report = run_plan(plan, context, location, executor, callbacks=[events.append], policy=policy)
    assert report.commits == 16
    assert sum(statuses(location).values()) == 16


def test_a_failed_tile_is_recorded_and_done_again_next_time(planned, location, reference):
    context, plan = planned
    events = []
    broken = Breaking({3: RuntimeError("worker\nlost")})
    policy = RunPolicy(order="rows")
    report = run_plan(plan, context, location, broken, callbacks=[events.append], policy=policy)
    assert (report.failed, report.exit_code) == (1, 1)
    assert str(report.failures[0]) == "0,3: RuntimeError: worker lost"
    assert any(isinstance(event, TileRetried) and event.attempt == 2 for event in events)
    record = MapStore.open(location).ledger.record_at(Tile(0, 3))
    assert (record.status, record.reason, record.attempts) == ("failed", "RuntimeError: worker lost", 2)
    second = run_plan(plan, context, location, SerialExecutor())
    assert (second.tiles, second.skipped, second.exit_code) == (1, 15, 0)
    assert_same_map(contents_of(location, context.spec), reference)


def test_too_many_failures_end_the_run_and_keep_what_was_done(planned, store, reference):
    context, plan = planned
    broken = Breaking({number: RuntimeError("no") for number in range(2, 16)})
    events = []
    policy = RunPolicy(failure_budget=3, commit_tiles=1000, order="rows")
    with pytest.raises(FailureBudgetError, match=r"4 of 6 tiles failed, 3 are borne.*tile 1,1: RuntimeError: no"):
        run_plan(plan, context, store, broken, callbacks=[events.append], policy=policy)
    assert statuses(store)["failed"] == 4
    assert sum(statuses(store).values()) == 6
    assert isinstance(events[-1], RunFinished)
    run_plan(plan, context, store, SerialExecutor())
    assert_same_map(contents_of(store, context.spec), reference)


@pytest.mark.parametrize("error", [WeightsError("other weights"), ClusterError("the scheduler is gone")])
def test_errors_that_concern_every_tile_end_the_run_and_keep_what_was_done(planned, store, error):
    context, plan = planned
    executor = Breaking({5: error}) if isinstance(error, WeightsError) else _Raising(error)
    with pytest.raises(type(error)):
        run_plan(plan, context, store, executor, policy=RunPolicy(commit_tiles=1000))
    assert sum(statuses(store).values()) == 5


class _Raising:
    throttle = staticmethod(process_throttle)
    dashboard = ""

    def __init__(self, error):
        self.error = error

    def run(self, function, inputs, **_):
        for number, value in enumerate(inputs):
            if number == 5:
                raise self.error
            yield Outcome(input=value, result=function(value))


def test_a_signal_stops_the_run_cleanly_and_keeps_what_was_done(planned, location, reference):
    context, plan = planned
    before = signal.getsignal(signal.SIGTERM)
    report = run_plan(plan, context, location, Breaking({}, after=6), policy=RunPolicy(commit_tiles=1000))
    assert report.stopped == "interrupted by SIGTERM"
    assert report.exit_code == 1
    assert report.done + report.empty >= 6
    assert sum(statuses(location).values()) == report.done + report.empty < 16
    assert signal.getsignal(signal.SIGTERM) is before
    run_plan(plan, context, location, SerialExecutor())
    assert_same_map(contents_of(location, context.spec), reference)


def test_a_full_disk_is_one_clear_line_and_loses_nothing_committed(planned, store, monkeypatch):
    context, plan = planned
    commit, full = Writer.commit, threading.Event()

    def commit_until_full(self, message=""):
        if full.is_set():
            raise StoreFullError("map.icechunk: no space left")
        return commit(self, message)

    monkeypatch.setattr(Writer, "commit", commit_until_full)
    events = []

    def fill(event):
        events.append(event)
        if len([e for e in events if isinstance(e, BatchCommitted)]) == 2:
            full.set()

    with pytest.raises(StoreFullError, match="no space left; 8 tiles of this run are committed"):
        run_plan(plan, context, store, SerialExecutor(), callbacks=[fill], policy=RunPolicy(commit_tiles=4))
    assert sum(statuses(store).values()) == 8


def test_a_worker_that_finds_the_disk_full_stops_the_run(planned, store):
    context, plan = planned
    with pytest.raises(StoreFullError, match="6 tiles of this run are committed, run again"):
        run_plan(plan, context, store, Breaking({6: StoreFullError("tile 1,2: no space left")}))
    assert sum(statuses(store).values()) == 6


def test_a_second_run_at_the_same_time_is_refused(planned, store):
    context, plan = planned
    MapStore.create(store, map_product(context.spec))
    with MapStore.open(store).writer(map_product(context.spec), run_id="first"), pytest.raises(StoreLockedError):
        run_plan(plan, context, store, SerialExecutor())


def test_a_plan_of_another_map_is_refused_before_a_store_is_made(planned, tmp_path):
    context, plan = planned
    with pytest.raises(PlanError, match="another model"):
        run_plan(
            plan,
            replace(context, identity=replace(context.identity, model="0" * 64)),
            str(tmp_path / "none"),
            SerialExecutor(),
        )
    assert not (tmp_path / "none").exists()


def test_a_changed_item_makes_exactly_its_tiles_again(scenes, tmp_path):
    items, _ = scenes
    spec = make_spec(tmp_path, model=save_network(tmp_path), tile=80)
    context = make_context(spec)
    narrow = covering_only(items, "S2_2020-06-03", east=9.992)
    plan = make_plan(spec, narrow, context=context)
    touched = {task.tile for task in plan.tasks if len(task.guide) == 2}
    assert 0 < len(touched) < len(plan)
    run_plan(plan, context, spec.store, ThreadExecutor(2))

    reprocessed = make_plan(spec, covering_only(items, "S2_2020-06-03", east=9.992, note="new"), context=context)
    due = find_pending(reprocessed, MapStore.open(spec.store).ledger).todo
    assert {d.task.tile for d in due} == touched
    assert all(d.reason.startswith("item changed: sentinel-2-l2a/S2_2020-06-03") for d in due)
    assert run_plan(reprocessed, context, spec.store, ThreadExecutor(2)).tiles == len(touched)
    assert not find_pending(reprocessed, MapStore.open(spec.store).ledger).todo


def covering_only(items, name, *, east, **properties):
    """Items of which one ends at a meridian."""
    copies = copy.deepcopy(list(items))
    for item in copies:
        if item["id"] == name:
            item["geometry"]["coordinates"] = [[[9, 51], [east, 51], [east, 53], [9, 53], [9, 51]]]
            item["properties"].update(properties)
    return replace(items, items=tuple(copies))
