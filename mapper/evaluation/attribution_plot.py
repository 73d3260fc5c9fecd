"""Picture of an explanation: the detail, where it is from, and what changes without a part of the inputs."""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure, SubFigure
from matplotlib.patches import Circle, Rectangle

from mapper.arrays import FloatArray
from mapper.evaluation.plots import entitle, save, show, tidy
from mapper.predict.attribution import DetailKind
from mapper.run.explanation import Explanation, PartShare

_MOST_MAPS = 8
_COLOURS = {"source": "#0072b2", "anchor": "#0072b2", "date": "#56b4e9", "guide": "#009e73"}
_JOINT = "#999999"
_BARS = 24
"""Most parts that bars are drawn of."""
_DETAIL: dict[DetailKind, str] = {
    "gradient": "mean difference of neighbouring pixels",
    "contrast": "pixel less the mean around it",
}


def plot_attribution(found: Explanation, path: Path) -> Path:
    """Draw an explanation as a PNG: output, contributions and replacements, then a map for each of the largest parts.

    Args:
        found: The explanation.
        path: Where the PNG goes.

    Returns:
        The path.
    """
    chosen = sorted((part for part in found.parts if part.name in found.maps), key=lambda part: -part.share)
    chosen = [part for part in chosen if part.share > 0][:_MOST_MAPS]
    bars = _choose_bars(found.parts)
    figure = Figure(figsize=(15, 5.6 + 0.16 * len(bars) + 3.5 * math.ceil(len(chosen) / 4)), layout="constrained")
    heights = [3.6, 1.4 + 0.24 * len(bars), *([3.2] * math.ceil(len(chosen) / 4))]
    first, second, *others = figure.subfigures(len(heights), 1, squeeze=False, height_ratios=heights)[:, 0]
    _draw_output(first, found)
    _draw_bars(second, found, bars)
    for number, row in enumerate(others):
        _draw_maps(row, found, chosen[4 * number : 4 * number + 4])
    figure.suptitle(_describe(found), fontsize=11)
    return save(figure, path)


def _describe(found: Explanation) -> str:
    detail = found.detail
    return (
        f"{found.map}: what made the detail of {', '.join(found.bands)} at ({found.x:g}, {found.y:g}), by "
        f"{found.model}\ndetail ({_DETAIL[found.options.detail]}) {detail['sharp']:.3g}{_space(found)}, "
        f"{detail['blurred']:.3g} from blurred inputs; contributions add up to {detail['attributed']:.3g}"
    )


def _draw_output(figure: SubFigure, found: Explanation) -> None:
    """Draw the output, that from blurred inputs, and all contributions together."""
    axes = figure.subplots(1, 3)
    part = _crop(found.output, found, 1)
    low, high = (float(each) for each in np.nanpercentile(part, (1, 99)))
    titles = ("output of the model", "output from blurred inputs")
    for axis, values, title in zip(axes, (found.output, found.smooth), titles, strict=False):
        image = show(axis, _crop(values, found, 1), cmap="viridis", low=low, high=high or 1.0)
        image.set_extent(_extent(values, found, 1))
        entitle(axis, title, f"{found.bands[0]}; the square is the detail that is explained")
        figure.colorbar(image, ax=axis, label=f"{found.bands[0]}{_unit(found)}", shrink=0.85)
        _mark(axis, found)
    total = _sum_up(found)
    shown = _crop(total, found, found.scale)
    image = axes[2].imshow(
        shown, cmap="magma", norm=PowerNorm(0.5, 0, float(shown.max()) or 1.0), interpolation="nearest"
    )
    image.set_extent(_extent(total, found, found.scale))
    half, most = (found.radius[name] for name in ("half", "nine_tenths"))
    unit = found.length_unit
    entitle(axes[2], "looked at", f"half within {half:.3g} {unit}, 90 % within {most:.3g} {unit} (circles)")
    for radius in (half, most):
        axes[2].add_patch(Circle((0, 0), radius, fill=False, color="white", linewidth=0.8, linestyle="--"))
    figure.colorbar(image, ax=axes[2], label=f"absolute contributions{_unit(found)}", shrink=0.85)
    _mark(axes[2], found)
    axes[2].tick_params(labelsize=7)


def _draw_bars(figure: SubFigure, found: Explanation, parts: Sequence[PartShare]) -> None:
    """Draw the share of each part, and what changes when it is replaced."""
    shares, changes = figure.subplots(1, 2, sharey=True)
    places = np.arange(len(parts))[::-1]
    colours = [_COLOURS.get(part.kind, _JOINT) for part in parts]
    shares.barh(places, [100 * part.share for part in parts], color=colours)
    for place, part in zip(places, parts, strict=True):
        said = f"{100 * part.share:.1f} %" if part.state == "followed" else part.state
        shares.annotate(said, (100 * part.share, place), (3, 0), textcoords="offset points", va="center", fontsize=8)
    shares.set_yticks(places, [_name(part) for part in parts], fontsize=8)
    shares.set_xlim(0, 1.2 * max(100 * max((part.share for part in parts), default=0), 1e-3))
    left = len(found.parts) - len(parts)
    more = f"; {left} smaller parts are in the JSON" if left else ""
    entitle(shares, "share of contributions", f"integrated gradients; grey bars join others and overlap{more}")
    shares.set_xlabel("% of all absolute contributions", fontsize=9)
    kinds = (("blurred", "#e69f00", 0.2), ("shuffled", "#cc79a7", -0.2))
    for name, colour, offset in kinds:
        values = [getattr(part.replaced, name).output for part in parts]
        changes.barh(places + offset, values, 0.38, color=colour, label=f"{name} part")
    entitle(changes, "change of the output without a part", "root mean square in the square; the rest as it is")
    changes.set_xlabel(f"{', '.join(found.bands)}{_unit(found)}", fontsize=9)
    changes.legend(fontsize=8, loc="best", frameon=False)
    for axis in (shares, changes):
        tidy(axis)


