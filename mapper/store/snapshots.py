"""Commits of a store: those of its branches and tags, and those that led to a version."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

import icechunk

from mapper.store.errors import explain_faults
from mapper.store.ledger import Ledger
from mapper.store.repository import trace_ancestry

_MOST_NAMES = 500
"""Branches, and tags, that are looked up: each is a request to the storage."""


@dataclass(frozen=True, kw_only=True)
class Commit:
    """One version of a store."""

    snapshot: str
    written_at: datetime
    message: str


def find_branches(ledger: Ledger) -> Mapping[str, Commit]:
    """Return the last commit of each branch.

    Raises:
        StoreError: If the storage fails.
    """
    repository = ledger.repository
    with explain_faults("the store"):
        names = sorted(repository.list_branches())[:_MOST_NAMES]
        return {name: _look_up(ledger, repository.lookup_branch(name)) for name in names}


def find_tags(ledger: Ledger) -> Mapping[str, Commit]:
    """Return the commit that each tag stands for.

    Raises:
        StoreError: If the storage fails.
    """
    repository = ledger.repository
    with explain_faults("the store"):
        names = sorted(repository.list_tags())[:_MOST_NAMES]
        return {name: _look_up(ledger, repository.lookup_tag(name)) for name in names}


def trace_commits(ledger: Ledger, limit: int) -> list[Commit]:
    """Return the commits that led to a version, the latest first: itself, then those before it that have not expired.

    Raises:
        StoreError: If the storage fails.
    """
    with explain_faults("the store"):
        versions = trace_ancestry(ledger.repository, ledger.session.snapshot_id, limit)
        # the very first was made before the store was, and holds nothing
        return [_to_commit(info) for info in versions if info.parent_id is not None]


def _look_up(ledger: Ledger, snapshot: str) -> Commit:
    return _to_commit(next(iter(ledger.repository.ancestry(snapshot_id=snapshot))))


def _to_commit(info: icechunk.SnapshotInfo) -> Commit:
    return Commit(snapshot=info.id, written_at=info.written_at, message=info.message)
