"""A plan, a store and an executor become a map: tiles are handed out, taken back and committed, until none is due.

Only this thread touches the store's writer. Commits happen between two outcomes, after so many tiles or seconds, while
the executor goes on with other tiles. However a run ends, what came back is committed first, and a later run goes on
from there.
"""

import logging
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from typing import Any

from mapper.access.retry import Attempts
from mapper.access.throttle import Throttle
from mapper.errors import (
    FailureBudgetError,
    InputError,
    StoreError,
    StoreFullError,
    StoreLockedError,
    TransientStoreError,
)
from mapper.events import (
    BatchCommitted,
    Callback,
    Event,
    ReadRetried,
    RunFinished,
    RunStarted,
    TileFinished,
    TileRetried,
)
from mapper.execute.executors import Executor
from mapper.execute.interrupts import Interrupted, Interrupts
from mapper.execute.memory_budget import process_budget
from mapper.execute.outcome import Outcome, Prepared
from mapper.grid import Tile
from mapper.monitor.utilisation import DeviceUse
from mapper.plan.context import MapContext, Task
from mapper.plan.guide_context import GuideContext
from mapper.plan.memory import memory_bytes
from mapper.plan.pending import find_pending
from mapper.plan.plan import Plan, check_plan
from mapper.plan.selection import Order, order_tasks
from mapper.run.guide_tile import run_guide_task
from mapper.run.map_tile import load_predictor, run_task
from mapper.run.records import failed_record
from mapper.run.report import RunReport, TileFailure
from mapper.store.ledger import read_ledger
from mapper.store.record import Record
from mapper.store.repository import create_store
from mapper.store.writer import Writer, open_writer
from mapper.text import describe_error

_LEAST_BUDGET = 10
_BUDGET_SHARE = 0.01
_logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class RunPolicy:
    """When to commit, when to give up, what to do again."""

    every: int = 32
    """Tiles in one commit."""
    seconds: float = 60.0
    """Seconds after which fewer tiles are committed too."""
    failure_budget: int | None = None
    """Failed tiles that are borne; one more ends the run. None: 10, or 1 % of the tiles if that is more."""
    window: int | None = None
    """Tiles in flight; None takes what suits the executor."""
    redo: tuple[Tile, ...] = ()
    """Tiles to compute again although they are up to date."""
    order: Order = "blocks"
    """In which order tiles are handed out; see :mod:`mapper.plan.selection`."""


@dataclass(frozen=True)
class TileInput:
    """What an executor hands to a worker for one tile."""

    fork: Any
    task: Task


@dataclass
class _Tally:
    counts: Counter[str] = field(default_factory=Counter)
    stages: Counter[str] = field(default_factory=Counter)
    failures: list[TileFailure] = field(default_factory=list)
    retries: Counter[str] = field(default_factory=Counter)
    requests: int = 0
    bytes_read: int = 0
    pixels: int = 0
    commits: int = 0
    committed: int = 0
    commit_s: float = 0.0
    snapshot: str = ""
    use: DeviceUse = field(default_factory=DeviceUse)


def run_plan(
    plan: Plan,
    context: MapContext | GuideContext,
    location: str,
    executor: Executor,
    *,
    callbacks: Sequence[Callback] = (),
    policy: RunPolicy | None = None,
) -> RunReport:
    """Compute every tile of a plan that is due, and commit it to the store, which is made if it does not exist.

    Args:
        plan: Made for this context.
        context: What all tasks share.
        location: Directory, or s3://, gs://, az:// location of the store.
        executor: Where tiles are computed.
        callbacks: Hear of every event, in this thread.
        policy: When to commit, when to give up.

    Returns:
        What was done; ``exit_code`` is 1 if tiles failed or the run was interrupted.

    Raises:
        InputError: If plan, context and store do not belong together, or a worker finds the request wrong.
        StoreLockedError: If another run is writing.
        StoreFullError: If no space is left; what was committed stays.
        FailureBudgetError: If too many tiles failed; what was done is committed.
        ClusterError: If the cluster is gone; what was done is committed.
    """
    check_plan(plan, context)
    create_store(location, product=context.product)
    policy = policy or RunPolicy()
    run_id = uuid.uuid4().hex
    with open_writer(location, product=context.product, run_id=run_id) as writer:
        pending = find_pending(plan, read_ledger(location), redo=policy.redo, explain=False)
        tasks = order_tasks(pending.tasks, policy.order)
        run = _Run(writer=writer, context=context, policy=policy, callbacks=callbacks, run_id=run_id, tiles=len(tasks))
        dashboard = getattr(executor, "dashboard", "") if tasks else ""
        begin = RunStarted(run_id=run_id, tiles=len(tasks), skipped=len(pending.done))
        run.tell(replace(begin, name=context.spec.name, dashboard=dashboard))
        stopped = run.work(executor, tasks)
        return run.report(skipped=len(pending.done), stopped=stopped)


