"""Pictures of heights: hillshades of source, maps and truth with the errors below, and errors by class of ground."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import cycle, islice
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure

from mapper.arrays import ByteArray, Float64Array, FloatArray
from mapper.evaluation.plots import entitle, refine, save, show, styles, tidy
from mapper.evaluation.relief import COVER, UNKNOWN_COVER, Ground, find_gradient
from mapper.evaluation.score import Score
from mapper.evaluation.terrain import Terrain

_LIGHT = (315.0, 45.0)
"""Azimuth and height of the light, in degrees."""
_USUAL_RISE = 0.5
"""Rise per metre to which heights are stretched: that of the steepest twentieth of the truth."""
_IN_A_ROW = 6
_COVER_COLOURS = ("#efe9dc", "#b5483a", "#4f8a4b", "#3f78b5")
"""Colours of land cover, in the order of its codes."""


def plot_relief(
    maps: Mapping[str, FloatArray], truth: FloatArray, path: Path, *, source: FloatArray, ground: Ground
) -> Path:
    """Draw the hillshades of source, maps and truth, six in a row; below the source land cover, below a map its error.

    All are lit and stretched alike, so that they can be compared.

    Args:
        maps: By name, (y, x) in metres.
        truth: (y, x), NaN where it is not scored.
        path: Where the PNG goes.
        source: (y / scale, x / scale).
        ground: Sizes of the pixels, and true heights also where they are not scored.

    Returns:
        The path.
    """
    heights = truth if ground.heights is None else ground.heights
    stretch = _find_stretch(heights, ground)
    panels = {"source": source, **maps, "truth": heights}
    cols = min(_IN_A_ROW, len(panels))
    bands = -(-len(panels) // cols)
    height = max(1.2, 2.6 * truth.shape[0] / truth.shape[1])
    figure = Figure(figsize=(2.6 * cols + 0.2, (2 * height + 0.9) * bands), layout="constrained")
    axes = figure.subplots(2 * bands, cols, squeeze=False)
    errors = {name: value - truth for name, value in maps.items()}
    span = max((float(np.nanpercentile(np.abs(error), 98)) for error in errors.values()), default=1.0) or 1.0
    difference = None
    upper, lower = axes[::2].ravel(), axes[1::2].ravel()
    for axis in (*upper[len(panels) :], *lower):
        axis.axis("off")
    for axis, below, (name, value) in zip(upper, lower, panels.items(), strict=False):
        bright = _shade_source(value, ground, stretch) if name == "source" else shade(value, ground, stretch=stretch)
        show(axis, refine(bright, truth.shape), cmap="gray", low=0, high=1)
        entitle(axis, name, f"{np.nanmin(value):.0f} to {np.nanmax(value):.0f} m")
        if name in errors:
            below.axis("on")
            difference = show(below, errors[name], cmap="RdBu_r", low=-span, high=span)
            rmse = float(np.sqrt(np.nanmean(np.square(errors[name]))))
            below.set_title(f"RMSE {rmse:.2f}   bias {np.nanmean(errors[name]):+.2f}", fontsize=9)
    if ground.cover is not None:
        _draw_cover(lower[0], ground.cover)
    if difference is not None:
        beside = lower[len(panels) - 1].inset_axes((0.04, 0.05, 0.06, 0.9))  # nothing is below the truth
        figure.colorbar(difference, cax=beside, label="map - truth (m)")
    figure.supxlabel(f"heights x {stretch:.3g}, light from the north-west", fontsize=8.5)
    return save(figure, path)


def plot_classes(terrains: Mapping[str, Terrain], path: Path, *, units: str) -> Path:
    """Draw bias and RMSE by land cover and by true slope, a line for each method, above the number of pixels.

    Args:
        terrains: By method, of the same pixels.
        path: Where the PNG goes.
        units: Of the errors.

    Returns:
        The path.
    """
    kinds = {"land cover": {name: terrain.cover for name, terrain in terrains.items()}}
    kinds["true slope"] = {name: terrain.slope for name, terrain in terrains.items()}
    found = {label: names for label, classes in kinds.items() if (names := _find_names(classes))}
    wide = [max(len(names), 2) for names in found.values()] or [1]
    figure = Figure(figsize=(3 + 0.95 * sum(wide), 7.6), layout="constrained")
    axes = figure.subplots(3, len(wide), sharex="col", height_ratios=(3, 3, 1), width_ratios=wide, squeeze=False)
    for column, (label, names) in zip(axes.T, found.items(), strict=False):
        _draw_classes(column, kinds[label], names, line=label == "true slope")
        column[2].set_xlabel(label)
    for axis, name in zip(axes[:, 0], (f"bias ({units})", f"RMSE ({units})", "pixels"), strict=True):
        axis.set_ylabel(name)
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(
        handles, labels, loc="outside upper center", ncols=min(5, max(len(labels), 1)), frameon=False, fontsize=9
    )
    return save(figure, path)


def shade(heights: FloatArray, ground: Ground, *, stretch: float = 1.0) -> Float64Array:
    """Return how bright each pixel is under a light from the north-west, 0 to 1; NaN where a neighbour is missing.

    Args:
        heights: (y, x) in metres.
        ground: Sizes of the pixels.
        stretch: Factor of the heights.
    """
    south, east = (stretch * rise for rise in find_gradient(heights, ground.dy_m, ground.dx_m))
    azimuth, elevation = np.radians(_LIGHT)
    # the light's direction times the normal (-east, +south, 1) in axes east, north, up
    facing = np.cos(elevation) * (-east * np.sin(azimuth) + south * np.cos(azimuth)) + np.sin(elevation)
    bright: Float64Array = np.clip(facing / np.sqrt(1 + south**2 + east**2), 0, 1)
    return bright


def _shade_source(heights: FloatArray, ground: Ground, stretch: float) -> Float64Array:
    """Return how bright each pixel of the source is, on its own pixels: repeated ones would be stairs."""
    rows = ground.dy_m.size // heights.shape[0]
    dy_m, dx_m = (rows * size.reshape(-1, rows).mean(axis=1) for size in (ground.dy_m, ground.dx_m))
    return shade(heights, Ground(dy_m=dy_m, dx_m=dx_m), stretch=stretch)


def _draw_cover(axis: Axes, cover: ByteArray) -> None:
    """Draw land cover, its names in their colours above."""
    codes = np.where(cover == UNKNOWN_COVER, np.nan, cover)
    axis.axis("on")
    show(axis, codes, cmap=ListedColormap(_COVER_COLOURS), low=-0.5, high=len(COVER) - 0.5)
    named = list(zip(COVER, _COVER_COLOURS, strict=True))[1:]
    for number, (name, colour) in enumerate(named):
        place = (number + 0.5) / len(named)
        axis.text(place, 1.02, name, color=colour, weight="bold", fontsize=9, ha="center", transform=axis.transAxes)


def _find_stretch(heights: FloatArray, ground: Ground) -> float:
    """Return the factor of the heights that shows plains and mountains alike."""
    rise = np.hypot(*find_gradient(heights, ground.dy_m, ground.dx_m))
    steep = float(np.nanpercentile(rise, 95)) if np.isfinite(rise).any() else 0.0
    return min(_USUAL_RISE / steep, 100.0) if steep > 0 else 1.0


def _find_names(classes: Mapping[str, Mapping[str, Score]]) -> list[str]:
    """Return the names of the classes that any method has a pixel in."""
    names = next(iter(classes.values()), {})
    return [name for name in names if any(scores[name].n for scores in classes.values())]


def _draw_classes(
    column: Iterable[Axes], classes: Mapping[str, Mapping[str, Score]], names: Sequence[str], *, line: bool
) -> None:
    bias, rmse, count = column
    position = np.arange(len(names))
    bias.axhline(0, color="#777777", linewidth=0.9)
    for (method, scores), style in zip(classes.items(), islice(cycle(styles()), len(classes)), strict=True):
        own = style if line else style | {"linestyle": "none", "markersize": 7}
        for axis, metric in ((bias, "bias"), (rmse, "rmse")):
            axis.plot(position, [scores[name].value(metric) for name in names], label=method, **own)
    number = [max((scores[name].n for scores in classes.values()), default=0) for name in names]
    count.bar(position, number, width=0.72, color="#b8c4ce")
    count.set_xticks(position, names)
    count.set_yticks(())
    rmse.set_ylim(bottom=0)
    for axis in (bias, rmse):
        tidy(axis)
    count.spines[["top", "right", "left"]].set_visible(False)
