"""Garbage of a store: shards of batches that were lost, files of killed processes, versions past their time.

Both collecting and expiring take the writer's lock, and so exclude every driver. Workers may outlive a driver that was
killed; what they write nobody will commit, so it is garbage from the start. A lease, unlike a lock, can be lost by a
driver that was paused, and if that befell it in the middle of a commit, it would commit shards that are gone by then.
Hence on object stores only what is older than any commit is touched.
"""

import re
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from stat import S_ISREG
from typing import Any

import icechunk

from mapper.errors import StoreError
from mapper.store.errors import explain_faults
from mapper.store.location import Location, parse_location
from mapper.store.lock import hold_lock
from mapper.store.map_store import MapStore

USUAL_AGE = timedelta(days=7)
"""Age of garbage on object stores unless another is asked for."""
LEAST_AGE = timedelta(days=1)
"""Youngest garbage that is touched on object stores: no commit is paused for that long."""

_UNFINISHED = re.compile(r".+#\d+")
"""Names of files that Icechunk was writing; renamed when they are whole."""


@dataclass(frozen=True, kw_only=True)
class GarbageReport:
    """Objects that were removed, or would be; counts are of objects of the storage."""

    location: str
    dry_run: bool
    cutoff: datetime
    """Only what is older was touched."""
    chunks: int
    """Shards of the map and parts of its ledger."""
    manifests: int
    snapshots: int
    transaction_logs: int
    attributes: int
    unfinished: int
    """Files, and stores in the making, that a killed process left; on local disk only."""
    bytes_removed: int

    @property
    def objects(self) -> int:
        """Return the number of all objects."""
        return self.chunks + self.manifests + self.snapshots + self.transaction_logs + self.attributes + self.unfinished

    def to_dict(self) -> dict[str, Any]:
        """Return the report as JSON-ready values."""
        return {**asdict(self), "cutoff": self.cutoff.isoformat(), "objects": self.objects}

    def to_text(self) -> str:
        """Return the report for a terminal."""
        age = f"older than {self.cutoff:%Y-%m-%d %H:%M:%S} UTC"
        if not self.objects:
            return f"no garbage {age}"
        counts = {
            "chunks": self.chunks,
            "manifests": self.manifests,
            "snapshots": self.snapshots,
            "transaction logs": self.transaction_logs,
            "attribute files": self.attributes,
            "unfinished files": self.unfinished,
        }
        kinds = ", ".join(f"{count} {name}" for name, count in counts.items() if count)
        verb = "would remove" if self.dry_run else "removed"
        return f"{verb} {self.objects} objects {age}, {self.bytes_removed / 1e6:.2f} MB: {kinds}"


@dataclass(frozen=True, kw_only=True)
class ExpiryReport:
    """History of a store after old versions expired."""

    location: str
    cutoff: datetime
    """Only what is older expired."""
    expired: int
    """Versions that can no longer be reached; their objects are garbage now."""
    versions: int
    """Versions of main that are left."""
    tags: tuple[str, ...]
    """Releases that are left."""

    def to_dict(self) -> dict[str, Any]:
        """Return the report as JSON-ready values."""
        return {**asdict(self), "cutoff": self.cutoff.isoformat()}

    def to_text(self) -> str:
        """Return the report for a terminal."""
        tags = f", tags {', '.join(self.tags)}" if self.tags else ", no tags"
        age = f"older than {self.cutoff:%Y-%m-%d %H:%M:%S} UTC"
        return f"{self.expired} versions {age} expired; {self.versions} versions of main left{tags}"


