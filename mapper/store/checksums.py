"""Checksums of stored bytes: what tells, wherever a chunk is read, that a bit of it has flipped.

Chunks of all arrays that are made now end in a crc32c, and so does the index of a shard; every reader of Zarr compares
them. Arrays made before have none around their chunks. A damaged chunk of theirs may decode to other numbers, which
only the checksum of a whole tile in the ledger tells: see :func:`mapper.store.verify.check_tiles`.
"""

import math
from collections.abc import Iterator, Mapping
from itertools import product
from typing import Any

import numcodecs  # type: ignore[import-untyped]
import numpy as np
import numpy.typing as npt
import zarr
from zarr.codecs import Crc32cCodec, ShardingCodec
from zarr.core.metadata import ArrayV3Metadata

from mapper.errors import StoreError
from mapper.store.errors import BROKEN, explain_faults, first_line

ABSENT = (1 << 64) - 1
"""Offset, in the index of a shard, of a chunk that was not written."""
ENTRY_BYTES = 16
CHECKSUM_BYTES = 4
_CRC = "crc32c"


def has_checksums(array: "zarr.Array[Any]") -> bool:
    """Return True if every chunk of an array ends in a checksum."""
    metadata = array.metadata
    codecs = metadata.codecs if isinstance(metadata, ArrayV3Metadata) else ()
    if codecs and isinstance(codecs[0], ShardingCodec):
        codecs = codecs[0].codecs
    return bool(codecs) and isinstance(codecs[-1], Crc32cCodec)


def strip_checksum(raw: bytes | memoryview) -> npt.NDArray[np.uint8]:
    """Return bytes without the crc32c at their end.

    Raises:
        RuntimeError: If it is not theirs.
        ValueError: If they are too few to have one.
    """
    if len(raw) < CHECKSUM_BYTES:
        raise ValueError(f"{len(raw)} bytes, expected a checksum of {CHECKSUM_BYTES} at the end")
    return np.frombuffer(numcodecs.CRC32C(location="end").decode(raw), np.uint8)


def check_object(content: bytes, document: Mapping[str, Any]) -> None:
    """Check all checksums of one stored object: of the index and the chunks of a shard, or of a chunk by itself.

    Args:
        content: The object.
        document: Metadata of its array, as ``zarr.json`` holds it.

    Raises:
        RuntimeError: If a checksum is not that of its bytes.
        ValueError: If the object is cut off.
    """
    outer = document["codecs"][0]
    if outer["name"] != "sharding_indexed":
        if document["codecs"][-1]["name"] == _CRC:
            strip_checksum(content)
        return
    about, shard = outer["configuration"], document["chunk_grid"]["configuration"]["chunk_shape"]
    count = math.prod(size // edge for size, edge in zip(shard, about["chunk_shape"], strict=True))
    index = strip_checksum(content[-(ENTRY_BYTES * count + CHECKSUM_BYTES) :]).view("<u8").reshape(count, 2)
    if about["codecs"][-1]["name"] == _CRC:
        for start, length in index[index[:, 0] != ABSENT].tolist():
            strip_checksum(memoryview(content)[start : start + length])


def read_pixels(array: "zarr.Array[Any]", rows: slice, cols: slice) -> npt.NDArray[Any]:
    """Read a window of an array (y, x) as it is stored.

    Raises:
        StoreError: If the storage fails, or naming the tile that is damaged.
    """
    try:
        with explain_faults("the store"):
            return np.asarray(array[rows, cols])
    except BROKEN as error:
        raise explain_damage(_find_damaged(array, rows, cols), error) from error


def explain_damage(what: str, error: BaseException) -> StoreError:
    """Return the error of something in a store that cannot be what was written."""
    return StoreError(
        f"{what} is damaged: {first_line(error)}; `mapper verify` says which tiles are, and makes them anew (--repair)"
    )


def name_tile(path: str, row: int, col: int) -> str:
    """Return the name of a tile of an array for messages."""
    return f"tile {row},{col} of {path}"


def _find_damaged(array: "zarr.Array[Any]", rows: slice, cols: slice) -> str:
    """Return the name of the first tile of a window that cannot be read."""
    for row, col, part in _cut(array, rows, cols):
        try:
            array[part]
        except BROKEN:
            return name_tile(array.path, row, col)
    return array.path


def _cut(array: "zarr.Array[Any]", *window: slice) -> Iterator[tuple[int, int, tuple[slice, ...]]]:
    """Yield row and column of each tile of a window, and its pixels in it."""
    edges = (array.shards or array.chunks)[:2]
    spans = [each.indices(size) for each, size in zip(window, array.shape, strict=True)]
    tiles = [range(low // edge, -(-high // edge)) for (low, high, _), edge in zip(spans, edges, strict=True)]
    for at in product(*tiles):
        cut = zip(at, spans, edges, strict=True)
        yield *at, tuple(slice(max(low, k * edge), min(high, (k + 1) * edge)) for k, (low, high, _), edge in cut)  # type: ignore[misc]
