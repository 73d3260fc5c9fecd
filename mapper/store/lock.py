"""The lock of a local store: one writer at a time, held by the system until the process ends, however it ends.

Icechunk loses commits when two processes commit to one directory. Object stores refuse the second commit themselves
(conditional writes) and take no lock. The lock is ``flock`` on ``<store>.lock`` beside the store; a process made by
``os.fork`` would share it, so workers are spawned.
"""

import fcntl
import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from mapper.errors import StoreLockedError
from mapper.store.faults import explain_faults
from mapper.store.location import Location


def lock_path(store: Path) -> Path:
    """The lock file of a local store."""
    return store.with_name(f"{store.name}.lock")


@contextmanager
def hold_lock(location: Location) -> Iterator[None]:
    """Hold the lock of a store; never waits.

    Raises:
        StoreLockedError: Naming process, host and time of the holder.
        StoreFullError: If not even the lock file can be written.
    """
    if location.path is None:
        yield
        return
    with explain_faults(str(location)):
        handle = os.open(lock_path(location.path), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        with explain_faults(str(location)):
            _take(handle, location)
        yield
    finally:
        os.close(handle)


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
    """Who wrote the lock file; it may be empty for an instant after it was taken."""
    try:
        holder = json.loads(os.pread(handle, 4096, 0))
    except json.JSONDecodeError:
        return "another run that has just started"
    return f"process {holder['pid']} on {holder['host']} since {holder['since']}; wait for it or stop it"
