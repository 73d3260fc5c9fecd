"""What a map of very many tiles costs its driver and scheduler; measures and prints, asserts only that it is complete.

Not collected unless named; about 10 minutes on two busy cores, and an hour for 100,000 tiles in processes alone:

pytest -s -m benchmark tests/benchmarks/scale.py
MAPPER_TILES=100000 MAPPER_EXECUTORS=processes pytest -s -m benchmark tests/benchmarks/scale.py
MAPPER_TILES=100000 MAPPER_LEFT=5000 MAPPER_EXECUTORS=processes pytest -s -m benchmark tests/benchmarks/scale.py

Nothing is read or predicted: see :mod:`continent`. All else is real: items are matched with tiles, forks of the store's
session travel to workers and back, tiles are encoded and written, full records come back and are committed. The driver
is this process; with ``processes`` the scheduler and two workers of two threads are processes of their own.

Each executor first does 90 % of a new map, then a new plan is made and run: that is the resume. With MAPPER_LEFT the
ledger is told that all but so many tiles are done, and these are done: how memory and pace depend on the size of the
map, in minutes.
"""

import os
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from unittest import mock

import continent
import dask
import numpy as np
import psutil
import pytest
from distributed import Client

from mapper.catalog.freeze import open_items
from mapper.cost.estimate import estimate_tasks
from mapper.cost.forecast import make_forecast
from mapper.events import BatchCommitted, RunStarted, TileFinished
from mapper.execute.executors import SHORT_LOGS, DaskExecutor, ThreadExecutor
from mapper.plan.plan import make_plan
from mapper.plan.selection import order_tasks
from mapper.run import commit_loop, runner
from mapper.store.ledger import read_ledger
from mapper.store.product import map_product
from mapper.store.repository import create_store

TILES = int(os.environ.get("MAPPER_TILES", "10000"))
DATES = int(os.environ.get("MAPPER_DATES", "24"))
EVERY = int(os.environ.get("MAPPER_EVERY", "64"))
EXECUTORS = os.environ.get("MAPPER_EXECUTORS", "threads,processes").split(",")
LEFT = int(os.environ.get("MAPPER_LEFT", "0"))
DONE_SHARE = 0.9
TENTHS = 10
SHORT_LOGS_ELSEWHERE = {
    f"DASK_{name.upper().replace('.', '__').replace('-', '_')}": str(n) for name, n in SHORT_LOGS.items()
}


@pytest.mark.benchmark
@pytest.mark.timeout(4 * 3600)
@pytest.mark.parametrize("name", EXECUTORS)
def test_scale(name):
    with TemporaryDirectory() as folder, start_executor(name, Path(folder)) as (executor, scheduler):
        say(f"\n\n{name}: {TILES} tiles, {DATES} dates, commits of {EVERY} tiles")
        watch = Watch(scheduler=scheduler)
        spec, context = continent.make_map(Path(folder), TILES)
        items = open_items(continent.keep_items(Path(folder), dates=DATES))
        watch.note(f"{len(items)} items")
        with clock("planning") as planning:
            plan = make_plan(spec, items, context=context)
        scenes = plan.tasks.guide.counts.mean()
        watch.note(f"plan of {len(plan)} tiles, {scenes:.1f} scenes a tile, {len(plan) / planning.wall:.0f} tiles/s")
        order = order_tasks(plan.tasks, "blocks")
        if LEFT:
            create_store(spec.store, product=map_product(spec))
            continent.pretend(spec.store, order[: len(plan) - LEFT])
            work(plan, context, executor, watch)
            return
        work(replace(plan, tasks=order[: round(DONE_SHARE * len(plan))]), context, executor, watch)
        with clock("planning again"):
            plan = make_plan(spec, items, context=context)
        work(plan, context, executor, watch)
        with clock("estimate"):
            estimate = estimate_tasks(context, plan.tasks)
        with clock("forecast from all records"):
            forecast = make_forecast(plan, context, estimate, ledger=read_ledger(spec.store))
        assert forecast.done == len(plan)
        tell_store(Path(spec.store), len(plan))
        watch.tell()


def work(plan, context, executor, watch):
    """Run a plan, and note what it took."""
    watch.begin()
    before = cpu_seconds(watch.driver)
    with mock.patch.multiple(runner, **continent.IDLE), clock("run") as taken:
        report = runner.run_plan(
            plan,
            context,
            context.spec.store,
            executor,
            callbacks=[watch],
            policy=commit_loop.RunPolicy(commit_tiles=EVERY),
        )
    spent = (cpu_seconds(watch.driver) - before) / report.tiles
    assert (report.done, report.failed) == (report.tiles, 0)
    watch.note("done")
    say(
        f"  {report.tiles} tiles, {report.skipped} done before: {watch.begun:.2f} s to begin, {watch.back:.2f} s "
        f"to the first tile back, {report.tiles / taken.wall:.1f} tiles/s, "
        f"{spent * 1000:.1f} CPU ms a tile in all processes"
    )


