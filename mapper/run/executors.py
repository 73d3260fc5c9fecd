"""Ways to call one function on many inputs: here, in threads, or on a Dask cluster.

All keep the same promises, which one test suite checks on each of them:

- inputs are pulled one by one, in the caller's thread, and only when there is room: at most ``window`` of them are out
  without their outcome having been handed over, so nothing grows with the length of the list;
- every input comes back exactly once, in any order, as a result or as an error; an error ends nothing;
- closing the iterator starts nothing more.

A tile spends its time in turns reading (network, decoding), predicting (device) and writing. These overlap because
several tiles are on their way in one process, in threads; the device is guarded by the predictor. That is why
:class:`ThreadExecutor` is the one to use on one machine, why a Dask worker has several threads, and why there is no
pipeline of stages. :class:`SerialExecutor` overlaps nothing: it is for debuggers and as a yardstick in tests.
"""

import itertools
import logging
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent import futures
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Generic, Protocol, TypeVar

import dask
from distributed import Client, Future, KilledWorker, SchedulerPlugin, as_completed

from mapper.access.throttle import Throttle, process_throttle
from mapper.errors import ClusterError

T = TypeVar("T")
R = TypeVar("R")

_GREETINGS = 3
"""Times that a scheduler is asked for a connection."""
_LOST = (futures.CancelledError, TimeoutError, OSError)
"""The cluster's fault, not the function's; a broken connection is an OSError."""
_GATHER_SECONDS = 60.0
SHORT_LOGS: Mapping[str, int] = MappingProxyType({"distributed.admin.low-level-log-length": 10})
"""Settings of Dask for a driver and what it starts.

By default the last 1000 messages of every connection are kept, and with them the items of the tiles that they carried:
a scheduler of two workers grew by a gigabyte.
"""
_logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Outcome(Generic[T, R]):
    """What became of one input: a result, or an error."""

    input: T
    result: R | None = None
    error: BaseException | None = None
    attempts: int = 1
    """How often the input was given out; more than 1 after the loss of a worker."""


class Executor(Protocol):
    """Calls one function on many inputs."""

    @property
    def throttle(self) -> Callable[[], Throttle]:
        """Gives what paces the requests of a task, when it is called by the task; picklable."""

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

    def run(
        self, function: Callable[[T], R], inputs: Iterable[T], *, window: int | None = None
    ) -> Iterator[Outcome[T, R]]:
        """Yield the outcome of every input, in order; the window is always 1."""
        del window
        for value in inputs:
            yield _call(function, value)


