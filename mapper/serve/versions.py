"""Versions of the store that is served: found by name, and kept open.

A branch is looked up anew every second, so a commit is seen without a restart; the version it led to stays as it is
for as long as a request works on it. What was looked up is found again without touching the storage.

A version is not there in three ways. It never was: no such version. It has expired and was collected: gone for good,
and said so, since a client that has it open would take a chunk that is not found for the fill value. The store cannot
be seen, as when its disk is away: an error of the storage, never one of the two others.
"""

import re
import threading
import time
from collections import OrderedDict
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from fastapi import Request

from mapper.errors import InputError
from mapper.serve.settings import AppSettings
from mapper.store.description import Description, read_description
from mapper.store.errors import explain_faults
from mapper.store.ledger import Ledger
from mapper.store.ledger_arrays import read_snapshots
from mapper.store.map_store import MapStore
from mapper.store.repository import NoVersionError, confirm_there, open_snapshot
from mapper.store.zarr_keys import PlainZarr, open_plain

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_SEEN_S = 1.0
"""Seconds after which a version that was found by its id is looked for again: it may have been collected."""
_SNAPSHOT = re.compile(r"[0-9A-HJKMNP-TV-Z]{20}")


class UnknownVersionError(InputError):
    """The store has no such branch, tag or snapshot."""


class GoneVersionError(UnknownVersionError):
    """The store had such a snapshot, which has expired and was collected."""


@dataclass(frozen=True, kw_only=True)
class Version:
    """One snapshot of the store, open for reading."""

    snapshot: str
    ledger: Ledger
    zarr: PlainZarr

    @cached_property
    def description(self) -> Description:
        """Return the description of the store, read once."""
        with explain_faults("the store"):
            return read_description(self.ledger.session.store)

    @cached_property
    def past_snapshots(self) -> frozenset[str]:
        """Return the ids of earlier versions that its ledger knows, whether they are kept or gone."""
        with explain_faults("the store"):
            return read_snapshots(self.ledger.session.store)


@dataclass(frozen=True, kw_only=True)
class ResolvedVersion:
    """Version that a name stands for at the moment."""

    version: Version
    fixed: bool
    """True if the name stands for it for ever, as a snapshot id alone does."""


