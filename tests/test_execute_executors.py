"""Every executor keeps the same promises."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from dataclasses import replace

import dask
import pytest

from mapper.cluster.local import local_cluster
from mapper.errors import ClusterError
from mapper.execute.executors import CLUSTER_RETRY, DaskExecutor, SerialExecutor, ThreadExecutor


@pytest.fixture(scope="module")
def client():
    with local_cluster(2, threads_per_worker=2, memory_limit=0) as client:
        security = client.security
        files = {
            "distributed.comm.tls.ca-file": security.tls_ca_file,
            "distributed.comm.tls.client.cert": security.tls_client_cert,
            "distributed.comm.tls.client.key": security.tls_client_key,
        }
        with dask.config.set(files):  # who has the address alone finds the certificates there
            yield client


@pytest.fixture(params=["serial", "threads", "dask", "dask address"])
def executor(request):
    if request.param == "serial":
        return SerialExecutor()
    if request.param == "threads":
        return ThreadExecutor(3)
    client = request.getfixturevalue("client")
    if request.param == "dask":
        return DaskExecutor(cluster=client, retry=replace(CLUSTER_RETRY, attempts=2, connect_timeout_s=20))
    return DaskExecutor(
        cluster=client.scheduler.address, retry=replace(CLUSTER_RETRY, attempts=2, connect_timeout_s=20)
    )


def double_odd(value):
    if value % 2 == 0:
        raise OSError(f"{value} is even")  # an OSError of the function is not the loss of a worker
    return 2 * value


def nap(value):
    time.sleep(0.05)
    return value


def test_every_input_comes_back_once_as_a_result_or_an_error(executor):
    outcomes = list(executor.run(double_odd, range(25)))
    assert sorted(outcome.input for outcome in outcomes) == list(range(25))
    for outcome in outcomes:
        assert outcome.attempts == 1
        if outcome.input % 2:
            assert outcome.result == 2 * outcome.input
            assert outcome.error is None
        else:
            assert outcome.result is None
            assert str(outcome.error) == f"{outcome.input} is even"


def test_no_inputs_are_no_outcomes(executor):
    assert list(executor.run(double_odd, [])) == []


@pytest.mark.parametrize("window", [1, 3])
def test_inputs_are_pulled_only_when_there_is_room_and_in_the_callers_thread(executor, window):
    pulled, threads = [], set()

    def inputs():
        for value in range(1, 40, 2):
            pulled.append(value)
            threads.add(threading.get_ident())
            yield value

    for handed_over, _ in enumerate(executor.run(double_odd, inputs(), window=window)):
        assert len(pulled) - handed_over <= window
    assert len(pulled) == 20
    assert threads == {threading.get_ident()}


def test_closing_starts_nothing_more(executor):
    pulled = []

    def inputs():
        for value in range(1000):
            pulled.append(value)
            yield value

    outcomes = executor.run(nap, inputs(), window=4)
    next(outcomes)
    outcomes.close()
    assert len(pulled) <= 5


def test_tiles_overlap_in_threads():
    meeting = threading.Barrier(3)

    def meet(_value):
        meeting.wait(timeout=30)  # breaks unless three calls are in it at once

    assert [outcome.error for outcome in ThreadExecutor(3).run(meet, range(9))] == [None] * 9


def die_once(value):
    """Kill this worker at the first call."""
    marker, number = value
    if number == 3 and not marker.exists():
        marker.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(0.02)
    return number


def test_inputs_of_a_killed_worker_are_given_out_again(client, tmp_path):
    values = [(tmp_path / "dead", number) for number in range(20)]
    outcomes = list(DaskExecutor(cluster=client).run(die_once, values, window=8))
    assert sorted(outcome.result for outcome in outcomes) == list(range(20))
    assert (tmp_path / "dead").exists()


def test_a_scheduler_that_is_not_there_is_one_clear_error():
    executor = DaskExecutor(cluster="tcp://127.0.0.1:9", retry=replace(CLUSTER_RETRY, connect_timeout_s=1))
    with pytest.raises(ClusterError, match=r"no Dask scheduler answers at tcp://127\.0\.0\.1:9"):
        list(executor.run(nap, [1]))


def test_a_scheduler_that_is_gone_for_good_is_an_error_and_no_hang(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"127.0.0.1:{free.getsockname()[1]}"
    options = {"cwd": tmp_path, "stderr": subprocess.DEVNULL}
    common = ["--dashboard-address", "127.0.0.1:0"]
    module = [sys.executable, "-m"]
    scheduler = subprocess.Popen([*module, "distributed.cli.dask_scheduler", "--host", address, *common], **options)
    worker = subprocess.Popen(
        [*module, "distributed.cli.dask_worker", f"tcp://{address}", "--no-nanny", *common], **options
    )
    try:
        outcomes = DaskExecutor(cluster=f"tcp://{address}", retry=replace(CLUSTER_RETRY, connect_timeout_s=10)).run(
            time.sleep, [0.05] * 1000, window=4
        )
        assert next(outcomes).error is None
        scheduler.kill()
        with pytest.raises(ClusterError, match="the Dask scheduler is gone"):
            list(outcomes)
    finally:
        for process in (scheduler, worker):
            process.kill()
            process.wait()


def test_a_scheduler_that_says_more_than_its_greeting_is_asked_again(client, monkeypatch):
    asked, connect = [], DaskExecutor._ask_for_client

    def greet(executor, address):
        asked.append(address)
        if len(asked) < 3:
            raise AssertionError
        return connect(executor, address)

    monkeypatch.setattr(DaskExecutor, "_ask_for_client", greet)
    outcomes = DaskExecutor(cluster=client.scheduler.address).run(double_odd, [1, 3])
    assert sorted(outcome.result for outcome in outcomes) == [2, 6]
    assert len(asked) == 3
