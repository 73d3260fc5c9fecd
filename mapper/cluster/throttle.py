"""Throttle of all workers of a Dask cluster: the scheduler holds the buckets, workers ask it for tokens.

Workers ask for a quarter of a second's tokens at a time and use them for at most half a second. So the scheduler hears
of few requests, and a pause that one worker was asked for holds all of them within that half second.
"""

import logging
import math
import threading
import time
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from distributed import Client, Scheduler, SchedulerPlugin, Worker, get_worker
from distributed.utils import sync

from mapper.access.rules import Limits
from mapper.access.throttle import Buckets, LocalThrottle, Throttle
from mapper.execute.executors import DaskExecutor

_NAME = "mapper-throttle"
_TAKE, _PAUSE = "mapper_throttle_take", "mapper_throttle_pause"
_BATCH_SECONDS = 0.25
_LEASE_SECONDS = 0.5
_UNLIMITED = 1000
"""Tokens of a lease where the provider states no limit; only pauses count there."""
_LONGEST_WAIT = 0.5
"""Seconds after which a worker that waits asks again: requests of others may have changed its turn."""
_ANSWER_SECONDS = 10.0
_ALONE_SECONDS = 30.0
"""Seconds that a worker paces itself before it asks a scheduler again that did not answer."""
_logger = logging.getLogger(__name__)


class SharedBuckets(SchedulerPlugin):
    """Buckets of all hosts, on the scheduler."""

    name = _NAME
    idempotent = True

    async def start(self, scheduler: Scheduler) -> None:
        """Answer workers from now on."""
        self._scheduler = scheduler
        self._buckets = Buckets()
        scheduler.handlers |= {_TAKE: self.take, _PAUSE: self.pause}

    def take(self, host: str, rate: float | None, burst: int, count: int) -> tuple[int, float, int]:
        """Take tokens; returns how many, the seconds to wait if none, and the number of workers."""
        limits = Limits(requests_per_second=rate, burst=burst)
        given, wait = self._buckets.take(host, limits, time.monotonic(), count)
        return given, wait, len(self._scheduler.workers)

    def pause(self, host: str, seconds: float) -> bool:
        """Close the bucket of a host for some seconds."""
        self._buckets.close(host, time.monotonic() + seconds)
        return True


@dataclass(kw_only=True)
class _Lease:
    """Tokens of one host that a worker has in hand."""

    tokens: int = 0
    until: float = 0.0
    turn: threading.Lock = field(default_factory=threading.Lock)
    """Lock of the thread that asks for more tokens: the others wait for what it gets."""

    def use(self) -> bool:
        if self.tokens < 1 or time.monotonic() > self.until:
            return False
        self.tokens -= 1
        return True


class ClusterThrottle:
    """Pacer of the requests of one worker together with those of all others.

    Where the scheduler does not answer, the worker says so in its log and keeps to its share of the limit.
    """

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self._workers = 1
        self._leases: dict[str, _Lease] = {}
        self._alone = LocalThrottle()
        self._alone_until = 0.0

    def take(self, host: str, limits: Limits) -> None:
        """Wait until one request may be sent to a host."""
        lease = self._leases.setdefault(host, _Lease())
        with lease.turn:
            while not lease.use():
                wait = self._renew(lease, host, limits)
                if wait is None:
                    self._alone.take(host, _share(limits, self._workers))
                    return
                if wait > 0:
                    time.sleep(min(wait, _LONGEST_WAIT))

    def pause(self, host: str, seconds: float) -> None:
        """Hold all requests of all workers to a host for some seconds."""
        self._leases.setdefault(host, _Lease()).until = 0.0
        self._alone.pause(host, seconds)
        self._ask(_PAUSE, host=host, seconds=seconds)

    def _renew(self, lease: _Lease, host: str, limits: Limits) -> float | None:
        """Ask the scheduler for tokens; returns the seconds to wait, None if it does not answer."""
        rate = limits.requests_per_second
        count = _UNLIMITED if rate is None else math.ceil(rate * _BATCH_SECONDS)
        answer = self._ask(_TAKE, host=host, rate=rate, burst=limits.burst, count=count)
        if answer is None:
            return None
        given, wait, self._workers = answer
        lease.tokens, lease.until = given, time.monotonic() + _LEASE_SECONDS
        return float(wait)

    def _ask(self, operation: str, **message: Any) -> Any:
        """Return the scheduler's answer; None if it does not answer, or does not know the operation."""
        if time.monotonic() < self._alone_until:
            return None
        call = getattr(self._worker.scheduler, operation)
        try:
            answer = sync(self._worker.loop, call, callback_timeout=_ANSWER_SECONDS, **message)
        except (OSError, TimeoutError) as error:
            answer, reason = None, repr(error)
        else:
            reason = "it has no throttle"
        if answer is None:
            self._alone_until = time.monotonic() + _ALONE_SECONDS
            _logger.warning(
                "the scheduler does not pace requests (%s): this worker keeps to 1/%d of each limit for %g s",
                reason,
                self._workers,
                _ALONE_SECONDS,
            )
        return answer


def paced_executor(cluster: Client | str) -> DaskExecutor:
    """Return an executor on a Dask cluster whose workers share one throttle.

    Args:
        cluster: A connected client, or the address of a scheduler.
    """
    return DaskExecutor(cluster=cluster, plugins=(SharedBuckets(),), throttle=worker_throttle)


def worker_throttle() -> Throttle:
    """Return the throttle of the worker that the calling task runs on."""
    return _throttle_of(get_worker())


@lru_cache(maxsize=16)
def _throttle_of(worker: Worker) -> ClusterThrottle:
    return ClusterThrottle(worker)


def _share(limits: Limits, workers: int) -> Limits:
    rate = limits.requests_per_second
    return Limits(requests_per_second=None if rate is None else rate / workers, burst=max(1, limits.burst // workers))
