"""The only writer of a store: gives forks to workers, takes back tiles and records, commits both together.

A worker writes into a fork and sends it back; nothing is visible before :meth:`Writer.commit`. A commit merges the
forks that came back into a session opened at that moment. Forks still in flight were taken from an older version and
are merged by a later commit, so commits never wait for tiles.
"""

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, Generic, TypeVar
from uuid import UUID

import icechunk
import numpy.typing as npt
from icechunk.session import ForkSession, Session

from mapper import __version__
from mapper.errors import StoreError
from mapper.grid import MapGrid, Tile
from mapper.store.errors import explain_faults
from mapper.store.ledger_arrays import append_batch, find_written
from mapper.store.location import Location
from mapper.store.product import Product
from mapper.store.record import Record
from mapper.store.tiles import blank_bands, digest_bands, encode_tile, write_bands
from mapper.store.totals import add_totals
from mapper.text import describe_seconds

_CLOCK_SLACK_S = 10.0
"""Difference of clocks that is waited for."""
_R = TypeVar("_R")
"""Result of one tile."""


class Writer(ABC, Generic[_R]):
    """The writer of one store: forks for workers, and transactions of what came back. Used by one thread.

    What is written beside the pixels, in the same transaction, differs: records of tiles (:class:`TileWriter`), marks
    of levels (:class:`mapper.store.pyramid.LevelWriter`).
    """

    def __init__(
        self, repository: icechunk.Repository, *, location: Location, run_id: str, confirm: Callable[[], None]
    ) -> None:
        self._repository = repository
        self._confirm = confirm
        self._location = str(location)
        self._run_id = run_id
        self._check_clock()
        self._session = self._open_session()
        self._pending: dict[object, tuple[ForkSession | None, _R]] = {}

    def _check_clock(self) -> None:
        """Check that a commit of now comes after the last one: Icechunk refuses it otherwise, tiles and all.

        What two machines may differ by is waited for.

        Raises:
            StoreError: If the clock of this machine is behind by more.
        """
        last: datetime = next(iter(self._repository.ancestry(branch="main"))).written_at
        behind_s = (last - datetime.now(UTC)).total_seconds()
        if behind_s > _CLOCK_SLACK_S:
            raise StoreError(
                f"{self._location}: the clock of this machine is {describe_seconds(behind_s)} behind the last commit "
                f"({last:%Y-%m-%d %H:%M:%S} UTC), and no commit may be older than that: set the clock, then run again"
            )
        time.sleep(max(0.0, behind_s))

    @property
    def pending(self) -> int:
        """Tiles that were added and not yet committed."""
        return len(self._pending)

    def fork(self) -> ForkSession:
        """Return a session for one task; it may be pickled to another process and outlive any number of commits."""
        with explain_faults(self._location):
            return self._session.fork()

    def add(self, fork: ForkSession | None, result: _R) -> None:
        """Take back a finished tile. What was written for it becomes visible with the next commit."""
        self._pending[self._key_of(result)] = fork, result

    def commit(self, message: str = "") -> str:
        """Make all added tiles visible with what is written beside them, in one transaction.

        Returns:
            The snapshot id; empty if there was nothing to commit.

        Raises:
            StoreFullError: If the disk is full; nothing is lost, the commit may be tried again.
            TransientStoreError: If the object store does not answer; likewise.
            StoreLockedError: If another writer committed meanwhile, or the lock was lost.
        """
        if not self._pending:
            return ""
        self._confirm()
        with explain_faults(self._location):
            session = self._open_session()
            session.merge(*(fork for fork, _ in self._pending.values() if fork is not None))
            text, metadata = self._write_rows(session, [result for _, result in self._pending.values()])
            snapshot = self._commit(session, message or text, metadata)
            self._pending.clear()
            self._renew()
        return snapshot

    @abstractmethod
    def _key_of(self, result: _R) -> object:
        """Return what tells a tile from others."""

    @abstractmethod
    def _write_rows(self, session: Session, results: list[_R]) -> tuple[str, dict[str, Any]]:
        """Write what belongs to the transaction beside pixels, and return its message and metadata."""

    def _renew(self) -> None:
        """Fork from the newest version from now on; where it cannot be opened, forks of an older one serve as well."""
        with suppress(icechunk.IcechunkError):
            self._session = self._open_session()

    def _open_session(self) -> Session:
        return self._repository.writable_session("main")

    def _commit(self, session: Session, message: str, metadata: Mapping[str, Any]) -> str:
        content = {"run_id": self._run_id, **metadata, "code_version": __version__}
        return commit_session(self._repository, session, message, content)


