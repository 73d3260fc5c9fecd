"""Another attempt for what passes by itself: throttling and network trouble, in archives and in the store.

Other errors have other cures, elsewhere: a corrupt asset is dropped where items are read, memory is found where batches
are made, and a wrong request is refused before the first task.
"""

import logging
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
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
