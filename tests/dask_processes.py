"""A scheduler and workers as processes of their own, which come back when they end, as on a cluster of containers."""

import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import psutil

KEEP = """
while kill -0 $PARENT; do
    "$@" & child=$!
    while kill -0 $child && kill -0 $PARENT; do sleep 0.2; done
done
kill -9 $child
"""
"""What a Deployment does for its pod, as long as the tests run."""
LAX = {
    "DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES": "10",
    "DASK_DISTRIBUTED__COMM__TIMEOUTS__CONNECT": "20",
    "PYTHONPATH": os.pathsep.join(map(str, Path(__file__).parents[:2])),
    "OMP_NUM_THREADS": "1",
}


class Processes:
    """The processes of one cluster.

    Args:
        folder: Where they may write.
        workers: How many; each has two threads.
    """

    def __init__(self, folder, workers):
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.address = f"tcp://127.0.0.1:{free.getsockname()[1]}"
        options = {
            "cwd": folder,
            "env": os.environ | LAX | {"PARENT": str(os.getpid())},
            "start_new_session": True,
            "stderr": subprocess.DEVNULL,
        }
        dask = [sys.executable, "-m", "dask"]
        common = ["--no-dashboard", "--dashboard-address", "127.0.0.1:0"]
        scheduler = [*dask, "scheduler", "--host", self.address, *common]
        worker = [*dask, "worker", self.address, "--no-nanny", "--nthreads", "2", *common]
        commands = [scheduler, *[worker] * workers]
        self._keepers = [subprocess.Popen(["bash", "-c", KEEP, "keep", *command], **options) for command in commands]

    def scheduler(self):
        """The process as it is now."""
        return _child_of(self._keepers[0])

    def worker(self, number):
        """The process as it is now."""
        return _child_of(self._keepers[1 + number])

    def close(self):
        """End them all."""
        for keeper in self._keepers:
            os.killpg(keeper.pid, signal.SIGKILL)
            keeper.wait()


def _child_of(keeper):
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        for child in psutil.Process(keeper.pid).children():
            if "python" in child.name():
                return child
        time.sleep(0.05)
    raise TimeoutError(keeper.args)


@contextmanager
def dask_processes(folder, workers=2):
    """Start them, and end them."""
    processes = Processes(folder, workers)
    try:
        yield processes
    finally:
        processes.close()
