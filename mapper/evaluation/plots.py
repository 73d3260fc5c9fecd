"""Pictures of scores: scatter, error by class of the truth, reliability, and maps side by side."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Colormap, LogNorm
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.ticker import MaxNLocator, NullFormatter, PercentFormatter

from mapper.arrays import FloatArray
from mapper.evaluation.bins import Bins
from mapper.evaluation.density import Density
from mapper.evaluation.metric import choose_metrics
from mapper.evaluation.score import Score
from mapper.evaluation.tally import Tally, Uncertainty
from mapper.evaluation.uncertainty import Coverage, ErrorBySd, RiskReliability
from mapper.spec.target import BandSpec

_COLOURS = (
    "#0072b2",
    "#d55e00",
    "#009e73",
    "#cc79a7",
    "#e69f00",
    "#56b4e9",
    "#7f3c8d",
    "#666666",
    "#a6761d",
    "#000000",
)
_MARKERS = "osD^vPX<>*"
_MAPS_IN_A_ROW = 6
_GREY = "#777777"
_DPI = 130


def plot_tallies(
    tallies: Mapping[str, Tally],
    directory: Path,
    *,
    units: str,
    quantity: str,
    uncertainties: Mapping[str, Uncertainty] | None = None,
) -> list[Path]:
    """Draw ``scatter.png`` and ``bins.png`` of all methods, and ``reliability.png`` of those with deviations.

    A picture is left out where nothing was counted for it: without a range of values there is no scatter, without
    classes no error by class.

    Args:
        tallies: By method.
        directory: Where the PNGs go.
        units: Of the target.
        quantity: Name of the target.
        uncertainties: By method; those of no pixels are left out.

    Returns:
        Paths of the pictures that were drawn.
    """
    paths = []
    if any(tally.density.n for tally in tallies.values()):
        densities = {name: tally.density for name, tally in tallies.items()}
        scores = {name: tally.score for name, tally in tallies.items()}
        paths.append(plot_scatter(densities, scores, directory / "scatter.png", label=f"{quantity} ({units})"))
    if any(tally.bins.n for tally in tallies.values()):
        bins = {name: tally.bins for name, tally in tallies.items()}
        paths.append(plot_bins(bins, directory / "bins.png", units=units, quantity=f"true {quantity}"))
    known = {name: entry for name, entry in (uncertainties or {}).items() if entry.coverage.n}
    if known:
        coverages = {name: entry.coverage for name, entry in known.items()}
        by_sd = {name: entry.by_sd for name, entry in known.items()}
        paths.append(plot_reliability(coverages, directory / "reliability.png", units=units, by_sd=by_sd))
    return paths


def plot_scatter(densities: Mapping[str, Density], scores: Mapping[str, Score], path: Path, *, label: str) -> Path:
    """Draw how values scatter around the truth, one panel for each method.

    Args:
        densities: Pixels by truth and value, by method.
        scores: Of the same methods, for the titles.
        path: Where the PNG goes.
        label: Name and units of the target.

    Returns:
        The path.
    """
    figure, axes = _panels(len(densities), width=3.1, height=3.4)
    top = max((int(density.counts.max()) for density in densities.values()), default=1)
    norm = LogNorm(1, max(top, 2))
    mesh = None
    for axis, (name, density) in zip(axes, densities.items(), strict=True):
        span = density.low, density.high
        edges = np.linspace(*span, len(density.counts) + 1)
        shown = np.ma.masked_equal(density.counts, 0)
        mesh = axis.pcolormesh(edges, edges, shown, norm=norm, cmap="viridis", rasterized=True)
        axis.plot(span, span, color="#222222", linewidth=0.9, linestyle=(0, (4, 3)))
        axis.set(aspect="equal", xlim=span, ylim=span)
        for direction in (axis.xaxis, axis.yaxis):
            direction.set_major_locator(MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]))
        entitle(axis, name, _describe(scores[name]))
        axis.set_facecolor("#f7f7f7")
    figure.supxlabel(f"truth: {label}", fontsize=10)
    figure.supylabel(f"map: {label}", fontsize=10)
    if mesh is not None:
        figure.colorbar(mesh, ax=axes, label="pixels", shrink=0.8, aspect=28, pad=0.015)
    return save(figure, path)


def plot_bins(bins: Mapping[str, Bins], path: Path, *, units: str, quantity: str = "truth") -> Path:
    """Draw bias and RMSE by class of the truth, a line for each method, above the number of pixels.

    Args:
        bins: Sums by class, by method; all with the same classes.
        path: Where the PNG goes.
        units: Of errors and classes.
        quantity: What the classes are of.

    Returns:
        The path.

    Raises:
        ValueError: If the classes differ between methods.
    """
    if len({entry.edges for entry in bins.values()}) > 1:
        raise ValueError(f"methods have different classes: {sorted({entry.edges for entry in bins.values()})}")
    figure = Figure(figsize=(8.6, 8.2), layout="constrained")
    bias, rmse, count = figure.subplots(3, 1, sharex=True, height_ratios=(3, 3, 1))
    bias.axhline(0, color=_GREY, linewidth=0.9)
    for (name, entry), style in zip(bins.items(), styles(), strict=False):
        position = np.arange(len(entry.labels))
        bias.plot(position, entry.bias or position * np.nan, label=name, **style)
        rmse.plot(position, entry.rmse or position * np.nan, **style)
    first = next((entry for entry in bins.values() if entry.n), Bins())
    count.bar(np.arange(len(first.n)), first.n, width=0.72, color="#b8c4ce")
    count.set_xticks(np.arange(len(first.labels)), first.labels)
    count.margins(y=0.3)
    for index, n in enumerate(first.n):
        count.annotate(_short(n), (index, n), (0, 2), textcoords="offset points", ha="center", fontsize=8)
    bias.set_ylabel(f"bias ({units})")
    rmse.set_ylabel(f"RMSE ({units})")
    rmse.set_ylim(bottom=0)
    count.set_ylabel("pixels")
    count.set_yticks(())
    count.set_xlabel(f"{quantity} ({units})")
    for axis in (bias, rmse):
        tidy(axis)
    count.spines[["top", "right", "left"]].set_visible(False)
    figure.legend(loc="outside upper center", ncols=min(5, max(len(bins), 1)), frameon=False, fontsize=9)
    return save(figure, path)


def plot_reliability(
    coverages: Mapping[str, Coverage], path: Path, *, units: str, by_sd: Mapping[str, ErrorBySd] | None = None
) -> Path:
    """Draw observed against nominal coverage, and the RMSE of pixels against the deviation announced for them.

    Args:
        coverages: Coverages by method or site.
        path: Where the PNG goes.
        units: Of the target.
        by_sd: Errors by announced deviation, by the same names; None leaves that panel out.

    Returns:
        The path.
    """
    figure = Figure(figsize=(9.6 if by_sd else 5.2, 5.2), layout="constrained")
    axes = figure.subplots(1, 2 if by_sd else 1, squeeze=False)[0]
    axis = axes[0]
    axis.plot((0, 1), (0, 1), color=_GREY, linewidth=0.9, linestyle=(0, (4, 3)))
    axis.text(0.04, 0.95, "intervals too wide", color=_GREY, fontsize=9, va="top")
    axis.text(0.96, 0.04, "intervals too narrow", color=_GREY, fontsize=9, ha="right")
    for (name, coverage), style in zip(coverages.items(), styles(), strict=False):
        nominal, observed = zip(*coverage.table(), strict=True)
        text = (
            f"{name}: 90 % holds {100 * coverage.share(0.9):.0f} %" if 0.9 in coverage.levels and coverage.n else name
        )
        axis.plot(nominal, observed, label=text, **style)
    axis.set(xlim=(0, 1), ylim=(0, 1), aspect="equal", xlabel="nominal coverage", ylabel="observed coverage")
    for direction in (axis.xaxis, axis.yaxis):
        direction.set_major_formatter(PercentFormatter(1, symbol=" %"))
    axis.set_title("reliability", fontsize=11)
    if by_sd:
        _draw_by_sd(axes[1], by_sd, units)
    for panel in axes:
        tidy(panel)
    figure.legend(loc="outside lower center", ncols=3 if by_sd else 1, frameon=False, fontsize=9)
    return save(figure, path)


def plot_risk(reliability: RiskReliability, path: Path, *, name: str, least_n: int = 1) -> Path:
    """Draw what came to be against what was predicted of it, above the number of pixels of each class.

    Args:
        reliability: Classes of a predicted probability.
        path: Where the PNG goes.
        name: Of what was predicted.
        least_n: Classes with fewer pixels are drawn hollow.

    Returns:
        The path.
    """
    figure = Figure(figsize=(5.2, 6.2), layout="constrained")
    axis, count = figure.subplots(2, 1, sharex=True, height_ratios=(4, 1))
    predicted, observed, pixels = np.array(reliability.table()).T.reshape(3, -1)
    top = max(0.1, 1.15 * float(np.max([predicted, observed], initial=0.0)))
    axis.plot((0, top), (0, top), color=_GREY, linewidth=0.9, linestyle=(0, (4, 3)))
    axis.fill_between((0, top), (-0.05, top - 0.05), (0.05, top + 0.05), color=_COLOURS[0], alpha=0.1, linewidth=0)
    axis.plot(predicted, observed, color=_COLOURS[0], linewidth=1.4)
    firm = pixels >= least_n
    axis.plot(predicted[firm], observed[firm], "o", color=_COLOURS[0], label=f"{least_n} pixels or more")
    axis.plot(predicted[~firm], observed[~firm], "o", color=_COLOURS[0], markerfacecolor="white", label="fewer")
    axis.set(xlim=(0, top), ylim=(0, top), ylabel="observed", title=f"{name}; the band is ± .05")
    width = float(np.diff(reliability.edges[:2])[0]) if reliability.edges else 0.1
    count.bar(np.floor(predicted / width) * width, pixels, width=0.92 * width, align="edge", color="#b8c4ce")
    count.set(yscale="log", xlabel="predicted", ylabel="pixels")
    count.yaxis.set_minor_formatter(NullFormatter())
    for panel in (axis, count):
        tidy(panel)
    axis.legend(frameon=False, fontsize=9)
    return save(figure, path)


def plot_maps(
    maps: Mapping[str, FloatArray],
    truth: FloatArray,
    path: Path,
    *,
    label: str,
    guide: FloatArray | None = None,
    low: float | None = None,
) -> Path:
    """Draw the truth and the maps of one site, six in a row, and below each map its difference from the truth.

    Args:
        maps: By name, (y, x) like the truth, or coarser by a whole factor as the source is.
        truth: (y, x).
        path: Where the PNG goes.
        label: Name and units of the target.
        guide: Three channels (y, x, 3) from 0 to 1, shown below the truth.
        low: Lower end of the colours; None takes the 0.5th percentile of the truth, as its 99.5th is the upper end.

    Returns:
        The path.
    """
    least, most = np.nanpercentile(truth, (0.5, 99.5)).tolist()
    ends = {"low": least if low is None else low, "high": most}
    cols = min(_MAPS_IN_A_ROW, len(maps) + 1)
    bands = -(-(len(maps) + 1) // cols)
    figure = Figure(figsize=(2.6 * cols + 2.2, 5.9 * bands), layout="constrained")
    axes = figure.subplots(2 * bands, cols, squeeze=False)
    upper, lower = axes[::2].ravel(), axes[1::2].ravel()
    for axis in (*upper[len(maps) + 1 :], *lower[len(maps) + 1 :]):
        axis.axis("off")
    image = show(upper[0], truth, cmap="viridis", **ends)
    entitle(upper[0], "truth", f"mean {np.nanmean(truth):.1f}")
    lower[0].axis("off")
    if guide is not None:
        lower[0].imshow(guide, interpolation="nearest")
        lower[0].set_title("guide", fontsize=9)
    errors = {name: refine(values, truth.shape) - truth for name, values in maps.items()}
    span = max((float(np.nanpercentile(np.abs(error), 98)) for error in errors.values()), default=1.0)
    difference = None
    for axis, below, (name, values) in zip(upper[1:], lower[1:], maps.items(), strict=False):
        show(axis, values, cmap="viridis", **ends)
        entitle(axis, name, f"mean {np.nanmean(values):.1f}")
        error = errors[name]
        difference = show(below, error, cmap="RdBu", low=-span, high=span)
        score = Score.of(error, np.zeros_like(error), metrics=choose_metrics(BandSpec(), ("rmse", "bias")))
        below.set_title(f"RMSE {score.value('rmse'):.1f}   bias {_signed(score.value('bias'))}", fontsize=9)
    figure.colorbar(image, ax=axes, label=label, shrink=0.6, aspect=30, pad=0.01)
    if difference is not None:
        figure.colorbar(difference, ax=axes, label=f"map - truth: {label}", shrink=0.6, aspect=30, pad=0.01)
    return save(figure, path)


def _draw_by_sd(axis: Axes, by_sd: Mapping[str, ErrorBySd], units: str) -> None:
    """Draw RMSE against announced deviation; classes of too few pixels are left out."""
    top = 0.0
    for entry, style in zip(by_sd.values(), styles(), strict=False):
        total = sum(entry.n)
        rows = [(announced, rmse) for announced, rmse, n in entry.table() if n >= max(30, total // 2000)]
        if rows:
            axis.plot(*zip(*rows, strict=True), **style)
            top = max(top, *(number for row in rows for number in row))
    top = 1.08 * top or 1.0
    axis.plot((0, top), (0, top), color=_GREY, linewidth=0.9, linestyle=(0, (4, 3)))
    axis.set(xlim=(0, top), ylim=(0, top), aspect="equal")
    axis.set(xlabel=f"announced standard deviation ({units})", ylabel=f"RMSE of these pixels ({units})")
    axis.set_title("error by announced deviation", fontsize=11)


def _panels(number: int, *, width: float, height: float) -> tuple[Figure, Sequence[Axes]]:
    """Return a figure with so many panels that share their axes, at most four side by side."""
    cols = min(4, max(number, 1))
    rows = -(-max(number, 1) // cols)
    figure = Figure(figsize=(width * cols + 1.4, height * rows + 0.4), layout="constrained")
    axes = figure.subplots(rows, cols, sharex=True, sharey=True, squeeze=False).ravel()
    for axis in axes[number:]:
        axis.remove()
    for axis in axes[max(number - cols, 0) : number]:
        axis.tick_params(labelbottom=True)  # the last panel of each column, whatever row it is in
    return figure, list(axes[:number])


def styles() -> Iterator[dict[str, Any]]:
    """Yield styles of lines that differ in colour and marker, then again in dashes."""
    for dashes in ("-", "--", ":"):
        for colour, marker in zip(_COLOURS, _MARKERS, strict=True):
            yield {"color": colour, "marker": marker, "markersize": 4.5, "linewidth": 1.5, "linestyle": dashes}


def entitle(axis: Axes, name: str, subtitle: str) -> None:
    """Write a name in bold above a subtitle; the pad leaves room for it."""
    axis.set_title(name, fontsize=11, weight="bold", pad=18)
    style: dict[str, Any] = {"ha": "center", "va": "bottom", "fontsize": 8.5, "color": "#444444"}
    axis.annotate(subtitle, (0.5, 1), (0, 4), "axes fraction", "offset points", **style)


def _describe(score: Score) -> str:
    rmse, bias, r2 = (score.value(name) for name in ("rmse", "bias", "r2"))
    return f"RMSE {rmse:.1f}   bias {_signed(bias)}   R² {r2:.2f}"


def _signed(number: float) -> str:
    return f"{round(number, 1) + 0.0:+.1f}"  # + 0.0: there is no -0.0 to read


def _short(n: int) -> str:
    return f"{n / 1e6:.1f} M" if n >= 1e6 else f"{n / 1e3:.1f} k" if n >= 1e3 else str(n)


def show(axis: Axes, values: FloatArray, *, cmap: str | Colormap, low: float, high: float) -> AxesImage:
    """Draw an image without ticks, missing pixels in grey, and return it for a colour bar."""
    axis.set_xticks(())
    axis.set_yticks(())
    axis.set_facecolor("#dddddd")
    return axis.imshow(values, cmap=cmap, vmin=low, vmax=high, interpolation="nearest")


def refine(values: FloatArray, shape: tuple[int, ...]) -> FloatArray:
    """Repeat the pixels of a coarse map until it has a shape."""
    rows, cols = shape[0] // values.shape[0], shape[1] // values.shape[1]
    return values.repeat(rows, axis=0).repeat(cols, axis=1)


def tidy(axis: Axes) -> None:
    """Draw an axis with a light grid and no frame above and right."""
    axis.spines[["top", "right"]].set_visible(False)
    axis.grid(color="#e6e6e6", linewidth=0.7)
    axis.set_axisbelow(True)


def save(figure: Figure, path: Path) -> Path:
    """Write a figure as PNG, its folder too, and return the path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=_DPI, bbox_inches="tight", pad_inches=0.12)
    return path
