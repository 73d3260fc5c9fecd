"""A pyramid of a store: the tiles of its levels that are due, the making of one, and their writer.

A tile of level k is made from the 2 x 2 tiles below it. Its origin is a digest over what these are: of the map, the
task and the commit that made a tile; of a level, the tile's own origin. So the origins of all levels follow from the
ledger alone, and a tile is due where the one it was made from is another. A tile without anything below has none, and
is not made. What is missing below is nodata above, until it arrives and makes the tiles above it due.

The writer holds the lock of the store, so the map does not change while levels are made. A commit holds whole tiles of
one level with their marks; a level is begun when the one below is committed.
"""

import hashlib
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

import icechunk
import numpy as np
import numpy.typing as npt
import zarr
from icechunk.session import ForkSession, Session
from zarr.abc.store import Store

from mapper.arrays import ByteArray
from mapper.events import TileResult
from mapper.grid import Tile
from mapper.store.checksums import read_pixels
from mapper.store.contents import ContentCheck, are_checked, find_contents
from mapper.store.errors import explain_faults
from mapper.store.geozarr import AXES, LEVEL_AXES
from mapper.store.ledger_arrays import STATUS_CODES, assign_tiles, read_batches, read_status
from mapper.store.levels import (
    LevelTile,
    Pyramid,
    count_levels,
    create_levels,
    has_map_axes,
    read_pyramid,
    rename_axes,
)
from mapper.store.location import Location
from mapper.store.product import Band
from mapper.store.reduction import average_decibels, average_valid, average_written, combine_flags, pick_first
from mapper.store.tiles import digest_bands, write_bands
from mapper.store.writer import Writer

_DIGEST = 32
_RULES = b"mapper pyramid 1"
"""Begins every origin: another number where reduction changes, and all tiles with it."""
_STRIP = 128
"""Rows of a result that are reduced at once: what they take stays in the cache."""


@dataclass(frozen=True, kw_only=True)
class MadeTile(TileResult):
    """A tile of a level, written into a fork unless it failed, and what it took."""

    at: LevelTile
    content: bytes = b""
    """Sha256 over its encoded arrays; empty if it failed."""


@dataclass(frozen=True, kw_only=True)
class State:
    """Origins of the tiles of all levels at one version of a store: as they were made, and as they should be."""

    pyramid: Pyramid
    origins: tuple[ByteArray, ...]
    """Origins of now, (row, col, 32) for each level above the map; zeros where there is nothing below."""
    marks: tuple[ByteArray, ...]
    """Origins of tiles as they were made and their content, (row, col, 64) for each level; zeros where none is."""

    def due(self, redo: Collection[LevelTile] = ()) -> list[LevelTile]:
        """Return the tiles to make (again), level by level from below.

        Args:
            redo: Due although they are up to date, and all that is made from them.
        """
        found = {tile for tile in redo if 0 < tile.level < len(self.pyramid.levels)}
        for number, (origins, marks) in enumerate(zip(self.origins, self.marks, strict=True), start=1):
            found |= {tile.parent for tile in found if tile.level == number - 1}
            differs = (origins != marks[..., :_DIGEST]).any(axis=-1)
            found |= {LevelTile(number, Tile(row, col)) for row, col in np.argwhere(differs).tolist()}
        return sorted(found)

    def origin_of(self, at: LevelTile) -> bytes:
        """Return the origin that a tile should have now."""
        return self.origins[at.level - 1][at.tile.row, at.tile.col, :].tobytes()

    def content_of(self, at: LevelTile) -> bytes:
        """Return the sha256 of a tile as it was made."""
        return self.marks[at.level - 1][at.tile.row, at.tile.col, _DIGEST:].tobytes()

    def made(self) -> list[LevelTile]:
        """Return the tiles that were made."""
        return [
            LevelTile(number, Tile(row, col))
            for number, marks in enumerate(self.marks, start=1)
            for row, col in np.argwhere(marks.any(axis=-1)).tolist()
        ]


def read_state(store: Store) -> State:
    """Read the state of the levels of a store; in one without a pyramid, all tiles are to be made.

    Raises:
        StoreError: If the store was not made by mapper.
    """
    pyramid = read_pyramid(store)
    exists = count_levels(store) > 0
    identities, origins, marks = _identify_map(store), [], []
    for level in pyramid.levels[1:]:
        identities = _find_origins(identities, level.grid.tile_shape)
        origins.append(identities)
        marks.append(
            np.asarray(zarr.open_array(store, path=level.marks, mode="r")[:])
            if exists
            else np.zeros((*level.grid.tile_shape, 2 * _DIGEST), np.uint8)
        )
    return State(pyramid=pyramid, origins=tuple(origins), marks=tuple(marks))


