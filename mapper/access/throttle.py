"""Pacing of requests to archives: a token bucket for each host, and pauses that a host asks for.

A bucket holds at most ``burst`` tokens and gains ``requests_per_second``; a request takes one. Nobody is queued: who
gets no token learns how long to wait before asking again.
"""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Protocol

from mapper.access.rules import Limits


class Throttle(Protocol):
    """Pacer of requests; shared by the threads of a process, and if possible by the workers of a run."""

    def take(self, host: str, limits: Limits) -> None:
        """Wait until one request may be sent to a host."""

    def pause(self, host: str, seconds: float) -> None:
        """Hold all requests to a host for some seconds."""


@dataclass(kw_only=True)
class Bucket:
    """Tokens of one host; a pure value without a clock, which does not wait. Times are monotonic seconds."""

    tokens: float
    at: float
    """Time of the last count of the tokens."""
    closed_until: float = float("-inf")

    def take(self, limits: Limits, now: float, count: int = 1) -> tuple[int, float]:
        """Take up to so many tokens; returns how many, and the seconds to wait if none.

        Returns:
            How many were given, and if none, how many seconds to wait before asking again.
        """
        if now < self.closed_until:
            return 0, self.closed_until - now
        if limits.requests_per_second is None:
            return count, 0.0
        gained = (now - max(self.at, self.closed_until)) * limits.requests_per_second
        self.tokens = min(float(limits.burst), self.tokens + max(gained, 0.0))
        self.at = now
        given = min(count, int(self.tokens + 1e-9))
        if given < 1:
            return 0, (1.0 - self.tokens) / limits.requests_per_second
        self.tokens -= given
        return given, 0.0

    def close(self, until: float) -> None:
        """Give no token before a time; after it, tokens come one by one, since all who waited come at once."""
        self.closed_until = max(self.closed_until, until)
        self.tokens = min(self.tokens, 1.0)


@dataclass(kw_only=True)
class Buckets:
    """Buckets of all hosts; safe to share between threads."""

    _buckets: dict[str, Bucket] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def take(self, host: str, limits: Limits, now: float, count: int = 1) -> tuple[int, float]:
        """Take tokens of one host like :meth:`Bucket.take`; a new host has a full bucket."""
        with self._lock:
            bucket = self._buckets.setdefault(host, Bucket(tokens=float(limits.burst), at=now))
            return bucket.take(limits, now, count)

    def close(self, host: str, until: float) -> None:
        """Close the bucket of one host like :meth:`Bucket.close`."""
        with self._lock:
            self._buckets.setdefault(host, Bucket(tokens=1.0, at=until)).close(until)


@dataclass(frozen=True, kw_only=True)
class LocalThrottle:
    """Pacer of the requests of one process."""

    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep
    _buckets: Buckets = field(default_factory=Buckets)

    def take(self, host: str, limits: Limits) -> None:
        """Wait until one request may be sent to a host."""
        while True:
            given, wait = self._buckets.take(host, limits, self.clock())
            if given:
                return
            self.sleep(wait)

    def pause(self, host: str, seconds: float) -> None:
        """Hold all requests of this process to a host for some seconds."""
        self._buckets.close(host, self.clock() + seconds)

    def __reduce__(self) -> tuple[Callable[[], "LocalThrottle"], tuple[()]]:
        """Return the recipe of a copy: in another process it is the throttle of that process."""
        return process_throttle, ()


@lru_cache(maxsize=1)
def process_throttle() -> LocalThrottle:
    """Return the throttle that all threads of this process share."""
    return LocalThrottle()