@dataclass(kw_only=True)
class _Run:
    """One run in progress."""

    writer: Writer
    context: MapContext | GuideContext
    policy: RunPolicy
    callbacks: Sequence[Callback]
    run_id: str
    tiles: int
    tally: _Tally = field(default_factory=_Tally)
    started: float = field(default_factory=time.monotonic)
    committed_at: float = field(default_factory=time.monotonic)

    def work(self, executor: Executor, tasks: Sequence[Task]) -> str:
        """Run tasks to the end, whatever the end is; returns why it was stopped, or nothing."""
        try:
            if tasks:
                with Interrupts() as interrupts:
                    self._drain(executor, tasks, interrupts)
        except Interrupted as interruption:
            self.commit()
            return str(interruption)
        except StoreFullError as error:
            raise StoreFullError(f"{self._save_what_fits(error)}") from error
        except (StoreLockedError, TransientStoreError):  # it was the commit that failed
            _logger.warning("%d finished tiles could not be committed", self.writer.pending)
            raise
        except BaseException:
            self.commit()
            raise
        finally:
            self.tell(self._finish())
        return ""

    def _drain(self, executor: Executor, tasks: Sequence[Task], interrupts: Interrupts) -> None:
        compute = partial(compute_input, self.context, executor.throttle)
        function = Prepared(compute, partial(prepare_process, self.context))
        outcomes = executor.run(function, self._inputs(tasks), window=self.policy.window)
        try:
            while (outcome := interrupts.wait(partial(next, outcomes, None))) is not None:
                self._take(outcome)
                if self.writer.pending >= self.policy.every or self._age() >= self.policy.seconds:
                    self.commit()
                interrupts.check()
        finally:
            _close(outcomes)
        self.commit()

    def _inputs(self, tasks: Sequence[Task]) -> Iterator[TileInput]:
        for task in tasks:
            yield TileInput(self.writer.fork(), task)

    def _take(self, outcome: Outcome[TileInput, tuple[Any, Record]]) -> None:
        """Add one outcome to the next commit."""
        task = outcome.input.task
        if outcome.result is not None:
            fork, record = outcome.result
        elif isinstance(outcome.error, InputError | StoreFullError):
            raise outcome.error
        else:
            reason = describe_error(outcome.error or RuntimeError("no result"))
            fork, record = None, failed_record(self.context, task, reason)
        record = replace(record, run_id=self.run_id, attempts=record.attempts + outcome.attempts - 1)
        self.writer.add(fork, record)
        if record.attempts > 1:
            reason = record.reason or ("lost by the cluster" if outcome.attempts > 1 else "transient read errors")
            self.tell(TileRetried(tile=_pair(record.tile), attempt=record.attempts, reason=reason))
        self._count(record)

    def _count(self, record: Record) -> None:
        tally = self.tally
        tally.counts[record.status] += 1
        tally.pixels += record.valid_px
        tally.stages.update(record.seconds)
        tally.requests += record.requests
        tally.bytes_read += record.bytes_read
        use = {name: getattr(record, name) for name in ("worker", "device", "seconds", "device_s", "device_slots")}
        tally.use.add(**use)
        tally.retries.update(retry.reason for retry in record.retries)
        for retry in record.retries:
            self.tell(ReadRetried(tile=_pair(record.tile), **asdict(retry)))
        self.tell(
            TileFinished(
                tile=_pair(record.tile),
                status=record.status,
                reason=record.reason,
                pixels=record.valid_px,
                requests=record.requests,
                bytes_read=record.bytes_read,
                **use,
            )
        )
        if record.status == "failed":
            tally.failures.append(TileFailure(tile=_pair(record.tile), reason=record.reason))
            self._check_budget()

    def _check_budget(self) -> None:
        budget = self.policy.failure_budget
        if budget is None:
            budget = max(_LEAST_BUDGET, round(_BUDGET_SHARE * self.tiles))
        failed = self.tally.counts["failed"]
        if failed > budget:
            raise FailureBudgetError(
                f"{failed} of {self.tally.counts.total()} tiles failed, {budget} are borne; stopped, what was done is "
                f"committed; the last failure: tile {self.tally.failures[-1]}"
            )

    def commit(self) -> None:
        """Make durable what came back; nothing to do is no commit."""
        start, tiles = time.monotonic(), self.writer.pending
        snapshot = Attempts(self.context.options.backoff).call(self.writer.commit)
        self.committed_at = time.monotonic()
        if snapshot:
            self.tally.snapshot = snapshot
            self.tally.commits += 1
            self.tally.commit_s += self.committed_at - start
            self.tally.committed += tiles
            self.tell(BatchCommitted(snapshot=snapshot, tiles=tiles, seconds=self.committed_at - start))

    def _save_what_fits(self, error: StoreFullError) -> str:
        try:
            self.commit()  # a few small objects may still fit where a shard did not
        except StoreError:
            _logger.info("%d tiles could not be committed", self.writer.pending)
        return f"{error}; {self.tally.committed} tiles of this run are committed, run again to go on from there"

    def _age(self) -> float:
        return time.monotonic() - self.committed_at if self.writer.pending else 0.0

    def tell(self, event: Event) -> None:
        """Tell all callbacks."""
        for callback in self.callbacks:
            callback(event)

    def _finish(self) -> RunFinished:
        counts = self.tally.counts
        return RunFinished(
            done=counts["ok"], empty=counts["empty"], failed=counts["failed"], seconds=time.monotonic() - self.started
        )

    def report(self, *, skipped: int, stopped: str) -> RunReport:
        """What was done."""
        tally = self.tally
        return RunReport(
            run_id=self.run_id,
            tiles=self.tiles,
            skipped=skipped,
            done=tally.counts["ok"],
            empty=tally.counts["empty"],
            failed=tally.counts["failed"],
            commits=tally.commits,
            snapshot=tally.snapshot,
            seconds=time.monotonic() - self.started,
            stage_seconds=dict(tally.stages),
            commit_s=tally.commit_s,
            device_s=tally.use.total_s,
            device_slots=tally.use.total_slots,
            workers=tally.use.workers(),
            pixels=tally.pixels,
            requests=tally.requests,
            bytes_read=tally.bytes_read,
            retries=dict(tally.retries),
            failures=tuple(tally.failures),
            stopped=stopped,
        )


def compute_input(
    context: MapContext | GuideContext, throttle: Callable[[], Throttle], tile: TileInput
) -> tuple[Any, Record]:
    """What a worker calls, as soon as the memory is free that the tile will need."""
    with process_budget().hold(float(memory_bytes(context, [tile.task])[0])):
        if isinstance(context, GuideContext):
            return run_guide_task(tile.fork, context, tile.task, throttle=throttle())
        return run_task(tile.fork, context, tile.task, throttle=throttle())


def prepare_process(context: MapContext | GuideContext) -> None:
    """What a process does before its first tile: a model that is missing or another shows here."""
    if isinstance(context, MapContext):
        load_predictor(context)


def _close(outcomes: Iterator[Any]) -> None:
    close: Callable[[], None] | None = getattr(outcomes, "close", None)
    if close:
        close()


def _pair(tile: Tile) -> tuple[int, int]:
    return tile.row, tile.col
