"""From a word on the command line to an executor."""

from collections.abc import Iterator
from contextlib import contextmanager

import psutil

from mapper.cluster.local import local_cluster
from mapper.cluster.throttle import paced_executor
from mapper.errors import SpecError
from mapper.run.executors import Executor, SerialExecutor, ThreadExecutor, default_threads

_WORKERS = 2
_LOCAL_THREADS = 2


def memory_of_task(name: str, workers: int = 0) -> int | None:
    """Bytes that one task may use on this machine; None for a cluster elsewhere, which minds its own.

    Args:
        name: As for :func:`open_executor`.
        workers: As for :func:`open_executor`.
    """
    tasks = {"serial": 1, "threads": workers or default_threads(), "local": _LOCAL_THREADS * (workers or _WORKERS)}
    return int(psutil.virtual_memory().total / tasks[name]) if name in tasks else None


@contextmanager
def open_executor(name: str, workers: int = 0) -> Iterator[Executor]:
    """Open an executor, and close what it runs on.

    Args:
        name: ``threads`` of this process, ``serial``, ``local`` worker processes, or the address of a Dask scheduler.
        workers: Threads or processes; 0 suits the machine.

    Raises:
        SpecError: If the name is none of these.
        ClusterError: If no scheduler answers.
    """
    if name == "serial":
        yield SerialExecutor()
    elif name == "threads":
        yield ThreadExecutor(workers)
    elif name == "local":
        with local_cluster(workers or _WORKERS, threads_per_worker=_LOCAL_THREADS) as client:
            yield paced_executor(client)
    elif "://" in name:
        yield paced_executor(name)
    else:
        raise SpecError(f"unknown cluster {name!r}: use threads, serial, local, or an address such as tcp://host:8786")