class Versions:
    """The repository of a server, opened once; for use by many threads.

    Args:
        location: Directory, or s3://, gs://, az:// location.
        stale_after_s: Seconds after which a name is looked up anew.
        max_open: Versions that stay open; one in use stays usable when it is dropped.

    Raises:
        StoreError: If there is no store.
    """

    def __init__(self, location: str | Path, *, stale_after_s: float = 1.0, max_open: int = 8) -> None:
        self._location = str(location)
        self._repository = MapStore.open(location).repository
        self._stale_after_s = stale_after_s
        self._max_open = max_open
        self._lock = threading.Lock()
        self._open: OrderedDict[str, Version] = OrderedDict()
        self._heads: dict[str, tuple[str, float]] = {}
        self._seen: dict[str, float] = {}
        """Time at which each open version was last found in the storage."""
        self._names: tuple[frozenset[str], frozenset[str], float] = (frozenset(), frozenset(), float("-inf"))

    def find(self, ref: str) -> ResolvedVersion:
        """Return the version that a branch, tag or snapshot id stands for; this may wait for the storage.

        Raises:
            GoneVersionError: If it was there, and is gone for good.
            UnknownVersionError: If there is none.
            StoreError: If the storage fails, or cannot be seen.
        """
        known = self.find_cached(ref)
        if known:
            return known
        if not _NAME.fullmatch(ref):
            raise UnknownVersionError("no such version: expected a branch, a tag or a snapshot id")
        with explain_faults(self._location):
            since = time.monotonic()
            snapshot, fixed = self._look_up(ref)
            try:
                version = self._open_version(snapshot)
            except NoVersionError as error:
                if not fixed:
                    raise
                was_there = self._drop(snapshot) or snapshot in self.find("main").version.past_snapshots
                if was_there:
                    gone = f"version {snapshot} has expired and was collected: it is gone for good"
                    raise GoneVersionError(gone) from error
                raise UnknownVersionError(str(error)) from error
            if not fixed:
                with self._lock:
                    self._heads[ref] = snapshot, since
            return ResolvedVersion(version=version, fixed=fixed)

    def find_cached(self, ref: str) -> ResolvedVersion | None:
        """Return the same if it is known without asking the storage, else None."""
        with self._lock:
            head, since = self._heads.get(ref, ("", self._seen.get(ref, 0.0)))
            version = self._open.get(head or ref)
            if version is None or time.monotonic() - since > (self._stale_after_s if head else _SEEN_S):
                return None
            self._open.move_to_end(version.snapshot)
            return ResolvedVersion(version=version, fixed=not head)

    def recall(self, snapshot: str) -> Version | None:
        """Return a version that is open, without a look at the storage; None if it is not."""
        with self._lock:
            return self._open.get(snapshot)

    def list_names(self) -> tuple[list[str], list[str]]:
        """Return the names of branches and of tags.

        Raises:
            StoreError: If the storage fails.
        """
        with explain_faults(self._location):
            branches, tags = self._read_names()
        return sorted(branches), sorted(tags)

    def _look_up(self, ref: str) -> tuple[str, bool]:
        """Return the snapshot id of a name, and True if the name is that id."""
        branches, tags = self._read_names()
        if ref in branches or ref in tags:
            find = self._repository.lookup_branch if ref in branches else self._repository.lookup_tag
            return str(find(ref)), False
        if _SNAPSHOT.fullmatch(ref):
            return ref, True
        raise UnknownVersionError("no such version: expected a branch, a tag or a snapshot id")

    def _read_names(self) -> tuple[frozenset[str], frozenset[str]]:
        branches, tags, since = self._names
        if time.monotonic() - since <= self._stale_after_s:
            return branches, tags
        since = time.monotonic()
        branches, tags = frozenset(self._repository.list_branches()), frozenset(self._repository.list_tags())
        if "main" not in branches:
            confirm_there(self._repository)
        with self._lock:
            self._names = branches, tags, since
            self._heads = {name: head for name, head in self._heads.items() if name in branches or name in tags}
        return branches, tags

    def _open_version(self, snapshot: str) -> Version:
        """Return a version, opened before or now; it is looked for in the storage in either case."""
        since = time.monotonic()
        session = open_snapshot(self._repository, snapshot)
        if session.snapshot_id != snapshot:  # Icechunk takes several spellings of one id
            raise UnknownVersionError("no such version: expected a branch, a tag or a snapshot id")
        with self._lock:
            version = self._open.get(snapshot)
        if version is None:
            ledger = Ledger(repository=self._repository, session=session)
            version = Version(snapshot=snapshot, ledger=ledger, zarr=open_plain(session))
        with self._lock:
            version = self._open.setdefault(snapshot, version)
            self._open.move_to_end(snapshot)
            self._seen[snapshot] = since
            while len(self._open) > self._max_open:
                self._seen.pop(self._open.popitem(last=False)[0], None)
        return version

    def _drop(self, snapshot: str) -> bool:
        """Forget a version; return True if it was open."""
        with self._lock:
            self._seen.pop(snapshot, None)
            return self._open.pop(snapshot, None) is not None


@dataclass(frozen=True, kw_only=True)
class ServedStore:
    """Versions that are served, with the settings of the server."""

    versions: Versions
    settings: AppSettings

    def base_url(self, request: Request) -> str:
        """Return the address at which clients reach the server, without a slash at the end.

        Without one that is fixed it is what the client claims it to be: no cache may keep such an answer.
        """
        return (self.settings.public_url or str(request.base_url)).rstrip("/")

    def cache_control(self, *, fixed: bool, names_server: bool = False) -> str:
        """Return ``Cache-Control`` of an answer: a snapshot's is cached for ever, any other is asked again.

        What a token protects is not for caches that others share, what names a host that a client claims for none.
        """
        if names_server and not self.settings.public_url:
            return "no-store"
        if not fixed:
            return "no-cache"
        return f"{'private' if self.settings.token else 'public'}, max-age=31536000, immutable"