class TileWriter(Writer[Record]):
    """The writer of tiles and their records; see :meth:`mapper.store.map_store.MapStore.writer`."""

    def __init__(
        self,
        repository: icechunk.Repository,
        *,
        location: Location,
        product: Product,
        run_id: str,
        confirm: Callable[[], None],
    ) -> None:
        super().__init__(repository, location=location, run_id=run_id, confirm=confirm)
        self._product = product
        self._started = datetime.now(UTC)

    def add(self, fork: ForkSession | None, result: Record) -> None:
        """Take back a finished task. What it wrote becomes visible with the next commit.

        Args:
            fork: The session that :func:`write_tile` wrote to; None if nothing was written. A failed tile's is ignored.
            result: The record of the tile. An empty tile may be written (its flags say why) or not.

        Raises:
            ValueError: If the record lacks what its status needs, or its task id is no UUID.
        """
        self._product.grid.window(result.tile)
        UUID(result.task_id)
        if result.status == "failed":
            fork = None
        elif (fork is None) != (not result.content_sha256) or (fork is None and result.status == "ok"):
            raise ValueError(f"tile {result.tile} is {result.status}: a fork and content_sha256 go together")
        if result.status == "failed" and self._came_through(result.tile):
            return
        super().add(fork, result)

    def _key_of(self, result: Record) -> Tile:
        return result.tile

    def _write_rows(self, session: Session, results: list[Record]) -> tuple[str, dict[str, Any]]:
        self._clear_unwritten(session, results)
        batch = append_batch(session.store, results, previous_snapshot=self._find_last_batch(session))
        add_totals(session.store, results, batch=batch.number, run_id=self._run_id, started=self._started)
        metadata = {"batch": batch.number, "tiles": len(results), "parquet_sha256": batch.parquet_sha256}
        return f"batch {batch.number}: {len(results)} tiles", metadata

    def _came_through(self, tile: Tile) -> bool:
        """Check whether another attempt at a tile is pending and did not fail."""
        return tile in self._pending and self._pending[tile][1].status != "failed"

    def _clear_unwritten(self, session: Session, records: list[Record]) -> None:
        """Clear the pixels of tiles that were written before and are now empty without being written."""
        grid, names = self._product.grid, self._product.band_names
        unwritten = [record.tile for record in records if record.status == "empty" and not record.content_sha256]
        for tile in find_written(session.store, unwritten):
            write_bands(session.store, grid=grid, tile=tile, bands=blank_bands(session.store, grid=grid, names=names))

    def _find_last_batch(self, session: Session) -> str:
        """Find the snapshot id of the last batch; commits of other things may lie above it."""
        for info in self._repository.ancestry(snapshot_id=session.snapshot_id):
            if "batch" in info.metadata:
                return str(info.id)
        return ""


def write_tile(fork: ForkSession, *, product: Product, tile: Tile, arrays: Mapping[str, npt.NDArray[Any]]) -> str:
    """Encode a tile and write it into a fork, as whole shards. Called in workers.

    Args:
        fork: From :meth:`Writer.fork`.
        product: Contents of the store.
        tile: Which tile.
        arrays: Its pixels by name of the band, exactly one tile; see :func:`mapper.store.tiles.encode_tile`.

    Returns:
        ``content_sha256`` for the record: over the encoded arrays, so that the store can be verified.

    Raises:
        ValueError: If an array is missing, or not exactly one tile.
        StoreFullError: If the disk is full.
    """
    return write_encoded(fork, grid=product.grid, tile=tile, bands=encode_tile(product, arrays))


def write_encoded(fork: ForkSession, *, grid: MapGrid, tile: Tile, bands: Mapping[str, npt.NDArray[Any]]) -> str:
    """Write the encoded arrays of a tile into a fork, as whole shards. Called in workers.

    Args:
        fork: From :meth:`Writer.fork`.
        grid: Of the store.
        tile: Which tile.
        bands: All arrays of the product, in its order.

    Returns:
        As :func:`write_tile`, and raises what it raises.
    """
    with explain_faults(f"tile {tile}"):
        write_bands(fork.store, grid=grid, tile=tile, bands=bands)
    return digest_bands(bands)


def commit_session(repository: icechunk.Repository, session: Session, message: str, metadata: dict[str, Any]) -> str:
    """Commit a session; a commit whose answer was lost on the way is recognised by its metadata.

    Args:
        repository: Of the session.
        session: With what is to be committed.
        message: For people.
        metadata: Unlike that of any other commit.

    Returns:
        The snapshot id.
    """
    try:
        return str(session.commit(message, metadata=metadata))
    except (icechunk.ConflictError, icechunk.IcechunkError):
        tip = next(iter(repository.ancestry(branch="main")))
        if tip.metadata != metadata:
            raise
        return str(tip.id)
