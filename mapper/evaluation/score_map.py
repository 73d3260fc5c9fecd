"""Scores of a finished map and of plain interpolations of its source, against a truth that no model was shown.

All methods are compared on the same pixels: inside the area, where the truth, the map and every method have a value.
The truth is read on the map's grid by nearest neighbour; nothing is smoothed before it is scored.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import xarray as xr
from odc.geo.geobox import GeoBox

from mapper.arrays import Float32Array
from mapper.catalog.heights import check_heights, check_truth
from mapper.catalog.items import Items
from mapper.catalog.provider import Provider, provider_of
from mapper.catalog.search import search_collection
from mapper.cube.datum_shift import add_shift, check_shifts
from mapper.cube.read import read_block
from mapper.cube.source import read_source
from mapper.cube.stack import read_stack
from mapper.errors import SpecError
from mapper.evaluation.map_ground import read_ground
from mapper.evaluation.metric import choose_metrics
from mapper.evaluation.plots import plot_tallies
from mapper.evaluation.relief import Ground
from mapper.evaluation.score import Score
from mapper.evaluation.tables import Table, coverage_table, score_columns, score_row
from mapper.evaluation.tally import Tally, Uncertainty
from mapper.evaluation.terrain_plots import plot_classes, plot_relief
from mapper.evaluation.terrain_tables import tabulate_classes, tabulate_terrain
from mapper.grid import MapGrid, Window, coarsen
from mapper.models.card import INTERPOLATIONS
from mapper.models.weights import load_model
from mapper.predict.operators import block_mean
from mapper.predict.predictor import Predictor
from mapper.spec import MapSpec, ModelSpec, TargetBand
from mapper.spec.inputs import DatumShift
from mapper.spec.target import BandSpec
from mapper.store.map_store import open_map

_BLOCK_PX = 1000
"""Edge of the blocks a map is scored in, before it is widened to whole source pixels."""
_SHOWN_PX = 600
"""Edge of what is drawn of a map of heights."""


@dataclass(frozen=True, kw_only=True)
class Truth:
    """The truth in the catalogue of a map, and the target band that is held against it."""

    collection: str
    variable: str
    """Band of the collection."""
    items: Items
    clip: float | None = None
    """Value that larger ones count as (label outliers), in target units."""
    target: TargetBand
    """Target band that is scored, with its range of values and its classes."""
    datum_shift: DatumShift | None = None
    """Metres that are added to a truth of heights to reach the vertical datum of the map."""

    @property
    def name(self) -> str:
        """Name as on the command line: ``collection:band``."""
        return f"{self.collection}:{self.variable}"


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Scores by method, and coverage of the map's own deviations."""

    tallies: Mapping[str, Tally]
    """Everything that was counted, by method."""
    truth: Truth
    own: str | None = None
    """Name of the written map among the methods."""
    uncertainty: Uncertainty = field(default_factory=Uncertainty)
    """Counts of the written map's deviations; of no pixels where it has none."""

    @property
    def scores(self) -> dict[str, Score]:
        """Scores by name of the method."""
        return {name: tally.score for name, tally in self.tallies.items()}

    def to_dict(self) -> dict[str, object]:
        """Return everything, for JSON."""
        coverage = self.uncertainty.coverage
        terrain = {name: tally.terrain.to_dict() for name, tally in self.tallies.items() if tally.terrain.counted}
        return {
            "truth": self.truth.name,
            "clip": self.truth.clip,
            "units": self.truth.target.units,
            "methods": {name: score.to_dict() for name, score in self.scores.items()},
            "bins": {name: tally.bins.to_dict() for name, tally in self.tallies.items()},
            "uncertainty": coverage.to_dict() if coverage.n else None,
        } | ({"terrain": terrain} if terrain else {})

    def tables(self) -> list[Table]:
        """Return the tables that people read: scores, and coverage where the map has deviations."""
        units = self.truth.target.units
        terrain = {name: tally.terrain for name, tally in self.tallies.items() if tally.terrain.counted}
        scored = score_columns(choose_metrics(self.truth.target, heights=bool(terrain)).values())
        columns = tuple(replace(column, units="", digits=3) for column in scored)
        rows = [score_row(name, score) for name, score in self.scores.items()]
        tables = [Table(title=f"against {self.truth.name}, {units}", columns=columns, rows=rows)]
        if terrain:
            tables += [tabulate_terrain(terrain), *tabulate_classes(terrain, self.truth.target)]
        coverage = self.uncertainty.coverage
        if coverage.n:
            title = f"intervals of {self.own} from its standard deviation, {units}"
            tables.append(coverage_table(coverage, title=title))
        return tables


