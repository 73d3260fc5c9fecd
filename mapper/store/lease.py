"""Lease of a store in an object store: one writer at a time, where no system holds a lock for a process.

It is one object, ``<prefix>.lease`` beside the repository, changed by conditional writes only: of several who want it,
one gets it. The holder renews it in a thread, twelve times a term. Nobody compares clocks: whoever wants the lease
watches it, by a clock of its own, and takes it over once it has not changed for a whole term. A change is a sign of
life, and ends the attempt.

A process of this machine that is known to be dead is not waited for. That is safe since the lease tells the start of
the machine and the process namespace: there, a number that no process has belongs to nobody who may still write. In
containers that share nothing but a host name, the namespaces differ and the term is waited for.

A holder that was paused for longer than a term may have lost its lease without knowing. It proves that it has it
before every commit, by renewing it; what slips between this and the commit is left to Icechunk, whose commits are
conditional writes too.
"""

import json
import logging
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import obstore
from obstore.exceptions import AlreadyExistsError, PreconditionError

from mapper.errors import StoreError, StoreLockedError
from mapper.store.errors import explain_faults
from mapper.store.location import Location

if TYPE_CHECKING:
    from obstore import PutMode, UpdateVersion

TERM_S = 60.0
"""Seconds without a sign of life after which a lease is taken over; a lease says its own."""
_RENEWALS = 12
_log = logging.getLogger(__name__)


def lease_key(location: Location) -> str:
    """Return the key of the lease in its bucket; Icechunk looks below the prefix only."""
    return f"{location.prefix}.lease"


def read_lease(location: Location) -> dict[str, Any] | None:
    """Read ``pid``, ``host``, ``since`` and ``run_id`` of the holder, without taking the lease; None if it is free.

    Raises:
        StoreError: If the object store cannot be asked.
    """
    with explain_faults(str(location)):
        seen = _Claim(location, run_id="").read()
    return seen.content if seen and seen.held else None


@contextmanager
def hold_lease(location: Location, *, run_id: str = "") -> Iterator[Callable[[], None]]:
    """Hold the lease of a store and keep it renewed; gives what proves that it is still held.

    Args:
        location: In an object store.
        run_id: Told to others.

    Yields:
        A function that raises StoreLockedError once the lease is lost.

    Raises:
        StoreLockedError: If another writer shows a sign of life, within a twelfth of its term.
        StoreError: If the object store cannot be reached, or refuses.
    """
    claim = _Claim(location, run_id=run_id)
    with explain_faults(str(location)):
        claim.take()
    keeper = threading.Thread(target=claim.keep, name="lease", daemon=True)
    keeper.start()
    try:
        yield claim.renew
    finally:
        claim.ended.set()
        keeper.join()
        claim.release()


@dataclass(frozen=True, kw_only=True)
class _Lease:
    """The lease as it was read."""

    content: dict[str, Any]
    version: "UpdateVersion"

    @property
    def held(self) -> bool:
        return bool(self.content["held"])

    @property
    def holder(self) -> str:
        content = self.content
        return f"process {content['pid']} on {content['host']} since {content['since']}"

    @property
    def dead(self) -> bool:
        """Check that the holder is known to be dead; False if that cannot be known here."""
        return (
            bool(self.content["machine"]) and self.content["machine"] == _machine() and not _runs(self.content["pid"])
        )


