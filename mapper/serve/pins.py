"""Which version of a shard a client is in the middle of reading.

A shard is read in several requests: its index, from the end, then chunks at the offsets that the index gives. On a
branch a commit may come in between and put another object under the same key, where those offsets mean nothing. So
what a client reads after an index comes from the version of that index, for as long as that version is kept open.
"""

import threading
import time
from collections import OrderedDict

_KEPT = 4096
_LASTS_S = 60.0


class Pins:
    """Versions by client and key; for use by many threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._pins: OrderedDict[tuple[str, str], tuple[str, float]] = OrderedDict()

    def note(self, client: str, key: str, snapshot: str) -> None:
        """Note that a client read the index of a shard at a version."""
        with self._lock:
            self._pins[client, key] = snapshot, time.monotonic()
            self._pins.move_to_end((client, key))
            if len(self._pins) > _KEPT:
                self._pins.popitem(last=False)

    def recall(self, client: str, key: str) -> str:
        """The version that its next chunks are to come from; empty if it read no index lately."""
        with self._lock:
            snapshot, since = self._pins.get((client, key), ("", 0.0))
        return snapshot if time.monotonic() - since < _LASTS_S else ""
