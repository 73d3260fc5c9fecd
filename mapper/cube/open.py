"""The same pixels as :mod:`mapper.cube.read`, lazily through stackstac: for notebooks and regions, never for tasks.

stackstac lays the graph out; every file is read by :mod:`mapper.cube.resample`, so both readers give the same numbers.
What stackstac takes for an item is a whole observation: the files of one image are read, mosaicked and calibrated in
one task for each chunk and band, and the mask of a chunk in one task for all bands. One item for each file would make
many times more tasks. stackstac also misreads what items of STAC 1.1 say about their projection, so it is told nothing:
every image is as large as the cube. A file is opened for the chunks that its item says it may lie in, and for all where
the item contradicts itself; its header says which pixels it has there.
"""

# mypy: disable-error-code="no-untyped-call"
# dask ships types for a part of its functions only

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args

import dask.array as da
import numpy as np
import numpy.typing as npt
import stackstac
import xarray as xr
from odc.geo.geobox import GeoBox
from rasterio.windows import Window
from shapely.geometry.base import BaseGeometry

from mapper.access.files import Access, gdal_environment
from mapper.access.rules import AccessRule
from mapper.access.tally import AssetName
from mapper.arrays import BoolArray, Float32Array
from mapper.catalog.footprint import window_footprint
from mapper.catalog.inventory import inventory_path, take_inventory
from mapper.catalog.items import ItemDict, Items, name_asset
from mapper.catalog.provider import CollectionRule, name_pass, provider_of, solar_day
from mapper.catalog.search import search
from mapper.cube.belief import Belief, Beliefs
from mapper.cube.calibrate import Calibration, apply, find_clear
from mapper.cube.observations import Observation, group_items, require_bands
from mapper.cube.projection import RIM_PX, find_outline, may_touch
from mapper.cube.read import as_dataset, split_usable
from mapper.cube.resample import Resampling, Sampler
from mapper.errors import GridError, SpecError
from mapper.spec import MapSpec, read_spec

Grouping = Literal["pass", "solar_day", "item"]
"""Kind of a time step: a pass of one satellite, a day by the sun of all satellites, or an item."""

_NAMES: Mapping[Grouping, Callable[[ItemDict, CollectionRule], str]] = {
    "pass": name_pass,
    "solar_day": lambda item, _: solar_day(item).isoformat(),
    "item": lambda item, _: str(item["id"]),
}
K = TypeVar("K")
V = TypeVar("V")
_MOST_BLOCKS = 200_000
"""Blocks (time, y, x) of one cube: a graph of millions of tasks, which no scheduler is quick with."""


def open_cube(  # noqa: PLR0913 - what people know from other loaders
    source: Items | MapSpec | Path | str,
    geobox: GeoBox | None = None,
    *,
    collection: str | None = None,
    bands: str | Sequence[str] | None = None,
    rule: CollectionRule | None = None,
    access: Access | None = None,
    chunks: int | Mapping[str, int] = 1024,
    dtype: npt.DTypeLike = "float32",
    resampling: Resampling | Mapping[str, Resampling] | None = None,
    groupby: Grouping = "pass",
) -> xr.Dataset:
    """Open one collection as a lazy cube; nothing is read before a value is asked for.

    A map says for itself what it reads, from where and on which grid::

        cube = mapper.open_cube("map.yaml", bands="B08", chunks={"time": 4, "y": 512, "x": 512})
        cube["B08"].median("time").plot()

    Args:
        source: A map, as its MAP.yaml or as read, or items; season and orbit of items are selected before.
        geobox: Target pixels, north up, in a CRS with an EPSG code; None takes the whole grid of the map.
        collection: Collection that is read; None takes that of the first layer of the map's guide, of its
            source if it has no guide, or that of the items.
        bands: One of our band names, or some; None takes those of the map's layer.
        rule: How the collection is read; None asks the provider of the map.
        access: How files are reached, when they are read.
        chunks: Edge of a dask chunk in pixels, or sizes by dimension: time, y, x; -1 does not divide one.
        dtype: Floating-point type of the values.
        resampling: ``nearest``, ``bilinear`` or ``cubic``, for all bands or by band; None takes that of the rule.
            Indicators of classes are always read by ``nearest``.
        groupby: One time step is a ``pass`` of one satellite, a ``solar_day`` or an ``item``. Items that are calibrated
            differently are never mixed in one.

    Returns:
        What :func:`mapper.cube.read.read_block` returns, as dask arrays.

    Raises:
        GridError: If the grid has no EPSG code or is rotated, or the cube has too many chunks for one graph.
        SpecError: If no item has a band, a calibration cannot be decided, or an argument is none of those above.
    """
    request = _resolve(source, geobox, collection, bands, rule)
    items, rule, names = request.items, request.rule, request.bands
    require_bands(items, rule, names)
    usable, _ = split_usable(items, rule)
    groups = group_items(usable, rule, names, name=_choose("groupby", groupby, _NAMES))
    stacker = _Stacker(
        geobox=request.geobox,
        epsg=_require_epsg(request.geobox),
        chunks=_size_chunks(chunks, request.geobox, len(groups)),
        access=access or Access(),
        rule=rule.access,
    )
    kernels = _choose_kernels(resampling, rule, names)
    stacks = _stack_bands(stacker, groups, rule, kernels, _require_floating(dtype))
    return as_dataset(stacks, groups, request.geobox, rule)


