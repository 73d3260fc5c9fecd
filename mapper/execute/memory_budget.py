"""Memory that the tiles of one process share: a tile takes what it will need before it reads, and gives it back.

Several tiles are on their way in a process so that reading, predicting and writing overlap. How many may be is a matter
of bytes, not of threads: where tiles are large fewer overlap, and the process stays within its limit.
"""

import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path

import psutil

_SHARE = 0.9
"""Part of a process's limit that is used: beyond 95 % Dask ends a worker, and the system soon after."""
_LEAST = 0.1
"""Part of the limit that tiles get in any case, however much the process itself takes."""
_LIMIT_FILES = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))


class Budget:
    """Bytes for several threads. They are given in the order of requests, so that a large tile does not wait for ever.

    Args:
        total: Bytes; what needs more than all of them gets all of them, alone.
    """

    def __init__(self, total: float) -> None:
        self._total = total
        self._used = 0.0
        self._holders = 0
        self._queue: deque[object] = deque()
        self._changed = threading.Condition()

    @property
    def total(self) -> float:
        """Bytes in all."""
        return self._total

    def resize(self, total: float) -> None:
        """Change the total; what is held stays held."""
        with self._changed:
            self._total = total
            self._changed.notify_all()

    @contextmanager
    def hold(self, need: float) -> Iterator[None]:
        """Hold some bytes, as soon as they are there. Must not be nested: a thread could wait for itself."""
        self._take(need)
        try:
            yield
        finally:
            with self._changed:
                self._used -= need
                self._holders -= 1
                self._changed.notify_all()

    def _take(self, need: float) -> None:
        ticket = object()
        with self._changed:
            self._queue.append(ticket)
            try:
                self._changed.wait_for(lambda: self._queue[0] is ticket and self._has(need))
                self._used += need
                self._holders += 1
            finally:  # also where a signal ends the wait: those behind must not wait for this one
                self._queue.remove(ticket)
                self._changed.notify_all()

    def _has(self, need: float) -> bool:
        return self._holders == 0 or self._used + need <= self._total


@lru_cache(maxsize=1)
def process_budget() -> Budget:
    """Return the budget that all threads of this process share; until it is resized, that of a machine's memory."""
    return Budget(share_of(machine_memory()))


def share_of(limit: float) -> float:
    """Return the bytes for tiles in a process that may use ``limit`` in all, less what libraries and models took."""
    return max(_SHARE * limit - psutil.Process().memory_info().rss, _LEAST * limit)


def machine_memory() -> int:
    """Return the bytes of memory of this machine, or of the container that this process runs in if that has less."""
    limits = [int(text) for path in _LIMIT_FILES if path.exists() and (text := path.read_text().strip()).isdigit()]
    return min([psutil.virtual_memory().total, *limits])
