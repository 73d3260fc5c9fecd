"""A bounded window of Dask futures; lost and late inputs are submitted again.

The cluster loses things in four ways, each with its own cure:

- a future is cancelled, or its result is gone with its worker: the input is submitted again. After a scheduler was lost
  all of them are, and the plugin is registered with the new one first;
- a worker has no plugin: the same;
- workers died of the input, or of another that was with it (``KilledWorker``): inputs under suspicion are submitted one
  at a time, so that the innocent do not die with the guilty again;
- nobody answers: the input is late, and is submitted again to another worker (:class:`StragglerPolicy`).

Results are gathered here, from finished futures: ``as_completed(with_results=True)`` yields exceptions as if they were
results when a scheduler dies, and can lose a future and wait for it for ever.
"""

import itertools
import logging
import queue
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent import futures
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Generic, TypeVar

from distributed import Client, Future, KilledWorker, SchedulerPlugin, as_completed

from mapper.access.retry import RetryPolicy
from mapper.errors import ClusterError
from mapper.execute.outcome import Outcome
from mapper.execute.worker_plugin import RunPlugin, UnpreparedError, call_plugin, pack

_REMEMBERED = 1000
"""Tiles whose times are compared with; the latest ones, since tiles differ across a map."""


@dataclass(frozen=True, kw_only=True)
class StragglerPolicy:
    """Limits after which a tile is submitted again although nobody reported that it is lost."""

    least_s: float = 60.0
    """Seconds; a tile that is out for less is not late."""
    factor: float = 5.0
    """A tile is late that is out so many times longer than nearly all others were ..."""
    share: float = 0.95
    """... nearly all: this part of the tiles that came back."""
    unknown_s: float = 3600.0
    """Seconds after which a tile is late if none came back yet."""
    copies: int = 3
    """Submissions of a tile in all. If the last copy is late too, the tile has failed."""


@dataclass(kw_only=True)
class TileTimes:
    """Seconds that tiles are out, as a run learns them."""

    policy: StragglerPolicy = field(default_factory=StragglerPolicy)
    _seconds: deque[float] = field(default_factory=lambda: deque(maxlen=_REMEMBERED))

    def add(self, seconds: float) -> None:
        """Add the time of a tile that came back."""
        self._seconds.append(seconds)

    @property
    def limit_s(self) -> float:
        """Seconds after which a tile is late."""
        if not self._seconds:
            return self.policy.unknown_s
        ordered = sorted(self._seconds)
        usual = ordered[min(int(self.policy.share * len(ordered)), len(ordered) - 1)]
        return max(self.policy.least_s, self.policy.factor * usual)


T = TypeVar("T")


R = TypeVar("R")
_LOST = (futures.CancelledError, TimeoutError, OSError)
"""The cluster's fault, not the function's; a broken connection is an OSError."""
_TICK_SECONDS = 1.0
"""Seconds to wait for answers before the clock is read."""
_COUNT_SECONDS = 10.0
"""Seconds between counts of the workers."""
_CLOSE_SECONDS = 5.0
_TILES_PER_THREAD = 2
"""A worker finds its next tile at hand while the driver commits."""
_TOO_MANY_LATE = 0.25
"""Part of a window; if more are late they are submitted again even while other tiles wait."""


_logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class ClusterRules:
    """Rules by which inputs are submitted; see :class:`mapper.execute.executors.DaskExecutor`."""

    retry: RetryPolicy
    resources: Mapping[str, float]
    plugins: Sequence[SchedulerPlugin]
    stragglers: StragglerPolicy
    width: int | None
    """Inputs out at once; None: two for each thread of the cluster, however many that are by then."""


@dataclass(eq=False, kw_only=True)
class _Entry(Generic[T, R]):
    """One input that has no outcome yet."""

    value: T
    packed: bytes
    attempts: int = 1
    suspect: bool = False
    """Workers died while they had it."""
    copies: int = 1
    out: dict[Future[R], float] = field(default_factory=dict)
    """Each copy that is out, and since when."""


