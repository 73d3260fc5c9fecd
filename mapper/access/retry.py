"""Retries: one type of policy for requests, tiles, commits, searches and clusters, and the counting of attempts."""

import logging
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TypeVar

from mapper.errors import TransientAssetError, TransientStoreError

_T = TypeVar("_T")

_MOST_DOUBLINGS = 30
_logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class RetryPolicy:
    """Attempts, the pauses between them, and timeouts. Pauses double after each failure; durations in seconds."""

    attempts: int = 5
    """Attempts in all, the first one included."""
    initial_backoff_s: float = 1.0
    """Longest pause after the first failure."""
    max_backoff_s: float = 60.0
    """Longest pause of all, unless a server asks for more."""
    least_share: float = 0.5
    """Shortest pause as a part of the longest: 0 spreads many workers most, 1 leaves nothing to chance."""
    max_retry_after_s: float = 120.0
    """Longest pause that a server may ask for."""
    max_resigns: int = 2
    """Renewals of the signature of a location that was refused with the last one."""
    connect_timeout_s: float = 10.0
    read_timeout_s: float = 30.0
    """Timeout of the next bytes of an answer."""
    total_timeout_s: float = 300.0
    """Timeout of a whole answer: one that trickles is given up."""

    def delay(self, failures: int) -> float:
        """Return the pause after so many failures, at random between the shortest and the longest."""
        longest = min(self.max_backoff_s, self.initial_backoff_s * 2.0 ** min(failures - 1, _MOST_DOUBLINGS))
        return float(longest * random.uniform(self.least_share, 1.0))  # noqa: S311 - spreads workers, hides nothing

    def retry_after(self, header: str | None, *, now: datetime | None = None) -> float:
        """Return the pause that a server asks for in ``Retry-After``, in seconds or as a date; 0 if it does not."""
        if not header:
            return 0.0
        try:
            seconds = float(header)
        except ValueError:
            seconds = _seconds_until(header, now or datetime.now(UTC))
        return min(max(seconds, 0.0), self.max_retry_after_s)


TILE_RETRY = RetryPolicy()
"""Policy for reading and writing one tile, and for one commit."""
REQUEST_RETRY = RetryPolicy(attempts=8, initial_backoff_s=0.5, max_backoff_s=30.0, least_share=0.0)
"""Policy for one request to an archive, before the tile as a whole is tried again."""


class Attempts:
    """Calls functions until they succeed, and counts; one object for one tile.

    Args:
        policy: Attempts and pauses.
        sleep: Waits; replaced in tests.
    """

    def __init__(self, policy: RetryPolicy, *, sleep: Callable[[float], None] = time.sleep) -> None:
        self.policy = policy
        self.count = 1
        """Attempts so far; 1 until something has failed."""
        self._sleep = sleep

    def call(self, function: Callable[[], _T]) -> _T:
        """Call a function, again after transient errors, as long as attempts are left, and return its result.

        Raises:
            TransientAssetError: The last one, when no attempt is left.
            TransientStoreError: Likewise.
        """
        while True:
            try:
                return function()
            except (TransientAssetError, TransientStoreError) as error:
                if self.count >= self.policy.attempts:
                    raise
                delay = self.policy.delay(self.count)
                _logger.info("attempt %d failed, next in %.1f s: %s", self.count, delay, error)
                self.count += 1
                self._sleep(delay)


def _seconds_until(date: str, now: datetime) -> float:
    try:
        moment = parsedate_to_datetime(date)
    except ValueError:
        return 0.0
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() - now.timestamp()