def compare_methods(
    spec: MapSpec,
    *,
    items: Items,
    provider: Provider,
    truth: Truth,
    interpolations: Mapping[str, Predictor],
    written: xr.Dataset | None = None,
    more: Sequence[Truth] = (),
) -> Comparison:
    """Score interpolations of the source, and a written map, against a truth.

    Args:
        spec: The map.
        items: Its frozen items; only the source's are read, and of heights the guide's land cover.
        provider: Describes the collections.
        truth: What to compare with.
        interpolations: Predictors of models without guide, by name.
        written: The opened store; its target enters under the model's name, or as ``map``.
        more: Truths of further bands, whose pixels count with those of the first: bands of one range of values.

    Returns:
        Scores by method, in target units.
    """
    grid, bands = spec.map_grid, (truth, *more)
    own = "map" if spec.model.name in interpolations else spec.model.name
    methods = [*interpolations, *([own] if written is not None else [])]
    heights = spec.target.heights is not None
    scored_as = BandSpec(**{key: getattr(truth.target, key) for key in BandSpec.model_fields})  # so that bands add up
    tallies, uncertainty = dict.fromkeys(methods, _count_nothing(scored_as, heights=heights)), Uncertainty()
    halo = max((method.model.contract.halo(grid.scale) for method in interpolations.values()), default=0)
    for window in _blocks(grid, shifted=heights):
        inside = grid.inside_area(window)
        if not inside.any():
            continue
        wide = window.grown(halo, grid.scale)
        image = read_shown(items, grid.source_geobox_of(wide), spec=spec, provider=provider)
        ground = read_ground(spec, window, items, provider) if heights else None
        for each in bands:
            name, context = each.target.name, image[_find_band(spec, each.target)]
            expected = np.where(inside, read_truth(grid, window, each, provider), np.nan)
            source = context[coarsen(window.inside(wide), grid.scale)]
            values = {key: interpolate(method, context, wide, window) for key, method in interpolations.items()}
            if written is not None:
                values[own] = read_written(written[name], window)
            common = np.isfinite(expected) & np.logical_and.reduce([np.isfinite(v) for v in values.values()])
            scored = np.where(common, expected, np.nan)
            held = np.where(block_mean(inside.astype(np.float32), grid.scale) == 1, source, np.nan)
            for key, value in values.items():
                tallies[key] += Tally.of(value, scored, held, target=scored_as, ground=ground)
            if written is not None and f"{name}_sd" in written:
                deviation = read_written(written[f"{name}_sd"], window)
                uncertainty += Uncertainty.of(values[own] - scored, deviation, target=scored_as)
    return Comparison(
        tallies=tallies,
        truth=replace(truth, variable=",".join(each.variable for each in bands)),
        own=own if written is not None else None,
        uncertainty=uncertainty,
    )


def read_shown(items: Items, geobox: GeoBox, *, spec: MapSpec, provider: Provider) -> Float32Array:
    """Read the image that a map sharpens, (band, y, x) on source pixels: the source, or the anchor of a stack."""
    if spec.source.is_stack:
        return read_stack(items, geobox, spec=spec, provider=provider).image
    return read_source(items, geobox, spec=spec, provider=provider).image


def _find_band(spec: MapSpec, band: TargetBand) -> int:
    """Return the number of the source's band that a target band is a finer image of; else that of the first."""
    names = spec.source.band_names
    return names.index(band.name) if band.name in names else 0


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
    latest = add_shift(latest, truth.datum_shift, geobox)
    return latest if truth.clip is None else np.minimum(latest, np.float32(truth.clip))


def _count_nothing(band: BandSpec, *, heights: bool) -> Tally:
    """Return the tally of no pixel, which has all scores that others have."""
    nothing = np.empty((0, 0), np.float32)
    ground = Ground(dy_m=np.empty(0), dx_m=np.empty(0)) if heights else None
    return Tally.of(nothing, nothing, target=band, ground=ground)


