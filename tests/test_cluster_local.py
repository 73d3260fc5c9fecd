"""Local workers are quiet processes that end with their driver."""

import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
import time
from urllib.parse import urlsplit

import dask
import psutil
import pytest
from distributed import Client

from mapper.cluster.local import _make_security, local_cluster
from mapper.errors import ClusterError

DRIVER = """
import os, sys, time
from mapper.cluster.local import local_cluster
if __name__ == "__main__":
    with local_cluster(2, threads_per_worker=1, memory_limit=0) as client:
        print(*client.run(os.getpid).values(), flush=True)
        time.sleep(600)
"""


def _read_threads():
    """Return what a worker was told; asked of ``os.environ`` itself, this process would answer."""
    return os.environ.get("OMP_NUM_THREADS")


def _list_variables():
    """Return the variables of this process but those that Dask sets once, for all clusters alike."""
    return {name: value for name, value in os.environ.items() if name not in ("PYTHONHASHSEED", "__DASK_PARENT_PID")}


def test_workers_are_processes_with_their_share_of_the_cores():
    with local_cluster(2, threads_per_worker=3, memory_limit="1GiB") as client:
        workers = client.scheduler_info(n_workers=-1)["workers"].values()
        assert sorted(client.nthreads().values()) == [3, 3]
        assert {worker["memory_limit"] for worker in workers} == {2**30}
        assert os.getpid() not in client.run(os.getpid).values()
        threads = client.run(_read_threads).values()
        assert set(threads) == {str(max(1, os.cpu_count() // 2))}


def test_a_cluster_leaves_nothing_in_the_environment_that_the_next_would_obey():
    before = _list_variables()
    with local_cluster(1, threads_per_worker=1, memory_limit=0) as client:
        assert set(client.run(_read_threads).values()) == {str(os.cpu_count())}
    assert _list_variables() == before


def test_two_clusters_live_side_by_side_and_say_nothing(capfd):
    with (
        local_cluster(1, threads_per_worker=1, memory_limit=0) as one,
        local_cluster(1, threads_per_worker=1, memory_limit=0) as other,
    ):
        assert one.submit(abs, -1).result() == other.submit(abs, -1).result()
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("pause", [0.0, 0.1, 1.0])
def test_a_cluster_is_left_in_peace_while_a_worker_starts_anew(pause):
    with local_cluster(1, threads_per_worker=1, memory_limit=0) as client:
        (worker,) = client.run(os.getpid).values()
        os.kill(worker, signal.SIGKILL)
        time.sleep(pause)
    assert not multiprocessing.active_children()


@pytest.mark.parametrize("sizes", [{"workers": 0}, {"workers": 1, "threads_per_worker": 0}])
def test_no_workers_are_refused(sizes):
    with pytest.raises(ValueError, match="positive"), local_cluster(**sizes):
        pass


def test_workers_die_with_a_killed_driver(tmp_path):
    script = tmp_path / "driver.py"
    script.write_text(DRIVER)
    with subprocess.Popen([sys.executable, script], stdout=subprocess.PIPE, text=True) as driver:
        workers = [psutil.Process(int(pid)) for pid in driver.stdout.readline().split()]
        assert len(workers) == 2
        os.kill(driver.pid, signal.SIGKILL)
    deadline = time.monotonic() + 20
    while any(map(_alive, workers)) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not any(map(_alive, workers))


def _alive(process):
    return process.is_running() and process.status() != psutil.STATUS_ZOMBIE


def test_a_scheduler_remembers_few_messages():
    """Each may carry the items of a tile."""
    with local_cluster(1, threads_per_worker=1) as client:
        assert client.run_on_scheduler(_message_logs) == {10}


def _message_logs(dask_scheduler):
    return {comm.recent_message_log.maxlen for comm in dask_scheduler.stream_comms.values()}


def test_nobody_else_is_let_in():
    """Neither in the clear, nor with a certificate of another cluster; and the pages lead to no other port."""
    stranger = _make_security()
    with local_cluster(1, threads_per_worker=1, memory_limit=0) as client:
        address = client.scheduler.address
        (worker,) = client.scheduler_info(n_workers=-1)["workers"]
        assert {urlsplit(each).scheme for each in (address, worker)} == {"tls"}
        with pytest.raises(OSError, match=r"timed out|closed|in <|does not match"):
            Client(address.replace("tls", "tcp"), timeout=1, set_as_default=False)
        with pytest.raises(OSError, match=r"timed out|closed|in <|does not match"):
            Client(address, security=stranger, timeout=1, set_as_default=False)
        routes = client.run_on_scheduler(lambda: dask.config.get("distributed.scheduler.http.routes"))
        assert "distributed.http.proxy" not in routes
        assert client.submit(abs, -1).result() == 1


def test_every_cluster_has_a_key_of_its_own():
    one, other = _make_security(), _make_security()
    assert one.tls_client_key != other.tls_client_key
    assert one.require_encryption
    assert one.tls_scheduler_cert == one.tls_worker_cert == one.tls_ca_file


def test_without_a_folder_for_temporary_files_one_line_says_what_to_do(monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", "/proc/nowhere")
    with pytest.raises(ClusterError, match="TMPDIR"), local_cluster(1):
        pass