def _choose_bars(parts: Sequence[PartShare]) -> list[PartShare]:
    """Return the parts that are drawn, in their order: of many dates and channels the largest."""
    many = sorted((part for part in parts if part.kind in ("date", "guide")), key=lambda part: -part.share)
    dropped = many[max(_BARS - (len(parts) - len(many)), 1) :]
    return [part for part in parts if part not in dropped]


def _draw_maps(figure: SubFigure, found: Explanation, parts: Sequence[PartShare]) -> None:
    """Draw the contributions of parts on the pixels of their inputs."""
    for axis, part in zip(figure.subplots(1, 4), [*parts, *([None] * 4)], strict=False):
        if part is None:
            axis.axis("off")
            continue
        values = found.maps[part.name]
        step = _step(values, found)
        shown = _crop(values, found, step)
        span = float(np.percentile(np.abs(shown), 99.5)) or float(np.abs(shown).max()) or 1.0
        image = show(axis, shown, cmap="RdBu_r", low=-span, high=span)
        image.set_extent(_extent(values, found, step))
        entitle(axis, part.name, f"{part.kind}: {100 * part.share:.1f} %, net {part.net:+.3g}{_space(found)}")
        bar = figure.colorbar(image, ax=axis, shrink=0.8)
        bar.set_label(f"contribution{_unit(found)}", fontsize=8)
        bar.ax.tick_params(labelsize=7)
        _mark(axis, found, colour="black")


def _space(found: Explanation) -> str:
    """Return the units behind a number; none for what has no dimension."""
    return "" if found.units == "1" else f" {found.units}"


def _unit(found: Explanation) -> str:
    return "" if found.units == "1" else f" ({found.units})"


def _name(part: PartShare) -> str:
    return part.name if part.kind in _COLOURS else f"{part.name} ({part.kind})"


def _sum_up(found: Explanation) -> FloatArray:
    """Return the absolute contributions of all parts on source pixels, (y, x)."""
    rows, cols = (size // found.scale for size in found.output.shape)
    total = np.zeros((rows, cols))
    for values in found.maps.values():
        step = found.scale // _step(values, found)
        total += np.abs(values).reshape(rows, step, cols, step).sum(axis=(1, 3))
    return total


def _step(values: FloatArray, found: Explanation) -> int:
    """Return the target pixels along an edge of one pixel of a map."""
    return int(found.output.shape[0]) // int(values.shape[0])


def _reach(found: Explanation) -> int:
    """Return the target pixels around the middle that are shown: what nine tenths are from, and the square."""
    within = max(1.3 * found.radius["nine_tenths"] / found.px, 0.8 * found.options.window_px)
    return (math.ceil(within / found.scale) + 1) * found.scale


def _bounds(values: FloatArray, found: Explanation, step: int) -> tuple[slice, slice]:
    reach = _reach(found)
    first, last = ([(at + way) // step for at in found.at] for way in (-reach, reach))
    rows, cols = (
        slice(max(start, 0), min(end + 1, size)) for start, end, size in zip(first, last, values.shape, strict=True)
    )
    return rows, cols


def _crop(values: FloatArray, found: Explanation, step: int) -> FloatArray:
    return values[_bounds(values, found, step)]


def _extent(values: FloatArray, found: Explanation, step: int) -> tuple[float, float, float, float]:
    """Return left, right, bottom and top of what is shown, from the middle of the pixel, in its length unit."""
    rows, cols = _bounds(values, found, step)
    row, col = found.at
    left, right = ((at * step - col - 0.5) * found.px for at in (cols.start, cols.stop))
    top, bottom = ((at * step - row - 0.5) * found.px for at in (rows.start, rows.stop))
    return left, right, bottom, top


def _mark(axis: Axes, found: Explanation, *, colour: str = "white") -> None:
    """Draw the window of the detail, and say how far pixels are from its middle."""
    edge = found.options.window_px * found.px
    axis.add_patch(Rectangle((-edge / 2, -edge / 2), edge, edge, fill=False, color=colour, linewidth=1))
    axis.set_xticks([-edge / 2, edge / 2])
    axis.set_yticks([-edge / 2, edge / 2])
    axis.tick_params(labelsize=7)
    axis.set_xlabel(f"{found.length_unit} from the pixel", fontsize=7)
