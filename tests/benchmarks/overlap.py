"""How well tiles overlap: wall time of a run against the total of its slowest stage. Prints, and asserts at most 1.15.

Not collected unless named; about a minute on two idle cores, and meaningless on busy ones:

pytest -s -m benchmark tests/benchmarks/overlap.py

A run of a small map into a real store, in threads and in two worker processes. In each process the network, the device
and the disk serve one tile at a time and take a known time for it, beside what the real reading, predicting and writing
of a small tile cost. Each stage is the slowest one in turn.
"""

import sys
import threading
import time
from functools import partial
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))

from run_maps import make_items, make_spec

from mapper.cluster.local import local_cluster
from mapper.execute.executors import DaskExecutor, ThreadExecutor
from mapper.plan.context import make_context
from mapper.plan.plan import make_plan
from mapper.predict.predictor import Predictor
from mapper.run import map_tile as task
from mapper.run.runner import run_plan

STAGES = ("read", "predict", "write")
SLOWEST_S, OTHER_S = 0.25, 0.1
THREADS = 4
LIMIT = 1.15


def slow_down(originals, slowest):
    """Make the stages of this process take their time, one tile at a time in each."""
    for name, (place, attribute, original) in originals.items():
        setattr(place, attribute, partial_method(original, threading.Lock(), SLOWEST_S if name == slowest else OTHER_S))


def partial_method(original, turn, seconds):
    def call(*arguments, **options):
        with turn:
            time.sleep(seconds)
        return original(*arguments, **options)

    return call


def find_originals():
    return {
        "read": (task, "read_source", task.read_source),
        "predict": (Predictor, "predict", Predictor.predict),
        "write": (task, "write_tile", task.write_tile),
    }


def restore(originals):
    for place, attribute, original in originals.values():
        setattr(place, attribute, original)


class SlowProcess:
    """What one worker process is told."""

    def __init__(self):
        self.originals = find_originals()

    def tell(self, slowest):
        restore(self.originals)
        slow_down(self.originals, slowest)


def tell_worker(slowest, dask_worker):
    if not hasattr(dask_worker, "slow_process"):
        dask_worker.slow_process = SlowProcess()
    dask_worker.slow_process.tell(slowest)


def measure(folder, executor, processes, name):
    """Wall time of a run against what its slowest stage takes in all."""
    items, spec = make_items(folder), make_spec(folder, tile=20)
    context = make_context(spec)
    plan = make_plan(spec, items, context=context)
    start = time.perf_counter()
    report = run_plan(plan, context, str(folder / name), executor)
    wall = time.perf_counter() - start
    assert (report.done, report.failed) == (report.tiles, 0)
    least = report.tiles * SLOWEST_S / processes
    sys.stdout.write(f"\n{name}: {report.tiles} tiles in {wall:.1f} s, slowest stage {least:.1f} s: {wall / least:.3f}")
    return wall / least


@pytest.mark.benchmark
@pytest.mark.timeout(1200)
def test_threads(tmp_path):
    process = SlowProcess()
    try:
        ratios = []
        for slowest in STAGES:
            process.tell(slowest)
            ratios.append(measure(tmp_path, ThreadExecutor(THREADS), 1, f"threads-{slowest}"))
    finally:
        restore(process.originals)
    assert max(ratios) <= LIMIT


@pytest.mark.benchmark
@pytest.mark.timeout(1200)
def test_processes(tmp_path):
    with local_cluster(2, threads_per_worker=THREADS, memory_limit=0) as client:
        ratios = []
        for slowest in STAGES:
            client.run(partial(tell_worker, slowest))
            ratios.append(measure(tmp_path, DaskExecutor(cluster=client), 2, f"processes-{slowest}"))
    assert max(ratios) <= LIMIT
