"""What an overview shows, gathered from a finished map and its inputs."""

from pathlib import Path

import numpy as np
import numpy.typing as npt

from mapper.catalog.archives import provider_of
from mapper.catalog.items import Items
from mapper.catalog.provider import Provider
from mapper.cube.composite import read_guide
from mapper.cube.source import read_source
from mapper.evaluation.compare import Truth, read_truth, read_written
from mapper.evaluation.report import Sheet, plot_overview, stretch
from mapper.grid import MapGrid, Window
from mapper.spec import MapSpec
from mapper.store.repository import open_map

_LONGEST_PX = 1024
_TRUE_COLOUR = ("B04", "B03", "B02")


def draw_overview(spec: MapSpec, items: Items, path: Path, *, truth: Truth | None = None) -> Path:
    """Draw source, guide, map, truth and their difference; of a large map, the middle.

    Args:
        spec: The map, finished.
        items: Its frozen items.
        path: Where the PNG goes.
        truth: What to compare with.
    """
    provider, grid = provider_of(spec), spec.map_grid
    window = _middle(grid)
    written = open_map(spec.store)
    inside = grid.inside_area(window)
    left, bottom, right, top = grid.geobox_of(window).boundingbox.bbox
    geographic = spec.grid.kind == "native"
    source = read_source(items, grid.source_geobox_of(window), spec=spec, provider=provider).mean
    target = np.where(inside, read_written(written[spec.target.name], window), np.nan)
    true_values = None if truth is None else np.where(inside, read_truth(grid, window, truth, provider), np.nan)
    sheet = Sheet(
        title=f"{spec.name}: {spec.model.name}, {float(spec.source.resolution):g} to {float(spec.grid.resolution):g}, "
        f"consistency {spec.consistency}, {grid.crs}",
        label=f"{spec.target.long_name} ({spec.target.units})",
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
    """At most so many pixels around the middle of the area, as whole source pixels."""
    left, bottom, right, top = grid.area.boundingbox.bbox
    (c0, r0), (c1, r1) = ~grid.geobox.transform @ (left, top), ~grid.geobox.transform @ (right, bottom)
    rows, cols = (min(_LONGEST_PX, round(size)) for size in (r1 - r0, c1 - c0))
    row, col = round((r0 + r1 - rows) / 2), round((c0 + c1 - cols) / 2)
    return Window(top=row, left=col, bottom=row + rows, right=col + cols).grown(0, grid.scale)


def _true_colour(spec: MapSpec, items: Items, provider: Provider, window: Window) -> npt.NDArray[np.floating]:
    """True colour over all seasons, so that clouds of one leave no hole, else the first three channels."""
    names = [channel.band for channel in spec.guide.channels]
    if all(band in names for band in _TRUE_COLOUR):
        layer = next(layer for layer in spec.guide.layers if _TRUE_COLOUR[0] in layer.bands)
        layers = (layer.model_copy(update={"bands": _TRUE_COLOUR}),)
    else:
        layers = (spec.guide.layers[0].model_copy(update={"bands": spec.guide.layers[0].bands[:3]}),)
    seasons = {"all": tuple(sorted({month for months in spec.guide.seasons.values() for month in months}))}
    shown = spec.model_copy(update={"guide": spec.guide.model_copy(update={"layers": layers, "seasons": seasons})})
    geobox = spec.map_grid.geobox_of(window)
    values = read_guide(items, geobox, spec=shown, provider=provider).values
    if len(values) < 3:
        values = np.repeat(values[:1], 3, axis=0)
    return stretch(values)