def cpu_seconds(driver):
    """Of the driver and what it started."""
    return sum(sum(process.cpu_times()[:2]) for process in (driver, *driver.children(recursive=True)))


@contextmanager
def start_executor(name, folder):
    """An executor, and the process of its scheduler if it has one."""
    if name == "threads":
        yield ThreadExecutor(), None
        return
    here = Path(__file__).parent
    environment = os.environ | {"PYTHONPATH": str(here), "OMP_NUM_THREADS": "1", **SHORT_LOGS_ELSEWHERE}
    address = folder / "scheduler.json"
    options = ["--scheduler-file", str(address), "--no-dashboard"]
    with subprocess_of("scheduler", "--host", "127.0.0.1", "--port", "0", *options, env=environment) as scheduler:
        worker = ("worker", "--nthreads", "2", "--no-nanny", "--local-directory", str(folder), *options)
        with (
            subprocess_of(*worker, env=environment),
            subprocess_of(*worker, env=environment),
            dask.config.set(SHORT_LOGS),
            Client(scheduler_file=str(address), timeout=120, set_as_default=False) as client,
        ):
            client.wait_for_workers(2, timeout=120)
            yield DaskExecutor(cluster=client), scheduler


@contextmanager
def subprocess_of(*arguments, env):
    with subprocess.Popen([sys.executable, "-m", "dask", *arguments], env=env, stderr=subprocess.DEVNULL) as process:
        try:
            yield psutil.Process(process.pid)
        finally:
            process.terminate()


@dataclass
class Clock:
    wall: float = 0.0
    cpu: float = 0.0


@contextmanager
def clock(what):
    """Wall and CPU seconds of this process, printed."""
    taken, wall, cpu = Clock(), time.perf_counter(), time.process_time()
    yield taken
    taken.wall, taken.cpu = time.perf_counter() - wall, time.process_time() - cpu
    say(f"  {what}: {taken.wall:.2f} s, {taken.cpu:.2f} CPU s of the driver")


@dataclass
class Watch:
    """Listens to runs: memory at each tenth, seconds of commits against tiles in the store."""

    scheduler: psutil.Process | None
    driver: psutil.Process = field(default_factory=psutil.Process)
    tiles: int = 0
    done: int = 0
    stored: int = 0
    begun: float = 0.0
    back: float = 0.0
    start: float = 0.0
    commits: list[tuple[int, float]] = field(default_factory=list)
    memory: list[tuple[int, float]] = field(default_factory=list)

    def begin(self):
        self.done, self.start, self.back = 0, time.perf_counter(), 0.0

    def __call__(self, event):
        if isinstance(event, RunStarted):
            self.begun, self.tiles = time.perf_counter() - self.start, event.tiles
        elif isinstance(event, TileFinished):
            self.back = self.back or time.perf_counter() - self.start
            self.done += 1
            if self.done % max(self.tiles // TENTHS, 1) == 0:
                self.memory.append((self.done, self.note(f"{self.done} tiles back")))
        elif isinstance(event, BatchCommitted):
            self.stored += event.tiles
            self.commits.append((self.stored, event.seconds))

    def note(self, what):
        """Print memory in use; that of the driver in MB."""
        driver = self.driver.memory_info().rss / 1e6
        scheduler = f", scheduler {self.scheduler.memory_info().rss / 1e6:.0f} MB" if self.scheduler else ""
        say(f"  driver {driver:.0f} MB{scheduler}: {what}")
        return driver

    def tell(self):
        """Seconds of a commit against tiles in the store."""
        stored, seconds = np.array(self.commits).T
        for tenth in np.array_split(np.arange(len(stored)), TENTHS):
            if len(tenth):
                say(f"  commit at {stored[tenth[-1]]:.0f} tiles: median {np.median(seconds[tenth]):.3f} s")


def tell_store(path, tiles):
    """Bytes and files of the store by kind."""
    for part in sorted(path.iterdir()):
        files = [file for file in part.rglob("*") if file.is_file()]
        size = sum(file.stat().st_size for file in files)
        say(f"  {part.name}: {len(files)} files, {size / 1e6:.1f} MB, {size / tiles:.0f} B a tile")


def say(text):
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()
