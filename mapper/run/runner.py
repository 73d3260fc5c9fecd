"""Runs of a plan: every tile that is due is computed by an executor and committed to the store of a map or guide."""

import uuid
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from mapper.access.throttle import Throttle
from mapper.events import Callback, RunStarted
from mapper.execute.executors import Executor
from mapper.execute.memory_budget import process_budget
from mapper.execute.outcome import Prepared
from mapper.grid import Tile
from mapper.plan.context import MapContext, Task
from mapper.plan.guide_context import GuideContext
from mapper.plan.memory import memory_bytes
from mapper.plan.pending import find_pending
from mapper.plan.plan import Plan, check_plan
from mapper.plan.selection import order_tasks
from mapper.plan.task_table import TaskTable
from mapper.run.commit_loop import CommitLoop, RunPolicy, TileInput
from mapper.run.guide_tile import run_guide_task
from mapper.run.map_tile import load_predictor, run_task
from mapper.run.records import failed_record
from mapper.run.report import RunReport, TileFailure
from mapper.store.ledger import read_ledger
from mapper.store.record import Record
from mapper.store.repository import create_store
from mapper.store.writer import TileWriter, open_writer


def run_plan(
    plan: Plan,
    context: MapContext | GuideContext,
    location: str,
    executor: Executor,
    *,
    callbacks: Sequence[Callback] = (),
    policy: RunPolicy | None = None,
    redo: Collection[Tile] = (),
) -> RunReport:
    """Compute every tile of a plan that is due, and commit it to the store, which is made if it does not exist.

    Args:
        plan: Made for this context.
        context: What all tasks share.
        location: Directory, or s3://, gs://, az:// location of the store.
        executor: Where tiles are computed.
        callbacks: Receive every event, in this thread.
        policy: When to commit, when to give up.
        redo: Tiles to compute again although they are up to date.

    Returns:
        The report; ``exit_code`` is 1 if tiles failed or the run was interrupted.

    Raises:
        InputError: If plan, context and store do not belong together, or a worker finds the request wrong.
        StoreLockedError: If another run is writing.
        StoreFullError: If no space is left; what was committed stays.
        FailureBudgetError: If too many tiles failed; what was done is committed.
        ClusterError: If the cluster is gone; what was done is committed.
    """
    check_plan(plan, context)
    create_store(location, product=context.product)
    policy = policy or RunPolicy(commit_retry=context.options.backoff)
    run_id = uuid.uuid4().hex
    with open_writer(location, product=context.product, run_id=run_id) as writer:
        pending = find_pending(plan, read_ledger(location), redo=redo, explain=False)
        tasks, skipped = order_tasks(pending.tasks, policy.order), len(pending.done)
        kind = _MapTiles(writer=writer, context=context, tasks=tasks, run_id=run_id)
        loop = CommitLoop(kind=kind, tiles=len(tasks), policy=policy, callbacks=callbacks)
        begin = RunStarted(run_id=run_id, tiles=len(tasks), skipped=skipped, name=context.spec.name)
        stopped = loop.run(executor, begin)
        return _report(loop, run_id=run_id, skipped=skipped, stopped=stopped)


@dataclass(frozen=True, kw_only=True)
class _MapTiles:
    """Tiles of a map or guide; see :class:`mapper.run.commit_loop.TileKind`."""

    writer: TileWriter
    context: MapContext | GuideContext
    tasks: TaskTable
    run_id: str

    def prepare(self) -> None:
        """Make nothing: the store is there."""

    def groups(self) -> Iterable[Sequence[Task]]:
        """Return all tasks as one group."""
        return [self.tasks]

    def is_blocked(self, task: Task) -> bool:
        """Return False: no tile needs another."""
        del task
        return False

    def function(self, executor: Executor) -> Callable[[TileInput[Task]], tuple[Any, Record]]:
        """Return the function of all tiles, which every process prepares first."""
        compute = partial(compute_input, self.context, executor.throttle)
        return Prepared(compute, partial(prepare_process, self.context))

    def fail(self, task: Task, reason: str) -> Record:
        """Return the record of a tile that no worker could make."""
        return failed_record(self.context, task, reason)

    def add(self, fork: Any, result: Record) -> None:
        """Add a tile and its record to the next commit."""
        self.writer.add(fork, replace(result, run_id=self.run_id))

    def tile_of(self, task: Task) -> Tile:
        """Return the tile of a task."""
        return task.tile

    def name_of(self, task: Task) -> str:
        """Return row and column of a task."""
        return str(task.tile)


def compute_input(
    context: MapContext | GuideContext, throttle: Callable[[], Throttle], tile: TileInput[Task]
) -> tuple[Any, Record]:
    """Compute one tile as soon as the memory is free that it will need. Called in workers."""
    with process_budget().hold(float(memory_bytes(context, TaskTable.of([tile.task]))[0])):
        if isinstance(context, GuideContext):
            return run_guide_task(tile.fork, context, tile.task, throttle=throttle())
        return run_task(tile.fork, context, tile.task, throttle=throttle())


def prepare_process(context: MapContext | GuideContext) -> None:
    """Load the model, so that one that is missing or another shows before the first tile. Called in workers."""
    if isinstance(context, MapContext):
        load_predictor(context)


def _report(loop: CommitLoop[Task, Record], *, run_id: str, skipped: int, stopped: str) -> RunReport:
    return RunReport(
        run_id=run_id,
        tiles=loop.tiles,
        skipped=skipped,
        totals=loop.totals,
        commits=loop.commits,
        snapshot=loop.snapshot,
        seconds=loop.elapsed_s,
        commit_s=loop.commit_s,
        failures=tuple(TileFailure(tile=(task.tile.row, task.tile.col), reason=why) for task, why in loop.failures),
        stopped=stopped,
    )
