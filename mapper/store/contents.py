"""Contents of tiles as they were written: checksums of the ledger, against pixels that are read for another purpose.

Arrays made before chunks had checksums are trusted by nobody who copies or reduces them: what is read of a tile, band
by band, must have the checksum that the ledger has for the whole of it.
"""

import hashlib
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import zarr
from zarr.abc.store import Store

from mapper.errors import StoreError
from mapper.grid import MapGrid, Tile
from mapper.store.checksums import has_checksums
from mapper.store.ledger_arrays import read_blob
from mapper.store.parquet import load_record
from mapper.store.tiles import add_to_digest, blank_bands, digest_bands


class ContentCheck:
    """Check of some tiles of one level, whose bands come one by one, in the order of the product.

    Args:
        wanted: Sha256 of the content of each tile, in hexadecimal digits.
        level: Name of the level for messages; empty for the map.
    """

    def __init__(self, wanted: Mapping[Tile, str], *, level: str = "") -> None:
        self._wanted = wanted
        self._level = level
        self._digests = {tile: hashlib.sha256() for tile in wanted}

    @property
    def tiles(self) -> Iterable[Tile]:
        """Return the tiles that are checked."""
        return self._wanted.keys()

    def add(self, tile: Tile, path: str, pixels: npt.NDArray[Any]) -> None:
        """Add one band of a tile.

        Args:
            tile: One of those that are checked.
            path: Of its array.
            pixels: (row, col) as they are stored.
        """
        add_to_digest(self._digests[tile], path, pixels)

    def confirm(self) -> None:
        """Confirm that every tile is what was written.

        Raises:
            StoreError: Naming the first that is not.
        """
        for tile, wanted in self._wanted.items():
            refuse_content(f"{self._level}{tile}", self._digests[tile].hexdigest(), wanted)


def refuse_content(tile: str, found: str, wanted: str) -> None:
    """Refuse a tile whose content is not what was written.

    Raises:
        StoreError: If the checksums differ.
    """
    if found != wanted:
        raise StoreError(
            f"tile {tile} is damaged: content sha256 {found[:12]}, its record says {wanted[:12]}; `mapper verify` says "
            "which tiles are, and makes them anew (--repair)"
        )


def are_checked(store: Store, paths: Iterable[str]) -> bool:
    """Return True if all chunks of some arrays end in checksums, so that reading them is checking them."""
    return all(has_checksums(zarr.open_array(store, path=path, mode="r")) for path in paths)


def find_contents(store: Store, *, grid: MapGrid, names: tuple[str, ...], tiles: Iterable[Tile]) -> dict[Tile, str]:
    """Return the checksums of some tiles of the map as the ledger has them; of those that were attempted.

    Args:
        store: Of one version, or a fork of it.
        grid: Of the map.
        names: Bands of the store, in order.
        tiles: Inside of the grid.
    """
    batches = zarr.open_array(store, path="ledger/batch", mode="r")
    found, blank = {}, ""
    for tile in tiles:
        batch = int(np.asarray(batches[tile.row, tile.col]))
        record = load_record(read_blob(store, batch), tile) if batch else None
        if record is not None:
            if not record.content_sha256:
                blank = blank or digest_bands(blank_bands(store, grid=grid, names=names))
            found[tile] = record.content_sha256 or blank
    return found
