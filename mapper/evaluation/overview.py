"""Overviews: source, guide, map, truth and their difference on one sheet, read from a finished map and its inputs."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.colors import BoundaryNorm
from matplotlib.figure import Figure

from mapper.arrays import FloatArray
from mapper.catalog.items import Items
from mapper.catalog.provider import Provider, provider_of
from mapper.cube.composite import read_guide
from mapper.cube.source import read_source
from mapper.evaluation.date_plots import draw_dates
from mapper.evaluation.score_map import Truth, draw_relief, read_truth, read_written
from mapper.grid import MapGrid, Window
from mapper.spec import MapSpec
from mapper.store.map_store import open_map


@dataclass(frozen=True, kw_only=True)
class Sheet:
    """Content of an overview; all fine arrays (y, x) on one grid, the source coarser by the scale."""

    title: str
    label: str
    """Name and units of the target, for the colour bar."""
    low: float | None = None
    """Lower end of the colours, in target units; None takes the 0.5th percentile of what is shown."""
    extent: tuple[float, float, float, float]
    """Left, right, bottom, top in the CRS."""
    unit: float = 1000.0
    """Unit of the axes, in units of the CRS."""
    axis_label: str = "km from the upper left corner"
    source: FloatArray
    guide_rgb: npt.NDArray[np.floating]
    """Three channels (y, x, 3), stretched to 0-1."""
    target: FloatArray
    truth: FloatArray | None = None
    n_valid: npt.NDArray[np.integer] | None = None


def stretch(bands: FloatArray, *, percentile: float = 98) -> npt.NDArray[np.float32]:
    """Stretch bands (band, y, x) to 0-1 for display, as (y, x, band); missing pixels become grey."""
    low = np.nanpercentile(bands, 100 - percentile, axis=(1, 2), keepdims=True)
    high = np.nanpercentile(bands, percentile, axis=(1, 2), keepdims=True)
    scaled = np.clip((bands - low) / np.maximum(high - low, 1e-6), 0, 1)
    return np.moveaxis(np.where(np.isfinite(scaled), scaled, 0.5), 0, -1).astype(np.float32)


def plot_overview(sheet: Sheet, path: Path) -> Path:
    """Draw an overview sheet as a PNG.

    Args:
        sheet: What to show.
        path: Where the PNG goes.

    Returns:
        The path.
    """
    figure = Figure(figsize=(15, 9.2), layout="constrained")
    axes = figure.subplots(2, 3).ravel()
    least, most = np.nanpercentile(sheet.target if sheet.truth is None else sheet.truth, (0.5, 99.5)).tolist()
    ends = {"vmin": least if sheet.low is None else sheet.low, "vmax": most}
    maps: Mapping[str, FloatArray | None] = {"source": sheet.source, "map": sheet.target, "truth": sheet.truth}
    for axis, (name, values) in zip(axes[[0, 2, 3]], maps.items(), strict=True):
        if values is None:
            axis.axis("off")
            continue
        image = _show(axis, values, sheet, cmap="viridis", **ends)
        axis.set_title(f"{name}: {_describe(values)}")
        figure.colorbar(image, ax=axis, label=sheet.label, shrink=0.85)
    _show(axes[1], sheet.guide_rgb, sheet)
    axes[1].set_title("guide, true colour composite")
    _draw_difference(figure, axes[4], sheet)
    _draw_observations(figure, axes[5], sheet)
    figure.suptitle(sheet.title)
    figure.savefig(path, dpi=110)
    return path


def _show(axis: Axes, values: npt.NDArray[np.generic], sheet: Sheet, **style: Any) -> mpl.image.AxesImage:
    left, right, bottom, top = sheet.extent
    extent = (
        0,
        (right - left) / sheet.unit,
        (bottom - top) / sheet.unit,
        0,
    )  # from the corner: full coordinates are long
    image = axis.imshow(values, extent=extent, interpolation="nearest", **style)
    axis.set_xlabel(sheet.axis_label, fontsize=7)
    axis.tick_params(labelsize=7)
    return image


def _describe(values: FloatArray) -> str:
    rows, cols = values.shape
    return f"{cols} x {rows} px, mean {np.nanmean(values):.1f}"


def _draw_difference(figure: Figure, axis: Axes, sheet: Sheet) -> None:
    if sheet.truth is None:
        axis.axis("off")
        return
    difference = sheet.target - sheet.truth
    span = float(np.nanpercentile(np.abs(difference), 99))
    image = _show(axis, difference, sheet, cmap="RdBu", vmin=-span, vmax=span)
    rmse = float(np.sqrt(np.nanmean(np.square(difference))))
    axis.set_title(f"map - truth: RMSE {rmse:.1f}, bias {np.nanmean(difference):+.1f}")
    figure.colorbar(image, ax=axis, label=sheet.label, shrink=0.85)


def _draw_observations(figure: Figure, axis: Axes, sheet: Sheet) -> None:
    if sheet.n_valid is None:
        axis.axis("off")
        return
    top = int(sheet.n_valid.max(initial=1))
    steps = np.arange(-0.5, top + 1.5) if top <= 24 else np.linspace(-0.5, top + 0.5, 25)
    image = _show(axis, sheet.n_valid, sheet, cmap="magma", norm=BoundaryNorm(steps, 256))
    axis.set_title("valid observations in the guide")
    figure.colorbar(image, ax=axis, label="count", shrink=0.85)


_LONGEST_PX = 1024


_TRUE_COLOUR = ("B04", "B03", "B02")


def draw_overview(spec: MapSpec, items: Items, path: Path, *, truth: Truth | None = None) -> Path:
    """Draw source, guide, map, truth and their difference, heights as hillshades; of a large map, the middle.

    A map of several dates with a truth is drawn as its anchor, bicubic interpolation, map, truth and errors.

    Args:
        spec: The map, finished.
        items: Its frozen items.
        path: Where the PNG goes.
        truth: What to compare with.
    """
    if spec.target.heights is not None and truth is not None:
        return draw_relief(spec, items, truth, path)
    if spec.source.is_stack and truth is not None:
        return draw_dates(spec, items, truth, path)
    provider, grid = provider_of(spec), spec.map_grid
    window = _middle(grid)
    written = open_map(spec.store)
    inside = grid.inside_area(window)
    left, bottom, right, top = grid.geobox_of(window).boundingbox.bbox
    geographic = spec.grid.kind == "native"
    source = read_source(items, grid.source_geobox_of(window), spec=spec, provider=provider).mean
    band = spec.targets[0] if truth is None else truth.target
    target = np.where(inside, read_written(written[band.name], window), np.nan)
    true_values = None if truth is None else np.where(inside, read_truth(grid, window, truth, provider), np.nan)
    sheet = Sheet(
        title=f"{spec.name}: {spec.model.name}, {float(spec.source.resolution):g} to {float(spec.grid.resolution):g}, "
        f"consistency {spec.consistency.mode}, {grid.crs}",
        label=f"{band.long_name} ({band.units})",
        low=band.bounds[0],
        extent=(left, right, bottom, top),
        unit=1.0 if geographic else 1000.0,
        axis_label=f"degrees from ({left:.4f}, {top:.4f})" if geographic else f"km from ({left:.0f}, {top:.0f})",
        source=source,
        guide_rgb=_true_colour(spec, items, provider, window),
        target=target,
        truth=true_values,
        n_valid=np.nan_to_num(read_written(written["n_valid"], window)).astype(np.int32),
    )
    return plot_overview(sheet, path)


def _middle(grid: MapGrid) -> Window:
    """Return a window of at most so many pixels around the middle of the area, in whole source pixels."""
    left, bottom, right, top = grid.area.boundingbox.bbox
    (c0, r0), (c1, r1) = ~grid.geobox.transform @ (left, top), ~grid.geobox.transform @ (right, bottom)
    rows, cols = (min(_LONGEST_PX, round(size)) for size in (r1 - r0, c1 - c0))
    row, col = round((r0 + r1 - rows) / 2), round((c0 + c1 - cols) / 2)
    return Window(top=row, left=col, bottom=row + rows, right=col + cols).grown(0, grid.scale)


def _true_colour(spec: MapSpec, items: Items, provider: Provider, window: Window) -> npt.NDArray[np.floating]:
    """Read true colour over all seasons, so that clouds of one leave no hole, else the first three channels."""
    names = [channel.band for channel in spec.guide.channels]
    if all(band in names for band in _TRUE_COLOUR):
        layer = next(layer for layer in spec.guide.layers if _TRUE_COLOUR[0] in layer.bands)
        layers = (layer.model_copy(update={"bands": _TRUE_COLOUR, "items": "own"}),)
    else:
        first = spec.guide.layers[0]
        layers = (first.model_copy(update={"bands": first.bands[:3], "items": "own"}),)
    months = {month for months in spec.guide.seasons.values() for month in months} or set(range(1, 13))
    seasons = {"all": tuple(sorted(months))}
    shown = spec.model_copy(update={"guide": spec.guide.model_copy(update={"layers": layers, "seasons": seasons})})
    geobox = spec.map_grid.geobox_of(window)
    values = read_guide(items, geobox, spec=shown, provider=provider).values
    if len(values) < 3:
        values = np.repeat(values[:1], 3, axis=0)
    return stretch(values)