@dataclass(frozen=True)
class ThreadExecutor:
    """Threads of this process: tiles overlap in reading, predicting and writing."""

    threads: int = 0
    """0: :func:`default_threads`; a tile's memory is paid once per thread."""
    throttle: Callable[[], Throttle] = process_throttle

    def run(
        self, function: Callable[[T], R], inputs: Iterable[T], *, window: int | None = None
    ) -> Iterator[Outcome[T, R]]:
        """Yield outcomes as they come; after closing, calls that have begun are waited for."""
        threads = self.threads or default_threads()
        waiting = iter(inputs)
        out: dict[futures.Future[R], T] = {}
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
    """Tiles at a time in this process: one for each core and one more, at most 4."""
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

    The loss of a worker or of the scheduler puts inputs back in the queue. An input may therefore run twice: what a
    function writes must not clash with itself.
    """

    cluster: Client | str
    """A connected client, or the address of a scheduler."""
    attempts: int = 4
    """How often an input is given out before its loss becomes its outcome; exceptions are never retried here."""
    resources: Mapping[str, float] = field(default_factory=dict)
    """What one task asks of a worker, for example ``{"GPU": 1}``."""
    patience: float = 300.0
    """Seconds to wait for the scheduler and the first worker."""
    plugins: tuple[SchedulerPlugin, ...] = ()
    """What the scheduler is to hold while it serves; see :func:`mapper.cluster.throttle.paced_executor`."""
    throttle: Callable[[], Throttle] = process_throttle
    """By default each worker process paces itself, as if it were alone."""

    def run(
        self, function: Callable[[T], R], inputs: Iterable[T], *, window: int | None = None
    ) -> Iterator[Outcome[T, R]]:
        """Yield outcomes as they come.

        Raises:
            ClusterError: If no scheduler or worker answers, or the scheduler is gone for good.
        """
        with self._connect() as client:
            for plugin in self.plugins:
                client.register_plugin(plugin)
            # two tiles a thread: a worker finds its next one at hand while the driver commits
            width = window or 2 * max(1, sum(client.nthreads().values()))
            yield from _Window(client, self, function, iter(inputs), width).drain()

    @contextmanager
    def _connect(self) -> Iterator[Client]:
        if isinstance(self.cluster, Client):
            self._await_worker(self.cluster)
            yield self.cluster
            return
        try:
            client = self._make_client(self.cluster)
        except (OSError, ValueError, AssertionError) as error:
            raise ClusterError(f"no Dask scheduler answers at {self.cluster}: {error}") from error
        with client:
            self._await_worker(client)
            yield client

    def _make_client(self, address: str) -> Client:
        for _ in range(_GREETINGS - 1):
            # distributed asserts that a scheduler's greeting comes alone; a busy one may send more with it
            with suppress(AssertionError):
                return self._ask_for_client(address)
        return self._ask_for_client(address)

    def _ask_for_client(self, address: str) -> Client:
        with dask.config.set(SHORT_LOGS):
            return Client(address, timeout=self.patience, set_as_default=False)

    def _await_worker(self, client: Client) -> None:
        try:
            client.wait_for_workers(1, timeout=self.patience)
        except (TimeoutError, OSError) as error:
            raise ClusterError(f"no worker joined the Dask cluster in {self.patience:g} s") from error


@dataclass(frozen=True)
class _Try(Generic[T]):
    value: T
    number: int


class _Window(Generic[T, R]):
    """The tasks that are out on a cluster.

    Results are gathered here, from finished futures: ``as_completed(with_results=True)`` yields exceptions as if they
    were results when a scheduler dies, and can lose a future and wait for it for ever.
    """

    def __init__(
        self, client: Client, executor: DaskExecutor, function: Callable[[T], R], inputs: Iterator[T], width: int
    ) -> None:
        self._client = client
        self._executor = executor
        self._function = function
        self._inputs = inputs
        self._width = width
        self._again: deque[_Try[T]] = deque()
        self._out: dict[Future[R], _Try[T]] = {}
        self._serial = itertools.count()
        self._completed = as_completed(loop=client.loop)
        self._held = 0  # fetched, not yet handed over

    def drain(self) -> Iterator[Outcome[T, R]]:
        try:
            self._fill()
            for batch in self._completed.batches():
                answers = _fetch(self._client, batch)
                outcomes = [self._judge(future, answers) for future in batch]
                ready = [outcome for outcome in outcomes if outcome is not None]
                self._held = len(ready)
                for outcome in ready:
                    self._held -= 1
                    yield outcome
                    self._fill()
                self._fill()
        except Exception as error:
            if self._client.status in ("closed", "closing"):  # it has tried to reconnect for as long as it may
                raise ClusterError(f"the Dask scheduler is gone: {error}") from error
            raise
        finally:
            if self._client.status == "running":
                self._client.cancel(list(self._out))
            self._out.clear()

    def _fill(self) -> None:
        while len(self._out) + self._held < self._width:
            attempt = self._again.popleft() if self._again else next(map(_first_try, self._inputs), None)
            if attempt is None:
                return
            self._submit(attempt)

    def _submit(self, attempt: _Try[T]) -> None:
        key = f"tile-{next(self._serial)}-{id(self):x}"  # never a key twice: a lost scheduler cancelled the old one
        options: dict[str, Any] = {"key": key, "pure": False}
        if self._executor.resources:
            options["resources"] = dict(self._executor.resources)
        future = self._client.submit(self._function, attempt.value, **options)
        self._out[future] = attempt
        self._completed.add(future)

    def _judge(self, future: Future[R], answers: Mapping[Future[R], Any]) -> Outcome[T, R] | None:
        """The outcome of a finished future; None if its input goes back into the queue."""
        attempt = self._out.pop(future)
        answer = answers.get(future, futures.CancelledError("lost by the cluster"))
        lost = isinstance(answer, KilledWorker) or (isinstance(answer, _LOST) and future.status != "error")
        future.release()  # results held by a worker that dies would be computed again
        if not isinstance(answer, BaseException):
            return Outcome(input=attempt.value, result=answer, attempts=attempt.number)
        if lost and attempt.number < self._executor.attempts:
            _logger.info("lost by the cluster, attempt %d: %s", attempt.number, answer)
            self._again.append(_Try(attempt.value, attempt.number + 1))
            return None
        return Outcome(input=attempt.value, error=answer, attempts=attempt.number)


def _first_try(value: T) -> _Try[T]:
    return _Try(value, 1)


def _fetch(client: Client, batch: list[Future[R]]) -> dict[Future[R], Any]:
    """The result of each future, or the exception that took its place; a cancelled future is left out."""
    answers: dict[Future[R], Any] = {future: future.exception() for future in batch if future.status == "error"}
    finished = [future for future in batch if future.status == "finished"]
    try:
        return answers | dict(zip(finished, client.gather(finished), strict=True))
    except _LOST:
        pass  # one of them is gone: ask for each
    for future in finished:
        try:
            answers[future] = future.result(timeout=_GATHER_SECONDS)
        except _LOST as error:
            answers[future] = error
    return answers
