"""Builds of the pyramid of a map: level by level from below, each tile a task of one shard, on any executor.

A level is begun when the one below is committed, since its tasks read that.
"""

import time
import uuid
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from itertools import groupby
from typing import Any

from mapper.access.retry import TILE_RETRY, Attempts
from mapper.events import Callback, RunStarted
from mapper.execute.executors import Executor, ThreadExecutor
from mapper.execute.memory_budget import process_budget
from mapper.grid import Tile
from mapper.plan.selection import order_tiles
from mapper.plan.task_table import to_indices
from mapper.run.commit_loop import CommitLoop, RunPolicy, TileInput
from mapper.run.records import worker_name
from mapper.store.geozarr import LEVEL_AXES
from mapper.store.levels import LevelTile, Pyramid
from mapper.store.map_store import MapStore
from mapper.store.pyramid import LevelWriter, MadeTile, make_level_tile, memory_bytes
from mapper.store.verify import verify_levels

_FAILURES_SHOWN = 10
_RENAME = (
    "levels of an older mapper name their dimensions as the map does: `mapper pyramid --rename-axes` calls them "
    f"{' and '.join(LEVEL_AXES)}, so that xarray.open_datatree opens the map"
)


@dataclass(frozen=True, kw_only=True)
class PyramidReport:
    """Outcome of a build; durations in seconds."""

    levels: int
    """Levels above the map; 0 if one tile holds it."""
    tiles: int
    """Tiles of all levels that were due."""
    done: int
    failed: dict[str, str]
    """Reasons by tile, ``level/row,col``."""
    left: int
    """Tiles that were not begun, since one below them failed, or the build was stopped."""
    commits: int
    snapshot: str
    """The last commit; empty if nothing was due."""
    seconds: float
    pixels: int
    """Pixels that were read, of all arrays: four for each that was made."""
    axes: tuple[str, str] = LEVEL_AXES
    """Names of the dimensions of the levels; those of the map where an older mapper made them."""
    stopped: str = ""
    """Reason why the build ended early; empty if it did not."""

    @property
    def exit_code(self) -> int:
        """0 if the pyramid is complete and up to date."""
        return 1 if self.failed or self.left or self.stopped else 0

    def to_dict(self) -> dict[str, Any]:
        """Return the report for JSON."""
        return asdict(self)

    def summary(self) -> str:
        """Return the report for a terminal."""
        if not self.levels:
            return "one tile holds the whole map: no pyramid is needed"
        hint = [_RENAME] if self.axes != LEVEL_AXES else []
        if not self.tiles:
            return "\n".join([f"the pyramid of {self.levels} levels is up to date", *hint])
        rate = self.pixels / 1e6 / self.seconds if self.seconds else 0.0
        made = f"{self.done} of {self.tiles} tiles of {self.levels} levels made in {self.seconds:.1f} s"
        lines = [f"{made}, {rate:.3g} Mpx/s read, {self.commits} commits"]
        lines += [f"failed {tile}: {reason}" for tile, reason in list(self.failed.items())[:_FAILURES_SHOWN]]
        if self.failed:
            lines.append("damaged tiles of the map are made anew by `mapper verify MAP.yaml --repair`, the pyramid too")
        if self.left:
            lines.append(f"{self.left} tiles were not begun; {self.stopped or 'tiles below them failed'}; run again")
        return "\n".join([*lines, *hint])


def build_pyramid(
    location: str,
    executor: Executor | None = None,
    *,
    callbacks: Sequence[Callback] = (),
    policy: RunPolicy | None = None,
    redo: Collection[LevelTile] = (),
    rebuild: bool = False,
    rename_axes: bool = False,
) -> PyramidReport:
    """Make the levels of a store that are due, from the map as it is, and commit them.

    A reader sees whole tiles only. Tiles are due where what lies below them changed; if none is, nothing is written.

    Args:
        location: Directory, or s3://, gs://, az:// location of the store.
        executor: Executor that makes tiles; None takes threads of this process.
        callbacks: Receive every event, in this thread.
        policy: When to commit, when to give up.
        redo: Tiles to make although they are up to date, with all that is made from them.
        rebuild: Make all tiles anew.
        rename_axes: Give the dimensions of levels that an older mapper made the names that they have now; else they
            are left, as whoever reads them by name expects them.

    Returns:
        The report; ``exit_code`` is 1 if tiles failed or the build was interrupted.

    Raises:
        StoreError: If there is no store.
        StoreLockedError: If a run is writing to it.
        StoreFullError: If no space is left; what was committed stays.
        FailureBudgetError: If too many tiles failed; what was done is committed.
        ClusterError: If the cluster is gone; what was done is committed.
    """
    run_id, policy = uuid.uuid4().hex, policy or RunPolicy(commit_tiles=64)
    with MapStore.open(location).level_writer(run_id=run_id) as writer:
        renamed = writer.rename_axes() if rename_axes else ""
        made = writer.state.made()
        due = writer.state.due(made if rebuild else redo)
        kind = _LevelTiles(writer=writer, due=due, policy=policy)
        loop = CommitLoop(kind=kind, tiles=len(due), policy=policy, callbacks=callbacks, retry=TILE_RETRY)
        begin = RunStarted(run_id=run_id, tiles=len(due), skipped=len(set(made) - set(due)))
        stopped = loop.run(executor or ThreadExecutor(), begin)
        report = _report(loop, levels=len(writer.state.origins), stopped=stopped)
        return replace(report, snapshot=report.snapshot or renamed, axes=writer.axes)


