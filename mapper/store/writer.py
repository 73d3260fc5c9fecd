"""The only writer of a store: hands forks to workers, takes back tiles and records, commits both together.

A worker writes into a fork and sends it back; nothing is visible before :meth:`Writer.commit`. A commit merges the
forks that came back into a session opened at that moment. Forks still in flight were taken from an older version and
are merged by a later commit, so commits never wait for tiles.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import UUID

import icechunk
from icechunk.session import ForkSession, Session

from mapper import __version__
from mapper.grid import MapGrid, Tile
from mapper.spec import MapSpec, TargetSpec
from mapper.store.batch import append_batch, find_standing
from mapper.store.faults import explain_faults
from mapper.store.location import Location, parse_location
from mapper.store.lock import hold_lock
from mapper.store.record import Record, TileArrays
from mapper.store.repository import check_store, open_repository
from mapper.store.tiles import digest_bands, encode_tile, fill_tile, write_bands

_log = logging.getLogger(__name__)


class Writer:
    """The writer of one store; open one with :func:`open_writer`. Used by one thread."""

    def __init__(self, repository: icechunk.Repository, *, location: Location, spec: MapSpec, run_id: str) -> None:
        self._repository = repository
        self._location = str(location)
        self._spec = spec
        self._run_id = run_id
        self._clean = self._open_session()
        self._pending: dict[Tile, tuple[ForkSession | None, Record]] = {}

    @property
    def pending(self) -> int:
        """Tiles that were added and not yet committed."""
        return len(self._pending)

    def fork(self) -> ForkSession:
        """A session for one task; it may be pickled to another process and outlive any number of commits."""
        with explain_faults(self._location):
            return self._clean.fork()

    def add(self, fork: ForkSession | None, record: Record) -> None:
        """Take back a finished task. What it wrote becomes visible with the next commit.

        Args:
            fork: The session that :func:`write_tile` wrote to; None if nothing was written. A failed tile's is ignored.
            record: What became of the tile. An empty tile may be written (its flags say why) or not.

        Raises:
            ValueError: If the record lacks what its status needs, or its task id is no UUID.
        """
        self._spec.map_grid.window(record.tile)
        UUID(record.task_id)
        if record.status == "failed":
            fork = None
        elif (fork is None) != (not record.content_sha256) or (fork is None and record.status == "ok"):
            raise ValueError(f"tile {record.tile} is {record.status}: a fork and content_sha256 go together")
        if record.status == "failed" and self._came_through(record.tile):
            return
        self._pending[record.tile] = fork, record

    def commit(self, message: str = "") -> str:
        """Make all added tiles and their records visible, in one transaction.

        Returns:
            The snapshot id; empty if there was nothing to commit.

        Raises:
            StoreFullError: If the disk is full; nothing is lost, the commit may be tried again.
            StoreLockedError: If another writer committed meanwhile.
        """
        if not self._pending:
            return ""
        with explain_faults(self._location):
            session = self._open_session()
            session.merge(*(fork for fork, _ in self._pending.values() if fork is not None))
            records = [record for _, record in self._pending.values()]
            self._clear_unwritten(session, records)
            batch = append_batch(session.store, records, previous_snapshot=self._find_last_batch(session))
            snapshot = session.commit(
                message or f"batch {batch.number}: {len(records)} tiles",
                metadata={
                    "run_id": self._run_id,
                    "batch": batch.number,
                    "tiles": len(records),
                    "parquet_sha256": batch.parquet_sha256,
                    "code_version": __version__,
                },
            )
            self._pending.clear()
            self._clean = self._open_session()
        return snapshot

    def _came_through(self, tile: Tile) -> bool:
        """Whether another attempt at a tile is pending and did not fail."""
        return tile in self._pending and self._pending[tile][1].status != "failed"

    def _open_session(self) -> Session:
        return self._repository.writable_session("main")

    def _clear_unwritten(self, session: Session, records: list[Record]) -> None:
        """Take away the pixels of tiles that stood and are now empty without being written."""
        grid, target = self._spec.map_grid, self._spec.target
        unwritten = [record.tile for record in records if record.status == "empty" and not record.content_sha256]
        for tile in find_standing(session.store, unwritten):
            write_bands(session.store, grid=grid, tile=tile, bands=fill_tile(grid, target))

    def _find_last_batch(self, session: Session) -> str:
        """Snapshot id of the last batch; commits of other things may lie above it."""
        for info in self._repository.ancestry(snapshot_id=session.snapshot_id):
            if "batch" in info.metadata:
                return str(info.id)
        return ""


@contextmanager
def open_writer(location: str | Path, *, spec: MapSpec, run_id: str) -> Iterator[Writer]:
    """Open a store for writing and hold its lock. What is not committed inside the block is lost.

    Args:
        location: Directory, or s3://, gs://, az:// location.
        spec: The map; must be the one the store holds.
        run_id: Written into every commit.

    Raises:
        StoreError: If there is no store; make it with :func:`create_store`.
        StoreLockedError: If another process is writing to it.
        StoreMismatchError: If it holds another map.
    """
    place = parse_location(location)
    check_store(location, spec=spec)
    with hold_lock(place):
        repository = open_repository(location)
        with explain_faults(str(place)):
            writer = Writer(repository, location=place, spec=spec, run_id=run_id)
        yield writer
        if writer.pending:
            _log.warning("%s: %d finished tiles were not committed", place, writer.pending)


def write_tile(fork: ForkSession, *, grid: MapGrid, target: TargetSpec, tile: Tile, arrays: TileArrays) -> str:
    """Encode a tile and write it into a fork, as whole shards. Called in workers.

    Args:
        fork: From :meth:`Writer.fork`.
        grid: The output grid.
        target: Name, units and encoding.
        tile: Which tile.
        arrays: Its pixels, exactly one tile.

    Returns:
        ``content_sha256`` for the record: over the encoded arrays, so that the store can be verified.

    Raises:
        ValueError: If an array is not exactly one tile.
        StoreFullError: If the disk is full.
    """
    bands = encode_tile(target, arrays)
    with explain_faults(f"tile {tile}"):
        write_bands(fork.store, grid=grid, tile=tile, bands=bands)
    return digest_bands(bands)
