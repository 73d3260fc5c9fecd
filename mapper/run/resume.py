"""What is left to do: a plan against the ledger of its store, with a reason for every tile that is due."""

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Literal

from mapper.catalog.items import item_digest
from mapper.grid import Tile
from mapper.run.context import Task
from mapper.run.plan import Plan
from mapper.store.ledger import Ledger
from mapper.store.record import Record
from mapper.store.staleness import Expected, explain_stale
from mapper.store.verify import VerifyReport

Cause = Literal["new", "failed", "stale", "redo"]


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

    done: tuple[Task, ...]
    todo: tuple[Due, ...]

    @property
    def causes(self) -> Mapping[str, int]:
        """Tiles that are due, by cause."""
        return Counter(due.cause for due in self.todo)


def find_pending(plan: Plan, ledger: Ledger | None, *, redo: Collection[Tile] = (), explain: bool = True) -> Pending:
    """Split a plan into what is done and what is due.

    Args:
        plan: All tasks.
        ledger: Of the store; None for a store that does not exist yet.
        redo: Tiles to compute again whatever the ledger says of them.
        explain: False does not read the records of failed and stale tiles, and tells no more than the cause.
    """
    entries = ledger.entries if ledger else {}
    again = frozenset(redo)
    done: list[Task] = []
    causes: list[tuple[Task, Cause]] = []
    for task in plan.tasks:
        entry = entries.get(task.tile)
        if entry is None:
            causes.append((task, "new"))
        elif task.tile in again:  # before anything that would read its record, which may be what is damaged
            causes.append((task, "redo"))
        elif entry.status == "failed":
            causes.append((task, "failed"))
        elif entry.task_id != task.id:
            causes.append((task, "stale"))
        else:
            done.append(task)
    explained = [task.tile for task, cause in causes if explain and cause in ("failed", "stale")]
    records = _read_records(ledger, explained)
    todo = (Due(task=task, cause=cause, reason=_explain(task, cause, plan, records)) for task, cause in causes)
    return Pending(done=tuple(done), todo=tuple(todo))


def plan_repair(plan: Plan, report: VerifyReport) -> Plan:
    """The part of a plan that makes a store whole: its missing, stale and corrupt tiles.

    Corrupt tiles may be up to date by the ledger: a run must be told to do them again (``RunPolicy.redo``). Failed
    tiles are left to a run: what made them fail is no damage of the store.
    """
    damaged = {*report.missing, *report.stale, *report.corrupt}
    return replace(plan, tasks=tuple(task for task in plan.tasks if task.tile in damaged))


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
    return {task.tile: expect_task(plan, task) for task in plan.tasks}


def _explain(task: Task, cause: Cause, plan: Plan, records: Mapping[Tile, Record]) -> str:
    record = records.get(task.tile)
    if cause == "stale" and record:
        return explain_stale(record, expect_task(plan, task))
    if cause == "failed" and record:
        return f"failed before: {record.reason}"
    return {"new": "never computed", "redo": "asked for"}.get(cause, cause)


def _read_records(ledger: Ledger | None, tiles: list[Tile]) -> dict[Tile, Record]:
    """Records of some tiles, each commit read once."""
    if ledger is None:
        return {}
    wanted = frozenset(tiles)
    batches = {ledger.entries[tile].batch for tile in tiles}
    return {
        record.tile: record
        for batch in batches
        for record in ledger.records_of(batch)
        if record.tile in wanted and ledger.entries[record.tile].batch == batch
    }
