"""Lock of a local store: one writer at a time, held by the system until the process ends, however it ends.

Icechunk loses commits when two processes commit to one directory. The lock is ``flock`` on ``<store>.lock`` beside the
store; a process made by ``os.fork`` would share it, so workers are spawned. In object stores a lease takes its place,
see :mod:`mapper.store.lease`.
"""

import fcntl
import json
import os
import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil

from mapper.errors import StoreLockedError
from mapper.store.errors import explain_faults
from mapper.store.lease import hold_lease, read_lease
from mapper.store.location import Location

_CLOCK_SECONDS = 2.0
"""Precision of the start of a process as the system reports it: a process that began later is another."""


@dataclass(frozen=True, kw_only=True)
class Holder:
    """The process that holds, or held, a lock."""

    pid: int
    host: str
    since: datetime

    @property
    def alive(self) -> bool | None:
        """Check that the process lives; None if it runs on another host, which cannot be asked."""
        if self.host != socket.gethostname():
            return None
        try:
            began = psutil.Process(self.pid).create_time()
        except psutil.NoSuchProcess:
            return False
        return began <= self.since.timestamp() + _CLOCK_SECONDS


def lock_path(store: Path) -> Path:
    """Return the lock file of a local store."""
    return store.with_name(f"{store.name}.lock")


@contextmanager
def hold_lock(location: Location, *, run_id: str = "") -> Iterator[Callable[[], None]]:
    """Hold the lock of a store. Never waits for a writer that lives, nor, on local disk, for a dead one.

    Args:
        location: Of the store.
        run_id: Told to others, where the store is in an object store.

    Yields:
        A function to call before what must not be done without the lock; raises StoreLockedError if it is lost.

    Raises:
        StoreLockedError: Naming process, host and time of the holder.
        StoreFullError: If not even the lock file can be written.
        StoreError: If the object store cannot be reached, or refuses.
    """
    if location.path is None:
        with hold_lease(location, run_id=run_id) as confirm:
            yield confirm
        return
    with explain_faults(str(location)):
        handle = os.open(lock_path(location.path), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        with explain_faults(str(location)):
            _take(handle, location)
        try:
            yield _assert_locked
        finally:
            os.ftruncate(handle, 0)  # nobody holds it: its content is for the time that it is held
    finally:
        os.close(handle)


def _assert_locked() -> None:
    """Do nothing: a ``flock`` is held until the process ends."""


def _take(handle: int, location: Location) -> None:
    """Take the lock and write down who holds it, past every buffer: others read the file while it is held."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise StoreLockedError(f"{location} is being written by {_describe_holder(handle)}") from error
    holder = {"pid": os.getpid(), "host": socket.gethostname(), "since": datetime.now(UTC).isoformat()}
    os.ftruncate(handle, 0)
    os.pwrite(handle, json.dumps(holder).encode(), 0)


def _describe_holder(handle: int) -> str:
    """Describe the process that wrote the lock file, which may be empty for an instant after the lock was taken."""
    holder = _parse_holder(os.pread(handle, 4096, 0))
    if holder is None:
        return "another run that has just started"
    return f"process {holder.pid} on {holder.host} since {holder.since.isoformat()}; wait for it or stop it"


def read_holder(location: Location) -> Holder | None:
    """Read the process that holds the lock or lease of a store; None if none does.

    Looks only, and takes nothing: a process that was killed could not let go, see :attr:`Holder.alive`.
    """
    if location.path is None:
        held = read_lease(location)
        return _to_holder(held) if held else None
    try:
        return _parse_holder(lock_path(location.path).read_bytes())
    except FileNotFoundError:
        return None


def _parse_holder(content: bytes) -> Holder | None:
    try:
        holder = json.loads(content)
    except json.JSONDecodeError:
        return None
    return _to_holder(holder)


def _to_holder(content: Mapping[str, Any]) -> Holder:
    return Holder(pid=content["pid"], host=content["host"], since=datetime.fromisoformat(content["since"]))
