"""Killed runs: what was committed stays, the rest is computed again, and the map is that of an undisturbed run."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from run_maps import assert_same_map, contents_of, make_items, make_spec
from store_maps import fill_tile, read_tile

from mapper.catalog.freeze import save_items
from mapper.execute.executors import SerialExecutor
from mapper.plan.context import make_context
from mapper.plan.plan import make_plan
from mapper.plan.plan_file import save_plan
from mapper.run.runner import run_plan
from mapper.store.ledger import read_ledger
from mapper.store.repository import open_store

DRIVER = """
import json, os, sys
from contextlib import ExitStack
from pathlib import Path

sys.path.insert(0, sys.argv[1])
from run_maps import SlowExecutor, make_spec

from mapper.catalog.freeze import load_items
from mapper.cluster.local import local_cluster
from mapper.events import BatchCommitted
from mapper.plan.context import make_context
from mapper.execute.executors import DaskExecutor, ThreadExecutor
from mapper.plan.plan_file import load_plan
from mapper.run.commit_loop import RunPolicy
from mapper.run.runner import run_plan


def say(event):
    if isinstance(event, BatchCommitted):
        print(json.dumps({"committed": event.tiles}), flush=True)


if __name__ == "__main__":
    _, _, folder, store, how = sys.argv
    folder = Path(folder)
    with ExitStack() as stack:
        workers = []
        executor = ThreadExecutor(2)
        if how == "dask":
            client = stack.enter_context(local_cluster(2, threads_per_worker=1, memory_limit=0))
            workers = list(client.run(os.getpid).values())
            executor = DaskExecutor(cluster=client)
        print(json.dumps({"workers": workers}), flush=True)
        report = run_plan(
            load_plan(folder / "plan", load_items(folder / "items.parquet")),
            make_context(make_spec(folder)),
            store,
            SlowExecutor(executor, 0.3),
            callbacks=[say],
            policy=RunPolicy(commit_tiles=3),
        )
    print(json.dumps(report.to_dict()), flush=True)
    sys.exit(report.exit_code)
"""


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """Scenes, a plan on disk, the driver's script, and the map of an undisturbed run."""
    folder = tmp_path_factory.mktemp("scenes")
    items = make_items(folder, hole=(slice(36, 43), slice(34, 42)))
    spec = make_spec(folder)
    context = make_context(spec)
    plan = make_plan(spec, items, context=context)
    save_items(items, folder / "items.parquet")
    save_plan(plan, folder / "plan")
    (folder / "driver.py").write_text(DRIVER)
    run_plan(plan, context, str(folder / "reference"), SerialExecutor())
    return folder, context, plan, contents_of(folder / "reference", spec)


def start(folder, store, how):
    command = [sys.executable, folder / "driver.py", Path(__file__).parent, folder, store, how]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def lines_of(driver):
    return map(json.loads, driver.stdout)


def wait_for_commits(lines, number):
    for _ in range(number):
        assert next(lines)["committed"] == 3


class Reader(threading.Thread):
    """Polls a store and compares every tile with the finished map: a tile is there as a whole or not at all."""

    def __init__(self, store, context, reference):
        super().__init__()
        self.store, self.context, self.expected = store, context, reference[1]
        self.torn, self.polls, self.stopping = [], 0, threading.Event()

    def run(self):
        grid, target = self.context.grid, self.context.spec.target
        absent = fill_tile(grid, target)
        while not self.stopping.is_set():
            if not Path(self.store).exists():
                time.sleep(0.05)
                continue
            session = open_store(self.store)
            for tile, whole in self.expected.items():
                seen = read_tile(session.store, grid=grid, target=target, tile=tile)
                if not any(all(np.array_equal(seen[k], state[k]) for k in seen) for state in (absent, whole)):
                    self.torn.append(tile)
            self.polls += 1
            self.stopping.wait(0.05)  # the others on the same cores are what is looked at

    def stop(self):
        self.stopping.set()
        self.join()


@pytest.mark.parametrize("how", ["threads", "dask"])
def test_after_the_driver_is_killed_only_uncommitted_tiles_are_computed_again(prepared, tmp_path, how):
    folder, context, plan, reference = prepared
    store = str(tmp_path / "map.icechunk")
    reader = Reader(store, context, reference)
    reader.start()
    with start(folder, store, how) as driver:
        lines = lines_of(driver)
        assert "workers" in next(lines)
        wait_for_commits(lines, 2)
        time.sleep(0.2)  # into the middle of the next batch
        driver.send_signal(signal.SIGKILL)
    assert driver.returncode == -signal.SIGKILL
    committed = len(read_ledger(store).entries)
    assert 6 <= committed < 16
    report = run_plan(plan, context, store, SerialExecutor())
    reader.stop()
    assert (report.tiles, report.skipped, report.exit_code) == (16 - committed, committed, 0)
    assert_same_map(contents_of(store, context.spec), reference)
    assert reader.polls > 3
    assert not reader.torn


def test_a_killed_worker_delays_a_run_and_changes_nothing(prepared, tmp_path):
    folder, context, _, reference = prepared
    store = str(tmp_path / "map.icechunk")
    with start(folder, store, "dask") as driver:
        lines = lines_of(driver)
        victim = next(lines)["workers"][0]
        wait_for_commits(lines, 1)
        os.kill(victim, signal.SIGKILL)
        *_, report = lines
    assert driver.returncode == 0
    assert (report["done"] + report["empty"], report["failed"]) == (16, 0)
    assert_same_map(contents_of(store, context.spec), reference)
    assert len(read_ledger(store).entries) == 16


def test_a_terminated_driver_commits_what_is_done(prepared, tmp_path):
    folder, context, plan, reference = prepared
    store = str(tmp_path / "map.icechunk")
    with start(folder, store, "threads") as driver:
        lines = lines_of(driver)
        next(lines)
        wait_for_commits(lines, 1)
        driver.send_signal(signal.SIGTERM)
        *_, report = lines
    assert driver.returncode == 1
    assert report["stopped"] == "interrupted by SIGTERM"
    assert len(read_ledger(store).entries) == report["done"] + report["empty"] < 16
    run_plan(plan, context, store, SerialExecutor())
    assert_same_map(contents_of(store, context.spec), reference)
