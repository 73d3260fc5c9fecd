"""The pyramid of a map is made: level by level from below, each tile a task of one shard, on any executor.

Only this thread touches the store's writer. A level is begun when the one below is committed, since its tasks read
that. However a build ends, what came back is committed first, and a later one goes on from there.
"""

import logging
import time
import uuid
from collections.abc import Collection, Generator, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from itertools import groupby
from typing import Any

from mapper.access.retry import Attempts, Backoff
from mapper.errors import FailureBudgetError, StoreFullError, StoreLockedError, TransientStoreError
from mapper.events import BatchCommitted, Callback, Event, RunFinished, RunStarted, TileFinished
from mapper.execute.executors import Executor
from mapper.execute.interrupts import Interrupted, Interrupts
from mapper.execute.memory_budget import process_budget
from mapper.execute.outcome import Outcome
from mapper.run.records import worker_name
from mapper.store.errors import explain_faults
from mapper.store.levels import LevelTile, Pyramid
from mapper.store.pyramid import LevelWriter, MadeTile, make_level_tile, memory_bytes, open_level_writer
from mapper.store.repository import open_store
from mapper.store.verify import verify_levels
from mapper.text import describe_error

_FAILURES = 10
"""Failed tiles that are borne; one more ends the build."""
_FAILURES_SHOWN = 10
_logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class PyramidReport:
    """What was done; durations in seconds."""

    levels: int
    """Above the map; 0 if one tile holds it."""
    tiles: int
    """Tiles of all levels that were due."""
    done: int
    failed: dict[str, str]
    """Why, by tile: ``level/row,col``."""
    left: int
    """Tiles that were not begun, since one below them failed, or the build was stopped."""
    commits: int
    snapshot: str
    """The last commit; empty if nothing was due."""
    seconds: float
    pixels: int
    """That were read, of all arrays: four for each that was made."""
    stopped: str = ""
    """Why the build ended early; empty if it did not."""

    @property
    def exit_code(self) -> int:
        """0 if the pyramid is complete and up to date."""
        return 1 if self.failed or self.left or self.stopped else 0

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)

    def summary(self) -> str:
        """For a terminal."""
        if not self.levels:
            return "one tile holds the whole map: no pyramid is needed"
        if not self.tiles:
            return f"the pyramid of {self.levels} levels is up to date"
        rate = self.pixels / 1e6 / self.seconds if self.seconds else 0.0
        made = f"{self.done} of {self.tiles} tiles of {self.levels} levels made in {self.seconds:.1f} s"
        lines = [f"{made}, {rate:.3g} Mpx/s read, {self.commits} commits"]
        lines += [f"failed {tile}: {reason}" for tile, reason in list(self.failed.items())[:_FAILURES_SHOWN]]
        if self.failed:
            lines.append("damaged tiles of the map are made anew by `mapper verify MAP.yaml --repair`, the pyramid too")
        if self.left:
            lines.append(f"{self.left} tiles were not begun; {self.stopped or 'tiles below them failed'}; run again")
        return "\n".join(lines)


@dataclass(frozen=True)
class LevelInput:
    """What an executor hands to a worker for one tile."""

    fork: Any
    at: LevelTile


@dataclass(frozen=True, kw_only=True)
class LevelAnswer:
    """What a worker hands back."""

    fork: Any
    content: bytes
    """Sha256 of what was written."""
    worker: str
    seconds: float


def build_pyramid(
    location: str,
    executor: Executor,
    *,
    callbacks: Sequence[Callback] = (),
    redo: Collection[LevelTile] = (),
    rebuild: bool = False,
    every: int = 64,
    seconds: float = 60.0,
) -> PyramidReport:
    """Make the levels of a store that are due, from the map as it is, and commit them.

    A reader sees whole tiles only. Tiles are due where what lies below them changed; if none is, nothing is written.

    Args:
        location: Directory, or s3://, gs://, az:// location of the store.
        executor: Where tiles are made.
        callbacks: Hear of every event, in this thread.
        redo: Tiles to make although they are up to date, with all that is made from them.
        rebuild: Make all tiles anew.
        every: Tiles in one commit.
        seconds: Seconds after which fewer tiles are committed too.

    Returns:
        What was done; ``exit_code`` is 1 if tiles failed or the build was interrupted.

    Raises:
        StoreError: If there is no store.
        StoreLockedError: If a run is writing to it.
        StoreFullError: If no space is left; what was committed stays.
        FailureBudgetError: If too many tiles failed; what was done is committed.
        ClusterError: If the cluster is gone; what was done is committed.
    """
    run_id = uuid.uuid4().hex
    with open_level_writer(location, run_id=run_id) as writer:
        due = writer.state.due(writer.state.made() if rebuild else redo)
        build = _Build(writer=writer, callbacks=callbacks, every=every, seconds=seconds, due=due)
        build.tell(RunStarted(run_id=run_id, tiles=len(due), skipped=len(set(writer.state.made()) - set(due))))
        stopped = build.work(executor) if due else ""
        return build.report(stopped)


def find_damage(location: str) -> list[LevelTile]:
    """Tiles of the levels of a store whose pixels are not what was written.

    Raises:
        StoreError: If there is no store.
    """
    with explain_faults(location):
        report = verify_levels(open_store(location).store)
    return list(report.corrupt) if report else []


