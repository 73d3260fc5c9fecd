"""Callbacks of a run: a progress bar or plain lines for people, a log of JSON lines for machines."""

import json
import time
from collections import deque
from collections.abc import Callable
from dataclasses import asdict, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from mapper.events import Event, RunFinished, RunStarted, TileFinished, TileResult
from mapper.monitor.utilisation import name_bottleneck
from mapper.store.totals import Totals
from mapper.text import describe_seconds

_LINE_SECONDS = 60.0
_LINES_KEPT = 10
_WIDE = 110
"""Columns of a terminal that has room for all; a narrower one is told less."""
_SPEED_SECONDS = 600.0
"""The time left goes by the speed of so many seconds: tiles come in bursts, and differ."""


class ProgressBar:
    """Tiles, rate, time left, failures and the stage that takes most; on standard error by default.

    Tiles that are up to date count as done: a run that goes on begins where the last one ended. Where there is no
    terminal, as in the log of a job, it says the same in a line each minute.

    Args:
        console: Where to.
        clock: Monotonic seconds.
    """

    def __init__(self, console: Console | None = None, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._console = console or Console(stderr=True, soft_wrap=True)
        shown = self._console.is_terminal or self._console.is_jupyter
        self._face = _Bar(self._console, clock) if shown else _Lines(self._console, clock)
        self._work = _Work()

    def __call__(self, event: Event) -> None:
        """Show one event."""
        if isinstance(event, RunStarted):
            self._work = _Work(done=event.skipped, whole=event.tiles + event.skipped)
            if event.dashboard:
                self._console.print(f"dashboard of the cluster: {event.dashboard}", highlight=False, soft_wrap=True)
            if event.tiles:
                self._face.start(self._work)
        elif isinstance(event, TileFinished):
            self._work.totals = self._work.totals.plus(event.result)
            self._face.advance(self._work)
        elif isinstance(event, RunFinished):
            self._face.stop(self._work)


class _Work:
    """Progress of a run so far."""

    def __init__(self, *, done: int = 0, whole: int = 0) -> None:
        self.skipped = done
        self.whole = whole
        self.totals = Totals()

    @property
    def done(self) -> int:
        """Tiles that are back or were up to date."""
        return self.skipped + self.totals.attempted

    @property
    def failed(self) -> int:
        """Tiles that failed."""
        return self.totals.tiles.get("failed", 0)

    @property
    def stage(self) -> str:
        """The stage that takes most work."""
        return name_bottleneck(self.totals.seconds)


class _Bar:
    """For a terminal."""

    def __init__(self, console: Console, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._started = 0.0
        self._task: TaskID | None = None
        self._wide = console.width >= _WIDE
        elapsed = [TimeElapsedColumn()] if self._wide else []
        self._progress = Progress(
            TextColumn("tiles"),
            BarColumn(bar_width=40 if self._wide else 10),
            MofNCompleteColumn(),
            TextColumn("{task.percentage:.0f} %"),
            TextColumn("{task.fields[rate]}"),
            *elapsed,
            TextColumn("left"),
            TimeRemainingColumn(compact=True),
            TextColumn("{task.fields[note]}"),
            console=console,
            get_time=clock,
            speed_estimate_period=_SPEED_SECONDS,
        )

    def start(self, work: _Work) -> None:
        self._started = self._clock()
        self._task = self._progress.add_task("tiles", total=work.whole, completed=work.done, rate="", note="")
        self._progress.start()

    def advance(self, work: _Work) -> None:
        if self._task is None:
            return
        elapsed = self._clock() - self._started
        tiles = work.done - work.skipped
        pixels = f" {work.totals.pixels / 1e6 / elapsed:.3g} Mpx/s" if elapsed and self._wide else ""
        rate = f"{tiles / elapsed:.3g} tiles/s{pixels}" if elapsed else ""
        failed = f"[red]{work.failed} failed[/red]" if work.failed else ""
        note = ", ".join(filter(None, [f"mostly {work.stage}" if work.stage else "", failed]))
        self._progress.update(self._task, advance=1, rate=rate, note=note)

    def stop(self, work: _Work) -> None:
        del work
        self._progress.stop()


class _Lines:
    """For a log: one line at the begin, one a minute while tiles come, one at the end."""

    def __init__(self, console: Console, clock: Callable[[], float]) -> None:
        self._console = console
        self._clock = clock
        self._marks: deque[tuple[float, int, int]] = deque(maxlen=_LINES_KEPT)
        self._said = 0

    def start(self, work: _Work) -> None:
        self._marks.append((self._clock(), work.done, work.totals.pixels))
        self._say(work, [])
        self._said = work.done

    def advance(self, work: _Work) -> None:
        if self._marks and self._clock() - self._marks[-1][0] >= _LINE_SECONDS:
            self._tell(work)

    def stop(self, work: _Work) -> None:
        if self._marks and work.done > self._said:
            self._tell(work)

    def _tell(self, work: _Work) -> None:
        """The rate and the time left go by the last ten lines."""
        start, tiles, pixels = self._marks[0]
        now = self._clock()
        self._marks.append((now, work.done, work.totals.pixels))
        self._said = work.done
        seconds = now - start
        parts = []
        if seconds:
            speed = (work.done - tiles) / seconds
            parts = [f"{speed:.3g} tiles/s", f"{(work.totals.pixels - pixels) / 1e6 / seconds:.3g} Mpx/s"]
            if speed and work.done < work.whole:
                parts.append(f"{describe_seconds((work.whole - work.done) / speed)} left")
        self._say(work, parts)

    def _say(self, work: _Work, parts: list[str]) -> None:
        moment = datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%SZ")
        share = f"{100 * work.done / work.whole:.1f} %"
        done = f"{work.done:,} of {work.whole:,} tiles ({share})"
        notes = [f"mostly {work.stage}" if work.stage else "", f"{work.failed:,} failed" if work.failed else ""]
        line = ", ".join([done, *parts, *filter(None, notes)])
        self._console.print(f"{moment} {line}", highlight=False, markup=False, soft_wrap=True)


class EventLog:
    """Appends every event to a file, one JSON object a line: ``time`` (UTC), ``event`` and its fields.

    Args:
        path: The file; opened anew for each event, so that a killed run leaves whole lines.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)

    def __call__(self, event: Event) -> None:
        """Write one event."""
        content = {"time": datetime.now(UTC).isoformat(), "event": type(event).__name__, **_to_dict(event)}
        with self.path.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(content) + "\n")


def _to_dict(event: Event) -> dict[str, Any]:
    """Return the fields of an event; of a tile, its outcome but not the items that it was made from."""
    if not isinstance(event, TileFinished):
        return asdict(event)
    names = (each.name for each in fields(TileResult) if each.name != "retries")  # they are events of their own
    content = {name: getattr(event.result, name) for name in names}
    return {"tile": event.tile, "pixels": content.pop("valid_px"), **content}
