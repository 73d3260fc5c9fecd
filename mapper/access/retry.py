"""How long to wait for an archive: attempts, pauses, timeouts."""

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


_logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Backoff:
    """How often to try, and how long to wait in between: doubling, with jitter, up to a ceiling."""

    attempts: int = 5
    first: float = 1.0
    """Seconds before the second attempt."""
    ceiling: float = 60.0
    """Seconds at most."""

    def delay(self, attempt: int) -> float:
        """Seconds to wait after a failed attempt (1 is the first); between half and all of the nominal time."""
        nominal = min(self.ceiling, self.first * 2.0 ** (attempt - 1))
        return float(nominal * random.uniform(0.5, 1.0))  # noqa: S311 - spreads workers in time, hides nothing


class Attempts:
    """Calls functions until they succeed, and counts; one object for one tile.

    Args:
        backoff: How often, and how long to wait.
        sleep: Waits; replaced in tests.
    """

    def __init__(self, backoff: Backoff, *, sleep: Callable[[float], None] = time.sleep) -> None:
        self.backoff = backoff
        self.count = 1
        """Attempts so far; 1 until something has failed."""
        self._sleep = sleep

    def call(self, function: Callable[[], _T]) -> _T:
        """Call a function, again after transient errors, as long as attempts are left.

        Raises:
            TransientAssetError: The last one, when no attempt is left.
            TransientStoreError: Likewise.
        """
        while True:
            try:
                return function()
            except (TransientAssetError, TransientStoreError) as error:
                if self.count >= self.backoff.attempts:
                    raise
                delay = self.backoff.delay(self.count)
                _logger.info("attempt %d failed, next in %.1f s: %s", self.count, delay, error)
                self.count += 1
                self._sleep(delay)


@dataclass(frozen=True, kw_only=True)
class Patience:
    """How one request is tried again, before the tile as a whole is; durations in seconds."""

    attempts: int = 8
    """How often one request is put."""
    first: float = 0.5
    """Longest pause after the first failure; doubled after each further one."""
    ceiling: float = 30.0
    """Longest pause, unless the server asks for more."""
    retry_after_limit: float = 120.0
    """Longest pause that a server may ask for."""
    signatures: int = 2
    """How often a location is signed anew that was refused with the last signature."""
    connect: float = 10.0
    """For a connection."""
    read: float = 30.0
    """For the next bytes of an answer."""
    request: float = 300.0
    """For a whole answer: one that trickles is given up."""

    def delay(self, failures: int) -> float:
        """A pause after so many failures: anything up to the nominal one, so that many workers spread out."""
        nominal = min(self.ceiling, self.first * 2.0 ** min(failures - 1, 30))
        return random.uniform(0.0, nominal)  # noqa: S311 - spreads workers in time, hides nothing

    def retry_after(self, header: str | None, *, now: datetime | None = None) -> float:
        """The pause that a server asks for in ``Retry-After``, in seconds or as a date; 0 if it does not."""
        if not header:
            return 0.0
        try:
            seconds = float(header)
        except ValueError:
            seconds = _seconds_until(header, now or datetime.now(UTC))
        return min(max(seconds, 0.0), self.retry_after_limit)


def _seconds_until(date: str, now: datetime) -> float:
    try:
        moment = parsedate_to_datetime(date)
    except ValueError:
        return 0.0
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() - now.timestamp()
