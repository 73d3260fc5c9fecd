"""The fine map to learn, read on the grid of a map: items of its catalogue, or a store."""

from collections.abc import Callable

import numpy as np
import odc.geo.xr  # noqa: F401  gives arrays the accessor that tells where their pixels lie
import xarray as xr
from odc.geo.geobox import GeoBox

from mapper.arrays import Float32Array
from mapper.catalog.items import Items
from mapper.catalog.provider import CollectionRule
from mapper.cube.composite import take_first
from mapper.cube.read import read_block
from mapper.errors import GridError, InputError
from mapper.grid import MapGrid, Window
from mapper.store.map_store import MapStore, open_map

_SHIFT_TOLERANCE = 1e-3
"""Largest shift against the grid, in target pixels, over the extent of a store: coordinates are decimal."""

ReadTruth = Callable[[Window], Float32Array]
"""Reads a window of the map's grid; (y, x) in target units, NaN where unknown."""


def read_from_items(grid: MapGrid, items: Items, variable: str, *, rule: CollectionRule) -> ReadTruth:
    """Return a reader of a truth in the map's own catalogue, by nearest neighbour.

    Where items overlap, the first valid value counts.

    Args:
        grid: Grid of the map.
        items: Items of the truth.
        variable: Band of the truth.
        rule: Rule by which the collection is read.
    """
    nearest = rule.model_copy(update={"resampling": "nearest"})

    def read(window: Window) -> Float32Array:
        geobox = grid.geobox_of(window)
        block = read_block(items.touching(geobox), geobox, bands=(variable,), rule=nearest)
        return take_first(block[variable].to_numpy())

    return read


def open_truth(location: str, variable: str) -> xr.DataArray:
    """Open a truth in a store: a map that ``mapper run`` wrote, or a Zarr whose coordinates say where it lies.

    Args:
        location: Of the store.
        variable: Name of its array.

    Returns:
        Dims (y, x), not yet read.

    Raises:
        InputError: If there is no store, or it has no such array.
        StoreError: If the location cannot be asked.
    """
    try:
        written = MapStore.find(location) is not None
        dataset = open_map(location) if written else xr.open_zarr(location, chunks=None, decode_coords="all")
    except (OSError, ValueError) as error:
        raise InputError(f"truth store {location} cannot be opened: {' '.join(str(error).split())}") from error
    if variable not in dataset:
        names = ", ".join(sorted(str(name) for name in dataset.data_vars))
        raise InputError(f"truth store {location} has no array {variable!r}; it has {names}")
    if dataset[variable].ndim != 2:
        raise InputError(f"truth store {location}: {variable} has dims {dataset[variable].dims}, expected y and x")
    return dataset[variable]


def read_from_store(grid: MapGrid, array: xr.DataArray, location: str) -> ReadTruth:
    """Return a reader of a truth in an array, pixel by pixel.

    Args:
        grid: Of the map.
        array: As :func:`open_truth` returns it.
        location: Of its store, for messages.

    Raises:
        GridError: If its pixels are not those of the grid, moved by whole pixels.
    """
    top, left = _offset(grid, _geobox_of(array, location), location)

    def read(window: Window) -> Float32Array:
        result = np.full(window.shape, np.nan, np.float32)
        rows, cols = array.shape
        inner = Window(
            top=max(window.top, top),
            left=max(window.left, left),
            bottom=min(window.bottom, top + rows),
            right=min(window.right, left + cols),
        )
        if inner.bottom > inner.top and inner.right > inner.left:
            stored = Window(top=top, left=left, bottom=top + rows, right=left + cols)
            result[inner.inside(window)] = array[inner.inside(stored)].to_numpy()
        return result

    return read


def _geobox_of(array: xr.DataArray, location: str) -> GeoBox:
    geobox = array.odc.geobox
    if not isinstance(geobox, GeoBox) or geobox.crs is None:
        raise GridError(f"truth store {location} does not declare where its pixels lie")
    return geobox


def _offset(grid: MapGrid, stored: GeoBox, location: str) -> tuple[int, int]:
    """Return row and column of the map's grid where the first pixel of a store lies."""
    step, (rows, cols) = grid.geobox.transform, stored.shape
    same_crs = stored.crs == grid.geobox.crs
    shift = ~step @ stored.transform  # from pixels of the store to pixels of the map
    corners = (shift.c, shift.f), (shift.c + shift.a * cols - cols, shift.f + shift.e * rows - rows)
    whole = round(shift.c), round(shift.f)
    off = max(abs(at - pixel) for corner in corners for at, pixel in zip(corner, whole, strict=True))
    if not same_crs or off > _SHIFT_TOLERANCE:
        here, there = grid.geobox.transform, stored.transform
        raise GridError(
            f"truth store {location} does not share the grid of the map: its pixels are {there.a:.10g} x {there.e:.10g}"
            f" in {stored.crs} from ({there.c:.10g}, {there.f:.10g}), those of the map {here.a:.10g} x {here.e:.10g} in"
            f" {grid.crs} from ({here.c:.10g}, {here.f:.10g})"
        )
    return whole[1], whole[0]
