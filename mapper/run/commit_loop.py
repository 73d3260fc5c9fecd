"""The loop that makes tiles and commits them: of a map, of its guide, and of the levels of a pyramid.

Only this thread touches the store's writer. Commits happen between two outcomes, after so many tiles or seconds, while
the executor goes on with other tiles. However a run ends, what came back is committed first, and a later run goes on
from there.
"""

import logging
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from typing import Any, Generic, Protocol, TypeVar

from mapper.access.retry import Attempts, Backoff
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
    TileResult,
    TileRetried,
)
from mapper.execute.executors import Executor
from mapper.execute.interrupts import Interrupted, Interrupts
from mapper.execute.outcome import Outcome
from mapper.grid import Tile
from mapper.plan.selection import Order
from mapper.store.totals import Totals
from mapper.store.writer import Writer
from mapper.text import describe_error

_LEAST_BUDGET = 10
_BUDGET_SHARE = 0.01
_logger = logging.getLogger(__name__)

T = TypeVar("T")
R = TypeVar("R", bound=TileResult)


@dataclass(frozen=True, kw_only=True)
class RunPolicy:
    """When to commit, when to give up, and in which order tiles are submitted."""

    commit_tiles: int = 32
    """Tiles in one commit."""
    commit_seconds: float = 60.0
    """Seconds after which fewer tiles are committed too."""
    failure_budget: int | None = None
    """Failed tiles that are borne; one more ends the run. None: 10, or 1 % of the tiles if that is more."""
    window: int | None = None
    """Tiles submitted at once; None takes what suits the executor."""
    order: Order = "blocks"
    """Order in which tiles are submitted; see :mod:`mapper.plan.selection`."""
    commit_retry: Backoff = field(default_factory=Backoff)
    """Attempts at a commit."""


@dataclass(frozen=True)
class TileInput(Generic[T]):
    """Input of one tile, as an executor gives it to a worker."""

    fork: Any
    task: T


class TileKind(Protocol[T, R]):
    """What differs between the tiles of maps and guides and those of levels."""

    @property
    def writer(self) -> Writer[R]:
        """Writer of the store, open."""

    def prepare(self) -> None:
        """Make in the store what the first tile needs."""

    def groups(self) -> Iterable[Sequence[T]]:
        """Return the tasks that are due; a group begins when the one before it is committed."""

    def is_blocked(self, task: T) -> bool:
        """Check whether a task cannot be made since another failed."""

    def function(self, executor: Executor) -> Callable[[TileInput[T]], tuple[Any, R]]:
        """Return what a worker calls on an input: it gives back the fork, or None, and what became of the tile."""

    def fail(self, task: T, reason: str) -> R:
        """Return the result of a task that no worker could make."""

    def add(self, fork: Any, result: R) -> None:
        """Add a result to the next commit."""

    def tile_of(self, task: T) -> Tile:
        """Return the tile of a task."""

    def name_of(self, task: T) -> str:
        """Return the name of a task for messages."""


