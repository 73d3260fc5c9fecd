"""The pixels of one tile as they are stored: encoded arrays, whole shards, one checksum over all of them.

Encoded arrays always come in the order of :func:`band_names`; the checksum covers names, dtypes, shapes and bytes in
little-endian order, so it can be computed again from the store on any machine.
"""

import asyncio
import hashlib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import zarr
from icechunk import IcechunkStore
from zarr import AsyncArray
from zarr.abc.store import Store
from zarr.core.metadata.v3 import ArrayV3Metadata
from zarr.core.sync import sync
from zarr.storage import StorePath

from mapper.grid import MapGrid, Tile, Window
from mapper.spec import TargetSpec
from mapper.store.encoding import Encoding
from mapper.store.record import TileArrays

NOT_WRITTEN = 1 << 15
"""Bit of ``qa`` where no tile with data was written; the fill of that array, never set by a task."""

_log = logging.getLogger(__name__)

_Bands = Mapping[str, npt.NDArray[Any]]


def band_names(target: TargetSpec) -> tuple[str, str, str, str]:
    """Arrays of a map: value, its standard deviation, flags, valid observations."""
    return target.name, f"{target.name}_sd", "qa", "n_valid"


def encode_tile(target: TargetSpec, arrays: TileArrays) -> dict[str, npt.NDArray[Any]]:
    """The arrays of a tile as they are stored.

    Raises:
        ValueError: If flags or counts are not uint16.
    """
    for name, array in (("qa", arrays.qa), ("n_valid", arrays.n_valid)):
        if array.dtype != np.uint16:
            raise ValueError(f"{name} is {array.dtype}, expected uint16")
    value, sd = Encoding.of_value(target.encoding), Encoding.of_sd(target.encoding)
    for name, encoding, values in (("value", value, arrays.value), ("sd", sd, arrays.sd)):
        clipped = encoding.count_clipped(values)
        if clipped:
            _log.warning(
                "%s: %d pixels of %s lie outside %s and were clipped", target.name, clipped, name, encoding.limits
            )
    stored = (value.encode(arrays.value), sd.encode(arrays.sd), arrays.qa, arrays.n_valid)
    return dict(zip(band_names(target), stored, strict=True))


def read_tile(store: Store, *, grid: MapGrid, target: TargetSpec, tile: Tile) -> dict[str, npt.NDArray[Any]]:
    """The arrays of a tile as they are stored; fill values where nothing was written."""
    return read_bands(store, grid=grid, names=band_names(target), tile=tile)


def read_bands(store: Store, *, grid: MapGrid, names: Sequence[str], tile: Tile) -> dict[str, npt.NDArray[Any]]:
    """Some arrays of a tile as they are stored; fill values where nothing was written."""
    window = grid.window(tile).slices
    return {name: np.asarray(zarr.open_array(store, path=name, mode="r")[window]) for name in names}


def read_window(store: Store, name: str, window: Window) -> npt.NDArray[Any]:
    """A window of one array as it is stored; it lies inside the grid and may span tiles."""
    return np.asarray(zarr.open_array(store, path=name, mode="r")[window.slices])


def blank_bands(store: Store, *, grid: MapGrid, names: Sequence[str]) -> dict[str, npt.NDArray[Any]]:
    """What a tile without data holds, in any store: the fill values of its arrays."""
    arrays = {name: zarr.open_array(store, path=name, mode="r") for name in names}
    shape = (grid.tile_px, grid.tile_px)
    return {name: np.full(shape, array.fill_value, array.dtype) for name, array in arrays.items()}


def fill_tile(grid: MapGrid, target: TargetSpec) -> dict[str, npt.NDArray[Any]]:
    """What a tile without data holds."""
    shape = (grid.tile_px, grid.tile_px)
    value, sd = Encoding.of_value(target.encoding), Encoding.of_sd(target.encoding)
    stored = (
        np.full(shape, value.fill, value.dtype),
        np.full(shape, sd.fill, sd.dtype),
        np.full(shape, NOT_WRITTEN, np.uint16),
        np.zeros(shape, np.uint16),
    )
    return dict(zip(band_names(target), stored, strict=True))


def write_bands(store: IcechunkStore, *, grid: MapGrid, tile: Tile, bands: _Bands) -> None:
    """Write encoded arrays: whole shards, so that no two tasks share an object and no reader sees a part.

    Raises:
        ValueError: If an array is not exactly one tile.
    """
    for name, array in bands.items():
        if array.shape != (grid.tile_px, grid.tile_px):
            raise ValueError(f"{name} of tile {tile} is {array.shape}, expected the whole tile of {grid.tile_px} px")
    layouts = {name: _read_layout(_StoredArray(store.session.snapshot_id, name, store)) for name in bands}
    sync(_write_together(store, tile, grid.window(tile), bands, layouts))


def digest_bands(bands: _Bands) -> str:
    """Sha256 over encoded arrays, in their order."""
    digest = hashlib.sha256()
    for name, array in bands.items():
        stored = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
        digest.update(f"{name}:{stored.dtype.str}:{stored.shape}".encode())
        digest.update(stored.data)
    return digest.hexdigest()


@dataclass(frozen=True)
class _StoredArray:
    """An array of one version of a store, of which all that is written to since are forks."""

    snapshot: str
    name: str
    store: IcechunkStore = field(compare=False)


@lru_cache(maxsize=64)  # to open the arrays of a tile anew takes as long as to write it, and each version has few
def _read_layout(which: _StoredArray) -> ArrayV3Metadata:
    return cast("ArrayV3Metadata", zarr.open_array(which.store, path=which.name, mode="r").metadata)


async def _write_together(
    store: IcechunkStore, tile: Tile, window: Window, bands: _Bands, layouts: Mapping[str, ArrayV3Metadata]
) -> None:
    """Write all arrays of a tile at once: one by one they take more than twice the time of this process."""
    await asyncio.gather(
        *(
            _write_band(AsyncArray(layouts[name], StorePath(store, name)), tile, window, array)
            for name, array in bands.items()
        )
    )


async def _write_band(stored: AsyncArray[ArrayV3Metadata], tile: Tile, window: Window, array: npt.NDArray[Any]) -> None:
    # Zarr before 3.3 reads the shard that it replaces: for nothing, and in vain if that is damaged
    await (stored.store_path / stored.metadata.encode_chunk_key((tile.row, tile.col))).delete()
    await stored.setitem(window.slices, array)
