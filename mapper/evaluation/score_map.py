"""Scores of a finished map and of plain interpolations of its source, against a truth that no model was shown.

All methods are compared on the same pixels: inside the area, where the truth, the map and every method have a value.
The truth is read on the map's grid by nearest neighbour; nothing is smoothed before it is scored.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import xarray as xr

from mapper.arrays import Float32Array
from mapper.catalog.items import Items
from mapper.catalog.provider import Provider, provider_of
from mapper.catalog.search import search_collection
from mapper.cube.read import read_block
from mapper.cube.source import read_source
from mapper.errors import SpecError
from mapper.evaluation.metrics import DATA_RANGE, Score
from mapper.evaluation.plots import plot_tallies
from mapper.evaluation.tally import Tally, Uncertainty
from mapper.evaluation.uncertainty import LEVELS
from mapper.grid import MapGrid, Window, coarsen
from mapper.models.card import INTERPOLATIONS
from mapper.models.weights import load_model
from mapper.predict.operators import block_mean
from mapper.predict.predictor import Predictor
from mapper.spec import MapSpec, ModelSpec
from mapper.store.repository import open_map

Table = tuple[str, Sequence[str], Sequence[Sequence[str | float]]]


_TITLES = ("RMSE", "MAE", "bias", "R2", "PSNR", "SSIM", "gradient RMSE", "|block mean - source|", "largest")
"""Of the metrics of a score, in their order."""


_BLOCK_PX = 1000
"""Edge of the blocks a map is scored in, before it is widened to whole source pixels."""


@dataclass(frozen=True, kw_only=True)
class Truth:
    """Where the truth is, and how it is limited before it is scored."""

    collection: str
    variable: str
    items: Items
    clip: float | None = None
    """Larger values count as this one (label outliers)."""
    data_range: float = DATA_RANGE
    """Range of the values: what PSNR and SSIM refer to, and what classes and axes are scaled to."""


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Scores by method, and whether the map's own deviations hold."""

    tallies: Mapping[str, Tally]
    units: str
    truth: str
    clip: float | None = None
    own: str | None = None
    """Name of the written map among the methods."""
    uncertainty: Uncertainty = field(default_factory=Uncertainty)
    """Of the written map; of no pixels where it has no deviations."""

    @property
    def scores(self) -> dict[str, Score]:
        """Scores by method."""
        return {name: tally.score for name, tally in self.tallies.items()}

    def to_dict(self) -> dict[str, object]:
        """Everything, for JSON."""
        coverage = self.uncertainty.coverage
        return {
            "truth": self.truth,
            "clip": self.clip,
            "units": self.units,
            "methods": {name: score.to_dict() for name, score in self.scores.items()},
            "bins": {name: tally.bins.to_dict() for name, tally in self.tallies.items()},
            "uncertainty": coverage.to_dict() if coverage.n else None,
        }

    def tables(self) -> list[Table]:
        """Title, columns and rows of what people read: scores, and coverage where the map has deviations."""
        rows: list[tuple[str | float, ...]] = [(name, *score.metrics().values()) for name, score in self.scores.items()]
        tables: list[Table] = [(f"against {self.truth}, {self.units}", ("method", *_TITLES), rows)]
        coverage = self.uncertainty.coverage
        if coverage.n:
            shares = [(f"{level:.0%}", f"{coverage.share(level):.1%}", coverage.width(level)) for level in LEVELS]
            title = f"intervals of {self.own} from its standard deviation, {self.units}"
            tables.append((title, ("nominal", "observed", "mean width"), shares))
        return tables


def compare_methods(
    spec: MapSpec,
    *,
    items: Items,
    provider: Provider,
    truth: Truth,
    interpolations: Mapping[str, Predictor],
    written: xr.Dataset | None = None,
) -> Comparison:
    """Score interpolations of the source, and a written map, against a truth.

    Args:
        spec: The map.
        items: Its frozen items; only the source's are read.
        provider: Describes the collections.
        truth: What to compare with.
        interpolations: Predictors of models without guide, by name.
        written: The opened store; its target enters under the model's name, or as ``map``.

    Returns:
        Scores by method, in target units.
    """
    grid = spec.map_grid
    own = "map" if spec.model.name in interpolations else spec.model.name
    methods = [*interpolations, *([own] if written is not None else [])]
    tallies, uncertainty = dict.fromkeys(methods, Tally()), Uncertainty()
    halo = max((method.model.contract.halo(grid.scale) for method in interpolations.values()), default=0)
    for window in _blocks(grid):
        inside = grid.inside_area(window)
        if not inside.any():
            continue
        expected = np.where(inside, read_truth(grid, window, truth, provider), np.nan)
        wide = window.grown(halo, grid.scale)
        context = read_source(items, grid.source_geobox_of(wide), spec=spec, provider=provider).mean
        source = context[coarsen(window.inside(wide), grid.scale)]
        values = {name: _interpolate(method, context, wide, window) for name, method in interpolations.items()}
        if written is not None:
            values[own] = read_written(written[spec.target.name], window)
        common = np.isfinite(expected) & np.logical_and.reduce([np.isfinite(v) for v in values.values()])
        whole = block_mean(inside.astype(np.float32), grid.scale) == 1
        for name, value in values.items():
            means = np.where(whole, block_mean(value, grid.scale), np.nan)
            residual = Tally(score=Score.of_blocks(means, source))
            shared = np.where(common, value, np.nan)
            tallies[name] += Tally.of(shared, expected, data_range=truth.data_range) + residual
        if written is not None and f"{spec.target.name}_sd" in written:
            deviation = read_written(written[f"{spec.target.name}_sd"], window)
            error = np.where(common, values[own] - expected, np.nan)
            uncertainty += Uncertainty.of(error, deviation, data_range=truth.data_range)
    return Comparison(
        tallies=tallies,
        units=spec.target.units,
        truth=f"{truth.collection}:{truth.variable}",
        clip=truth.clip,
        own=own if written is not None else None,
        uncertainty=uncertainty,
    )


