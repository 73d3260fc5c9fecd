"""Listeners of a run: a progress bar for people, a log of JSON lines for machines."""

import json
from collections import Counter
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

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

from mapper.events import Event, RunFinished, RunStarted, TileFinished


class ProgressBar:
    """Tiles, rate, time left, failures and the stage that takes most; on standard error by default."""

    def __init__(self, console: Console | None = None) -> None:
        self._progress = Progress(
            TextColumn("tiles"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
            console=console or Console(stderr=True),
        )
        self._task: TaskID | None = None
        self._pixels = 0
        self._failed = 0
        self._stages: Counter[str] = Counter()

    def __call__(self, event: Event) -> None:
        """Show one event."""
        if isinstance(event, RunStarted) and event.tiles:
            self._task = self._progress.add_task("tiles", total=event.tiles, rate="", note="")
            self._progress.start()
        elif isinstance(event, TileFinished) and self._task is not None:
            self._advance(event, self._task)
        elif isinstance(event, RunFinished):
            self._progress.stop()

    def _advance(self, event: TileFinished, task: TaskID) -> None:
        self._pixels += event.pixels
        self._failed += event.status == "failed"
        self._stages.update(event.seconds)
        elapsed = self._progress.tasks[task].elapsed
        rate = f"{self._pixels / 1e6 / elapsed:.2f} Mpx/s" if elapsed else ""
        self._progress.update(task, advance=1, rate=rate, note=self._note())

    def _note(self) -> str:
        stage = max(self._stages, key=lambda name: self._stages[name], default="")
        parts = [f"mostly {stage}" if stage else "", f"[red]{self._failed} failed[/red]" if self._failed else ""]
        return ", ".join(filter(None, parts))


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
        content = {"time": datetime.now(UTC).isoformat(), "event": type(event).__name__, **asdict(event)}
        with self.path.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(content) + "\n")