def collect_garbage(
    location: str | Path, *, older_than: timedelta | None = None, dry_run: bool = False, no_run_alive: bool = False
) -> GarbageReport:
    """Remove what no branch, tag or version that is left refers to, under the writer's lock.

    Args:
        location: Directory, or s3://, gs://, az:// location.
        older_than: Least age. None: any on local disk, where a living run keeps its lock, else ``USUAL_AGE``.
        dry_run: Report and remove nothing.
        no_run_alive: The caller knows that no run writes to this object store; allows ages below ``LEAST_AGE``.

    Raises:
        StoreLockedError: If a run is writing.
        StoreError: If there is no store, or shards of a living run could be taken for garbage.
        ValueError: If the age is negative.
    """
    parsed = parse_location(location)
    age = older_than if older_than is not None else (timedelta(0) if parsed.path else USUAL_AGE)
    _check_age(parsed, age, alone=no_run_alive or dry_run)
    with _open_alone(parsed) as repository:
        cutoff = datetime.now(UTC) - age
        summary = repository.garbage_collect(cutoff, dry_run=dry_run)
        files = _find_unfinished(parsed.path, cutoff) if parsed.path else {}
        if not dry_run:
            _remove(files)
        return GarbageReport(
            location=str(parsed),
            dry_run=dry_run,
            cutoff=cutoff,
            chunks=summary.chunks_deleted,
            manifests=summary.manifests_deleted,
            snapshots=summary.snapshots_deleted,
            transaction_logs=summary.transaction_logs_deleted,
            attributes=summary.attributes_deleted,
            unfinished=len(files),
            bytes_removed=summary.bytes_deleted + sum(files.values()),
        )


def expire_snapshots(
    location: str | Path, *, older_than: timedelta, keep_tags: bool = True, no_run_alive: bool = False
) -> ExpiryReport:
    """Shorten the history of a store: forget versions past an age, save what main and tags point to.

    Pixels and ledger of main and of every tag stay as they are. What expired stays readable until it is collected.

    Args:
        location: Directory, or s3://, gs://, az:// location.
        older_than: Versions of this age and older expire.
        keep_tags: Keep every tag; otherwise tags on versions of this age go too, and their names cannot be used again.
        no_run_alive: The caller knows that no run writes to this object store; allows ages below ``LEAST_AGE``.

    Raises:
        StoreLockedError: If a run is writing.
        StoreError: If there is no store, or a living run could be disturbed.
        ValueError: If the age is negative.
    """
    parsed = parse_location(location)
    _check_age(parsed, older_than, alone=no_run_alive)
    with _open_alone(parsed) as repository:
        cutoff = datetime.now(UTC) - older_than
        expired = repository.expire_snapshots(cutoff, delete_expired_tags=not keep_tags)
    with explain_faults(str(parsed)):
        repository = MapStore.open(location).repository  # the other one remembers versions as they were
        tags = sorted(repository.list_tags())
        reachable = {repository.lookup_tag(tag) for tag in tags}
        reachable |= {repository.lookup_branch(branch) for branch in repository.list_branches()}
        return ExpiryReport(
            location=str(parsed),
            cutoff=cutoff,
            expired=len(expired - reachable),
            versions=sum(1 for _ in repository.ancestry(branch="main")),
            tags=tuple(tags),
        )


@contextmanager
def _open_alone(parsed: Location) -> Iterator[icechunk.Repository]:
    """Open a store that nobody else writes to."""
    MapStore.open(str(parsed))  # or else the lock would lie beside nothing
    with hold_lock(parsed) as confirm, explain_faults(str(parsed)):
        repository = MapStore.open(str(parsed)).repository
        confirm()
        yield repository


def _check_age(parsed: Location, age: timedelta, *, alone: bool) -> None:
    """Refuse ages at which shards of a living run, which are not committed yet, would be taken for garbage."""
    if age < timedelta(0):
        raise ValueError(f"an age of {age} lies in the future")
    if parsed.path is None and age < LEAST_AGE and not alone:
        raise StoreError(
            f"{parsed} has no lock, only a lease, which a run that is paused can lose: take an age of {LEAST_AGE.days} "
            "day or more, or make sure that no run is alive and say so (--no-run-alive)"
        )


def _find_unfinished(store: Path, cutoff: datetime) -> dict[Path, int]:
    """Find what killed processes left, with its bytes: parts of objects, and stores that were being made."""
    half_made = re.compile(re.escape(store.name) + r"\.\d+\.new")
    left = [path for path in store.rglob("*#*") if _UNFINISHED.fullmatch(path.name)]
    left += [path for path in store.parent.iterdir() if half_made.fullmatch(path.name)]
    found = {}
    for path in left:
        with suppress(FileNotFoundError):  # a worker that outlived its driver may just have finished it
            stats = [each.stat() for each in (path, *path.rglob("*"))]
            if all(stat.st_mtime < cutoff.timestamp() for stat in stats):
                found[path] = sum(stat.st_size for stat in stats if S_ISREG(stat.st_mode))
    return found


def _remove(paths: Iterable[Path]) -> None:
    for path in paths:
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
