"""Runs into an object store: two drivers of one map, drivers that are killed, and a store that fails for a while."""

import json
import os
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from run_maps import assert_same_map, contents_of, make_items, make_spec
from s3_server import make_location

from mapper.access.retry import Backoff
from mapper.catalog.freeze import save_items
from mapper.errors import StoreLockedError, TransientStoreError
from mapper.execute.executors import SerialExecutor, ThreadExecutor
from mapper.plan.context import RunOptions, make_context
from mapper.plan.plan import make_plan
from mapper.plan.plan_file import save_plan
from mapper.run.commit_loop import RunPolicy
from mapper.run.runner import run_plan
from mapper.store.ledger import read_ledger
from mapper.store.location import parse_location
from mapper.store.lock import hold_lock

DRIVER = """
import json, sys
from pathlib import Path

sys.path.insert(0, sys.argv[1])
from run_maps import SlowExecutor, make_spec

from mapper.catalog.freeze import load_items
from mapper.errors import MapperError
from mapper.events import BatchCommitted
from mapper.plan.context import make_context
from mapper.execute.executors import ThreadExecutor
from mapper.plan.plan_file import load_plan
from mapper.run.commit_loop import RunPolicy
from mapper.run.runner import run_plan
from mapper.store import lease


def say(event):
    if isinstance(event, BatchCommitted):
        print(json.dumps({"committed": event.tiles}), flush=True)


if __name__ == "__main__":
    _, _, folder, store, machine = sys.argv
    folder = Path(folder)
    lease.TERM_S = 4.0
    lease._machine = lambda: machine  # each driver on a machine of its own: no process number says anything
    plan = load_plan(folder / "plan", load_items(folder / "items.parquet"))
    print(json.dumps({"ready": True}), flush=True)
    try:
        executor = SlowExecutor(ThreadExecutor(2), 0.3)
        report = run_plan(plan, make_context(make_spec(folder)), store, executor, callbacks=[say], policy=RunPolicy(commit_tiles=3))
    except MapperError as error:
        print(json.dumps({"refused": str(error)}), flush=True)
        sys.exit(error.exit_code)
    print(json.dumps(report.to_dict()), flush=True)
    sys.exit(report.exit_code)
"""  # noqa: E501 - a program


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """Scenes, a plan on disk, the driver's script, and the map of an undisturbed run on local disk."""
    folder = tmp_path_factory.mktemp("scenes")
    items = make_items(folder, hole=(slice(36, 43), slice(34, 42)))
    spec = make_spec(folder)
    context = make_context(spec, options=RunOptions(backoff=Backoff(attempts=3, first=0.2)))
    plan = make_plan(spec, items, context=context)
    save_items(items, folder / "items.parquet")
    save_plan(plan, folder / "plan")
    (folder / "driver.py").write_text(DRIVER)
    run_plan(plan, context, str(folder / "reference"), SerialExecutor())
    return folder, context, plan, contents_of(folder / "reference", spec)


@pytest.fixture
def store(bucket):  # noqa: ARG001 - its environment
    return make_location()


def start(folder, store, machine):
    command = [sys.executable, folder / "driver.py", Path(__file__).parent, folder, store, machine]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def computed(store):
    """How often each tile is in a record."""
    ledger = read_ledger(store)
    batches = range(1, ledger.batches + 1)
    return Counter(record.tile for batch in batches for record in ledger.records_of(batch))


def test_of_two_drivers_one_makes_the_map_and_the_other_is_refused(prepared, store):
    folder, context, _, reference = prepared
    with start(folder, store, "here") as one, start(folder, store, "there") as other:
        drivers = [(driver, driver.communicate(timeout=120)[0].splitlines()) for driver in (one, other)]
    refused, made = sorted(drivers, key=lambda each: each[0].returncode == 0)
    assert (made[0].returncode, refused[0].returncode) == (0, 1)
    assert f"is being written by process {made[0].pid} on " in json.loads(refused[1][-1])["refused"]
    assert json.loads(made[1][-1])["failed"] == 0
    assert set(computed(store).values()) == {1}
    assert_same_map(contents_of(store, context.spec), reference)


