"""Chunks straight from the shards that hold them, for readers of many small windows.

A shard is one object with an index at its end, which says where each chunk lies. Zarr reads the index anew for every
window, and each chunk by a request of its own, at several times the cost of decoding it. Here an index is read once,
chunks that lie close together in a shard come by one request, and all requests are under way at the same time.
"""

import asyncio
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

import numcodecs  # type: ignore[import-untyped]
import numpy as np
import numpy.typing as npt
import zarr
from zarr.abc.store import RangeByteRequest, SuffixByteRequest
from zarr.codecs import BloscCodec, BytesCodec, Crc32cCodec, ShardingCodec, ShardingCodecIndexLocation
from zarr.core.buffer import default_buffer_prototype
from zarr.core.metadata import ArrayV3Metadata
from zarr.core.sync import sync

from mapper.errors import StoreError
from mapper.store.checksums import (
    ABSENT,
    CHECKSUM_BYTES,
    ENTRY_BYTES,
    explain_damage,
    has_checksums,
    name_tile,
    strip_checksum,
)
from mapper.store.errors import BROKEN

_MOST_INDEXES = 1 << 10
"""Indexes that are cached for each array; that of a shard of 8 x 8 chunks takes 1 kB."""
_GAP_BYTES = 1 << 18
"""Between chunks: so much is read faster than another request is made."""

ChunkIndex = tuple[int, int]
"""Row and column of a chunk, or of a shard, in its array."""


class Shards:
    """The shards of one array, (y, x), as :mod:`mapper.store.layout` makes them; for use by many threads."""

    def __init__(self, array: "zarr.Array[Any]") -> None:
        self._store = array.store_path.store
        self._array = array
        self._edge = int(array.chunks[0])
        self._across = int((array.shards or array.chunks)[0]) // self._edge
        """Chunks along an edge of a shard."""
        self._codec = numcodecs.Blosc()
        self._checked = has_checksums(array)
        self._indexes: dict[ChunkIndex, npt.NDArray[np.uint64] | None] = {}

    def read(self, chunks: Iterable[ChunkIndex]) -> dict[ChunkIndex, npt.NDArray[Any]]:
        """Read whole chunks as they are stored; one that was never written is full of the fill value.

        Raises:
            StoreError: If a chunk, or the index of a shard, is damaged.
        """
        wanted: dict[ChunkIndex, list[ChunkIndex]] = defaultdict(list)
        for row, col in chunks:
            wanted[row // self._across, col // self._across].append((row, col))
        return {chunk: self._decode(chunk, raw) for chunk, raw in sync(self._fetch(wanted)).items()}

    def _decode(self, chunk: ChunkIndex, raw: memoryview | None) -> npt.NDArray[Any]:
        shape, dtype = (self._edge, self._edge), self._array.dtype
        if raw is None:
            return np.full(shape, self._array.fill_value, dtype)
        try:
            compressed = strip_checksum(raw) if self._checked else raw
            return np.frombuffer(self._codec.decode(compressed), dtype).reshape(shape)
        except BROKEN as error:
            raise self._explain((chunk[0] // self._across, chunk[1] // self._across), error) from error

    async def _fetch(self, wanted: Mapping[ChunkIndex, list[ChunkIndex]]) -> dict[ChunkIndex, memoryview | None]:
        parts = await asyncio.gather(*(self._fetch_some(shard, chunks) for shard, chunks in wanted.items()))
        return {chunk: raw for part in parts for chunk, raw in part.items()}

    async def _fetch_some(self, shard: ChunkIndex, chunks: list[ChunkIndex]) -> dict[ChunkIndex, memoryview | None]:
        """Fetch chunks of one shard, compressed; None for one that was not written."""
        index = await self._find_index(shard)
        if index is None:
            return dict.fromkeys(chunks)
        spans = {chunk: index[chunk[0] % self._across, chunk[1] % self._across].tolist() for chunk in chunks}
        groups = _group({chunk: (start, length) for chunk, (start, length) in spans.items() if start != ABSENT})
        bodies = await asyncio.gather(*(self._get_range(shard, start, stop) for start, stop, _ in groups))
        raw: dict[ChunkIndex, memoryview | None] = dict.fromkeys(chunks)
        for (first, _, members), body in zip(groups, bodies, strict=True):
            for chunk in members:
                start, length = spans[chunk]
                raw[chunk] = body[start - first : start - first + length]
        return raw

    async def _find_index(self, shard: ChunkIndex) -> npt.NDArray[np.uint64] | None:
        """Find offset and length of each chunk of a shard, (row, col, 2); None if nothing was written into it."""
        if shard not in self._indexes:
            size = ENTRY_BYTES * self._across**2 + CHECKSUM_BYTES
            buffer = await self._store.get(self._key(shard), default_buffer_prototype(), SuffixByteRequest(size))
            if len(self._indexes) >= _MOST_INDEXES:
                self._indexes.clear()
            self._indexes[shard] = None if buffer is None else self._parse_index(shard, buffer.to_bytes())
        return self._indexes[shard]

    def _parse_index(self, shard: ChunkIndex, raw: bytes) -> npt.NDArray[np.uint64]:
        try:
            return strip_checksum(raw).view("<u8").reshape(self._across, self._across, 2)
        except BROKEN as error:
            raise self._explain(shard, error) from error

    def _explain(self, shard: ChunkIndex, error: BaseException) -> StoreError:
        return explain_damage(name_tile(self._array.path, *shard), error)

    async def _get_range(self, shard: ChunkIndex, start: int, stop: int) -> memoryview:
        buffer = await self._store.get(self._key(shard), default_buffer_prototype(), RangeByteRequest(start, stop))
        return memoryview(b"" if buffer is None else buffer.to_bytes())

    def _key(self, shard: ChunkIndex) -> str:
        return f"{self._array.path}/{self._array.metadata.encode_chunk_key(shard)}".lstrip("/")


def open_shards(array: "zarr.Array[Any]") -> Shards | None:
    """Return the shards of an array; None if it is laid out in another way, and only Zarr can read it."""
    metadata = array.metadata
    sharding = metadata.codecs[0] if isinstance(metadata, ArrayV3Metadata) else None
    if not isinstance(sharding, ShardingCodec):
        return None
    inner, index = ([type(codec) for codec in each] for each in (sharding.codecs, sharding.index_codecs))
    at_end = sharding.index_location == ShardingCodecIndexLocation.end
    square = len(set(array.chunks)) == len(set(array.shards or ())) == 1 and len(array.shape) == 2
    known = ([BytesCodec, BloscCodec], [BytesCodec, BloscCodec, Crc32cCodec])
    fits = inner in known and index == [BytesCodec, Crc32cCodec] and at_end and square
    return Shards(array) if fits else None


def _group(spans: Mapping[ChunkIndex, tuple[int, int]]) -> list[tuple[int, int, list[ChunkIndex]]]:
    """Start, stop and chunks of what is read at once, from the offset and length of each chunk."""
    groups: list[tuple[int, int, list[ChunkIndex]]] = []
    for chunk, (start, length) in sorted(spans.items(), key=lambda span: span[1]):
        if groups and start - groups[-1][1] <= _GAP_BYTES:
            first, stop, members = groups.pop()
            groups.append((first, max(stop, start + length), [*members, chunk]))
        else:
            groups.append((start, start + length, [chunk]))
    return groups
