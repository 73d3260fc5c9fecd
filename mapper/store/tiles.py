"""Pixels of one tile as they are stored: encoded arrays, whole shards, one checksum over all of them.

Encoded arrays always come in the order of the bands of their product; the checksum covers names, dtypes, shapes and
bytes in little-endian order, so it can be computed again from the store on any machine.
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
from mapper.store.checksums import read_pixels
from mapper.store.product import Band, Banded

_log = logging.getLogger(__name__)

_Bands = Mapping[str, npt.NDArray[Any]]


def encode_tile(product: Banded, arrays: _Bands) -> dict[str, npt.NDArray[Any]]:
    """Return the arrays of a tile as they are stored, in the order of the bands.

    Args:
        product: Bands of the store.
        arrays: Pixels by name of the band: values in their units with NaN where missing, flags and counts as they are.

    Raises:
        ValueError: If an array is missing or unknown, or flags or counts have another dtype than their band.
    """
    if arrays.keys() != set(product.band_names):
        raise ValueError(f"a tile of {', '.join(sorted(arrays))}, expected {', '.join(product.band_names)}")
    return {band.name: _encode_band(band, arrays[band.name]) for band in product.bands}


def _encode_band(band: Band, array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    if band.encoding is None:
        if array.dtype != band.dtype:
            raise ValueError(f"{band.name} is {array.dtype}, expected {band.dtype}")
        return array
    clipped = band.encoding.count_clipped(array)
    if clipped:
        _log.warning("%s: %d pixels lie outside %s and were clipped", band.name, clipped, band.encoding.limits)
    return band.encoding.encode(array)


def read_bands(store: Store, *, grid: MapGrid, names: Sequence[str], tile: Tile) -> dict[str, npt.NDArray[Any]]:
    """Read some arrays of a tile as they are stored; fill values where nothing was written."""
    window = grid.window(tile).slices
    return {name: np.asarray(zarr.open_array(store, path=name, mode="r")[window]) for name in names}


def read_window(store: Store, name: str, window: Window) -> npt.NDArray[Any]:
    """Read a window of one array as it is stored; it lies inside the grid and may span tiles.

    Raises:
        StoreError: If the storage fails, or naming the tile that is damaged.
    """
    return read_pixels(zarr.open_array(store, path=name, mode="r"), *window.slices)


def blank_bands(store: Store, *, grid: MapGrid, names: Sequence[str]) -> dict[str, npt.NDArray[Any]]:
    """Return the arrays of a tile without data, in any store: their fill values."""
    arrays = {name: zarr.open_array(store, path=name, mode="r") for name in names}
    shape = (grid.tile_px, grid.tile_px)
    return {name: np.full(shape, array.fill_value, array.dtype) for name, array in arrays.items()}


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
    """Return the Sha256 over encoded arrays, in their order."""
    digest = hashlib.sha256()
    for name, array in bands.items():
        add_to_digest(digest, name, array)
    return digest.hexdigest()


def add_to_digest(digest: "hashlib._Hash", name: str, array: npt.NDArray[Any]) -> None:
    """Add one encoded array to the checksum of its tile."""
    stored = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
    digest.update(f"{name}:{stored.dtype.str}:{stored.shape}".encode())
    digest.update(stored.data)


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
