"""Costs of reading: requests, bytes and retries, counted at their source."""

import threading
from dataclasses import dataclass, field

from mapper.access.admission import PERSON, Document
from mapper.events import ReadRetry


@dataclass(frozen=True, kw_only=True)
class AssetName:
    """Name of a file for messages and provenance: item, asset and unsigned location."""

    item: str
    asset: str
    href: str
    """Location, unsigned."""
    document: Document = PERSON
    """Catalogue that names it; a person does where it is left out."""


@dataclass(kw_only=True)
class Tally:
    """Counts of one tile, from all of its threads; a copy in another process starts at zero."""

    requests: int = 0
    bytes_read: int = 0
    """Bytes read, as they travelled."""
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
