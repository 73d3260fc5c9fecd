"""Ways to call one function on many inputs: here, in threads, or on a Dask cluster.

All keep the same promises, which one test suite checks on each of them:

- inputs are pulled one by one, in the caller's thread, and only when there is room: at most ``window`` of them are out
  without their outcome having been handed over, so nothing grows with the length of the list;
- every input comes back exactly once, in any order, as a result or as an error; an error ends nothing;
- a function that is :class:`~mapper.execute.outcome.Prepared` is prepared once in each process before it is called;
- closing the iterator starts nothing more.

A tile spends its time in turns reading (network, decoding), predicting (device) and writing. These overlap because
several tiles are on their way in one process, in threads; the device is guarded by the predictor. That is why
:class:`ThreadExecutor` is the one to use on one machine, why a Dask worker has several threads, and why there is no
pipeline of stages. :class:`SerialExecutor` overlaps nothing: it is for debuggers and as a yardstick in tests.
"""

import itertools
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent import futures
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Protocol, TypeVar

import dask
from distributed import Client, SchedulerPlugin, default_client

from mapper.access.retry import RetryPolicy
from mapper.access.throttle import Throttle, process_throttle
from mapper.errors import ClusterError
from mapper.execute.connection import connect, warn_of_clear_text
from mapper.execute.dask_futures import ClusterRules, FuturesWindow, StragglerPolicy
from mapper.execute.outcome import Outcome, prepare

T = TypeVar("T")
R = TypeVar("R")

CLUSTER_RETRY = RetryPolicy(attempts=4, connect_timeout_s=300.0, read_timeout_s=30.0)
"""Policy for inputs that a cluster loses."""
_GREETINGS = 3
"""Times that a scheduler is asked for a connection."""
SHORT_LOGS: Mapping[str, int] = MappingProxyType({"distributed.admin.low-level-log-length": 10})
"""Settings of Dask for a driver and what it starts.

By default the last 1000 messages of every connection are kept, and with them the items of the tiles that they carried:
a scheduler of two workers grew by a gigabyte.
"""


class Executor(Protocol):
    """Calls one function on many inputs."""

    @property
    def dashboard(self) -> str:
        """Address at which people can look at the cluster; empty if there is none."""

    @property
    def throttle(self) -> Callable[[], Throttle]:
        """Function that gives what paces the requests of a task, when it is called by the task; picklable."""

    def run(
        self, function: Callable[[T], R], inputs: Iterable[T], *, window: int | None = None
    ) -> Iterator[Outcome[T, R]]:
        """Yield the outcome of every input, as they come.

        Args:
            function: What to call; picklable where it leaves the process.
            inputs: Pulled lazily, in this thread.
            window: Inputs out at once; None takes what suits the executor.
        """


@dataclass(frozen=True)
class SerialExecutor:
    """One after the other, in the calling thread."""

    throttle: Callable[[], Throttle] = process_throttle
    dashboard: str = ""

    def run(
        self, function: Callable[[T], R], inputs: Iterable[T], *, window: int | None = None
    ) -> Iterator[Outcome[T, R]]:
        """Yield the outcome of every input, in order; the window is always 1."""
        del window
        prepare(function)
        for value in inputs:
            yield _call(function, value)


@dataclass(frozen=True)
class ThreadExecutor:
    """Threads of this process: tiles overlap in reading, predicting and writing."""

    threads: int = 0
    """Number of threads; 0: :func:`default_threads`. A tile's memory is paid once per thread."""
    throttle: Callable[[], Throttle] = process_throttle
    dashboard: str = ""

    def run(
        self, function: Callable[[T], R], inputs: Iterable[T], *, window: int | None = None
    ) -> Iterator[Outcome[T, R]]:
        """Yield outcomes as they come; after closing, calls that have begun are waited for."""
        threads = self.threads or default_threads()
        waiting = iter(inputs)
        out: dict[futures.Future[R], T] = {}
        prepare(function)
        pool = futures.ThreadPoolExecutor(threads, thread_name_prefix="tile")
        try:
            while True:
                for value in itertools.islice(waiting, (window or threads) - len(out)):
                    out[pool.submit(function, value)] = value
                if not out:
                    return
                done = next(iter(futures.wait(out, return_when=futures.FIRST_COMPLETED).done))
                yield _settle(done, out.pop(done))
        finally:
            pool.shutdown(cancel_futures=True)


def default_threads() -> int:
    """Return the tiles at a time in this process: one for each core and one more, at most 4."""
    return min(4, (os.cpu_count() or 1) + 1)


