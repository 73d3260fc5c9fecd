"""Cache of values up to a number of bytes."""

import threading
from collections import OrderedDict
from collections.abc import Hashable
from typing import Generic, TypeVar

_Value = TypeVar("_Value")


class ByteCache(Generic[_Value]):
    """Values by key; the one not used for longest is dropped first. For use by many threads.

    Args:
        max_bytes: Most that all values may take together; a larger one is not stored.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._lock = threading.Lock()
        self._values: OrderedDict[Hashable, tuple[_Value, int]] = OrderedDict()
        self.bytes = 0
        """Bytes that the values take."""

    def get(self, key: Hashable) -> _Value | None:
        """Return the value of a key; None if it is not in the cache."""
        with self._lock:
            known = self._values.get(key)
            if known is None:
                return None
            self._values.move_to_end(key)
            return known[0]

    def put(self, key: Hashable, value: _Value, size: int) -> None:
        """Add a value that takes ``size`` bytes."""
        with self._lock:
            _, before = self._values.pop(key, (None, 0))
            self._values[key] = value, size
            self.bytes += size - before
            while self.bytes > self._max_bytes:
                _, (_, freed) = self._values.popitem(last=False)
                self.bytes -= freed