def read_written(variable: xr.DataArray, window: Window) -> Float32Array:
    """Read a window of a written map, NaN where it reaches beyond the map; dims (y, x), float32."""
    result = np.full(window.shape, np.nan, np.float32)
    rows, cols = variable.shape
    inner = Window(
        top=max(window.top, 0), left=max(window.left, 0), bottom=min(window.bottom, rows), right=min(window.right, cols)
    )
    result[inner.inside(window)] = variable[inner.slices].to_numpy()
    return result


def read_truth(grid: MapGrid, window: Window, truth: Truth, provider: Provider) -> Float32Array:
    """Read the truth on the pixels of a window by nearest neighbour; dims (y, x), float32, NaN where unknown."""
    geobox = grid.geobox_of(window)
    block = read_block(
        truth.items.touching(geobox),
        geobox,
        bands=(truth.variable,),
        rule=provider.rule(truth.collection).model_copy(update={"resampling": "nearest"}),
    )
    values = block[truth.variable].to_numpy()
    latest: Float32Array = values[-1] if len(values) else np.full(window.shape, np.nan, np.float32)
    return latest if truth.clip is None else np.minimum(latest, np.float32(truth.clip))


def _blocks(grid: MapGrid) -> Iterator[Window]:
    step = -(-_BLOCK_PX // grid.scale) * grid.scale
    for top in range(0, grid.shape[0], step):
        for left in range(0, grid.shape[1], step):
            bottom, right = min(top + step, grid.shape[0]), min(left + step, grid.shape[1])
            yield Window(top=top, left=left, bottom=bottom, right=right).grown(0, grid.scale)


def _interpolate(method: Predictor, source: Float32Array, wide: Window, window: Window) -> Float32Array:
    predicted: Float32Array = method.sharpen(np.empty((0, *wide.shape), np.float32), source).mean[window.inside(wide)]
    return predicted


def find_truth(spec: MapSpec, name: str, *, clip: float | None = None, data_range: float = DATA_RANGE) -> Truth:
    """Find the truth of a map in its own catalogue.

    Args:
        spec: The map.
        name: ``collection:band``.
        clip: Larger true values count as this one.
        data_range: Range of the values, which PSNR and SSIM refer to.

    Raises:
        SpecError: If the name has no band, or the provider does not describe it.
        SearchError: If the catalogue has no such item.
    """
    collection, _, variable = name.partition(":")
    bands = provider_of(spec).rule(collection).bands
    if variable not in bands:
        raise SpecError(f"truth {name!r} is not COLLECTION:BAND; {collection} has the bands {', '.join(sorted(bands))}")
    return Truth(
        collection=collection,
        variable=variable,
        items=search_collection(spec, collection),
        clip=clip,
        data_range=data_range,
    )


def score_map(spec: MapSpec, items: Items, truth: Truth) -> Comparison:
    """Score a finished map and nearest, bilinear and bicubic interpolation of its source."""
    return compare_methods(
        spec,
        items=items,
        provider=provider_of(spec),
        truth=truth,
        interpolations={name: Predictor(load_model(ModelSpec(name=name))) for name in INTERPOLATIONS},
        written=open_map(spec.store),
    )


def draw_comparison(comparison: Comparison, directory: Path, *, quantity: str) -> list[Path]:
    """Draw scatter and error by class of the truth for all methods, and the reliability of the written map.

    Args:
        comparison: What to draw.
        directory: Where the PNGs go.
        quantity: Name of the target.
    """
    uncertainties = {comparison.own: comparison.uncertainty} if comparison.own else None
    return plot_tallies(
        comparison.tallies, directory, units=comparison.units, quantity=quantity, uncertainties=uncertainties
    )