def _call(function: Callable[[T], R], value: T) -> Outcome[T, R]:
    try:
        return Outcome(input=value, result=function(value))
    except Exception as error:  # noqa: BLE001 - whatever a task raises is its outcome
        return Outcome(input=value, error=error)


def _settle(future: futures.Future[R], value: T) -> Outcome[T, R]:
    error = future.exception()
    return Outcome(input=value, error=error) if error else Outcome(input=value, result=future.result())


@dataclass(frozen=True, kw_only=True)
class DaskExecutor:
    """A Dask cluster, which never knows more than a window of tasks.

    The loss of a worker or of the scheduler puts inputs back in the queue, and what nobody answers is submitted again
    (see :mod:`mapper.execute.dask_futures`). An input may therefore run twice: what a function writes must not clash
    with itself.
    """

    cluster: Client | str
    """A connected client, or the address of a scheduler."""
    retry: RetryPolicy = CLUSTER_RETRY
    """Submissions of an input before its loss becomes its outcome, and timeouts; exceptions are never retried here.

    That workers die of an input is known when the scheduler gives up on it, after ``allowed-failures`` + 1 of them. The
    timeout of connecting is for the scheduler and the first worker, that of reading for a result of a few kilobytes.
    """
    resources: Mapping[str, float] = field(default_factory=dict)
    """Resources that one task asks of a worker, for example ``{"GPU": 1}``."""
    stragglers: StragglerPolicy = field(default_factory=StragglerPolicy)
    """Limits after which an input is submitted again, to another worker."""
    plugins: tuple[SchedulerPlugin, ...] = ()
    """Plugins that the scheduler holds while it serves; see :func:`mapper.cluster.throttle.paced_executor`."""
    throttle: Callable[[], Throttle] = process_throttle
    """Function that gives the throttle of a process; by default each paces itself, as if it were alone."""

    @property
    def dashboard(self) -> str:
        """Address at which people can look at the cluster; empty if it has no such page.

        Raises:
            ClusterError: If no scheduler answers.
        """
        with self._reach() as client, suppress(KeyError):  # that a scheduler without the page has no port for
            return str(client.dashboard_link or "")
        return ""

    def run(
        self, function: Callable[[T], R], inputs: Iterable[T], *, window: int | None = None
    ) -> Iterator[Outcome[T, R]]:
        """Yield outcomes as they come.

        Raises:
            ClusterError: If no scheduler or worker answers, a worker cannot be made ready, or the scheduler is gone for
                good.
            InputError: If preparing the function shows that the request is wrong.
        """
        with self._connect() as client:
            rules = ClusterRules(
                retry=self.retry,
                resources=self.resources,
                plugins=self.plugins,
                stragglers=self.stragglers,
                width=window,
            )
            yield from FuturesWindow(client, rules, function, iter(inputs)).results()

    @contextmanager
    def _connect(self) -> Iterator[Client]:
        with self._reach() as client:
            self._await_worker(client)
            yield client

    @contextmanager
    def _reach(self) -> Iterator[Client]:
        if isinstance(self.cluster, Client):
            if self.cluster.scheduler is not None:
                warn_of_clear_text(self.cluster.scheduler.address)
            yield self.cluster
            return
        try:
            client = self._make_client(self.cluster)
        except AssertionError as error:
            raise ClusterError(f"no Dask scheduler answers at {self.cluster}: it did not greet") from error
        with client:
            yield client

    def _make_client(self, address: str) -> Client:
        for _ in range(_GREETINGS - 1):
            # distributed asserts that a scheduler's greeting comes alone; a busy one may send more with it
            with suppress(AssertionError):
                return self._ask_for_client(address)
        return self._ask_for_client(address)

    def _ask_for_client(self, address: str) -> Client:
        with dask.config.set(SHORT_LOGS):
            return connect(address, timeout_s=self.retry.connect_timeout_s)

    def _await_worker(self, client: Client) -> None:
        try:
            client.wait_for_workers(1, timeout=self.retry.connect_timeout_s)
        except (TimeoutError, OSError) as error:
            raise ClusterError(f"no worker joined the Dask cluster in {self.retry.connect_timeout_s:g} s") from error


def find_task_resources() -> dict[str, float]:
    """Return the resources that one task asks of a worker: a GPU where the cluster at hand offers one; else none."""
    try:
        client = default_client()
    except ValueError:  # there is no cluster: threads of this process
        return {}
    workers = client.scheduler_info(n_workers=-1)["workers"].values()
    return {"GPU": 1.0} if any(worker["resources"].get("GPU") for worker in workers) else {}
