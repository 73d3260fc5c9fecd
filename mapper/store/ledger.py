"""The ledger of a store: which tiles stand, which task made each, and the record of every one.

The state of all tiles is three small arrays and is read at once; a record is looked up through the batch that wrote
it, at the same cost whether there was one commit or ten thousand.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from pathlib import Path
from uuid import UUID

import icechunk
import numpy as np
import numpy.typing as npt
import zarr
from icechunk.session import Session

from mapper.events import Status
from mapper.grid import Tile
from mapper.store.errors import explain_faults
from mapper.store.ledger_arrays import STATUS_CODES, read_blob, read_snapshot, read_status
from mapper.store.parquet import load_record, load_records
from mapper.store.record import Record
from mapper.store.repository import open_repository, open_session
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
    """The ledger at one version of a store; open one with :func:`read_ledger`."""

    repository: icechunk.Repository
    session: Session

    @cached_property
    def entries(self) -> Mapping[Tile, Entry]:
        """State of every tile that was ever attempted."""
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
    def tasks(self) -> npt.NDArray[np.uint8]:
        """Id of the task that made each tile, (row, col, 16); zeros where none did."""
        return self._array("task")

    @property
    def batches(self) -> int:
        """Commits of tiles so far."""
        return int(zarr.open_array(self.session.store, path="ledger/blobs", mode="r").shape[0])

    def record_at(self, tile: Tile) -> Record | None:
        """The record of a tile as it stands; None if it was never attempted."""
        batch = self.batch_at(tile)
        return load_record(read_blob(self.session.store, batch), tile) if batch else None

    def batch_at(self, tile: Tile) -> int:
        """Number of the commit that wrote a tile; 0 if none did."""
        array = zarr.open_array(self.session.store, path="ledger/batch", mode="r")
        return int(np.asarray(array[tile.row, tile.col]))

    def records(self, *, items: bool = True) -> Iterator[Record]:
        """The record of every tile as it stands, commit by commit; without its items where they are not asked for."""
        standing = self._array("batch")
        for batch in np.unique(standing[standing > 0]).tolist():
            for record in self.records_of(batch, items=items):
                if standing[record.tile.row, record.tile.col] == batch:
                    yield record

    def records_of(self, batch: int, *, items: bool = True) -> list[Record]:
        """All records of one commit, failed attempts at standing tiles and overwritten tiles included.

        Args:
            batch: Number of the commit.
            items: False leaves out items and retries, which take nearly all of the time.
        """
        return load_records(read_blob(self.session.store, batch), items=items)

    def snapshot_of(self, batch: int) -> Snapshot | None:
        """The version that a batch made; None if it has expired."""
        known = read_snapshot(self.session.store, batch)
        start = known or self.session.snapshot_id
        try:
            for info in self.repository.ancestry(snapshot_id=start):
                if info.metadata.get("batch") == batch:
                    return Snapshot(id=info.id, written_at=info.written_at)
                if known:
                    return None
        except icechunk.IcechunkError:
            return None
        return None

    @cached_property
    def totals(self) -> Totals:
        """What all work on the store took."""
        return read_totals(self.session.store)

    def totals_after(self, batch: int) -> Totals | None:
        """What all work up to a batch took; None if the version that it made has expired."""
        if batch == self.batches:
            return self.totals
        snapshot = read_snapshot(self.session.store, batch)
        if not snapshot:
            return None
        try:
            session = self.repository.readonly_session(snapshot_id=snapshot)
        except icechunk.IcechunkError:
            return None
        return read_totals(session.store)

    @property
    def state(self) -> npt.NDArray[np.uint8]:
        """Status code of every tile, (row, col); see :data:`mapper.store.ledger_arrays.STATUS_CODES`."""
        return read_status(self.session.store)

    @property
    def writers(self) -> npt.NDArray[np.uint32]:
        """Number of the commit that wrote each tile, (row, col); 0 if none did."""
        return self._array("batch")

    def _array(self, name: str) -> np.ndarray:
        return np.asarray(zarr.open_array(self.session.store, path=f"ledger/{name}", mode="r")[:])


def read_ledger(location: str | Path, *, ref: str = "main") -> Ledger:
    """Open the ledger of a store.

    Raises:
        StoreError: If the store or the version does not exist.
    """
    repository = open_repository(location)
    with explain_faults(str(location)):
        return Ledger(repository=repository, session=open_session(repository, ref=ref))