@dataclass(frozen=True, kw_only=True)
class _Request:
    """Items of one collection, and how they are wanted."""

    items: Items
    geobox: GeoBox
    bands: tuple[str, ...]
    rule: CollectionRule


def _resolve(
    source: Items | MapSpec | Path | str,
    geobox: GeoBox | None,
    collection: str | None,
    bands: str | Sequence[str] | None,
    rule: CollectionRule | None,
) -> _Request:
    """Return what is asked for, with what a map says where an argument does not."""
    given = None if bands is None else (bands,) if isinstance(bands, str) else tuple(bands)
    if isinstance(source, Items):
        if geobox is None or given is None or rule is None:
            raise SpecError("a cube of items needs a geobox, bands and a rule; a MAP.yaml says all of them")
        return _Request(
            items=source if collection is None else source.of(collection), geobox=geobox, bands=given, rule=rule
        )
    spec = source if isinstance(source, MapSpec) else read_spec(source)
    found = search(spec) if isinstance(source, MapSpec) else take_inventory(spec, inventory_path(Path(source)))
    name = collection or (spec.guide.layers or (spec.source,))[0].collection
    return _Request(
        items=found.of(name),
        geobox=spec.map_grid.geobox if geobox is None else geobox,
        bands=given or _bands_of(spec, name),
        rule=rule or provider_of(spec).rule(name),
    )


def _bands_of(spec: MapSpec, collection: str) -> tuple[str, ...]:
    """Return the bands that a map reads of a collection."""
    layers = [layer.bands for layer in spec.guide.layers if layer.collection == collection]
    if not layers and collection == spec.source.collection:
        layers = [tuple(filter(None, (*spec.source.band_names, spec.source.sd)))]
    if not layers:
        raise SpecError(
            f"map {spec.name} reads nothing of {collection}: give bands, or one of {', '.join(spec.catalogs)}"
        )
    return tuple(dict.fromkeys(band for each in layers for band in each))


def _require_epsg(geobox: GeoBox) -> int:
    epsg: int | None = None if geobox.crs is None else geobox.crs.epsg
    if epsg is None or not geobox.axis_aligned:
        raise GridError(f"a lazy cube needs a north-up grid whose CRS has an EPSG code, got {geobox}")
    return epsg


def _require_floating(dtype: npt.DTypeLike) -> np.dtype[Any]:
    wanted = np.dtype(dtype)
    if wanted.kind != "f":
        raise SpecError(f"dtype is a floating-point type, since NaN marks what is missing; got {wanted}")
    return wanted