@dataclass(kw_only=True)
class _Build:
    """One build in progress."""

    writer: LevelWriter
    callbacks: Sequence[Callback]
    every: int
    seconds: float
    due: list[LevelTile]
    done: int = 0
    commits: int = 0
    snapshot: str = ""
    failed: dict[LevelTile, str] = field(default_factory=dict)
    held: set[LevelTile] = field(default_factory=set)
    """Tiles that wait for others that failed."""
    started: float = field(default_factory=time.monotonic)
    committed_at: float = field(default_factory=time.monotonic)

    def work(self, executor: Executor) -> str:
        """Make what is due to the end, whatever the end is; returns why it was stopped, or nothing."""
        try:
            Attempts(Backoff()).call(self.writer.create)
            with Interrupts() as interrupts:
                for _, tiles in groupby(self.due, key=lambda tile: tile.level):
                    self._drain(executor, list(tiles), interrupts)
        except Interrupted as interruption:
            self.commit()
            return str(interruption)
        except (StoreFullError, StoreLockedError, TransientStoreError):
            _logger.warning("%d finished tiles could not be committed", self.writer.pending)
            raise
        except BaseException:
            self.commit()
            raise
        finally:
            elapsed = time.monotonic() - self.started
            self.tell(RunFinished(done=self.done, empty=0, failed=len(self.failed), seconds=elapsed))
        return ""

    def _drain(self, executor: Executor, tiles: list[LevelTile], interrupts: Interrupts) -> None:
        """Make the tiles of one level, and commit them."""
        compute = partial(make_input, self.writer.state.pyramid)
        outcomes = executor.run(compute, self._inputs(tiles))
        try:
            while (outcome := interrupts.wait(partial(next, outcomes, None))) is not None:
                self._take(outcome)
                if self.writer.pending >= self.every or time.monotonic() - self.committed_at >= self.seconds:
                    self.commit()
                interrupts.check()
        finally:
            if isinstance(outcomes, Generator):
                outcomes.close()
        self.commit()

    def _inputs(self, tiles: list[LevelTile]) -> Iterator[LevelInput]:
        broken = {tile.parent for tile in (*self.failed, *self.held)}
        for tile in tiles:
            if tile in broken:
                self.held.add(tile)
            else:
                yield LevelInput(self.writer.fork(), tile)

    def _take(self, outcome: Outcome[LevelInput, LevelAnswer]) -> None:
        """Add one outcome to the next commit."""
        at, answer = outcome.input.at, outcome.result
        place = at.tile.row, at.tile.col
        if isinstance(outcome.error, StoreFullError):
            raise outcome.error
        if answer is None:
            reason = describe_error(outcome.error or RuntimeError("no result"))
            self.failed[at] = reason
            self.tell(TileFinished(tile=place, status="failed", reason=reason))
            if len(self.failed) > _FAILURES:
                raise FailureBudgetError(
                    f"{len(self.failed)} tiles of the pyramid failed, {_FAILURES} are borne; stopped, what was done is "
                    f"committed; the last failure: tile {at}: {reason}"
                )
            return
        origin = self.writer.state.origin_of(at)
        self.writer.add(answer.fork, MadeTile(at=at, origin=origin, content=answer.content))
        self.done += 1
        spent = {"reduce": answer.seconds}
        self.tell(TileFinished(tile=place, status="ok", pixels=self._read_px, seconds=spent, worker=answer.worker))

    @property
    def _read_px(self) -> int:
        """Pixels below one tile."""
        return 4 * self.writer.state.pyramid.levels[0].grid.tile_px ** 2

    def commit(self) -> None:
        """Make durable what came back; nothing to do is no commit."""
        start, tiles = time.monotonic(), self.writer.pending
        snapshot = Attempts(Backoff()).call(self.writer.commit)
        self.committed_at = time.monotonic()
        if snapshot:
            self.snapshot = snapshot
            self.commits += 1
            self.tell(BatchCommitted(snapshot=snapshot, tiles=tiles, seconds=self.committed_at - start))

    def tell(self, event: Event) -> None:
        """Tell all callbacks."""
        for callback in self.callbacks:
            callback(event)

    def report(self, stopped: str) -> PyramidReport:
        """What was done."""
        return PyramidReport(
            levels=len(self.writer.state.origins),
            tiles=len(self.due),
            done=self.done,
            failed={str(tile): reason for tile, reason in self.failed.items()},
            left=len(self.due) - self.done - len(self.failed),
            commits=self.commits,
            snapshot=self.snapshot,
            seconds=time.monotonic() - self.started,
            pixels=self.done * self._read_px,
            stopped=stopped,
        )


def make_input(pyramid: Pyramid, tile: LevelInput) -> LevelAnswer:
    """What a worker calls, as soon as the memory is free that the tile will need."""
    with process_budget().hold(float(memory_bytes(pyramid))):
        start = time.monotonic()
        content = Attempts(Backoff()).call(partial(make_level_tile, tile.fork, pyramid, tile.at))
        return LevelAnswer(fork=tile.fork, content=content, worker=worker_name(), seconds=time.monotonic() - start)
