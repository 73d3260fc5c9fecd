"""The workers of a cluster share one limit, and one worker's pause is everybody's."""

import itertools
import logging
import time

import pytest
import urllib3
from distributed import get_worker
from fault_server import serve_faults

from mapper.access.rules import Limits
from mapper.cluster.local import local_cluster
from mapper.cluster.throttle import ClusterThrottle, paced_executor, worker_throttle
from mapper.execute.executors import DaskExecutor


@pytest.fixture(scope="module")
def client():
    with local_cluster(2, threads_per_worker=2, memory_limit=0) as client:
        yield client


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("files")
    for name in "abc":
        (folder / name).write_bytes(b"x")
    with serve_faults(folder) as server:
        yield server


def ask(job):
    """Ask a server some times, as the throttle of this worker allows."""
    url, limits, count, pause = job
    throttle, host = worker_throttle(), url.rsplit("/", 1)[-1]
    for number in range(count):
        throttle.take(host, limits)
        urllib3.request("GET", url)
        if number == 3 and pause:
            throttle.pause(host, pause)
    return get_worker().address


def served(server, name):
    return [entry["time"] for entry in server.log() if entry["path"] == f"/{name}"]


def run(executor, jobs):
    outcomes = list(executor.run(ask, jobs, window=4))
    assert [outcome.error for outcome in outcomes] == [None] * len(jobs)
    return {outcome.result for outcome in outcomes}


def test_two_workers_together_keep_to_the_limit(client, server):
    limits = Limits(requests_per_second=40, burst=4)
    workers = run(paced_executor(client), [(f"{server.address}/a", limits, 25, 0)] * 4)
    assert len(workers) == 2
    times = served(server, "a")
    assert len(times) == 100
    rate = (len(times) - 1) / (times[-1] - times[0])
    assert rate <= 1.25 * 40
    for k, start in enumerate(times):
        in_a_second = sum(start <= other < start + 1 for other in times[k:])
        assert in_a_second <= 40 + 4 + 2 * 10 + 2, "the limit, the burst, and a batch at hand in each worker"


def test_a_pause_of_one_worker_holds_the_other(client, server):
    url = f"{server.address}/b"
    limits = Limits(requests_per_second=100)
    jobs = [(url, limits, 20, 1.5), (url, limits, 90, 0), (url, limits, 90, 0)]
    workers = run(paced_executor(client), jobs)
    assert len(workers) == 2
    times = served(server, "b")
    gaps = [after - before for before, after in itertools.pairwise(times)]
    assert max(gaps) > 0.8, "1.5 s, less what tokens at hand last for"


def ask_alone(job):
    """As :func:`ask`; what was logged besides."""
    records = []
    handler = logging.Handler()
    handler.emit = lambda record: records.append(record.getMessage())
    logger = logging.getLogger("mapper.cluster.throttle")
    logger.addHandler(handler)
    try:
        ask(job)
    finally:
        logger.removeHandler(handler)
    return records


def test_a_worker_whose_scheduler_has_no_throttle_says_so_and_paces_itself(server):
    with local_cluster(1, threads_per_worker=1, memory_limit=0) as client:
        executor = DaskExecutor(cluster=client, throttle=worker_throttle)
        job = (f"{server.address}/c", Limits(requests_per_second=50, burst=1), 25, 0)
        (outcome,) = executor.run(ask_alone, [job])
    assert outcome.error is None
    assert len(outcome.result) == 1
    assert "the scheduler does not pace requests" in outcome.result[0]
    times = served(server, "c")
    assert (len(times) - 1) / (times[-1] - times[0]) < 55


def test_a_worker_alone_keeps_to_its_share(monkeypatch):
    class Loop:
        pass

    class Worker:
        loop, scheduler = Loop(), None

    def fail(*_, **__):
        raise TimeoutError

    monkeypatch.setattr("mapper.cluster.throttle.sync", fail)
    Worker.scheduler = type("Rpc", (), {"__getattr__": lambda *_: None})()
    throttle = ClusterThrottle(Worker())
    throttle._workers = 4
    limits = Limits(requests_per_second=100, burst=4)
    start = time.monotonic()
    for _ in range(6):
        throttle.take("a", limits)
    assert time.monotonic() - start >= 5 / 25 - 0.01
