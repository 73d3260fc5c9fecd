"""Executors by the name that the command line gives them, and a cluster for as long as a block of code needs it."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import psutil
from distributed import Client

from mapper.cluster.kubernetes.session import KUBERNETES, UP_SECONDS, KubernetesOptions, find_pool, open_pool
from mapper.cluster.local import local_cluster
from mapper.cluster.settings import ClusterSettings, read_settings
from mapper.cluster.throttle import paced_executor
from mapper.errors import SpecError
from mapper.execute.connection import check_address, connect
from mapper.execute.executors import Executor, SerialExecutor, ThreadExecutor, default_threads

Cluster = str | Client | Executor
"""Place that computes: a word or an address, see :func:`open_executor`, or what is open already."""

_WORDS = ("threads", "serial", "local")
_WORKERS = 2
_LOCAL_THREADS = 2


def check_cluster(name: str) -> None:
    """Check that a name is a word for a cluster, or can be the address of a scheduler.

    Raises:
        SpecError: If it is neither.
    """
    if "://" in name:
        check_address(name)
    elif name not in _WORDS and not _is_kubernetes(name):
        known = ", ".join((*_WORDS, KUBERNETES, f"{KUBERNETES}:POOL"))
        meant = f"tcp://{name}" if re.fullmatch(r"[\w.-]+:\d+", name) else "tcp://host:8786"
        raise SpecError(f"unknown cluster {name!r}: use {known}, or an address such as {meant}")


def memory_of_task(name: Cluster, workers: int = 0, *, kubernetes: KubernetesOptions | None = None) -> int | None:
    """Return the bytes that one task may use, on this machine or on Kubernetes; None for another cluster.

    Args:
        name: As for :func:`open_executor`.
        workers: As for :func:`open_executor`.
        kubernetes: As for :func:`open_executor`.

    Raises:
        SpecError: If the name is none, or of a pool that is not there.
    """
    if not isinstance(name, str):
        return None
    check_cluster(name)
    if _is_kubernetes(name):
        settings = (kubernetes or KubernetesOptions()).settings
        return settings.task_memory(find_pool(name, settings))
    tasks = {"serial": 1, "threads": workers or default_threads(), "local": _LOCAL_THREADS * (workers or _WORKERS)}
    return int(psutil.virtual_memory().total / tasks[name]) if name in tasks else None


@contextmanager
def open_executor(
    name: Cluster, workers: int = 0, *, kubernetes: KubernetesOptions | None = None
) -> Iterator[Executor]:
    """Open an executor, and close what it runs on.

    Args:
        name: ``threads`` of this process, ``serial``, ``local`` worker processes, ``kubernetes`` or
            ``kubernetes:POOL``, or the address of a Dask scheduler; a client or an executor is used as it is.
        workers: Threads or processes; 0 suits the machine. On Kubernetes pools have the sizes of their settings.
        kubernetes: Settings of a cluster there; None: the defaults.

    Raises:
        SpecError: If the name is none of these.
        ClusterError: If no scheduler answers, or a pool on Kubernetes does not come up.
    """
    if isinstance(name, Client):
        yield paced_executor(name)
    elif not isinstance(name, str):
        yield name
    elif name == "serial":
        yield SerialExecutor()
    elif name == "threads":
        yield ThreadExecutor(workers)
    elif name == "local":
        with local_cluster(workers or _WORKERS, threads_per_worker=_LOCAL_THREADS) as client:
            yield paced_executor(client)
    elif "://" in name:
        check_address(name)
        yield paced_executor(name)
    else:
        check_cluster(name)  # what is left is a pool on Kubernetes
        options = kubernetes or KubernetesOptions()
        pool = find_pool(name, options.settings)
        with open_pool(pool, options) as address:
            asked = {"GPU": 1.0} if options.settings.pools[pool].gpu else {}
            yield replace(paced_executor(address), resources=asked)


@contextmanager
def open_cluster(
    where: str | Path | ClusterSettings = "local",
    *,
    pool: str | None = None,
    workers: int = 2,
    keep: bool = False,
    wait: float = UP_SECONDS,
) -> Iterator[Client]:
    """Open a Dask cluster, and close it again; progress is printed.

    A pool on Kubernetes that is up already is used and left up. For example::

        import mapper

        with mapper.open_cluster("cluster.yaml", pool="readers") as client:
            print(client.dashboard_link)
            mapper.run("map.yaml", cluster=client)
            agb = mapper.open_map("s3://maps/agb", chunks={"y": 2048, "x": 2048})["agb"]
            agb.mean().compute(scheduler=client)  # by the workers, chunk by chunk

    The client is not Dask's default: pass it on.

    Args:
        where: ``local`` for processes of this machine, or the settings of a cluster on Kubernetes: a file, or as read.
        pool: On Kubernetes; None: the one that makes maps.
        workers: Local processes.
        keep: Leave up on Kubernetes what was brought up.
        wait: Seconds until all pods are ready.

    Raises:
        SpecError: If settings are wrong, or there is no such pool.
        ClusterError: If the cluster does not come up.
    """
    if where == "local":
        with local_cluster(workers) as client:
            yield client
        return
    settings = where if isinstance(where, ClusterSettings) else read_settings(where)
    options = KubernetesOptions(settings=settings, keep=keep, wait=wait, notify=print)
    with (
        open_pool(find_pool(f"{KUBERNETES}:{pool or ''}", settings), options) as address,
        connect(address, timeout_s=wait) as client,
    ):
        yield client


def _is_kubernetes(name: str) -> bool:
    return name.partition(":")[0] == KUBERNETES and "://" not in name
