"""Pixels of one version at full resolution and at the levels of its pyramid, for reading windows of them.

Level 0 is the map itself; level k, the group ``pyramid/k``, has pixels of 2^k target pixels from the same upper-left
corner. A version without a pyramid has level 0 alone. Rows and columns are counted in the pixels of the level.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import zarr
from zarr.abc.store import Store

from mapper.store.checksums import read_pixels
from mapper.store.chunk_reader import ChunkIndex, Shards, open_shards
from mapper.store.description import Description
from mapper.store.errors import explain_faults
from mapper.store.levels import count_levels, level_path
from mapper.store.product import Band, Banded
from mapper.store.pyramid import read_state

Kind = Literal["values", "counts", "flags"]
"""Numbers of an array: measured on a scale, counted, or bits."""

_STORED_AS = ("uint8", "uint16")
"""Few enough numbers for a table of what they stand for."""


@dataclass(frozen=True, kw_only=True)
class Raster:
    """One array of pixels, (y, x), at one level."""

    band: Band
    level: int
    array: "zarr.Array[Any]"

    @property
    def shape(self) -> tuple[int, int]:
        """Return the rows and columns."""
        return int(self.array.shape[0]), int(self.array.shape[1])

    @property
    def chunk_px(self) -> int:
        """Return the edge of the chunks, which can be read at once."""
        return int(self.array.chunks[0])

    @property
    def name(self) -> str:
        """Return the name of the band."""
        return self.band.name

    @property
    def attributes(self) -> Mapping[str, Any]:
        """Return the CF attributes of the band."""
        return self.band.attributes

    @property
    def units(self) -> str:
        """Return the units of the values; ``1`` for numbers that have none."""
        return self.band.units

    @property
    def kind(self) -> Kind:
        """Return what kind of numbers the array holds."""
        if self.band.encoding:
            return "values"
        return "flags" if "flag_masks" in self.band.attributes else "counts"

    def read(self, rows: slice, cols: slice) -> npt.NDArray[Any]:
        """Read a window as it is stored.

        Raises:
            StoreError: If the storage fails, or naming the tile that is damaged.
        """
        return read_pixels(self.array, rows, cols)

    def read_chunks(self, chunks: Iterable[ChunkIndex]) -> dict[ChunkIndex, npt.NDArray[Any]]:
        """Read whole chunks as they are stored, by row and column of the chunk; for many small reads.

        Raises:
            StoreError: If the storage fails.
        """
        edge = self.chunk_px
        if self._shards is None:
            return {
                (row, col): self.read(slice(row * edge, (row + 1) * edge), slice(col * edge, (col + 1) * edge))
                for row, col in chunks
            }
        with explain_faults("the store"):
            return self._shards.read(chunks)

    def decode(self, stored: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        """Return stored numbers as values in their units, NaN where missing; flags and counts as they are."""
        if self.band.encoding is None:
            return stored.astype(np.float32)
        return self.band.encoding.decode(stored) if self._table is None else np.take(self._table, stored)

    @cached_property
    def _shards(self) -> Shards | None:
        return open_shards(self.array)

    @cached_property
    def _table(self) -> npt.NDArray[np.float32] | None:
        """Return the value of every number that can be stored."""
        dtype, encoding = self.band.dtype, self.band.encoding
        if encoding is None or dtype not in _STORED_AS:
            return None
        return encoding.decode(np.arange(1 << 8 * np.dtype(dtype).itemsize))


class Rasters:
    """The arrays of one version, opened when they are first asked for; for use by many threads.

    Args:
        store: Zarr store of the version.
        description: Description of the map or guide.

    Raises:
        StoreError: If the storage fails.
    """

    def __init__(self, store: Store, description: Description) -> None:
        self._store = store
        self._rasters: dict[tuple[str, int], Raster] = {}
        self.bands: Banded = description
        self.names = description.band_names
        self.grid = description.grid
        with explain_faults("the store"):
            self.levels = 1 + count_levels(store)

    @cached_property
    def up_to_date(self) -> bool:
        """True if the levels were made from the map as it is; found out when it is first used.

        Raises:
            StoreError: If the storage fails.
        """
        if self.levels == 1:
            return True
        with explain_faults("the store"):
            return not read_state(self._store).due()

    def find(self, name: str, level: int = 0) -> Raster:
        """Open an array at a level.

        Raises:
            KeyError: If there is no such array or level.
            StoreError: If the storage fails.
        """
        band = self.bands.band(name)
        if not 0 <= level < self.levels:
            raise KeyError(name)
        raster = self._rasters.get((name, level))
        if raster is None:
            path = f"{level_path(level)}/{name}".lstrip("/")
            with explain_faults("the store"):
                raster = Raster(band=band, level=level, array=zarr.open_array(self._store, path=path, mode="r"))
            self._rasters[name, level] = raster
        return raster

    def choose_level(self, ratio: float) -> int:
        """Return the coarsest level whose pixels are not larger than ``ratio`` target pixels."""
        return max(0, min(math.floor(math.log2(max(ratio, 1.0)) + 1e-9), self.levels - 1))

    def is_written(self, stored: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
        """Return True where something was written, from pixels of the quality band as they are stored."""
        written: npt.NDArray[np.bool_] = stored != self.bands.quality.fill
        return written
