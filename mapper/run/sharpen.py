"""Lazy inputs of a map, and their sharpening by the workers of whatever Dask cluster is there: for regions.

:func:`open_inputs` lays out guide and source of a map as lazy datasets, with context around the map as far as its model
looks. :func:`sharpen` gives each tile of them, with its context, to a worker, which does with them what a task of a run
does with what it reads: the pixels are those of a run, to the bit. What broken files do to the flags of a whole tile
(``item_dropped``) is known to a run alone.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import numpy.typing as npt
import xarray as xr
import yaml
from dask.base import annotate
from dask.delayed import delayed
from odc.geo.geobox import GeoBox
from odc.geo.xr import xr_coords

from mapper.arrays import Float32Array
from mapper.catalog.items import Items
from mapper.catalog.search import search
from mapper.cube.composite import Guide, read_guide
from mapper.cube.source import Source, find_near, is_interpolated, read_source
from mapper.errors import GridError, SpecError
from mapper.execute.executors import find_task_resources
from mapper.grid import MapGrid, Tile, Window
from mapper.plan.context import Context, make_context
from mapper.predict.operators import expand
from mapper.predict.postprocess import blank_bands
from mapper.run.map_tile import predict_tile
from mapper.run.stored_guide import encodings_of
from mapper.run.window_inputs import describe_source
from mapper.spec import MapSpec, ModelSpec, parse_spec, read_spec

_SPEC = "mapper:spec"
_COUNT, _GAPS = "n_valid", "gaps"
_TOLERANCE_PX = 1e-3


@dataclass(frozen=True, kw_only=True)
class MapInputs:
    """Guide and source of a map, lazy; unpacks as ``cube, source``."""

    guide: xr.Dataset | None
    """Channels (y, x) in their units, with ``n_valid`` and ``gaps``; None for a map without a guide."""
    source: xr.Dataset
    """Bands (y, x) of the source on its own pixels, with ``NAME_sd``."""

    def __iter__(self) -> Any:
        return iter((self.guide, self.source))


def open_inputs(spec: MapSpec | Path | str, *, items: Items | None = None) -> MapInputs:
    """Open guide and source of a map as lazy datasets; nothing is read before a value is asked for.

    For example::

        cube, source = mapper.open_inputs("map.yaml")
        cube["summer_B08"].plot()

    Args:
        spec: The map: its MAP.yaml, or as read. Its source is a map, not a stack.
        items: Frozen items; None searches.

    Raises:
        SpecError: If the source is a stack of dates.
    """
    described = spec if isinstance(spec, MapSpec) else read_spec(spec)
    _refuse_stack(described)
    context = make_context(described)
    found = items if items is not None else search(described, margin_px=context.halo_px)
    layout = _Layout.around(context)
    source = _lay_out(layout, 1, 2 * len(described.source.band_names), _read_source, (context, found))
    names = [*described.source.band_names, *(f"{band}_sd" for band in described.source.band_names)]
    attrs = {_SPEC: described.to_yaml()}  # whole: sharpening finds the model by it
    coarse = _as_dataset(dict(zip(names, source, strict=True)), layout.geobox(source=True), attrs)
    if not described.guide.layers:
        return MapInputs(guide=None, source=coarse)
    channels = [channel.name for channel in described.guide.channels]
    guide = _lay_out(layout, 0, len(channels) + 2, _read_guide, (context, found))
    arrays = dict(zip([*channels, _COUNT, _GAPS], guide, strict=True))
    fine = arrays | {_COUNT: arrays[_COUNT].astype(np.uint16), _GAPS: arrays[_GAPS] != 0}
    return MapInputs(guide=_as_dataset(fine, layout.geobox(), attrs), source=coarse)


def sharpen(
    cube: xr.Dataset | None,
    source: xr.Dataset,
    model: ModelSpec | str | None = None,
    *,
    spec: MapSpec | Path | str | None = None,
) -> xr.Dataset:
    """Sharpen a source with a cube, lazily: each tile is a task of the Dask cluster that computes the result.

    Workers that offer the resource ``GPU`` are asked for it. For example::

        cube, source = mapper.open_inputs("map.yaml")
        agb = mapper.sharpen(cube, source, "mtg-demo")["agb"]

    Args:
        cube: Channels of the guide (y, x) on the lattice of the map's grid, by their names, NaN where missing; and
            ``n_valid``, the observations of a pixel; ``gaps`` marks pixels of which a channel is missing. None
            for a model without a guide.
        source: Bands (y, x) on source pixels, with ``NAME_sd`` where known, NaN where missing.
        model: Name of a model, or a description of one; None takes that of the map.
        spec: The map that the result is a part of: grid, target, consistency; None takes the one that
            :func:`open_inputs` opened.

    Returns:
        Bands of the target (y, x) in their units, NaN where missing; chunks are the tiles of the map.

    Raises:
        SpecError: If no map is named, or its source is a stack of dates.
        GridError: If cube or source do not lie on the lattice of the map.
        ContractError: If the model does not fit the map.
    """
    described = _find_spec(source, spec)
    if model is not None:
        asked = model if isinstance(model, ModelSpec) else ModelSpec(name=model)
        described = described.model_copy(update={"model": asked})
    context = make_context(described)
    grid = context.grid
    fine = _Layer.of(cube, grid, 1) if cube is not None and context.reads("guide") else None
    coarse = _Layer.of(source, grid, grid.scale)
    wanted = {(tile.row, tile.col) for tile in grid.tiles()}
    stored = context.product.bands
    types = {band.name: np.dtype("float32" if band.encoding else band.dtype) for band in stored}
    rows, cols = grid.tile_shape
    with annotate(resources=find_task_resources()):
        tiles = [
            [_delay_tile(context, Tile(row, col), fine, coarse, wanted=(row, col) in wanted) for col in range(cols)]
            for row in range(rows)
        ]
    edge = (grid.tile_px, grid.tile_px)
    arrays = {
        name: da.block([[da.from_delayed(tile[name], edge, dtype) for tile in line] for line in tiles])
        for name, dtype in types.items()
    }
    result = _as_dataset(arrays, grid.geobox, {_SPEC: described.to_yaml(public=True)})
    for band in stored:
        about = {"units": band.units, "long_name": band.long_name, "vertical_datum": band.vertical_datum}
        result[band.name].attrs |= {key: value for key, value in about.items() if value}
    return result


@dataclass(frozen=True, kw_only=True)
class _Layout:
    """Blocks of whole source pixels that cover a map and its context."""

    grid: MapGrid
    block_px: int
    pad_px: int
    shape: tuple[int, int]
    """Rows and columns of blocks."""

    @classmethod
    def around(cls, context: Context) -> "_Layout":
        grid = context.grid
        step = context.contract.step(grid.scale)
        block = -(-grid.tile_px // grid.scale) * grid.scale
        pad = -(-(context.halo_px + step) // block) * block
        rows, cols = (-(-(size + step) // block) + 2 * pad // block for size in grid.shape)
        return cls(grid=grid, block_px=block, pad_px=pad, shape=(rows, cols))

    def window(self, row: int, col: int, rows: int = 1, cols: int = 1) -> Window:
        top, left = row * self.block_px - self.pad_px, col * self.block_px - self.pad_px
        return Window(top=top, left=left, bottom=top + rows * self.block_px, right=left + cols * self.block_px)

    def geobox(self, *, source: bool = False) -> GeoBox:
        whole = self.window(0, 0, *self.shape)
        return self.grid.source_geobox_of(whole) if source else self.grid.geobox_of(whole)


def _lay_out(layout: _Layout, coarse: int, planes: int, read: Any, arguments: tuple[Any, ...]) -> Any:
    """Return planes (plane, y, x) as one dask array of a task for each block."""
    edge = layout.block_px // (layout.grid.scale if coarse else 1)
    context, items = arguments
    rows, cols = layout.shape
    blocks = []
    for row in range(rows):
        line = []
        for col in range(cols):
            window = layout.window(row, col)
            near = _find_near(context, items, window, coarse=coarse)
            values = delayed(read, pure=False)(context, near, window)
            line.append(da.from_delayed(values, (planes, edge, edge), np.float32))
        blocks.append(line)
    return da.block(blocks)


def _find_near(context: Context, items: Items, window: Window, *, coarse: int) -> Items:
    """Return the items that a block needs; of the source those around it too, where it is interpolated."""
    source, grid = context.spec.source, context.grid
    if coarse and is_interpolated(context.spec):
        rule = context.provider.rule(source.collection)
        return find_near(items, grid.source_geobox_of(window), spec=context.spec, rule=rule)
    return items.touching(grid.geobox_of(window)) if len(items) else items


def _read_source(context: Context, items: Items, window: Window) -> Float32Array:
    """Read the source of a block: means, then standard deviations, (plane, y, x)."""
    geobox = context.grid.source_geobox_of(window)
    found = read_source(items, geobox, spec=context.spec, provider=context.provider)
    return np.concatenate([found.image, found.image_sd])


def _read_guide(context: Context, items: Items, window: Window) -> Float32Array:
    """Read the guide of a block as a run sees it: channels, observations and gaps, (plane, y, x)."""
    geobox = context.grid.geobox_of(window)
    threads = context.options.read_threads
    guide = read_guide(items, geobox, spec=context.spec, provider=context.provider, threads=threads)
    encodings = encodings_of(context.spec, context.provider)
    values = [encoding.quantise(channel) for encoding, channel in zip(encodings, guide.values, strict=True)]
    return np.stack([*values, guide.n_valid.astype(np.float32), guide.gaps.astype(np.float32)])


@dataclass(frozen=True, kw_only=True)
class _Layer:
    """Arrays of one input, and where they lie on the lattice of the map."""

    dataset: xr.Dataset
    top: int
    """Rows of the map's pixels, in pixels of the input, above its first row."""
    left: int
    scale: int

    @classmethod
    def of(cls, dataset: xr.Dataset, grid: MapGrid, scale: int) -> "_Layer":
        step = float(grid.resolution) * scale
        at = grid.geobox.transform
        y, x = (np.asarray(dataset[name].values, np.float64) for name in ("y", "x"))
        top, left = (at.f - y[0]) / step - 0.5, (x[0] - at.c) / step - 0.5
        steps = [abs(np.diff(y) + step).max(initial=0.0), abs(np.diff(x) - step).max(initial=0.0)]
        if max(abs(top - round(top)), abs(left - round(left)), *(each / step for each in steps)) > _TOLERANCE_PX:
            raise GridError(
                f"an input begins at ({x[0]:g}, {y[0]:g}), not on the lattice of the map with pixels of "
                f"{step:g}: open it on the grid of the map"
            )
        return cls(dataset=dataset, top=round(top), left=round(left), scale=scale)

    def cut(self, window: Window, names: list[str]) -> tuple[Any, tuple[int, int]]:
        """Return the arrays (name, y, x) that lie in a window, lazy, and the first row and column of them in it."""
        rows, cols = self.dataset.sizes["y"], self.dataset.sizes["x"]
        top, left = window.top // self.scale - self.top, window.left // self.scale - self.left
        height, width = window.shape[0] // self.scale, window.shape[1] // self.scale
        inner = (
            slice(max(top, 0), max(min(top + height, rows), 0)),
            slice(max(left, 0), max(min(left + width, cols), 0)),
        )
        arrays = [da.asarray(self.dataset[name].data)[inner].astype(np.float32) for name in names]
        return da.stack(arrays).rechunk(-1), (inner[0].start - top, inner[1].start - left)