def find_damage(location: str) -> list[LevelTile]:
    """Find the tiles of the levels of a store whose pixels are not what was written.

    Raises:
        StoreError: If there is no store.
    """
    store = MapStore.open(location)
    with store.explain_faults():
        report = verify_levels(store.zarr)
    return list(report.corrupt) if report else []


@dataclass(frozen=True, kw_only=True)
class _LevelTiles:
    """Tiles of levels; see :class:`mapper.run.commit_loop.TileKind`."""

    writer: LevelWriter
    due: list[LevelTile]
    policy: RunPolicy
    blocked: set[LevelTile] = field(default_factory=set)
    """Tiles that are not made, since one below them failed."""

    def prepare(self) -> None:
        """Make the levels, without pixels."""
        self.writer.create()

    def groups(self) -> Iterable[Sequence[LevelTile]]:
        """Return the tiles level by level, from below."""
        for _, group in groupby(self.due, key=lambda tile: tile.level):
            tiles = list(group)
            yield [tiles[k] for k in order_tiles(to_indices(each.tile for each in tiles), self.policy.order).tolist()]

    def is_blocked(self, task: LevelTile) -> bool:
        """Check whether a tile below failed or was not made; then this one is not made either."""
        if task not in self.blocked:
            return False
        self.blocked.add(task.parent)
        return True

    def function(self, executor: Executor) -> Callable[[TileInput[LevelTile]], tuple[Any, MadeTile]]:
        """Return the function of all tiles."""
        del executor
        return partial(make_input, self.writer.state.pyramid)

    def fail(self, task: LevelTile, reason: str) -> MadeTile:
        """Return the result of a tile that could not be made."""
        self.blocked.add(task.parent)
        return MadeTile(at=task, status="failed", reason=reason)

    def add(self, fork: Any, result: MadeTile) -> None:
        """Add a tile and its mark to the next commit."""
        self.writer.add(fork, result)

    def tile_of(self, task: LevelTile) -> Tile:
        """Return the tile of a task within its level."""
        return task.tile

    def name_of(self, task: LevelTile) -> str:
        """Return level, row and column of a task."""
        return str(task)


def make_input(pyramid: Pyramid, tile: TileInput[LevelTile]) -> tuple[Any, MadeTile]:
    """Make one tile as soon as the memory is free that it will need. Called in workers."""
    with process_budget().hold(float(memory_bytes(pyramid))):
        start = time.monotonic()
        content = Attempts(TILE_RETRY).call(partial(make_level_tile, tile.fork, pyramid, tile.task))
        made = MadeTile(
            at=tile.task,
            content=content,
            status="ok",
            worker=worker_name(),
            seconds={"reduce": time.monotonic() - start},
            valid_px=4 * pyramid.levels[0].grid.tile_px ** 2,
        )
        return tile.fork, made


def _report(loop: CommitLoop[LevelTile, MadeTile], *, levels: int, stopped: str) -> PyramidReport:
    done = loop.totals.tiles.get("ok", 0)
    return PyramidReport(
        levels=levels,
        tiles=loop.tiles,
        done=done,
        failed={str(tile): reason for tile, reason in loop.failures},
        left=loop.tiles - done - len(loop.failures),
        commits=loop.commits,
        snapshot=loop.snapshot,
        seconds=loop.elapsed_s,
        pixels=loop.totals.pixels,
        stopped=stopped,
    )
