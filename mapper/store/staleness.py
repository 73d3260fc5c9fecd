"""Reasons why a tile that was made is not the tile that would be made now."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from mapper.store.identity import Identity
from mapper.store.record import Record

_NAMED = 3
"""Items named one by one in a reason; the rest are counted."""


@dataclass(frozen=True, kw_only=True)
class Expected:
    """Inputs that a tile would be made from now."""

    task_id: str
    items: Mapping[str, str] = field(default_factory=dict)
    """Digest of each item, by ``collection/id``."""
    model: str = ""
    identity: Identity = field(default_factory=Identity)
    """Digests of the product; those of items are compared one by one."""
    code_version: str = ""

    @classmethod
    def of(cls, record: Record) -> "Expected":
        """Return the inputs that a record was made from."""
        return cls(
            task_id=record.task_id,
            items={f"{item.collection}/{item.id}": item.digest for item in record.items},
            model=record.model,
            identity=replace(Identity.of(record), items=""),
            code_version=record.code_version,
        )


def explain_stale(record: Record, expected: Expected) -> str:
    """Explain what changed since a tile was made; empty if its task id is the expected one."""
    if record.task_id == expected.task_id:
        return ""
    made = Expected.of(record)
    reasons = _compare_items(made.items, expected.items)
    changed = made.identity.differences(expected.identity)
    labels = {"model": (f"{made.model} ", f"{expected.model or made.model} ")}
    for name in ("model", "spec", "grid"):
        if name in changed:
            (before, now), (was, becomes) = labels.get(name, ("", "")), changed[name]
            reasons.append(f"{name} changed: {before}{_short(was)} -> {now}{_short(becomes)}")
    if not reasons and expected.code_version and made.code_version != expected.code_version:
        reasons.append(f"code changed: {made.code_version} -> {expected.code_version}")
    return "; ".join(reasons) or f"task id {record.task_id}, expected {expected.task_id}"


def _compare_items(made: Mapping[str, str], expected: Mapping[str, str]) -> list[str]:
    changed = sorted(key for key in made.keys() & expected.keys() if made[key] != expected[key])
    reasons = [
        f"item changed: {key} {_short(made[key])} -> {_short(expected[key])}" for key in changed[:_NAMED]
    ] + _count_more(changed, "changed")
    for keys, what in ((expected.keys() - made.keys(), "added"), (made.keys() - expected.keys(), "removed")):
        reasons += [f"item {what}: {key}" for key in sorted(keys)[:_NAMED]] + _count_more(sorted(keys), what)
    return reasons


def _count_more(keys: list[str], what: str) -> list[str]:
    return [f"{len(keys) - _NAMED} more items {what}"] if len(keys) > _NAMED else []


def _short(digest: str) -> str:
    return digest[:12] or "unknown"