class _Claim:
    """One attempt at the lease, by one writer."""

    def __init__(self, location: Location, *, run_id: str) -> None:
        self.ended = threading.Event()
        self._location = location
        self._bucket = location.open_bucket()
        self._version: UpdateVersion = {}
        self._lost = ""
        self._renewing = threading.Lock()  # the keeper and the writer do
        self._content = {
            "pid": os.getpid(),
            "host": socket.gethostname(),
            "machine": _machine(),
            "since": datetime.now(UTC).isoformat(),
            "run_id": run_id,
            "term_s": TERM_S,
        }

    def take(self) -> None:
        """Take a lease that nobody holds, or whose holder gives no sign of life."""
        seen = self.read()
        if seen and seen.held and not seen.dead:
            seen = self._watch(seen)
        try:
            self._write("create" if seen is None else seen.version)
        except (AlreadyExistsError, PreconditionError) as error:
            raise StoreLockedError(self._refusal(self.read())) from error

    def keep(self) -> None:
        """Renew until the end, or until the lease is lost: then there is nothing left to keep."""
        while not self.ended.wait(TERM_S / _RENEWALS):
            try:
                self.renew()
            except StoreLockedError as error:
                _log.warning("%s", error)
                return
            except StoreError as error:  # as long as nobody takes it, it may be renewed late
                _log.warning("the lease could not be renewed: %s", error)

    def renew(self) -> None:
        """Renew the lease, and so prove that it is held.

        Raises:
            StoreLockedError: If it is lost.
            StoreError: If that cannot be known.
        """
        with self._renewing, explain_faults(str(self._location)):
            if not self._lost:
                try:
                    self._write(self._version)
                except PreconditionError:
                    self._lost = f"{self._location}: {self._tell_loss(self.read())}"
            if self._lost:
                raise StoreLockedError(self._lost)

    def release(self) -> None:
        """Give the lease back; if that fails, others wait for its term."""
        if self._lost:
            return
        try:
            with explain_faults(str(self._location)), suppress(PreconditionError):
                self._write(self._version, held=False)
        except StoreError as error:
            _log.warning("the lease could not be given back, the next run waits for its term: %s", error)

    def read(self) -> _Lease | None:
        """Read the lease as it is now; None if there never was one."""
        with suppress(FileNotFoundError):
            found = obstore.get(self._bucket, lease_key(self._location))
            version = _version_of(found.meta["e_tag"], found.meta["version"])
            return _Lease(content=self._parse(bytes(found.bytes())), version=version)
        return None

    def _watch(self, seen: _Lease) -> _Lease | None:
        """Wait until a lease has not changed for its term, or was given back."""
        term = float(seen.content["term_s"])
        _log.warning("%s is leased to %s; waiting up to %g s for a sign of life", self._location, seen.holder, term)
        start = time.monotonic()
        while time.monotonic() - start < term:
            time.sleep(term / _RENEWALS / 4)
            now = self.read()
            if now is None or not now.held:
                return now
            if now.version != seen.version:
                raise StoreLockedError(self._refusal(now))
        return seen

    def _write(self, mode: "PutMode", *, held: bool = True) -> None:
        """Write the lease under a condition; a request that got through and was put again has come to pass."""
        turn = uuid.uuid4().hex  # no two states of a lease are alike: S3 makes its tags of the content
        content = json.dumps({**self._content, "held": held, "turn": turn}).encode()
        try:
            done = obstore.put(self._bucket, lease_key(self._location), content, mode=mode, use_multipart=False)
            self._version = _version_of(done["e_tag"], done["version"])
        except (AlreadyExistsError, PreconditionError):
            seen = self.read()
            if seen is None or seen.content["turn"] != turn:
                raise
            self._version = seen.version

    def _refusal(self, seen: _Lease | None) -> str:
        holder = seen.holder if seen else "another run that has just ended"
        return f"{self._location} is being written by {holder}; wait for it or stop it"

    def _parse(self, content: bytes) -> dict[str, Any]:
        with suppress(ValueError):
            content = json.loads(content)
            if isinstance(content, dict) and content.keys() >= {*self._content, "held", "turn"}:
                return content
        raise StoreError(f"{self._location}: the object {lease_key(self._location)} is no lease; move it away")

    @staticmethod
    def _tell_loss(seen: _Lease | None) -> str:
        taker = f"taken over by {seen.holder}" if seen else "removed"
        return f"the lease was lost, it was {taker}; what was committed stays, the rest is not written"


def _version_of(tag: str | None, version: str | None) -> "UpdateVersion":
    """Return the version that a conditional write names; obstore takes no empty parts."""
    found: UpdateVersion = {}
    if tag:
        found["e_tag"] = tag
    if version:
        found["version"] = version
    return found


def _machine() -> str:
    """Start of the machine and namespace in which process numbers count; empty where the system does not tell."""
    try:
        started = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{started} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return ""


def _runs(pid: int) -> bool:
    """Check that a process of this machine runs; one that has ended and was not waited for does not."""
    try:
        os.kill(pid, 0)
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except ProcessLookupError:
        return False
    except OSError:  # another user's
        return True
    return state not in "ZX"