class FuturesWindow(Generic[T, R]):
    """A bounded window of Dask futures; lost and late inputs are submitted again.

    Args:
        client: Connected.
        rules: Rules of submission.
        function: What workers call; travels once to each.
        inputs: Pulled when there is room.
    """

    def __init__(self, client: Client, rules: ClusterRules, function: Callable[[T], R], inputs: Iterator[T]) -> None:
        self._client = client
        self._rules = rules
        self._inputs: Iterator[T] | None = inputs
        self._plugin = RunPlugin(pack(function))
        self._times = TileTimes(policy=rules.stragglers)
        self._width = rules.width or 1
        self._counted = float("-inf")
        self._checked = time.monotonic()
        self._again: deque[_Entry[T, R]] = deque()
        self._suspects: deque[_Entry[T, R]] = deque()
        self._out: dict[_Entry[T, R], None] = {}  # keeps its order
        self._entry_of: dict[Future[R], _Entry[T, R]] = {}
        self._left: dict[Future[R], None] = {}  # late copies of inputs that have their outcome: their workers may hang
        self._serial = itertools.count()
        self._completed = as_completed(loop=client.loop)
        self._held = 0  # outcomes that are known and not yet handed over

    def results(self) -> Iterator[Outcome[T, R]]:
        """Yield the outcome of every input, as they come.

        Raises:
            ClusterError: If the scheduler is gone for good.
        """
        try:
            self._register()
            self._submit_more()
            while self._out or self._again or self._suspects:
                ready = self._collect(self._wait_for_futures())
                ready += self._resubmit_late()
                self._held = len(ready)
                for outcome in ready:
                    self._held -= 1
                    yield outcome
                    self._submit_more()
                self._submit_more()
        except ClusterError:
            raise
        except Exception as error:
            if self._gone:  # it has tried to reconnect for as long as it may
                raise ClusterError(f"the Dask scheduler is gone: {error}") from error
            raise
        finally:
            self._close()

    @property
    def _gone(self) -> bool:
        return self._client.status in ("closed", "closing")

    def _register(self) -> None:
        """Register the plugins of the scheduler and of its workers; those that are registered are left as they are."""
        deadline = time.monotonic() + self._rules.retry.connect_timeout_s
        while True:
            try:
                for plugin in self._rules.plugins:
                    self._client.register_plugin(plugin)
                self._client.register_plugin(self._plugin)
            except UnpreparedError as error:
                raise ClusterError(f"the cluster cannot be made ready: {error}") from error
            except _LOST as error:
                if self._gone or time.monotonic() > deadline:
                    raise ClusterError(f"the Dask scheduler is gone: {error}") from error
                time.sleep(_TICK_SECONDS)
            else:
                return

    def _wait_for_futures(self) -> list[Future[R]]:
        """Return futures that are done, after a while at most."""
        done: list[Future[R]] = []
        with suppress(queue.Empty):
            done.append(self._completed.queue.get(timeout=_TICK_SECONDS))
        while not self._completed.queue.empty():
            done.append(self._completed.queue.get())
        if not done and self._gone:
            raise ClusterError("the connection is closed")
        return done

    def _submit_more(self) -> None:
        while self._again:
            self._submit(self._again.popleft())
        if self._suspects and not any(entry.suspect for entry in self._out):
            self._submit(self._suspects.popleft())
        while self._inputs is not None and self._without_outcome < self._measure_width():
            value = next(self._inputs, self)  # itself stands for the end
            if value is self:
                self._inputs = None
                return
            self._submit(_Entry(value=value, packed=pack(value)))  # type: ignore[arg-type]

    @property
    def _without_outcome(self) -> int:
        return len(self._out) + len(self._again) + len(self._suspects) + self._held

    def _measure_width(self) -> int:
        now = time.monotonic()
        if self._rules.width is None and now - self._counted > _COUNT_SECONDS:
            self._counted = now
            with suppress(*_LOST):
                self._width = _TILES_PER_THREAD * max(1, sum(self._client.nthreads().values()))
        return self._width

    def _submit(self, entry: _Entry[T, R], **options: Any) -> None:
        key = f"tile-{next(self._serial)}-{id(self):x}"  # never a key twice: a lost scheduler cancelled the old one
        if self._rules.resources:
            options["resources"] = dict(self._rules.resources)
        future: Future[R] = self._client.submit(
            call_plugin, self._plugin.name, entry.packed, key=key, pure=False, **options
        )
        entry.out[future] = time.monotonic()
        self._out[entry] = None
        self._entry_of[future] = entry
        self._completed.add(future)

    def _collect(self, done: list[Future[R]]) -> list[Outcome[T, R]]:
        """Return the outcomes of futures that are done; inputs that were lost go back into the queue."""
        for future in done:
            self._left.pop(future, None)
        known = [future for future in done if future in self._entry_of]
        answers = _fetch(self._client, known, self._rules.retry.read_timeout_s)
        found = [self._outcome_of(future, answers) for future in known if future in self._entry_of]
        if any(future.status in ("cancelled", "lost") or _unprepared(answers.get(future)) for future in known):
            self._register()
        for future in done:
            future.release()  # results held by a worker that dies would be computed again
        return [outcome for outcome in found if outcome is not None]

    def _outcome_of(self, future: Future[R], answers: Mapping[Future[R], Any]) -> Outcome[T, R] | None:
        """Return the outcome of an input by one of its copies; None if it has none yet."""
        entry = self._entry_of.pop(future)
        since = entry.out.pop(future)
        answer = answers.get(future, futures.CancelledError("lost by the cluster"))
        if not isinstance(answer, BaseException):
            self._times.add(time.monotonic() - since)
            self._forget(entry)
            return Outcome(input=entry.value, result=answer, attempts=entry.attempts)
        killed = isinstance(answer, KilledWorker)
        lost = killed or _unprepared(answer) or (isinstance(answer, _LOST) and future.status != "error")
        if lost and entry.out:
            return None  # another copy is out
        if not lost or entry.attempts >= self._rules.retry.attempts:
            self._forget(entry)
            return Outcome(input=entry.value, error=answer, attempts=entry.attempts)
        _logger.info("lost by the cluster, attempt %d: %s", entry.attempts, answer)
        entry.attempts += 1
        entry.suspect = entry.suspect or killed
        del self._out[entry]
        (self._suspects if entry.suspect else self._again).append(entry)
        return None

    def _forget(self, entry: _Entry[T, R]) -> None:
        """Forget an input; answers of copies of it that are still out are ignored."""
        self._out.pop(entry, None)
        if not entry.out:
            return
        late = time.monotonic() - self._times.limit_s
        for future, since in entry.out.items():
            del self._entry_of[future]
            if since < late:
                self._left[future] = None
            else:
                with suppress(*_LOST):
                    future.cancel()
        entry.out.clear()

    def _resubmit_late(self) -> list[Outcome[T, R]]:
        """Submit late inputs again to other workers; return the outcomes of those that were submitted often enough."""
        now = time.monotonic()
        if now - self._checked < _TICK_SECONDS:
            return []
        self._checked, limit = now, self._times.limit_s
        late = [entry for entry in self._out if now - max(entry.out.values()) > limit]
        if not late or (self._inputs is not None and len(late) < _TOO_MANY_LATE * self._measure_width()):
            return []
        workers = self._idle_workers([future for entry in late for future in entry.out])
        return [failed for entry in late if (failed := self._resubmit(entry, workers, limit))]

    def _resubmit(self, entry: _Entry[T, R], workers: list[str], limit: float) -> Outcome[T, R] | None:
        if entry.copies < self._rules.stragglers.copies:
            _logger.warning("no answer in %.0f s, submitting a tile again: %s", limit, [f.key for f in entry.out])
            entry.copies += 1
            entry.attempts += 1
            self._submit(entry, **({"workers": workers, "allow_other_workers": True} if workers else {}))
            return None
        self._forget(entry)
        error = ClusterError(f"no answer in {limit:.0f} s from any of {entry.copies} workers")
        return Outcome(input=entry.value, error=error, attempts=entry.attempts)

    def _idle_workers(self, late: Sequence[Future[R]]) -> list[str]:
        """Return the workers that have none of some futures, nor others whose answers are ignored."""
        keys = {future.key for future in (*late, *self._left)}
        try:
            processing: Mapping[str, Sequence[str]] = self._client.processing()
        except _LOST:
            return []
        return [worker for worker, held in processing.items() if keys.isdisjoint(held)]

    def _close(self) -> None:
        scheduler = self._client.scheduler
        if self._client.status == "running" and scheduler is not None:
            self._client.cancel([*self._entry_of, *self._left])
            with suppress(*_LOST, ValueError):  # ValueError: a new scheduler was not told of it
                # not by the client's own method, which would wait for workers that hang
                forget = scheduler.unregister_worker_plugin
                self._client.sync(forget, name=self._plugin.name, callback_timeout=_CLOSE_SECONDS)
        self._entry_of.clear()


def _unprepared(answer: object) -> bool:
    return isinstance(answer, UnpreparedError)


def _fetch(client: Client, batch: list[Future[R]], seconds: float) -> dict[Future[R], Any]:
    """Fetch the result of each future, or the exception that took its place; a cancelled future is left out."""
    answers: dict[Future[R], Any] = {future: future.exception() for future in batch if future.status == "error"}
    finished = [future for future in batch if future.status == "finished"]
    try:
        # not client.gather as it is, which waits for a worker that hangs
        results = client.sync(partial(client.gather, finished, asynchronous=True), callback_timeout=seconds)
        return answers | dict(zip(finished, results, strict=True))
    except _LOST:
        pass  # one of them is gone: ask for each
    deadline = time.monotonic() + seconds
    for future in finished:
        try:
            answers[future] = future.result(timeout=max(deadline - time.monotonic(), _TICK_SECONDS))
        except _LOST as error:
            answers[future] = error
    return answers