def test_a_driver_that_is_killed_is_replaced_after_its_term_by_one_that_waits(prepared, store):
    folder, context, _, reference = prepared
    with start(folder, store, "here") as killed:
        lines = map(json.loads, killed.stdout)
        assert next(lines)["ready"]
        assert next(lines)["committed"] == 3
        killed.send_signal(signal.SIGKILL)
    committed = len(read_ledger(store).entries)
    assert 3 <= committed < 16
    with start(folder, store, "there") as second:
        report = json.loads(second.communicate(timeout=120)[0].splitlines()[-1])
    assert second.returncode == 0
    assert (report["tiles"], report["skipped"]) == (16 - committed, committed)
    assert set(computed(store).values()) == {1}
    assert_same_map(contents_of(store, context.spec), reference)


def test_a_driver_that_was_paused_too_long_stops_and_loses_only_what_was_not_committed(prepared, store):
    folder, context, plan, reference = prepared
    with start(folder, store, "here") as paused:
        lines = map(json.loads, paused.stdout)
        assert next(lines)["ready"]
        assert next(lines)["committed"] == 3
        os.kill(paused.pid, signal.SIGSTOP)
        report = run_plan(plan, context, store, ThreadExecutor(2))
        os.kill(paused.pid, signal.SIGCONT)
        *_, last = lines
    assert paused.returncode == 1
    assert "the lease was lost" in last["refused"]
    assert report.failed == 0
    assert set(computed(store).values()) == {1}
    assert_same_map(contents_of(store, context.spec), reference)


def test_commits_that_fail_for_a_while_are_tried_again(prepared, store, bucket):
    _, context, plan, reference = prepared

    class Failing(SerialExecutor):
        def run(self, function, inputs, **options):
            for number, outcome in enumerate(super().run(function, inputs, **options)):
                if number == 4:
                    bucket.fail("PUT .*/snapshots/", status=409, times=2)
                yield outcome

    report = run_plan(plan, context, store, Failing(), policy=RunPolicy(commit_tiles=5))
    assert (report.failed, report.commits, report.exit_code) == (0, 4, 0)
    assert set(computed(store).values()) == {1}
    assert_same_map(contents_of(store, context.spec), reference)


def test_commits_that_go_on_failing_end_the_run_and_lose_nothing_else(prepared, store, bucket):
    _, context, plan, reference = prepared

    class Failing(SerialExecutor):
        def run(self, function, inputs, **options):
            for number, outcome in enumerate(super().run(function, inputs, **options)):
                if number == 7:
                    bucket.fail("PUT .*/snapshots/", status=409)
                yield outcome

    with pytest.raises(TransientStoreError, match="run again"):
        run_plan(plan, context, store, Failing(), policy=RunPolicy(commit_tiles=5))
    bucket.fail()
    assert len(read_ledger(store).entries) == 5
    assert run_plan(plan, context, store, SerialExecutor()).tiles == 11
    assert_same_map(contents_of(store, context.spec), reference)


def test_tiles_that_cannot_be_written_for_a_while_are_written_again(prepared, store, bucket):
    _, context, plan, reference = prepared
    bucket.fail("PUT .*/chunks/", status=409, times=2)
    report = run_plan(plan, context, store, SerialExecutor(), policy=RunPolicy(commit_tiles=100))
    assert report.failed == 0
    assert sum(record.attempts - 1 for record in read_ledger(store).records()) == 2
    assert_same_map(contents_of(store, context.spec), reference)


def test_tiles_that_cannot_be_written_fail_and_are_made_by_the_next_run(prepared, store, bucket):
    _, context, plan, reference = prepared
    bucket.fail("PUT .*/chunks/", status=409, times=3)  # as often as a tile is tried
    report = run_plan(plan, context, store, SerialExecutor(), policy=RunPolicy(commit_tiles=100))
    assert report.failed == 1
    assert "perhaps for a while" in report.failures[0].reason
    assert run_plan(plan, context, store, SerialExecutor()).tiles == 1
    assert_same_map(contents_of(store, context.spec), reference)


def test_a_run_is_refused_while_another_writes(prepared, store):
    _, context, plan, _ = prepared
    run_plan(plan, context, store, SerialExecutor())
    with hold_lock(parse_location(store)), pytest.raises(StoreLockedError, match="is being written by"):
        run_plan(plan, context, store, SerialExecutor())
