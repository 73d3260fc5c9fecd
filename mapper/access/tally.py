"""What reading cost: requests, bytes and retries, counted where they happen."""

import threading
from dataclasses import dataclass, field

from mapper.events import ReadRetry


@dataclass(frozen=True, kw_only=True)
class AssetName:
    """Which file is read, for messages and provenance."""

    item: str
    asset: str
    href: str
    """Unsigned location."""


@dataclass(kw_only=True)
class Tally:
    """Counts for one tile, from all of its threads; a copy in another process starts at zero."""

    requests: int = 0
    bytes_read: int = 0
    """As they travelled."""
    retries: list[ReadRetry] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False, compare=False)

    def count(self, *, requests: int = 1, bytes_read: int = 0) -> None:
        """Add requests and the bytes they brought."""
        with self._lock:
            self.requests += requests
            self.bytes_read += bytes_read

    def note(self, retry: ReadRetry) -> None:
        """Add one retry."""
        with self._lock:
            self.retries.append(retry)

    def __reduce__(self) -> tuple[type["Tally"], tuple[()]]:
        return Tally, ()