def _blocks(grid: MapGrid, *, shifted: bool) -> Iterator[Window]:
    """Yield blocks of whole source pixels; shifted ones end in the middle of tiles, whose edges are looked at."""
    step = -(-_BLOCK_PX // grid.scale) * grid.scale
    start = 0
    if shifted:
        step = -(-max(step, grid.tile_px) // grid.tile_px) * grid.tile_px
        start = -(grid.tile_px // 2 // grid.scale * grid.scale)
    for top in range(start, grid.shape[0], step):
        for left in range(start, grid.shape[1], step):
            bottom, right = min(top + step, grid.shape[0]), min(left + step, grid.shape[1])
            yield Window(top=max(top, 0), left=max(left, 0), bottom=bottom, right=right).grown(0, grid.scale)


def interpolate(method: Predictor, source: Float32Array, wide: Window, window: Window) -> Float32Array:
    """Return the pixels of a window that a model without guide makes of the source of a wider one, (y, x)."""
    predicted: Float32Array = method.sharpen(np.empty((0, *wide.shape), np.float32), source).mean[window.inside(wide)]
    return predicted


def find_truth(
    spec: MapSpec,
    name: str,
    *,
    clip: float | None = None,
    data_range: float | None = None,
    datum_shift: DatumShift | None = None,
) -> Truth:
    """Find the truth of a map in its own catalogue.

    Args:
        spec: The map.
        name: ``collection:band``; scored is the target band of that name, or the first.
        clip: Value that larger ones count as, in target units.
        data_range: Range of the values, which PSNR and SSIM refer to; None takes that of the target.
        datum_shift: Metres to add to a truth of heights to reach the vertical datum of the map.

    Raises:
        SpecError: If the name has no band, the provider does not describe it, or its heights are in another vertical
            datum than those of the map and no shift is given.
        SearchError: If the catalogue has no such item.
    """
    collection, _, variable = name.partition(":")
    provider = provider_of(spec)
    rule = provider.rule(collection)
    bands = rule.bands
    if variable not in bands:
        raise SpecError(f"truth {name!r} is not COLLECTION:BAND; {collection} has the bands {', '.join(sorted(bands))}")
    check_heights(spec, provider)
    check_truth(spec, provider, truth=f"truth {name}", datum=rule.vertical_datum or "", shift=datum_shift)
    check_shifts(spec, reach_px=0, truth=datum_shift)
    target = next((band for band in spec.targets if band.name == variable), spec.targets[0])
    return Truth(
        collection=collection,
        variable=variable,
        items=search_collection(spec, collection),
        clip=clip,
        target=target if data_range is None else target.model_copy(update={"value_range": data_range}),
        datum_shift=datum_shift,
    )


def score_map(spec: MapSpec, items: Items, truth: Truth, *more: Truth) -> Comparison:
    """Score a finished map and nearest, bilinear and bicubic interpolation of its source, on one band or several."""
    return compare_methods(
        spec,
        items=items,
        provider=provider_of(spec),
        truth=truth,
        interpolations={name: Predictor(load_model(ModelSpec(name=name))) for name in INTERPOLATIONS},
        written=open_map(spec.store),
        more=more,
    )


def draw_comparison(comparison: Comparison, directory: Path) -> list[Path]:
    """Draw scatter and error by class of the truth for all methods, and the reliability of the written map.

    Args:
        comparison: What to draw.
        directory: Where the PNGs go.

    Returns:
        Paths of the pictures.
    """
    band = comparison.truth.target
    uncertainties = {comparison.own: comparison.uncertainty} if comparison.own else None
    paths = plot_tallies(
        comparison.tallies, directory, units=band.units, quantity=band.long_name, uncertainties=uncertainties
    )
    terrains = {name: tally.terrain for name, tally in comparison.tallies.items() if tally.terrain.counted}
    return [*paths, plot_classes(terrains, directory / "classes.png", units=band.units)] if terrains else paths


def draw_relief(spec: MapSpec, items: Items, truth: Truth, path: Path) -> Path:
    """Draw hillshades of source, bicubic, map and truth in the middle of a map of heights, and their errors.

    Args:
        spec: The map; its store is there.
        items: Its frozen items.
        truth: What to compare with.
        path: Where the PNG goes.

    Returns:
        The path.
    """
    grid, provider = spec.map_grid, provider_of(spec)
    spans = [(max((edge - _SHOWN_PX) // 2, 0), min((edge + _SHOWN_PX) // 2, edge)) for edge in grid.shape]
    (top, bottom), (left, right) = spans
    window = Window(top=top, left=left, bottom=bottom, right=right).grown(0, grid.scale)
    bicubic = Predictor(load_model(ModelSpec(name="bicubic")))
    wide = window.grown(bicubic.model.contract.halo(grid.scale), grid.scale)
    context = read_source(items, grid.source_geobox_of(wide), spec=spec, provider=provider).mean
    expected = np.where(grid.inside_area(window), read_truth(grid, window, truth, provider), np.float32(np.nan))
    maps = {
        "bicubic": interpolate(bicubic, context, wide, window),
        "map": read_written(open_map(spec.store)[truth.target.name], window),
    }
    source = context[coarsen(window.inside(wide), grid.scale)]
    return plot_relief(maps, expected, path, source=source, ground=read_ground(spec, window, items, provider))