def make_level_tile(fork: ForkSession, pyramid: Pyramid, at: LevelTile) -> bytes:
    """Make one tile of a level from the tiles below it and write it into a fork, as whole shards. Called in workers.

    Returns:
        Sha256 over its encoded arrays.

    Raises:
        StoreFullError: If the disk is full.
        TransientStoreError: If the object store fails, perhaps for a while.
        StoreError: If a tile below cannot be read, or is not what was written.
    """
    with explain_faults(f"tile {at} of the pyramid"):
        bands = _reduce_tile(fork.store, pyramid, at)
        write_bands(fork.store, grid=pyramid.levels[at.level].grid, tile=at.tile, bands=bands)
    return bytes.fromhex(digest_bands(bands))


def memory_bytes(pyramid: Pyramid) -> int:
    """Return the bytes that making one tile takes.

    These are two arrays of four tiles each, as they are stored and decoded, and the results.
    """
    pixels = pyramid.levels[0].grid.tile_px ** 2
    sizes = [np.dtype(band.dtype).itemsize for band in pyramid.bands]
    return pixels * (4 * 4 * max(sizes) + 2 * sum(sizes))


class LevelWriter(Writer[MadeTile]):
    """The writer of the levels of one store; see :meth:`mapper.store.map_store.MapStore.level_writer`."""

    def __init__(
        self, repository: icechunk.Repository, *, location: Location, run_id: str, confirm: Callable[[], None]
    ) -> None:
        super().__init__(repository, location=location, run_id=run_id, confirm=confirm)
        self._commits = 0
        self.state = read_state(self._session.store)
        """State of the levels at the version that was the last when this was opened."""

    def create(self) -> None:
        """Make the levels, without pixels, in a commit of their own; those that are there are left as they are."""
        if count_levels(self._session.store):
            return
        self._confirm()
        with explain_faults(self._location):
            session = self._open_session()
            create_levels(session.store, self.state.pyramid)
            self._commit(session, f"create pyramid: {len(self.state.origins)} levels", self._count_commit(0))
            self._renew()

    @property
    def axes(self) -> tuple[str, str]:
        """Return the names of the dimensions of the levels, (y, x)."""
        return AXES if has_map_axes(self._session.store) else LEVEL_AXES

    def rename_axes(self) -> str:
        """Give the dimensions of levels names of their own, in a commit of its own, where they have those of the map.

        Returns:
            The snapshot id; empty if nothing was to be done.
        """
        if not has_map_axes(self._session.store):
            return ""
        self._confirm()
        with explain_faults(self._location):
            session = self._open_session()
            rename_axes(session.store, self.state.pyramid)
            snapshot = self._commit(session, "name the dimensions of the pyramid", self._count_commit(0))
            self._renew()
        return snapshot

    def add(self, fork: ForkSession | None, result: MadeTile) -> None:
        """Take back a finished tile, which becomes visible with the next commit; a failed one is left as it was."""
        if result.status != "failed":
            super().add(fork, result)

    def _key_of(self, result: MadeTile) -> LevelTile:
        return result.at

    def _write_rows(self, session: Session, results: list[MadeTile]) -> tuple[str, dict[str, Any]]:
        for level in self.state.pyramid.levels[1:]:
            made = [each for each in results if each.at.level == level.number]
            if made:
                tiles = np.array([(each.at.tile.row, each.at.tile.col) for each in made])
                marks = [list(self.state.origin_of(each.at) + each.content) for each in made]
                array = zarr.open_array(session.store, path=level.marks, mode="r+")
                assign_tiles(array, tiles, np.array(marks, np.uint8))
        return f"pyramid: {len(results)} tiles", self._count_commit(len(results))

    def _count_commit(self, tiles: int) -> dict[str, Any]:
        """Return the metadata of the next commit of this run."""
        self._commits += 1
        return {"pyramid_tiles": tiles, "pyramid_commit": self._commits - 1}

    def _renew(self) -> None:
        """Fork from the newest version from now on, in which tiles find those below them."""
        self._session = self._open_session()


def _identify_map(store: Store) -> ByteArray:
    """Return the identity of each tile of the map, (row, col, 20): task and commit; zeros where none was written."""
    task = np.asarray(zarr.open_array(store, path="ledger/task", mode="r")[:])
    batch = np.ascontiguousarray(read_batches(store), "<u4")
    identities = np.concatenate([task, batch.view(np.uint8).reshape(*batch.shape, 4)], axis=-1)
    identities[~np.isin(read_status(store), (STATUS_CODES["ok"], STATUS_CODES["empty"]))] = 0
    return identities


