"""The inputs in flight on a Dask cluster: given out, judged when they come back, given out again when they are lost.

The cluster loses things in four ways, each with its own cure:

- a future is cancelled, or its result is gone with its worker: the input is given out again. After a scheduler was lost
  all of them are, and the new one is told of the workshop first;
- a worker has no workshop: the same;
- workers died of the input, or of another that was with it (``KilledWorker``): inputs under suspicion are given out one
  at a time, so that the innocent do not die with the guilty again;
- nobody answers: see :mod:`mapper.execute.dask_futures`.

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

from mapper.errors import ClusterError
from mapper.execute.outcome import Outcome
from mapper.execute.worker_plugin import UnpreparedError, Workshop, pack, work

_REMEMBERED = 1000
"""Tiles whose times are compared with; the latest ones, since tiles differ from place to place."""


@dataclass(frozen=True, kw_only=True)
class StragglerPolicy:
    """When a tile is given out again although nobody said that it is lost."""

    least: float = 60.0
    """Seconds; nothing that is out for less is late."""
    factor: float = 5.0
    """A tile is late that is out so many times longer than nearly all others were ..."""
    share: float = 0.95
    """... nearly all: this part of the tiles that came back."""
    unknown: float = 3600.0
    """Seconds after which a tile is late if none came back yet."""
    copies: int = 3
    """How often a tile is given out in all. If the last copy is late too, the tile has failed."""
    fetch: float = 30.0
    """Seconds in which a worker has to send a result that it has, a few kilobytes; after that it is lost."""


@dataclass(kw_only=True)
class Pace:
    """How long tiles are out, as a run learns it."""

    policy: StragglerPolicy = field(default_factory=StragglerPolicy)
    _seconds: deque[float] = field(default_factory=lambda: deque(maxlen=_REMEMBERED))

    def note(self, seconds: float) -> None:
        """A tile came back after so long."""
        self._seconds.append(seconds)

    @property
    def limit(self) -> float:
        """Seconds after which a tile is late."""
        if not self._seconds:
            return self.policy.unknown
        ordered = sorted(self._seconds)
        usual = ordered[min(int(self.policy.share * len(ordered)), len(ordered) - 1)]
        return max(self.policy.least, self.policy.factor * usual)


T = TypeVar("T")


R = TypeVar("R")


_LOST = (futures.CancelledError, TimeoutError, OSError)
"""The cluster's fault, not the function's; a broken connection is an OSError."""


_TICK_SECONDS = 1.0
"""How long is waited for answers before a look at the clock."""


_COUNT_SECONDS = 10.0
"""How often workers are counted."""


_FAREWELL_SECONDS = 5.0


_TILES_PER_THREAD = 2
"""A worker finds its next tile at hand while the driver commits."""


_TOO_MANY_LATE = 0.25
"""Part of a window; if more are late they are given out again even while other tiles wait."""


_logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Rules:
    """How a cluster is treated; see :class:`mapper.execute.executors.DaskExecutor`."""

    attempts: int
    resources: Mapping[str, float]
    patience: float
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


class Flight(Generic[T, R]):
    """The inputs in flight.

    Args:
        client: Connected.
        rules: How the cluster is treated.
        function: What workers call; travels once to each.
        inputs: Pulled when there is room.
    """

    def __init__(self, client: Client, rules: Rules, function: Callable[[T], R], inputs: Iterator[T]) -> None:
        self._client = client
        self._rules = rules
        self._inputs: Iterator[T] | None = inputs
        self._workshop = Workshop(pack(function))
        self._pace = Pace(policy=rules.stragglers)
        self._width = rules.width or 1
        self._counted = float("-inf")
        self._watched = time.monotonic()
        self._again: deque[_Entry[T, R]] = deque()
        self._suspects: deque[_Entry[T, R]] = deque()
        self._out: dict[_Entry[T, R], None] = {}  # keeps its order
        self._entry_of: dict[Future[R], _Entry[T, R]] = {}
        self._left: dict[Future[R], None] = {}  # late copies of inputs that have their outcome: their workers may hang
        self._serial = itertools.count()
        self._completed = as_completed(loop=client.loop)
        self._held = 0  # outcomes that are known and not yet handed over

    def drain(self) -> Iterator[Outcome[T, R]]:
        """Yield the outcome of every input.

        Raises:
            ClusterError: If the scheduler is gone for good.
        """
        try:
            self._register()
            self._fill()
            while self._out or self._again or self._suspects:
                ready = self._settle(self._wait())
                ready += self._watch()
                self._held = len(ready)
                for outcome in ready:
                    self._held -= 1
                    yield outcome
                    self._fill()
                self._fill()
        except Exception as error:
            if self._gone:  # it has tried to reconnect for as long as it may
                raise ClusterError(f"the Dask scheduler is gone: {error}") from error
            raise
        finally:
            self._leave()

    @property
    def _gone(self) -> bool:
        return self._client.status in ("closed", "closing")

    def _register(self) -> None:
        """Tell the scheduler what it and its workers are to hold; what they hold already is left as it is."""
        deadline = time.monotonic() + self._rules.patience
        while True:
            try:
                for plugin in self._rules.plugins:
                    self._client.register_plugin(plugin)
                self._client.register_plugin(self._workshop)
            except (*_LOST, UnpreparedError) as error:
                if isinstance(error, UnpreparedError) or self._gone or time.monotonic() > deadline:
                    raise ClusterError(f"the cluster cannot be made ready: {error}") from error
                time.sleep(_TICK_SECONDS)
            else:
                return

    def _wait(self) -> list[Future[R]]:
        """Futures that are done, after a while at most."""
        done: list[Future[R]] = []
        with suppress(queue.Empty):
            done.append(self._completed.queue.get(timeout=_TICK_SECONDS))
        while not self._completed.queue.empty():
            done.append(self._completed.queue.get())
        if not done and self._gone:
            raise ClusterError("the connection is closed")
        return done

    def _fill(self) -> None:
        while self._again:
            self._submit(self._again.popleft())
        if self._suspects and not any(entry.suspect for entry in self._out):
            self._submit(self._suspects.popleft())
        while self._inputs is not None and self._unsettled < self._count_width():
            value = next(self._inputs, self)  # itself stands for the end
            if value is self:
                self._inputs = None
                return
            self._submit(_Entry(value=value, packed=pack(value)))  # type: ignore[arg-type]

    @property
    def _unsettled(self) -> int:
        return len(self._out) + len(self._again) + len(self._suspects) + self._held

    def _count_width(self) -> int:
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
        future: Future[R] = self._client.submit(work, self._workshop.name, entry.packed, key=key, pure=False, **options)
        entry.out[future] = time.monotonic()
        self._out[entry] = None
        self._entry_of[future] = entry
        self._completed.add(future)

    def _settle(self, done: list[Future[R]]) -> list[Outcome[T, R]]:
        """Outcomes of futures that are done; inputs that were lost go back into the queue."""
        for future in done:
            self._left.pop(future, None)
        known = [future for future in done if future in self._entry_of]
        answers = _fetch(self._client, known, self._rules.stragglers.fetch)
        found = [self._judge(future, answers) for future in known if future in self._entry_of]
        if any(future.status in ("cancelled", "lost") or _unprepared(answers.get(future)) for future in known):
            self._register()
        for future in done:
            future.release()  # results held by a worker that dies would be computed again
        return [outcome for outcome in found if outcome is not None]

    def _judge(self, future: Future[R], answers: Mapping[Future[R], Any]) -> Outcome[T, R] | None:
        """The outcome of an input by one of its copies; None if it has none yet."""
        entry = self._entry_of.pop(future)
        since = entry.out.pop(future)
        answer = answers.get(future, futures.CancelledError("lost by the cluster"))
        if not isinstance(answer, BaseException):
            self._pace.note(time.monotonic() - since)
            self._drop(entry)
            return Outcome(input=entry.value, result=answer, attempts=entry.attempts)
        killed = isinstance(answer, KilledWorker)
        lost = killed or _unprepared(answer) or (isinstance(answer, _LOST) and future.status != "error")
        if lost and entry.out:
            return None  # another copy is out
        if not lost or entry.attempts >= self._rules.attempts:
            self._drop(entry)
            return Outcome(input=entry.value, error=answer, attempts=entry.attempts)
        _logger.info("lost by the cluster, attempt %d: %s", entry.attempts, answer)
        entry.attempts += 1
        entry.suspect = entry.suspect or killed
        del self._out[entry]
        (self._suspects if entry.suspect else self._again).append(entry)
        return None

    def _drop(self, entry: _Entry[T, R]) -> None:
        """Forget an input; copies of it that are still out are not listened to any more."""
        self._out.pop(entry, None)
        if not entry.out:
            return
        late = time.monotonic() - self._pace.limit
        for future, since in entry.out.items():
            del self._entry_of[future]
            if since < late:
                self._left[future] = None
            else:
                with suppress(*_LOST):
                    future.cancel()
        entry.out.clear()

    def _watch(self) -> list[Outcome[T, R]]:
        """Give out late inputs again, on other workers; outcomes of those that were given out often enough."""
        now = time.monotonic()
        if now - self._watched < _TICK_SECONDS:
            return []
        self._watched, limit = now, self._pace.limit
        late = [entry for entry in self._out if now - max(entry.out.values()) > limit]
        if not late or (self._inputs is not None and len(late) < _TOO_MANY_LATE * self._count_width()):
            return []
        workers = self._others([future for entry in late for future in entry.out])
        return [failed for entry in late if (failed := self._repeat(entry, workers, limit))]

    def _repeat(self, entry: _Entry[T, R], workers: list[str], limit: float) -> Outcome[T, R] | None:
        if entry.copies < self._rules.stragglers.copies:
            _logger.warning("no answer in %.0f s, giving a tile out again: %s", limit, [f.key for f in entry.out])
            entry.copies += 1
            entry.attempts += 1
            self._submit(entry, **({"workers": workers, "allow_other_workers": True} if workers else {}))
            return None
        self._drop(entry)
        error = ClusterError(f"no answer in {limit:.0f} s from any of {entry.copies} workers")
        return Outcome(input=entry.value, error=error, attempts=entry.attempts)

    def _others(self, late: Sequence[Future[R]]) -> list[str]:
        """Workers that have none of some futures, nor others that nobody listens to any more."""
        keys = {future.key for future in (*late, *self._left)}
        try:
            processing: Mapping[str, Sequence[str]] = self._client.processing()
        except _LOST:
            return []
        return [worker for worker, held in processing.items() if keys.isdisjoint(held)]

    def _leave(self) -> None:
        scheduler = self._client.scheduler
        if self._client.status == "running" and scheduler is not None:
            self._client.cancel([*self._entry_of, *self._left])
            with suppress(*_LOST, ValueError):  # ValueError: a new scheduler was not told of it
                # not by the client's own method, which would wait for workers that hang
                forget = scheduler.unregister_worker_plugin
                self._client.sync(forget, name=self._workshop.name, callback_timeout=_FAREWELL_SECONDS)
        self._entry_of.clear()


def _unprepared(answer: object) -> bool:
    return isinstance(answer, UnpreparedError)


def _fetch(client: Client, batch: list[Future[R]], seconds: float) -> dict[Future[R], Any]:
    """The result of each future, or the exception that took its place; a cancelled future is left out."""
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