def _delay_tile(context: Context, tile: Tile, fine: _Layer | None, coarse: _Layer, *, wanted: bool) -> Any:
    """Return the bands of a tile by name, delayed."""
    window, blocks = context.window(tile), {}
    if wanted:
        bands = context.spec.source.band_names
        deviations = [f"{band}_sd" for band in bands if f"{band}_sd" in coarse.dataset]
        blocks["source"] = coarse.cut(window, [*bands, *deviations])
    if wanted and fine is not None:
        channels = [context.spec.guide.channels[channel].name for channel in context.require_model().channels]
        blocks["guide"] = fine.cut(window, [*channels, _COUNT, *([_GAPS] if _GAPS in fine.dataset else [])])
    arrays = {role: block[0] for role, block in blocks.items()}
    corners = {role: block[1] for role, block in blocks.items()}
    return delayed(_sharpen_tile, pure=False)(context, tile, arrays, corners)


def _sharpen_tile(
    context: Context, tile: Tile, arrays: Mapping[str, Float32Array], corners: Mapping[str, tuple[int, int]]
) -> Mapping[str, npt.NDArray[Any]]:
    """Sharpen one tile as a task of a run does; returns its bands by name. Called in workers."""
    grid, window = context.grid, context.window(tile)
    core = grid.window(tile)
    inside = grid.inside_area(core)
    if not arrays or not inside.any():
        return blank_bands(context.spec, inside, "outside_area")
    coarse = (window.shape[0] // grid.scale, window.shape[1] // grid.scale)
    planes, bands = _place(arrays["source"], corners["source"], coarse), len(context.spec.source.band_names)
    image, sd = planes[:bands], np.full((bands, *coarse), np.nan, np.float32)
    sd[: len(planes) - bands] = planes[bands:]
    known = expand(np.logical_or.reduce(np.isfinite(image)), grid.scale)[core.inside(window)]
    if not (known & inside).any():
        return blank_bands(context.spec, inside, "source_missing")
    read = describe_source(Source(image=image, image_sd=sd, uses=()), context, window.shape)
    if "guide" in arrays:
        read = read.join(_as_guide(_place(arrays["guide"], corners["guide"], window.shape), context))
    return predict_tile(context, tile, read)[0].arrays


def _place(planes: Float32Array, corner: tuple[int, int], shape: tuple[int, int]) -> Float32Array:
    """Return planes (plane, y, x) on a window, NaN beyond them."""
    placed = np.full((len(planes), *shape), np.nan, np.float32)
    top, left = corner
    placed[:, top : top + planes.shape[1], left : left + planes.shape[2]] = planes
    return placed


def _as_guide(planes: Float32Array, context: Context) -> Guide:
    """Return channels, observations and, where given, gaps as a guide."""
    channels = len(context.require_model().channels)
    values, counted = planes[:channels], np.nan_to_num(planes[channels], nan=0.0).astype(np.uint16)
    gaps = np.isnan(values).any(axis=0) if len(planes) == channels + 1 else planes[channels + 1] != 0
    return Guide(values=values, n_valid=counted, gaps=np.asarray(gaps, bool), uses=())


def _find_spec(source: xr.Dataset, spec: MapSpec | Path | str | None) -> MapSpec:
    if spec is None and _SPEC not in source.attrs:
        raise SpecError("no map says what is to be made: name one with spec=, or take inputs from open_inputs")
    if spec is None:
        found = parse_spec(yaml.safe_load(source.attrs[_SPEC]), base=Path())
    else:
        found = spec if isinstance(spec, MapSpec) else read_spec(spec)
    _refuse_stack(found)
    return found


def _refuse_stack(spec: MapSpec) -> None:
    if spec.source.is_stack:
        raise SpecError(f"map {spec.name} has a stack of dates as its source, which is sharpened by `mapper run` alone")


def _as_dataset(arrays: Mapping[str, Any], geobox: GeoBox, attrs: Mapping[str, str]) -> xr.Dataset:
    coords = {str(name): coord for name, coord in xr_coords(geobox, always_yx=True).items()}
    about = {"grid_mapping": "spatial_ref"}
    return xr.Dataset({name: (("y", "x"), array, about) for name, array in arrays.items()}, coords, attrs)