@dataclass(kw_only=True)
class CommitLoop(Generic[T, R]):
    """One run in progress."""

    kind: TileKind[T, R]
    tiles: int
    """Tiles that are due."""
    policy: RunPolicy
    callbacks: Sequence[Callback]
    totals: Totals = field(default_factory=Totals)
    """Sums over the tiles that came back."""
    failures: list[tuple[T, str]] = field(default_factory=list)
    commits: int = 0
    committed: int = 0
    """Tiles in commits of this run."""
    commit_s: float = 0.0
    snapshot: str = ""
    """The last commit of this run; empty if there was none."""
    started: float = field(default_factory=time.monotonic)
    committed_at: float = field(default_factory=time.monotonic)

    @property
    def elapsed_s(self) -> float:
        """Seconds since the loop was made."""
        return time.monotonic() - self.started

    def run(self, executor: Executor, begin: RunStarted) -> str:
        """Make what is due to the end, whatever the end is; return why it was stopped, or nothing.

        Args:
            executor: Where tiles are computed.
            begin: Event that is sent first; the dashboard of the executor is added.

        Raises:
            StoreFullError: If no space is left; what was committed stays.
            FailureBudgetError: If too many tiles failed; what was done is committed.
            ClusterError: If the cluster is gone; what was done is committed.
        """
        self._notify(replace(begin, dashboard=executor.dashboard if self.tiles else ""))
        try:
            if self.tiles:
                Attempts(self.policy.commit_retry).call(self.kind.prepare)
                with Interrupts() as interrupts:
                    for group in self.kind.groups():
                        self._drain(executor, group, interrupts)
        except Interrupted as interruption:
            self._commit()
            return str(interruption)
        except StoreFullError as error:
            raise StoreFullError(self._commit_what_fits(error)) from error
        except (StoreLockedError, TransientStoreError):  # it was the commit that failed
            _logger.warning("%d finished tiles could not be committed", self.kind.writer.pending)
            raise
        except BaseException:
            self._commit()
            raise
        finally:
            self._notify(self._finish())
        return ""

    def _drain(self, executor: Executor, tasks: Sequence[T], interrupts: Interrupts) -> None:
        """Make the tiles of one group, and commit them."""
        outcomes = executor.run(self.kind.function(executor), self._inputs(tasks), window=self.policy.window)
        try:
            while (outcome := interrupts.wait(partial(next, outcomes, None))) is not None:
                self._take(outcome)
                if self._is_commit_due():
                    self._commit()
                interrupts.check()
        finally:
            if isinstance(outcomes, Generator):
                outcomes.close()
        self._commit()

    def _inputs(self, tasks: Sequence[T]) -> Iterator[TileInput[T]]:
        for task in tasks:
            if not self.kind.is_blocked(task):
                yield TileInput(self.kind.writer.fork(), task)

    def _take(self, outcome: Outcome[TileInput[T], tuple[Any, R]]) -> None:
        """Add one outcome to the next commit."""
        task = outcome.input.task
        if outcome.result is not None:
            fork, result = outcome.result
        elif isinstance(outcome.error, InputError | StoreFullError):
            raise outcome.error
        else:
            fork, result = None, self.kind.fail(task, describe_error(outcome.error or RuntimeError("no result")))
        result = replace(result, attempts=result.attempts + outcome.attempts - 1)
        self.kind.add(fork, result)
        self._count(task, result, lost=outcome.attempts > 1)

    def _count(self, task: T, result: R, *, lost: bool) -> None:
        """Add one result to the totals, and send its events."""
        tile = self.kind.tile_of(task)
        at = tile.row, tile.col
        if result.attempts > 1:
            reason = result.reason or ("lost by the cluster" if lost else "transient read errors")
            self._notify(TileRetried(tile=at, attempt=result.attempts, reason=reason))
        self.totals = self.totals.plus(result)
        for retry in result.retries:
            self._notify(ReadRetried(tile=at, **asdict(retry)))
        self._notify(TileFinished(tile=at, result=result))
        if result.status == "failed":
            self.failures.append((task, result.reason))
            self._check_budget()

    def _check_budget(self) -> None:
        budget = self.policy.failure_budget
        if budget is None:
            budget = max(_LEAST_BUDGET, round(_BUDGET_SHARE * self.tiles))
        if len(self.failures) > budget:
            task, reason = self.failures[-1]
            raise FailureBudgetError(
                f"{len(self.failures)} of {self.totals.attempted} tiles failed, {budget} are borne; stopped, what was "
                f"done is committed; the last failure: tile {self.kind.name_of(task)}: {reason}"
            )

    def _is_commit_due(self) -> bool:
        pending = self.kind.writer.pending
        late = time.monotonic() - self.committed_at >= self.policy.commit_seconds
        return pending >= self.policy.commit_tiles or (pending > 0 and late)

    def _commit(self) -> None:
        """Make durable what came back; nothing to do is no commit."""
        start, tiles = time.monotonic(), self.kind.writer.pending
        snapshot = Attempts(self.policy.commit_retry).call(self.kind.writer.commit)
        self.committed_at = time.monotonic()
        if snapshot:
            self.snapshot = snapshot
            self.commits += 1
            self.commit_s += self.committed_at - start
            self.committed += tiles
            self._notify(BatchCommitted(snapshot=snapshot, tiles=tiles, seconds=self.committed_at - start))

    def _commit_what_fits(self, error: StoreFullError) -> str:
        """Commit what a full store still takes, and return a message that says how far the run came."""
        try:
            self._commit()  # a few small objects may still fit where a shard did not
        except StoreError:
            _logger.info("%d tiles could not be committed", self.kind.writer.pending)
        return f"{error}; {self.committed} tiles of this run are committed, run again to go on from there"

    def _notify(self, event: Event) -> None:
        for callback in self.callbacks:
            callback(event)

    def _finish(self) -> RunFinished:
        done, empty, failed = (self.totals.tiles.get(status, 0) for status in ("ok", "empty", "failed"))
        return RunFinished(done=done, empty=empty, failed=failed, seconds=self.elapsed_s)
