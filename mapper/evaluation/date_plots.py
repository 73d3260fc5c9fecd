"""Pictures of a map of several dates: its anchor, an interpolation, the map and the truth, and how far each is off."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mapper.arrays import Float32Array, FloatArray
from mapper.catalog.items import Items
from mapper.catalog.provider import provider_of
from mapper.evaluation.fidelity import rmse
from mapper.evaluation.plots import entitle, refine, save, show
from mapper.evaluation.score_map import Truth, interpolate, read_shown, read_truth, read_written
from mapper.grid import MapGrid, Window, coarsen
from mapper.models.weights import load_model
from mapper.predict.predictor import Predictor
from mapper.spec import MapSpec, ModelSpec
from mapper.store.map_store import open_map

_SHOWN_PX = 160
"""Edge of what is drawn, in target pixels: small enough that a pixel is seen."""
_COLOURS = (("B04", "B03", "B02"), ("B12", "B8A", "B05"))
"""Bands shown as red, green and blue: the first of these that a map has all of."""
_GAMMA = 0.7


def draw_dates(spec: MapSpec, items: Items, truth: Truth, path: Path) -> Path:
    """Draw the middle of a map of several dates, its anchor, bicubic interpolation and truth, and their errors.

    Args:
        spec: The map; its store is there.
        items: Its frozen items.
        truth: Of one of its bands; its collection has the others too.
        path: Where the PNG goes.

    Returns:
        The path.
    """
    grid, provider, written = spec.map_grid, provider_of(spec), open_map(spec.store)
    window = _find_middle(grid)
    bicubic = Predictor(load_model(ModelSpec(name="bicubic")))
    wide = window.grown(bicubic.model.contract.halo(grid.scale), grid.scale)
    context = read_shown(items, grid.source_geobox_of(wide), spec=spec, provider=provider)
    truths = [replace(truth, variable=band) for band in spec.source.band_names]
    outside = ~grid.inside_area(window)
    expected = np.stack([read_truth(grid, window, each, provider) for each in truths])
    expected[:, outside] = np.nan
    maps = {
        "bicubic of the anchor": np.stack([interpolate(bicubic, band, wide, window) for band in context]),
        "map": np.stack([read_written(written[band], window) for band in spec.source.band_names]),
    }
    spreads = [f"{band}_sd" for band in spec.source.band_names]
    sd = np.stack([read_written(written[name], window) for name in spreads]) if spreads[0] in written else None
    anchor = context[(slice(None), *coarsen(window.inside(wide), grid.scale))]
    return plot_dates(
        maps,
        expected,
        path,
        anchor=anchor,
        sd=sd,
        bands=spec.source.band_names,
        px_m=float(grid.resolution),
        title=f"{spec.name}: {spec.model.name}, {spec.source.dates} date{'s' * (spec.source.dates > 1)}, "
        f"{float(spec.source.resolution):g} to {float(grid.resolution):g} m",
    )


def _find_middle(grid: MapGrid) -> Window:
    """Return a window in whole source pixels in the middle of the area."""
    left, bottom, right, top = grid.area.boundingbox.bbox
    (first_col, first_row), (last_col, last_row) = (
        ~grid.geobox.transform @ at for at in ((left, top), (right, bottom))
    )
    edges = []
    for first, last in ((first_row, last_row), (first_col, last_col)):
        shown = min(_SHOWN_PX, last - first)
        start = max(round((first + last - shown) / 2), 0)
        edges.append((start, start + round(shown)))
    (first_row, last_row), (first_col, last_col) = edges
    return Window(top=first_row, left=first_col, bottom=last_row, right=last_col).grown(0, grid.scale)


def plot_dates(  # noqa: PLR0913 - what a picture shows
    maps: Mapping[str, FloatArray],
    truth: FloatArray,
    path: Path,
    *,
    anchor: FloatArray,
    sd: FloatArray | None,
    bands: tuple[str, ...],
    px_m: float,
    title: str,
) -> Path:
    """Draw anchor, maps and truth in one stretch; below each map its error, below the truth the deviation of the last.

    Args:
        maps: By name, (band, y, x) reflectance.
        truth: (band, y, x).
        path: Where the PNG goes.
        anchor: (band, y / scale, x / scale).
        sd: Standard deviation of the last map, (band, y, x); None where it has none.
        bands: Names of the bands.
        px_m: Edge of a target pixel, metres.
        title: Above all.

    Returns:
        The path.
    """
    panels = {"anchor": refine_bands(anchor, truth.shape[1:]), **maps, "truth": truth}
    figure = Figure(figsize=(3.3 * len(panels), 7.4), layout="constrained")
    axes = figure.subplots(2, len(panels))
    errors = {name: _root_mean_square(value - truth) for name, value in maps.items()}
    below = {**errors, **({} if sd is None else {"truth": _root_mean_square(sd)})}
    high = float(np.nanpercentile(errors[next(iter(maps))], 99)) or 1.0
    image = None
    for axis, lower, (name, values) in zip(*axes, panels.items(), strict=True):
        axis.imshow(colour(values, bands, truth), interpolation="nearest")
        axis.set(xticks=(), yticks=())
        entitle(axis, name, _describe(name, values, truth, px_m * truth.shape[1] / anchor.shape[1]))
        if name not in below:
            lower.axis("off")
            continue
        image = show(lower, below[name], cmap="magma", low=0, high=high)
        what = "standard deviation of the map" if name == "truth" else f"error of {name.split(' of ')[0]}"
        root = float(np.sqrt(np.nanmean(np.square(below[name]))))
        lower.set_title(f"{what}: {root:.4f}", fontsize=9)
    _draw_scale(axes[0, 0], px_m, truth.shape[2])
    if image is not None:
        beside = axes[1, 0].inset_axes((0.72, 0.05, 0.06, 0.9))
        figure.colorbar(image, cax=beside, label=f"reflectance,\nroot mean square of {', '.join(bands)}")
        beside.yaxis.set_ticks_position("left")
        beside.yaxis.set_label_position("left")
    figure.suptitle(title, fontsize=11)
    return save(figure, path)


def refine_bands(values: FloatArray, shape: tuple[int, ...]) -> FloatArray:
    """Repeat the pixels of bands (band, y, x) until they have a shape (y, x)."""
    return np.stack([refine(band, shape) for band in values])


def colour(values: FloatArray, bands: tuple[str, ...], like: FloatArray) -> npt.NDArray[np.floating]:
    """Return true colour, of 20 m bands short-wave and near infrared and red edge, or the first band in grey.

    Args:
        values: (band, y, x).
        bands: Names of the bands.
        like: (band, y, x) image whose darkest and brightest hundredth become black and white, of all three alike.

    Returns:
        (y, x, 3) from 0 to 1; missing pixels are grey.
    """
    names = next((names for names in _COLOURS if set(names) <= set(bands)), (bands[0],) * 3)
    chosen = [bands.index(name) for name in names]
    low, high = np.nanpercentile(like[chosen], (1, 99))
    scaled = np.clip((values[chosen] - low) / max(high - low, 1e-6), 0, 1) ** _GAMMA
    return np.moveaxis(np.where(np.isfinite(scaled), scaled, 0.5), 0, -1)


def _describe(name: str, values: FloatArray, truth: FloatArray, anchor_m: float) -> str:
    if name == "truth":
        return "seen by no model"
    if name == "anchor":
        return f"the date that is shown, {anchor_m:g} m"
    found = rmse(values, truth)
    return f"RMSE {found:.4f}, PSNR {-20 * np.log10(max(found, 1e-9)):.1f} dB (range 1)"


def _root_mean_square(values: FloatArray) -> Float32Array:
    root: Float32Array = np.sqrt(np.mean(np.square(values), axis=0, dtype=np.float64)).astype(np.float32)
    return root


def _draw_scale(axis: Axes, px_m: float, cols: int) -> None:
    """Draw a bar of a round length."""
    metres = next((each for each in (200, 100, 50, 20) if each / px_m < 0.4 * cols), 10)
    start, row = 0.05 * cols, 0.95 * cols
    axis.plot((start, start + metres / px_m), (row, row), color="white", linewidth=3, solid_capstyle="butt")
    axis.text(start, row - 0.02 * cols, f"{metres} m", color="white", fontsize=9, va="bottom")