def _size_chunks(chunks: int | Mapping[str, int], geobox: GeoBox, times: int) -> tuple[int, int, int, int]:
    """Return chunk sizes of (time, band, y, x)."""
    sizes = {"time": 1, "y": chunks, "x": chunks} if isinstance(chunks, int) else {"time": 1, "y": 1024, "x": 1024}
    lengths = {"time": max(times, 1), "y": int(geobox.shape.y), "x": int(geobox.shape.x)}
    for dimension, size in ({} if isinstance(chunks, int) else chunks).items():
        _choose("a dimension of chunks", dimension, lengths)
        sizes[dimension] = size
    for dimension, size in sizes.items():
        if size != -1 and size < 1:
            raise SpecError(f"chunks are at least 1 pixel or time step long, or -1 for all; got {size} for {dimension}")
        sizes[dimension] = lengths[dimension] if size == -1 else min(size, lengths[dimension])
    blocks = int(np.prod([-(-lengths[name] // sizes[name]) for name in lengths]))
    if blocks > _MOST_BLOCKS:
        raise GridError(
            f"a cube of {lengths} in chunks of {sizes} has {blocks:,} blocks, at most {_MOST_BLOCKS:,} make one graph: "
            "give a smaller geobox or larger chunks; `mapper run` maps large areas tile by tile"
        )
    return sizes["time"], 1, sizes["y"], sizes["x"]


def _choose(argument: str, key: K, choices: Mapping[K, V]) -> V:
    if key not in choices:
        raise SpecError(f"{argument} is one of {', '.join(map(str, choices))}, got {key!r}")
    return choices[key]


def _choose_kernels(
    resampling: Resampling | Mapping[str, Resampling] | None, rule: CollectionRule, bands: Sequence[str]
) -> dict[str, Resampling]:
    """Return the resampling of each band; an indicator of classes is read by nearest neighbour, whatever is asked."""
    asked = dict.fromkeys(bands, resampling) if isinstance(resampling, str) else dict(resampling or {})
    known = {kernel: kernel for kernel in get_args(Resampling)}
    chosen = {band: _choose("resampling", asked.get(band) or rule.resampling, known) for band in bands}
    return {band: "nearest" if rule.bands[band].classes else kernel for band, kernel in chosen.items()}


@dataclass(frozen=True, kw_only=True)
class _File:
    """One file of an image."""

    name: AssetName
    outline: BaseGeometry | None
    """Outline of where it may lie, in longitude and latitude; None for anywhere."""
    beliefs: tuple[Belief, ...]
    """Statements of item and collection on the band, then on other bands of the file that are read next."""


@dataclass(frozen=True, kw_only=True)
class _Image:
    """The files of one asset in one observation; where they overlap, the first valid pixel wins."""

    time: str
    files: tuple[_File, ...]
    calibration: Calibration | None = None


def _stack_bands(
    stacker: "_Stacker",
    groups: Sequence[Observation],
    rule: CollectionRule,
    kernels: Mapping[str, Resampling],
    dtype: np.dtype[Any],
) -> dict[str, Any]:
    """Return a dask array (time, y, x) for each band, NaN where missing or masked."""
    clear = []
    if rule.mask is not None:
        masks = [stacker.collect(group, rule.mask.asset, believe=Beliefs(rule=rule).of_mask) for group in groups]
        clear = [da.map_blocks(find_clear, stacker.stack(masks, "nearest"), rule.mask, dtype=bool)]
    stacks, beliefs = {}, Beliefs(rule=rule)
    for band, kernel in kernels.items():
        images = stacker.stack([_collect_band(stacker, group, beliefs, band) for group in groups], kernel)
        stacks[band] = da.map_blocks(partial(_finish, dtype=dtype), images, *clear, dtype=dtype)[:, 0]
    return stacks


def _collect_band(stacker: "_Stacker", group: Observation, beliefs: Beliefs, band: str) -> _Image:
    holding = [item for item in group.items if beliefs.rule.asset(item, band)]
    # which band of a file is asked for first is up to dask
    believe = partial(beliefs.of_bands, band=band, order=dict.fromkeys((band, *group.calibrations)))
    calibration = group.calibrations.get(band)
    return stacker.collect(
        group, beliefs.rule.bands[band].asset, believe=believe, items=holding, calibration=calibration
    )


@dataclass(frozen=True, kw_only=True)
class _Stacker:
    """Lays out the images of one collection on one geobox."""

    geobox: GeoBox
    epsg: int
    chunks: tuple[int, int, int, int]
    access: Access
    rule: AccessRule
    sampler: Sampler = field(default_factory=Sampler)

    @cached_property
    def footprint(self) -> BaseGeometry:
        """Footprint of the geobox in longitude and latitude."""
        return window_footprint(self.geobox, buffer_px=RIM_PX)

    def collect(
        self,
        group: Observation,
        asset: str,
        *,
        believe: Callable[[ItemDict], tuple[Belief, ...]],
        items: Sequence[ItemDict] | None = None,
        calibration: Calibration | None = None,
    ) -> _Image:
        """Return the image of one asset of an observation; files beside the geobox are left out."""
        files = [
            _File(
                name=name_asset(item, asset),
                outline=find_outline(item, asset),
                beliefs=believe(item),
            )
            for item in (group.items if items is None else items)
            if asset in item["assets"]
        ]
        near = tuple(file for file in files if may_touch(file.outline, self.footprint))
        return _Image(time=group.time.isoformat(), files=near, calibration=calibration)

    def stack(self, images: Sequence[_Image], resampling: Resampling) -> Any:
        """Return images as a dask array, float32, NaN where missing; dims (image, 1, y, x)."""
        if not images:
            return da.full((0, 1, *self.geobox.shape), np.nan, dtype=np.float32, chunks=self.chunks)
        box = self.geobox.boundingbox.bbox
        cube: xr.DataArray = stackstac.stack(
            # stackstac hands on to its reader what stands for a location
            [
                {
                    "id": str(k),
                    "properties": {"datetime": image.time, "proj:epsg": self.epsg},
                    "assets": {"image": {"href": image, "proj:bbox": list(box)}},
                }
                for k, image in enumerate(images)
            ],
            assets=["image"],
            epsg=self.epsg,
            resolution=(abs(self.geobox.resolution.x), abs(self.geobox.resolution.y)),
            bounds=box,
            snap_bounds=False,
            chunksize=self.chunks,
            dtype=np.dtype("float32"),
            fill_value=np.float32("nan"),
            rescale=False,
            sortby_date=False,
            xy_coords=False,
            properties=False,
            band_coords=False,
            # by position: stackstac has a `resampling` of its own
            reader=partial(_ImageReader, self, resampling),
        )
        return cube.data


class _ImageReader:
    """The reader with which stackstac opens an image; most of what it is offered is decided elsewhere."""

    def __init__(self, stacker: _Stacker, resampling: Resampling, /, *, url: _Image, **_options: object) -> None:
        self.stacker = stacker
        self.image = url
        self.kernel = resampling

    def read(self, window: Window) -> Float32Array:
        """Return the pixels of a window of the geobox (y, x), calibrated, NaN where missing."""
        stacker, part = self.stacker, self.stacker.geobox[window.toslices()]
        pixels = np.full(part.shape, np.nan, np.float32)
        lacking: BoolArray | None = None
        if not self.image.files:
            return pixels
        footprint = window_footprint(part, buffer_px=RIM_PX)
        with gdal_environment():
            for file in self.image.files:
                if not may_touch(file.outline, footprint) or (lacking is not None and not lacking.any()):
                    continue
                found = stacker.sampler.read(
                    file.name,
                    part,
                    access=stacker.access,
                    rule=stacker.rule,
                    resampling=self.kernel,
                    beliefs=file.beliefs,
                    wanted=lacking,
                )
                if found is not None:
                    pixels = found if lacking is None else np.where(lacking, found, pixels)
                    lacking = np.isnan(pixels)
        return pixels if self.image.calibration is None else apply(pixels, self.image.calibration)

    def close(self) -> None:
        """Nothing is kept open."""


def _finish(stored: Float32Array, clear: BoolArray | None = None, *, dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    """Return the pixels of a band, NaN where they are not clear; any shape."""
    pixels = stored if clear is None else np.where(clear, stored, np.float32(np.nan))
    return pixels.astype(dtype, copy=False)
