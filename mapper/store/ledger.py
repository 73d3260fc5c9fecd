"""Ledger of a store: the tiles that were made, the task that made each, and the record of every one.

The state of all tiles is three small arrays and is read at once; a record is looked up through the batch that wrote
it, at the same cost whether there was one commit or ten thousand.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from uuid import UUID

import icechunk
import numpy as np
import numpy.typing as npt
import zarr
from icechunk.session import Session

from mapper.events import Status
from mapper.grid import Tile
from mapper.store.errors import explains_faults
from mapper.store.ledger_arrays import STATUS_CODES, read_blob, read_snapshot, read_status
from mapper.store.parquet import load_record, load_records
from mapper.store.record import Record
from mapper.store.repository import NoVersionError, is_kept, open_snapshot
from mapper.store.totals import Totals, read_totals


@dataclass(frozen=True, kw_only=True)
class Entry:
    """The state of one tile."""

    status: Status
    task_id: str
    batch: int
    """Commit that wrote it, 1 is the first."""


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """The version of the store that a batch made."""

    id: str
    written_at: datetime


@dataclass(frozen=True, kw_only=True)
class Ledger:
    """The ledger at one version of a store; :attr:`mapper.store.map_store.MapStore.ledger` is one."""

    location: str = "the store"
    """Name of the store in messages."""
    repository: icechunk.Repository
    session: Session

    @cached_property
    @explains_faults
    def entries(self) -> Mapping[Tile, Entry]:
        """Entry of every tile that was ever attempted."""
        status = read_status(self.session.store)
        attempted = np.argwhere(status)
        if not len(attempted):
            return {}
        index = tuple(attempted.T)
        names: dict[int, Status] = {code: name for name, code in STATUS_CODES.items()}
        batches = self._array("batch")[index].tolist()
        tasks = self._array("task")[index]
        return {
            Tile(row, col): Entry(status=names[code], task_id=str(UUID(bytes=task.tobytes())), batch=batch)
            for (row, col), code, task, batch in zip(
                attempted.tolist(), status[index].tolist(), tasks, batches, strict=True
            )
        }

    @property
    @explains_faults
    def tasks(self) -> npt.NDArray[np.uint8]:
        """Return the id of the task that made each tile, (row, col, 16); zeros where none did."""
        return self._array("task")

    @property
    @explains_faults
    def batches(self) -> int:
        """Return the commits of tiles so far."""
        return int(zarr.open_array(self.session.store, path="ledger/blobs", mode="r").shape[0])

    @explains_faults
    def record_at(self, tile: Tile) -> Record | None:
        """Return the current record of a tile; None if it was never attempted."""
        batch = self.batch_at(tile)
        return load_record(read_blob(self.session.store, batch), tile) if batch else None

    @explains_faults
    def batch_at(self, tile: Tile) -> int:
        """Return the number of the commit that wrote a tile; 0 if none did."""
        array = zarr.open_array(self.session.store, path="ledger/batch", mode="r")
        return int(np.asarray(array[tile.row, tile.col]))

    def records(self, *, items: bool = True) -> Iterator[Record]:
        """Yield the current record of every tile, commit by commit; without its items where they are not asked for."""
        current = self._array("batch")
        for batch in np.unique(current[current > 0]).tolist():
            for record in self.records_of(batch, items=items):
                if current[record.tile.row, record.tile.col] == batch:
                    yield record

    @explains_faults
    def records_of(self, batch: int, *, items: bool = True) -> list[Record]:
        """Return all records of one commit, with failed attempts at tiles made before and with overwritten tiles.

        Args:
            batch: Number of the commit.
            items: False leaves out items and retries, which take nearly all of the time.
        """
        return load_records(read_blob(self.session.store, batch), items=items)

    @explains_faults
    def snapshot_of(self, batch: int) -> Snapshot | None:
        """Return the version that a batch made; None if it has expired."""
        if batch in self._collected:
            return None
        known = read_snapshot(self.session.store, batch)
        start = known or self.session.snapshot_id
        try:
            for info in self.repository.ancestry(snapshot_id=start):
                if info.metadata.get("batch") == batch:
                    return Snapshot(id=info.id, written_at=info.written_at)
                if known:
                    return None
        except icechunk.IcechunkError:
            if is_kept(self.repository, start):
                raise
            self._collected.add(batch)
        return None

    @cached_property
    @explains_faults
    def totals(self) -> Totals:
        """Return what all work on the store took."""
        return read_totals(self.session.store)

    @explains_faults
    def totals_after(self, batch: int) -> Totals | None:
        """Return what all work up to a batch took; None if the version that it made has expired."""
        if batch == self.batches:
            return self.totals
        snapshot = read_snapshot(self.session.store, batch)
        if not snapshot:
            return None
        try:
            session = open_snapshot(self.repository, snapshot)
        except NoVersionError:
            return None
        return read_totals(session.store)

    @property
    @explains_faults
    def status_codes(self) -> npt.NDArray[np.uint8]:
        """Return the status code of every tile, (row, col); see :data:`mapper.store.ledger_arrays.STATUS_CODES`."""
        return read_status(self.session.store)

    @property
    @explains_faults
    def writers(self) -> npt.NDArray[np.uint32]:
        """Return the number of the commit that wrote each tile, (row, col); 0 if none did."""
        return self._array("batch")

    @cached_property
    def _collected(self) -> set[int]:
        """Batches whose versions were found to be gone for good."""
        return set()

    @explains_faults
    def _array(self, name: str) -> np.ndarray:
        return np.asarray(zarr.open_array(self.session.store, path=f"ledger/{name}", mode="r")[:])
