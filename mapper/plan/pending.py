"""What is left to do: a plan against the ledger of its store, with a reason for every tile that is due."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, overload

import numpy as np
import numpy.typing as npt

from mapper.catalog.items import item_digest
from mapper.grid import Tile
from mapper.plan.context import Task
from mapper.plan.plan import Plan
from mapper.plan.task_table import TaskTable
from mapper.store.ledger import Ledger
from mapper.store.ledger_arrays import STATUS_CODES
from mapper.store.record import Record
from mapper.store.staleness import Expected, explain_stale
from mapper.store.verify import VerifyReport

Cause = Literal["new", "failed", "stale", "redo"]
CAUSES: tuple[Cause, ...] = ("new", "failed", "stale", "redo")
_DONE = len(CAUSES)


@dataclass(frozen=True, kw_only=True)
class Due:
    """A task that is to be run, and why."""

    task: Task
    cause: Cause
    """``new``: never attempted; ``failed``: last attempt; ``stale``: made from other inputs; ``redo``: asked for."""
    reason: str


@dataclass(frozen=True, kw_only=True)
class Pending:
    """A plan, split by what its store already holds."""

    done: TaskTable
    tasks: TaskTable
    """Tasks that are due."""
    codes: npt.NDArray[np.uint8]
    """For each of them, the index of its cause in ``CAUSES``."""
    reasons: Mapping[Tile, str]
    """For people, where there is more to say than the cause."""

    @property
    def causes(self) -> Mapping[str, int]:
        """Tiles that are due, by cause."""
        counts = np.bincount(self.codes, minlength=len(CAUSES)).tolist()
        return {cause: count for cause, count in zip(CAUSES, counts, strict=True) if count}

    @property
    def todo(self) -> Sequence[Due]:
        """Those that are due, each with its reason, made when it is asked for."""
        return _Dues(self)


class _Dues(Sequence[Due]):
    def __init__(self, pending: Pending) -> None:
        self._pending = pending

    def __len__(self) -> int:
        return len(self._pending.tasks)

    @overload
    def __getitem__(self, index: int) -> Due: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Due, ...]: ...
    def __getitem__(self, index: int | slice) -> Due | tuple[Due, ...]:
        if isinstance(index, slice):
            return tuple(self[number] for number in range(len(self))[index])
        task, cause = self._pending.tasks[index], CAUSES[self._pending.codes[index]]
        plain = {"new": "never computed", "redo": "asked for"}.get(cause, cause)
        return Due(task=task, cause=cause, reason=self._pending.reasons.get(task.tile, plain))


def find_pending(plan: Plan, ledger: Ledger | None, *, redo: Collection[Tile] = (), explain: bool = True) -> Pending:
    """Split a plan into what is done and what is due.

    Args:
        plan: All tasks.
        ledger: Of the store; None for a store that does not exist yet.
        redo: Tiles to compute again whatever the ledger says of them.
        explain: False does not read the records of failed and stale tiles, and tells no more than the cause.
    """
    codes = _find_causes(plan, ledger, frozenset(redo))
    due = np.flatnonzero(codes != _DONE)
    tasks = plan.tasks.take(due)
    failed, stale = (
        plan.tasks.take(np.flatnonzero((codes == CAUSES.index(cause)) & explain)) for cause in ("failed", "stale")
    )
    records = _read_records(ledger, [*failed.tiles, *stale.tiles])
    reasons = {tile: f"failed before: {records[tile].reason}" for tile in failed.tiles if tile in records}
    reasons |= {
        task.tile: explain_stale(records[task.tile], expect_task(plan, task)) for task in stale if task.tile in records
    }
    done = plan.tasks.take(np.flatnonzero(codes == _DONE))
    return Pending(done=done, tasks=tasks, codes=codes[due], reasons=reasons)


def _find_causes(plan: Plan, ledger: Ledger | None, redo: frozenset[Tile]) -> npt.NDArray[np.uint8]:
    """For each task the index of its cause, or that it is done."""
    if ledger is None:
        return np.full(len(plan.tasks), CAUSES.index("new"), np.uint8)
    rows, cols = plan.tasks.indices.T
    state, same = ledger.state[rows, cols], (ledger.tasks[rows, cols] == plan.tasks.ids).all(axis=1)
    again = np.array([tile in redo for tile in plan.tasks.tiles] if redo else np.zeros(len(rows)), bool)
    causes = [
        (state == 0, "new"),
        (again, "redo"),  # before anything that would read its record, which may be what is damaged
        (state == STATUS_CODES["failed"], "failed"),
        (~same, "stale"),
    ]
    conditions = [condition for condition, _ in causes]
    return np.select(conditions, [CAUSES.index(cause) for _, cause in causes], _DONE).astype(np.uint8)


def plan_repair(plan: Plan, report: VerifyReport) -> Plan:
    """The part of a plan that makes a store whole: its missing, stale and corrupt tiles.

    Corrupt tiles may be up to date by the ledger: a run must be told to do them again (``redo`` of a run). Failed
    tiles are left to a run: what made them fail is no damage of the store.
    """
    damaged = {*report.missing, *report.stale, *report.corrupt}
    chosen = np.flatnonzero([tile in damaged for tile in plan.tasks.tiles])
    return replace(plan, tasks=plan.tasks.take(chosen))


def expect_task(plan: Plan, task: Task) -> Expected:
    """What a tile would be made from now."""
    return Expected(
        task_id=task.id,
        items={
            f"{item['collection']}/{item['id']}": item_digest(item)
            for items in (task.guide, task.source)
            for item in items
        },
        model_digest=plan.model_digest,
        spec_digest=plan.spec_digest,
        grid_digest=plan.grid_digest,
    )


def expect_tiles(plan: Plan) -> dict[Tile, Expected]:
    """What every tile of a plan would be made from now."""
    named = [(f"{item['collection']}/{item['id']}", item_digest(item)) for item in plan.tasks.items]
    roles = plan.tasks.guide, plan.tasks.source
    return {
        tile: Expected(
            task_id=name,
            items={key: digest for role in roles for key, digest in map(named.__getitem__, role.of(number).tolist())},
            model_digest=plan.model_digest,
            spec_digest=plan.spec_digest,
            grid_digest=plan.grid_digest,
        )
        for number, (tile, name) in enumerate(zip(plan.tasks.tiles, plan.tasks.names, strict=True))
    }


def _read_records(ledger: Ledger | None, tiles: list[Tile]) -> dict[Tile, Record]:
    """Records of some tiles, each commit read once."""
    if ledger is None:
        return {}
    writers = ledger.writers if tiles else np.zeros((0, 0), np.uint32)
    wanted = {tile: int(writers[tile.row, tile.col]) for tile in tiles}
    return {
        record.tile: record
        for batch in sorted(set(wanted.values()))
        for record in ledger.records_of(batch)
        if wanted.get(record.tile) == batch
    }
