"""Arrays of the ledger, and the rows that one commit adds to them in the same transaction as its pixels.

The ledger is a group of few arrays, however many commits there are (every array costs each later commit)::

    ledger/status     (row, col) uint8       0 never attempted, 1 ok, 2 empty, 3 failed
    ledger/batch      (row, col) uint32      commit that wrote the tile as it stands, 1 the first
    ledger/task       (row, col, 16) uint8   task id (a UUID)
    ledger/blobs      (batch, 2) uint64      offset and length in ledger/records
    ledger/snapshots  (batch, 20) uint8      snapshot id of each batch but the last, which cannot know its own
    ledger/records    (byte,) uint8          one Parquet file after the other, each from a chunk edge

A failed attempt never replaces a tile that was made: its record is in the batch, the tile keeps its pixels, its
record and its old task id, and so is still due.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import numpy as np
import numpy.typing as npt
import zarr
from zarr.abc.store import Store

from mapper.events import Status
from mapper.grid import Tile
from mapper.store.encoding import make_small_codecs
from mapper.store.parquet import dump_records
from mapper.store.record import Record

STATUS_CODES: dict[Status, int] = {"ok": 1, "empty": 2, "failed": 3}
"""Numbers in ``ledger/status``; 0 is a tile that was never attempted."""

_TILES_PER_CHUNK = 64
_BATCHES_PER_CHUNK = 256
_BYTES_PER_CHUNK = 1 << 16
_SNAPSHOT_ID = 20


@dataclass(frozen=True, kw_only=True)
class Batch:
    """One commit of tiles and records."""

    number: int
    """1 is the first."""
    parquet_sha256: str


def create_ledger(root: zarr.Group, tile_shape: tuple[int, int]) -> None:
    """Make the empty ledger of a store."""
    ledger = root.require_group("ledger")
    edge = tuple(min(_TILES_PER_CHUNK, size) for size in tile_shape)
    layouts: dict[str, tuple[tuple[int, ...], tuple[int, ...], str]] = {
        "status": (tile_shape, edge, "uint8"),
        "batch": (tile_shape, edge, "uint32"),
        "task": ((*tile_shape, 16), (*edge, 16), "uint8"),
        "blobs": ((0, 2), (_BATCHES_PER_CHUNK, 2), "uint64"),
        "snapshots": ((0, _SNAPSHOT_ID), (_BATCHES_PER_CHUNK, _SNAPSHOT_ID), "uint8"),
        "records": ((0,), (_BYTES_PER_CHUNK,), "uint8"),  # Parquet is compressed already, the rest of a chunk is not
    }
    for name, (shape, chunks, dtype) in layouts.items():
        ledger.create_array(
            name, shape=shape, chunks=chunks, dtype=dtype, fill_value=0, compressors=make_small_codecs()
        )


def read_status(store: Store) -> npt.NDArray[np.uint8]:
    """Return the status code of every tile, (row, col) uint8."""
    return np.asarray(zarr.open_array(store, path="ledger/status", mode="r")[:])


def read_batches(store: Store) -> npt.NDArray[np.uint32]:
    """Return the number of the commit that wrote each tile, (row, col) uint32; 0 where none did."""
    return np.asarray(zarr.open_array(store, path="ledger/batch", mode="r")[:])


def append_batch(store: Store, records: Sequence[Record], *, previous_snapshot: str) -> Batch:
    """Append the records of one commit, at most one a tile.

    Args:
        store: Zarr store of the session to be committed.
        records: What became of each tile.
        previous_snapshot: Snapshot id of the batch before; empty for the first, or where it is not known.
    """
    blob = dump_records(list(records))
    number = _append_blob(store, blob)
    if number > 1:
        _note_snapshot(store, number - 1, previous_snapshot)
    written = find_written(store, [record.tile for record in records if record.status == "failed"])
    effective = [record for record in records if record.tile not in written]
    if effective:
        _mark_tiles(store, effective, number)
    return Batch(number=number, parquet_sha256=hashlib.sha256(blob).hexdigest())


def find_written(store: Store, tiles: Sequence[Tile]) -> frozenset[Tile]:
    """Return the tiles among some that were made, with or without data; only the chunks they lie in are read."""
    if not tiles:
        return frozenset()
    array = zarr.open_array(store, path="ledger/status", mode="r")
    status = np.asarray(array.vindex[[tile.row for tile in tiles], [tile.col for tile in tiles]])
    made = np.isin(status, (STATUS_CODES["ok"], STATUS_CODES["empty"]))
    return frozenset(tile for tile, stands in zip(tiles, made.tolist(), strict=True) if stands)


def read_blob(store: Store, number: int) -> bytes:
    """Return the Parquet file of one batch."""
    offset, length = np.asarray(zarr.open_array(store, path="ledger/blobs", mode="r")[number - 1]).tolist()
    records = zarr.open_array(store, path="ledger/records", mode="r")
    return np.asarray(records[offset : offset + length]).tobytes()


def read_snapshot(store: Store, number: int) -> str:
    """Return the snapshot id of a batch as a later batch noted it; empty if none did."""
    snapshots = zarr.open_array(store, path="ledger/snapshots", mode="r")
    if number > snapshots.shape[0]:
        return ""
    return np.asarray(snapshots[number - 1]).tobytes().rstrip(b"\0").decode("ascii")


def read_snapshots(store: Store) -> frozenset[str]:
    """Return the snapshot ids of all batches but the last, those of versions that have expired too."""
    snapshots = np.asarray(zarr.open_array(store, path="ledger/snapshots", mode="r")[:])
    return frozenset(each.tobytes().rstrip(b"\0").decode("ascii") for each in snapshots) - {""}


def assign_tiles(array: zarr.Array[Any], tiles: npt.NDArray[np.int64], values: npt.NDArray[Any]) -> None:
    """Set scattered tiles, rewriting only the chunks they lie in.

    Args:
        array: (row, col, ...), of all tiles.
        tiles: (tile, 2) rows and columns.
        values: (tile, ...).
    """
    edge = np.array(array.chunks[:2])
    blocks = tiles // edge
    for block in np.unique(blocks, axis=0):
        here = (blocks == block).all(axis=1)
        start = block * edge
        window = tuple(slice(int(a), int(a + e)) for a, e in zip(start, edge, strict=True))
        content = np.asarray(array[window]).copy()
        content[tuple((tiles[here] - start).T)] = values[here]
        array[window] = content


def _append_blob(store: Store, blob: bytes) -> int:
    """Append a Parquet file; its batch number."""
    records = zarr.open_array(store, path="ledger/records", mode="r+")
    blobs = zarr.open_array(store, path="ledger/blobs", mode="r+")
    offset, number = records.shape[0], blobs.shape[0] + 1
    records.resize((offset + -(-len(blob) // _BYTES_PER_CHUNK) * _BYTES_PER_CHUNK,))
    records[offset : offset + len(blob)] = np.frombuffer(blob, np.uint8)
    blobs.resize((number, 2))
    blobs[number - 1] = np.array([offset, len(blob)], np.uint64)
    return number


def _note_snapshot(store: Store, number: int, snapshot: str) -> None:
    snapshots = zarr.open_array(store, path="ledger/snapshots", mode="r+")
    snapshots.resize((number, _SNAPSHOT_ID))
    snapshots[number - 1] = np.frombuffer(snapshot.encode("ascii").ljust(_SNAPSHOT_ID, b"\0"), np.uint8)


def _mark_tiles(store: Store, records: Sequence[Record], number: int) -> None:
    tiles = np.array([(record.tile.row, record.tile.col) for record in records])
    values: dict[str, npt.NDArray[Any]] = {
        "status": np.array([STATUS_CODES[record.status] for record in records], np.uint8),
        "batch": np.full(len(records), number, np.uint32),
        "task": np.array([list(UUID(record.task_id).bytes) for record in records], np.uint8),
    }
    for name, value in values.items():
        assign_tiles(zarr.open_array(store, path=f"ledger/{name}", mode="r+"), tiles, value)
