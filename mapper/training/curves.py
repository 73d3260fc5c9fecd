"""Curves of a training, as a table and as a picture."""

import csv
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from matplotlib.figure import Figure

_LOSS_COLOUR, _RMSE_COLOUR, _RATE_COLOUR, _BICUBIC_COLOUR = "#1b6ca8", "#c8553d", "#777777", "#999999"


@dataclass(frozen=True, kw_only=True)
class Row:
    """One point of the curves."""

    step: int
    """Steps done."""
    loss: float
    """Mean training loss of the steps since the row before."""
    rate: float
    """Learning rate of the last step."""
    rmse: float | None = None
    """RMSE on the validation sites, in target units, by the running mean of weights; None where not validated."""


def write_curves(
    rows: Sequence[Row], stem: Path, *, bicubic: float | None = None, units: str = "", min_interval_s: float = 0
) -> None:
    """Write ``<stem>.curves.csv`` and ``<stem>.curves.png``.

    Args:
        rows: In the order of steps; without any, nothing is written.
        stem: Folder and name.
        bicubic: RMSE of bicubic interpolation on the validation sites.
        units: Of the target.
        min_interval_s: Leave a picture that is younger than so many seconds: drawing takes longer than a quick step.
    """
    if not rows:
        return
    _write_table(rows, stem.with_name(f"{stem.name}.curves.csv"))
    picture = stem.with_name(f"{stem.name}.curves.png")
    if min_interval_s and picture.exists() and time.time() - picture.stat().st_mtime < min_interval_s:
        return
    unfinished = picture.with_suffix(".tmp")
    draw_curves(rows, title=stem.name, bicubic=bicubic, units=units).savefig(unfinished, format="png", dpi=110)
    unfinished.replace(picture)


def draw_curves(rows: Sequence[Row], *, title: str, bicubic: float | None = None, units: str = "") -> Figure:
    """Draw training loss, validation RMSE against bicubic interpolation, and learning rate, one below the other."""
    figure = Figure(figsize=(7, 7), layout="constrained")
    loss, error, rate = figure.subplots(3, 1, sharex=True, height_ratios=(3, 3, 1))
    steps = [row.step for row in rows]
    loss.plot(steps, [row.loss for row in rows], color=_LOSS_COLOUR, linewidth=1)
    loss.set(title=title, ylabel="training loss")
    seen = [(row.step, row.rmse) for row in rows if row.rmse is not None]
    if seen:
        error.plot(*zip(*seen, strict=True), color=_RMSE_COLOUR, marker=".", label="model")
    if bicubic is not None:
        error.axhline(bicubic, color=_BICUBIC_COLOUR, linestyle="--", label="bicubic")
    if seen or bicubic is not None:
        error.legend(frameon=False)
    error.set(ylabel=f"validation RMSE{f' [{units}]' if units else ''}")
    rate.plot(steps, [row.rate for row in rows], color=_RATE_COLOUR, linewidth=1)
    rate.set(ylabel="learning rate", xlabel="step")
    for axes in (loss, error, rate):
        axes.grid(visible=True, alpha=0.3)
    return figure


def _write_table(rows: Sequence[Row], path: Path) -> None:
    unfinished = path.with_suffix(".tmp")
    with unfinished.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, [field.name for field in fields(Row)])
        writer.writeheader()
        writer.writerows(asdict(row) for row in rows)
    unfinished.replace(path)
