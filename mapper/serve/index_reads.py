"""Reads of shards in two steps: the index first, then chunks by the offsets in it, maybe of another version by then.

A reader of Zarr over HTTP keeps no version. When a commit replaces a shard between its two steps, the offsets it knows
mean nothing in the new one. So a range is answered from a version whose index was read lately and has chunks just
there. Who reads is only asked where several versions fit: behind one address there may be many readers, and what one of
them read decides nothing for the others.
"""

import hashlib
import json
import math
import threading
import time
from collections import OrderedDict
from collections.abc import Iterator

import numpy as np
from fastapi import Request

from mapper.store.zarr_keys import PlainZarr

_MOST_READS = 4096
_VALID_S = 60.0
_ENTRY_BYTES = 16
_CHECKSUM_BYTES = 4
_ABSENT = (1 << 64) - 1
"""Offset of a chunk that was not written."""
_TELLING = ("x-forwarded-for", "forwarded", "user-agent", "authorization")
"""Headers that tell readers behind one address apart."""


class IndexReads:
    """Snapshots at which the index of each shard was read lately, and by whom; for use by many threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._reads: OrderedDict[tuple[str, str], tuple[str, float]] = OrderedDict()
        self._snapshots: OrderedDict[str, dict[str, float]] = OrderedDict()

    def record(self, client: str, key: str, snapshot: str) -> None:
        """Record that a client read the index of a shard at a snapshot."""
        now = time.monotonic()
        with self._lock:
            self._reads[client, key] = snapshot, now
            self._reads.move_to_end((client, key))
            known = self._snapshots.setdefault(key, {})
            self._snapshots.move_to_end(key)
            self._snapshots[key] = {name: at for name, at in known.items() if now - at < _VALID_S} | {snapshot: now}
            for cache in (self._reads, self._snapshots):
                if len(cache) > _MOST_READS:
                    cache.popitem(last=False)

    def find(self, client: str, key: str) -> str:
        """Return the snapshot at which a client read an index; empty if it read none lately."""
        with self._lock:
            snapshot, since = self._reads.get((client, key), ("", 0.0))
        return snapshot if time.monotonic() - since < _VALID_S else ""

    def list(self, key: str) -> list[str]:
        """Return the snapshots at which anybody read an index lately, the latest first."""
        now = time.monotonic()
        with self._lock:
            known = sorted(self._snapshots.get(key, {}).items(), key=lambda entry: -entry[1])
        return [snapshot for snapshot, at in known if now - at < _VALID_S]


def name_clients(request: Request) -> Iterator[str]:
    """Yield names of the client of a request: its connection, and what it says of itself from its address."""
    if request.client is None:
        return
    host, port = request.client
    yield f"{host} {port}"
    told = "\n".join(value for name in _TELLING for value in request.headers.getlist(name))
    yield f"{host}/{hashlib.sha256(told.encode()).hexdigest()[:32]}"


async def has_chunks_at(plain: PlainZarr, key: str, start: int, stop: int | None) -> bool:
    """Return True if a chunk of a shard begins at an offset, and one ends at another, as a version's index says.

    Args:
        plain: Keys of the version.
        key: Key of the shard.
        start: First byte.
        stop: Byte after the last; None for all to the end.

    Raises:
        StoreError: If the storage fails.
    """
    count, more = _measure_index(plain, key)
    size = await plain.size_of(key)
    if not count or size < count * _ENTRY_BYTES + more:
        return False
    raw = await plain.read(key, size - more - count * _ENTRY_BYTES, size - more)
    offsets, lengths = np.frombuffer(raw, "<u8").reshape(-1, 2).T
    written = offsets != _ABSENT
    ends = (offsets + lengths)[written]
    return bool((offsets[written] == start).any() and (stop is None or (ends == stop).any()))


def _measure_index(plain: PlainZarr, key: str) -> tuple[int, int]:
    """Return the entries of the index of a shard, and the bytes after them; no entries where it has no index there."""
    node = json.loads(plain.documents[f"{key.partition('/c/')[0]}/zarr.json"])
    sharding = node["codecs"][0]
    if sharding["name"] != "sharding_indexed" or sharding["configuration"].get("index_location", "end") != "end":
        return 0, 0
    inner, outer = sharding["configuration"]["chunk_shape"], node["chunk_grid"]["configuration"]["chunk_shape"]
    codecs = [codec["name"] for codec in sharding["configuration"]["index_codecs"]]
    count = math.prod(large // small for large, small in zip(outer, inner, strict=True))
    return count, _CHECKSUM_BYTES * (codecs == ["bytes", "crc32c"])
