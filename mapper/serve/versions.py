"""Which version of the store a request means, and the versions that are open.

A branch is looked up anew every second, so a commit is seen without a restart; the version it led to stays as it is
for as long as a request works on it. What was looked up is recalled without touching the storage.
"""

import re
import threading
import time
from collections import OrderedDict
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from fastapi import Request

from mapper.errors import InputError, StoreError
from mapper.serve.settings import AppSettings
from mapper.store.description import Description, read_description
from mapper.store.errors import explain_faults
from mapper.store.ledger import Ledger
from mapper.store.map_store import MapStore
from mapper.store.repository import open_session
from mapper.store.zarr_keys import PlainZarr, open_plain

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


_SNAPSHOT = re.compile(r"[0-9A-HJKMNP-TV-Z]{20}")


class UnknownVersionError(InputError):
    """The store has no such branch, tag or snapshot."""


@dataclass(frozen=True, kw_only=True)
class Version:
    """One snapshot of the store, open for reading."""

    snapshot: str
    ledger: Ledger
    zarr: PlainZarr

    @cached_property
    def description(self) -> Description:
        """What the store says of itself."""
        return read_description(self.ledger.session.store)


@dataclass(frozen=True, kw_only=True)
class Found:
    """What a name stands for at the moment."""

    version: Version
    fixed: bool
    """Whether it stands for that for ever: true of a snapshot id alone."""


class Versions:
    """The repository of a server, opened once; for use by many threads.

    Args:
        location: Directory, or s3://, gs://, az:// location.
        stale_after_s: How long a name may be recalled before it is looked up anew.
        kept: Versions kept open; one in use stays usable when it is dropped.

    Raises:
        StoreError: If there is no store.
    """

    def __init__(self, location: str | Path, *, stale_after_s: float = 1.0, kept: int = 8) -> None:
        self._location = str(location)
        self._repository = MapStore.open(location).repository
        self._stale_after_s = stale_after_s
        self._kept = kept
        self._lock = threading.Lock()
        self._open: OrderedDict[str, Version] = OrderedDict()
        self._heads: dict[str, tuple[str, float]] = {}
        self._names: tuple[frozenset[str], frozenset[str], float] = (frozenset(), frozenset(), float("-inf"))

    def find(self, ref: str) -> Found:
        """The version that a branch, tag or snapshot id stands for; this may wait for the storage.

        Raises:
            UnknownVersionError: If there is none.
            StoreError: If the storage fails.
        """
        known = self.recall(ref)
        if known:
            return known
        if not _NAME.fullmatch(ref):
            raise UnknownVersionError("no such version: expected a branch, a tag or a snapshot id")
        with explain_faults(self._location):
            snapshot, fixed = self._look_up(ref)
            return Found(version=self._open_version(snapshot), fixed=fixed)

    def recall(self, ref: str) -> Found | None:
        """The same, if it is known without asking the storage."""
        with self._lock:
            head, since = self._heads.get(ref, ("", 0.0))
            if head and time.monotonic() - since > self._stale_after_s:
                return None
            version = self._open.get(head or ref)
            if version is None:
                return None
            self._open.move_to_end(version.snapshot)
            return Found(version=version, fixed=not head)

    def names(self) -> tuple[list[str], list[str]]:
        """Branches and tags.

        Raises:
            StoreError: If the storage fails.
        """
        with explain_faults(self._location):
            branches, tags = self._list_names()
        return sorted(branches), sorted(tags)

    def _look_up(self, ref: str) -> tuple[str, bool]:
        """Snapshot id, and whether that is what was asked for."""
        branches, tags = self._list_names()
        if ref in branches or ref in tags:
            since = time.monotonic()
            find = self._repository.lookup_branch if ref in branches else self._repository.lookup_tag
            snapshot = str(find(ref))
            with self._lock:
                self._heads[ref] = snapshot, since
            return snapshot, False
        if _SNAPSHOT.fullmatch(ref):
            return ref, True
        raise UnknownVersionError("no such version: expected a branch, a tag or a snapshot id")

    def _list_names(self) -> tuple[frozenset[str], frozenset[str]]:
        branches, tags, since = self._names
        if time.monotonic() - since <= self._stale_after_s:
            return branches, tags
        since = time.monotonic()
        branches, tags = frozenset(self._repository.list_branches()), frozenset(self._repository.list_tags())
        with self._lock:
            self._names = branches, tags, since
            self._heads = {name: head for name, head in self._heads.items() if name in branches or name in tags}
        return branches, tags

    def _open_version(self, snapshot: str) -> Version:
        with self._lock:
            if snapshot in self._open:
                return self._open[snapshot]
        try:
            session = open_session(self._repository, ref=snapshot)
        except StoreError as error:
            raise UnknownVersionError(str(error)) from error
        if session.snapshot_id != snapshot:  # Icechunk takes several spellings of one id
            raise UnknownVersionError("no such version: expected a branch, a tag or a snapshot id")
        ledger = Ledger(repository=self._repository, session=session)
        version = Version(snapshot=snapshot, ledger=ledger, zarr=open_plain(session))
        with self._lock:
            self._open[snapshot] = version
            while len(self._open) > self._kept:
                self._open.popitem(last=False)
        return version


@dataclass(frozen=True, kw_only=True)
class Served:
    """What is served, and how."""

    versions: Versions
    settings: AppSettings

    def base_url(self, request: Request) -> str:
        """Where clients reach the server, without a slash at the end."""
        return (self.settings.public_url or str(request.base_url)).rstrip("/")

    def say_caching(self, *, fixed: bool) -> str:
        """``Cache-Control`` of an answer: a snapshot's is kept for ever, any other is asked again.

        What a token protects is not for caches that others share.
        """
        if not fixed:
            return "no-cache"
        return f"{'private' if self.settings.token else 'public'}, max-age=31536000, immutable"