def _find_origins(below: ByteArray, shape: tuple[int, int]) -> ByteArray:
    """Return the origins of a level, from the identities of the tiles below it."""
    rows, cols = shape
    padded = np.zeros((2 * rows, 2 * cols, below.shape[-1]), np.uint8)
    padded[: below.shape[0], : below.shape[1]] = below
    quads = padded.reshape(rows, 2, cols, 2, -1).swapaxes(1, 2).reshape(rows, cols, -1)
    origins = np.zeros((rows, cols, _DIGEST), np.uint8)
    for row, col in np.argwhere(quads.any(axis=-1)).tolist():
        digest = hashlib.sha256(_RULES + quads[row, col].tobytes()).digest()
        origins[row, col] = np.frombuffer(digest, np.uint8)
    return origins


def _reduce_tile(store: Store, pyramid: Pyramid, at: LevelTile) -> dict[str, npt.NDArray[Any]]:
    """Return the arrays of a tile by path, in the order of the bands."""
    below, level = pyramid.levels[at.level - 1], pyramid.levels[at.level]
    flags = pyramid.quality
    check = _check_below(store, pyramid, at)
    told = _read_quad(store, below.array(flags.name), at.tile, level.grid.tile_px)
    reduced = {}
    for band in pyramid.bands:
        stored = (
            told if band.name == flags.name else _read_quad(store, below.array(band.name), at.tile, level.grid.tile_px)
        )
        for tile in check.tiles:
            part = _place_in_quad(tile, level.grid.tile_px)
            check.add(tile, below.array(band.name), stored[part])
        strips = range(0, len(stored), 2 * _STRIP)
        parts = [
            _reduce(band, stored[start : start + 2 * _STRIP], told[start : start + 2 * _STRIP] != flags.fill)
            for start in strips
        ]
        reduced[level.array(band.name)] = np.concatenate(parts)
    check.confirm()
    return reduced


def _check_below(store: Store, pyramid: Pyramid, at: LevelTile) -> ContentCheck:
    """Return the check of the 2 x 2 tiles below one; of none where reading a chunk checks it."""
    below = pyramid.levels[at.level - 1]
    if are_checked(store, pyramid.arrays(below.number)):
        return ContentCheck({})
    rows, cols = below.grid.tile_shape
    quad = [Tile(2 * at.tile.row + row, 2 * at.tile.col + col) for row in (0, 1) for col in (0, 1)]
    tiles = [tile for tile in quad if tile.row < rows and tile.col < cols]
    if not below.number:
        return ContentCheck(find_contents(store, grid=below.grid, names=pyramid.band_names, tiles=tiles))
    marks = zarr.open_array(store, path=below.marks, mode="r")
    made = {tile: np.asarray(marks[tile.row, tile.col, _DIGEST:]).tobytes() for tile in tiles}
    wanted = {tile: content.hex() for tile, content in made.items() if any(content)}
    return ContentCheck(wanted, level=f"{below.number}/")


def _place_in_quad(tile: Tile, tile_px: int) -> tuple[slice, slice]:
    """Return the pixels of a tile among those of the 2 x 2 that it belongs to."""
    top, left = tile.row % 2 * tile_px, tile.col % 2 * tile_px
    return slice(top, top + tile_px), slice(left, left + tile_px)


def _reduce(band: Band, stored: npt.NDArray[Any], written: npt.NDArray[np.bool_]) -> npt.NDArray[Any]:
    if band.reduction == "flags":
        return combine_flags(stored, fill=int(band.fill))
    if band.reduction == "count":
        return average_written(stored, written, fill=band.fill)
    if band.reduction == "first":
        return pick_first(stored, fill=band.fill)
    if band.reduction == "decibels" and band.encoding:
        return band.encoding.encode(average_decibels(band.encoding.decode(stored)))
    return average_valid(stored, fill=band.fill)


def _read_quad(store: Store, path: str, tile: Tile, tile_px: int) -> npt.NDArray[Any]:
    """Read the 2 x 2 tiles below a tile as one array; the fill where the level below has none."""
    array = zarr.open_array(store, path=path, mode="r")
    edge = 2 * tile_px
    window = (slice(number * edge, (number + 1) * edge) for number in (tile.row, tile.col))
    part = read_pixels(array, *window)
    if part.shape == (edge, edge):
        return part
    whole = np.full((edge, edge), array.fill_value, array.dtype)
    whole[: part.shape[0], : part.shape[1]] = part
    return whole
