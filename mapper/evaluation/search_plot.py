"""A picture of the items that a search found: by month, and the tiles for which they promise too few observations."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import BoundaryNorm, ListedColormap, Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator

from mapper.catalog.coverage import FEW_OBSERVATIONS, Coverage, Expectation

_CLOUDS = colormaps["GnBu_r"]
_UNSTATED = "#c9c2d6"
_EDGE = "#8a8f94"
_TOO_FEW = ("#67001f", "#b2182b", "#ef8a62")
_ENOUGH = ("#d1e5f0", "#92c5de", "#4393c3", "#2166ac", "#053061")
_LEVELS = (0, 1, 2, FEW_OBSERVATIONS, 5, 8, 12, 20, 1000)
"""Edges of the classes of expected observations; those of ``_TOO_FEW`` end where there are enough."""
_FRAMED = 1500
"""Largest number of tiles that are drawn apart."""
_DPI = 120


def plot_search(coverage: Coverage, path: Path, *, title: str) -> Path:
    """Draw what was found, month by month, beside the tiles of the season that is worst off.

    Args:
        coverage: From :func:`mapper.catalog.coverage.survey`.
        path: Where the PNG goes.
        title: Title of the picture.

    Returns:
        The path.
    """
    months = sorted({row.month for row in coverage.months})
    views = sorted({row.view for row in coverage.months})
    height = max(4.6, 2.2 + 0.75 * len(views))
    figure = Figure(figsize=(min(4.5 + 0.55 * len(months), 12) + height, height), layout="constrained")
    timeline, tiles = figure.subplots(1, 2, width_ratios=(min(3.5 + 0.55 * len(months), 11), height))
    figure.suptitle(title, fontsize=11)
    _draw_months(timeline, coverage, months, [str(view) for view in views])
    _draw_tiles(tiles, coverage)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=_DPI, bbox_inches="tight")
    return path


def _draw_months(axis: Axes, coverage: Coverage, months: list[str], views: list[str]) -> None:
    """Draw one box for each month and view, filled as far as the area is covered."""
    for row in coverage.months:
        left, top = months.index(row.month) - 0.42, views.index(str(row.view)) - 0.34
        colour = _UNSTATED if row.cloud is None else _CLOUDS(row.cloud / 100)
        bottom = top + 0.68
        axis.add_patch(Rectangle((left, bottom), 0.84, -0.68 * row.share, facecolor=colour))
        axis.add_patch(Rectangle((left, top), 0.84, 0.68, fill=False, edgecolor=_EDGE, linewidth=0.8))
        dark = row.cloud is not None and row.cloud < 35 and row.share > 0.5
        ink = "white" if dark else "#b2182b" if not row.items else "#222222"
        axis.text(left + 0.42, top + 0.34, str(row.passes), ha="center", va="center", fontsize=9, color=ink)
    axis.set(xlim=(-0.6, len(months) - 0.4), ylim=(len(views) - 0.45, -0.55))
    starts = {min(month for month in months if month[:4] == year) for year in {month[:4] for month in months}}
    names = [f"{month[-2:]}\n{month[:4]}" if month in starts else month[-2:] for month in months]
    axis.set_xticks(range(len(months)), names, fontsize=8)
    axis.set_yticks(range(len(views)), views, fontsize=9)
    axis.tick_params(length=0)
    axis.spines[:].set_visible(False)
    axis.set_title("passes by month; filled: share of the area covered", fontsize=9)
    bar = axis.figure.colorbar(
        ScalarMappable(Normalize(0, 100), _CLOUDS), ax=axis, orientation="horizontal", shrink=0.6, aspect=35, pad=0.03
    )
    bar.set_label("mean cloud cover of the items (%); lilac: not stated", fontsize=8)
    bar.ax.tick_params(labelsize=8)


def _draw_tiles(axis: Axes, coverage: Coverage) -> None:
    """Draw every tile in the colour of its class; row and column as tiles are named."""
    worst = coverage.worst
    clear = np.zeros(len(coverage.tiles)) if worst is None else worst.clear
    rows, cols = (np.array([getattr(tile, name) for tile in coverage.tiles]) for name in ("row", "col"))
    image = axis.imshow(
        _spread(clear, rows, cols),
        cmap=ListedColormap([*_TOO_FEW, *_ENOUGH]),
        norm=BoundaryNorm(_LEVELS, len(_LEVELS) - 1),
        interpolation="nearest",
        extent=(-0.5, cols.max() + 0.5, rows.max() + 0.5, -0.5),
    )
    if len(coverage.tiles) <= _FRAMED:
        axis.vlines(np.arange(cols.max()) + 0.5, -0.5, rows.max() + 0.5, color="white", linewidth=0.8)
        axis.hlines(np.arange(rows.max()) + 0.5, -0.5, cols.max() + 0.5, color="white", linewidth=0.8)
    bare = ~coverage.sourced
    if bare.any():
        size = float(np.clip(110 / (max(rows.max(), cols.max()) + 1), 0.6, 8))
        crosses = axis.plot(
            cols[bare], rows[bare], "X", color="#222222", markersize=size, label="no item of the source"
        )
        crosses[0].set(markeredgecolor="white", markeredgewidth=size / 10)
        axis.legend(loc="upper center", bbox_to_anchor=(0.5, -0.14), frameon=False, fontsize=8)
    axis.set_facecolor("#f4f4f4")
    axis.set_xlabel("tile column", fontsize=8)
    axis.set_ylabel("tile row", fontsize=8)
    axis.tick_params(labelsize=8)
    for direction in (axis.xaxis, axis.yaxis):
        direction.set_major_locator(MaxNLocator(6, integer=True))
    title = "tiles of the source" if worst is None else f"expected clear observations\n{_name_of(worst)}"
    axis.set_title(title, fontsize=9)
    if worst is None:
        return
    bar = axis.figure.colorbar(image, ax=axis, shrink=0.85, aspect=22, pad=0.02, ticks=_LEVELS[:-1])
    bar.set_label(f"by tile; red: fewer than {FEW_OBSERVATIONS}", fontsize=8)
    bar.ax.tick_params(labelsize=8)


def _name_of(expectation: Expectation) -> str:
    return ", ".join(filter(None, (str(expectation.view), expectation.season)))


def _spread(
    values: npt.NDArray[np.float64], rows: npt.NDArray[np.intp], cols: npt.NDArray[np.intp]
) -> npt.NDArray[np.float64]:
    """Return values as (row, col), NaN where there is no tile."""
    image = np.full((rows.max() + 1, cols.max() + 1), np.nan)
    image[rows, cols] = np.minimum(values, _LEVELS[-1] - 1)
    return image
