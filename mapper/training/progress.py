"""A training on the screen: steps, loss, and error on the validation sites."""

from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from mapper.training.curves import Row


class TrainingBar:
    """A progress bar on standard error; use it as a context.

    Args:
        steps: Of the whole training.
        console: Where it is shown instead.
    """

    def __init__(self, steps: int, console: Console | None = None) -> None:
        self._progress = Progress(
            TextColumn("steps"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
            console=console or Console(stderr=True, soft_wrap=True, highlight=False),
        )
        self._task = self._progress.add_task("steps", total=steps, note="", start=False)
        self._rmse = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._progress.stop()

    def __call__(self, row: Row) -> None:
        """Show a point of the curves."""
        if not self._progress.live.is_started:
            self._progress.start()
            self._progress.start_task(self._task)
        if row.rmse is not None:
            self._rmse = f", validation RMSE {row.rmse:.2f}"
        self._progress.update(self._task, completed=row.step, note=f"loss {row.loss:.4f}{self._rmse}")

    def notify(self, text: str) -> None:
        """Show a line above the bar."""
        self._progress.console.print(text, markup=False)
