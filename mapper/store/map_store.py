"""One door to a store: a version of it, open for reading, and its writers.

Whoever works with a store opens it once. A version never changes while it is open; :meth:`MapStore.at` opens another
one of the same store without opening the store anew.
"""

import logging
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import icechunk
import xarray as xr
from icechunk.session import Session
from zarr.abc.store import Store

from mapper.errors import StoreError
from mapper.store.description import Description, check_same, read_description
from mapper.store.errors import explain_faults
from mapper.store.geozarr import AXES, LEVEL_AXES
from mapper.store.ledger import Ledger
from mapper.store.levels import count_levels, level_path
from mapper.store.location import Location, parse_location
from mapper.store.lock import Holder, hold_lock, read_holder
from mapper.store.product import Product
from mapper.store.pyramid import LevelWriter
from mapper.store.rasters import Rasters
from mapper.store.repository import find_repository, make_repository, open_session
from mapper.store.totals import Totals
from mapper.store.writer import TileWriter

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class MapStore:
    """One version of a store of a map or guide; open one with :meth:`open`."""

    location: Location
    repository: icechunk.Repository
    session: Session

    @classmethod
    def open(cls, location: str | Path, ref: str = "main") -> "MapStore":
        """Open a version of an existing store.

        Args:
            location: Directory, or s3://, gs://, az:// location.
            ref: Branch, tag or snapshot id.

        Raises:
            NoVersionError: If there is no such version.
            StoreError: If there is no store, or it cannot be read.
        """
        found = cls.find(location, ref)
        if found is None:
            raise StoreError(f"{parse_location(location)} does not exist or is no store; make one with `mapper run`")
        return found

    @classmethod
    def find(cls, location: str | Path, ref: str = "main") -> "MapStore | None":
        """Open a version of a store; return None if there is no store. Nothing is changed by it.

        Raises:
            StoreError: If there is no such version, or the location cannot be read.
        """
        parsed = parse_location(location)
        repository = find_repository(parsed)
        if repository is None:
            return None
        return cls(location=parsed, repository=repository, session=_open_version(parsed, repository, ref))

    @classmethod
    def create(cls, location: str | Path, product: Product) -> "MapStore":
        """Make the store of a product, metadata only, and open it. A store of the same product is left as it is.

        Raises:
            StoreMismatchError: If the store holds something else.
            StoreLockedError: If another process is making it.
            StoreError: If the location holds something else, or cannot be written.
        """
        make_repository(parse_location(location), product)
        store = cls.open(location)
        store.check(product)
        return store

    def at(self, ref: str = "main") -> "MapStore":
        """Open another version of the same store; of a branch its newest.

        Raises:
            StoreError: If there is no such version.
        """
        return replace(self, session=_open_version(self.location, self.repository, ref))

    @property
    def snapshot(self) -> str:
        """Return the snapshot id of the version."""
        return self.session.snapshot_id

    @property
    def zarr(self) -> Store:
        """Return the Zarr store of the version."""
        return self.session.store

    @cached_property
    def description(self) -> Description:
        """Description of the map or guide.

        Raises:
            StoreError: If the store was not made by mapper, or of a newer one.
        """
        try:
            with explain_faults(str(self.location)):
                return read_description(self.zarr)
        except StoreError as error:
            raise type(error)(f"{self.location}: {str(error).removeprefix(f'{self.location}: ')}") from error

    @cached_property
    def ledger(self) -> Ledger:
        """Ledger of all tiles."""
        return Ledger(location=str(self.location), repository=self.repository, session=self.session)

    @cached_property
    def rasters(self) -> Rasters:
        """Arrays of pixels at all levels."""
        return Rasters(self.zarr, self.description)

    @property
    def totals(self) -> Totals:
        """Return what all work on the store took."""
        return self.ledger.totals

    def check(self, product: Product) -> None:
        """Check that the store holds a product.

        Raises:
            StoreMismatchError: Naming what differs and what to do.
        """
        check_same(self.description, product, str(self.location))

    def read_holder(self) -> Holder | None:
        """Read which process holds the lock or lease of the store; None if none does."""
        return read_holder(self.location)

    @contextmanager
    def writer(self, product: Product, *, run_id: str) -> Iterator[TileWriter]:
        """Hold the lock of the store and give the writer of its tiles. Tiles not committed inside the block are lost.

        Args:
            product: Contents; must be what the store holds.
            run_id: Written into every commit.

        Raises:
            StoreLockedError: If another process is writing to it.
            StoreMismatchError: If it holds something else.
        """
        self.check(product)
        with hold_lock(self.location, run_id=run_id) as confirm:
            with explain_faults(str(self.location)):
                writer = TileWriter(
                    self.repository, location=self.location, product=product, run_id=run_id, confirm=confirm
                )
            yield writer
            if writer.pending:
                _log.warning("%s: %d finished tiles were not committed", self.location, writer.pending)

    @contextmanager
    def level_writer(self, *, run_id: str) -> Iterator[LevelWriter]:
        """Hold the lock of the store and give the writer of its levels. Tiles not committed inside the block are lost.

        Raises:
            StoreError: If the store was not made by mapper.
            StoreLockedError: If another process is writing to it.
        """
        with hold_lock(self.location, run_id=run_id) as confirm:
            with explain_faults(str(self.location)):
                writer = LevelWriter(self.repository, location=self.location, run_id=run_id, confirm=confirm)
            yield writer

    def explain_faults(self) -> AbstractContextManager[None]:
        """Return a context in which faults of the storage become :class:`StoreError`, naming this store."""
        return explain_faults(str(self.location))


def _open_version(location: Location, repository: icechunk.Repository, ref: str) -> Session:
    with explain_faults(str(location)):
        return open_session(repository, ref=ref)


def open_map(
    location: str | Path, ref: str = "main", *, level: int = 0, chunks: dict[str, int] | None = None
) -> xr.Dataset:
    """Open a map, or a level of its pyramid, for analysis: decoded values with coordinates and CRS.

    Args:
        location: Directory, or s3://, gs://, az:// location.
        ref: Branch, tag or snapshot id.
        level: 0 is the map; a pixel of level k is 2^k pixels long and holds their reduction: the mean of valid values,
            the mean of their standard deviations (errors inside a source pixel are taken to be fully correlated), all
            quality flags that are set among them, and the rounded mean number of observations. Levels are made by
            ``mapper pyramid``, and lie beyond the map's edge as far as whole tiles do.
        chunks: Dask chunks; None reads what is asked for, without Dask.

    Returns:
        Each target band and its ``<band>_sd`` (y, x) in the band's units, NaN where missing; ``qa`` and ``n_valid``.

    Raises:
        StoreError: If the store, the version or the level does not exist.
    """
    store = MapStore.open(location, ref)
    with store.explain_faults():
        levels = count_levels(store.zarr)
    if not 0 <= level <= levels:
        raise StoreError(
            f"{location} has no level {level}, only 0 to {levels}: `mapper pyramid` makes those above the map"
        )
    group = level_path(level) or None
    with store.explain_faults():
        dataset: xr.Dataset = xr.open_zarr(
            store.zarr, group=group, consolidated=False, decode_coords="all", chunks=chunks
        )
    return _name_axes(dataset[list(store.description.band_names)])  # arrays are listed in any order


def _name_axes(dataset: xr.Dataset) -> xr.Dataset:
    """Return a dataset whose dimensions are y and x, whatever they are called in the store."""
    if LEVEL_AXES[0] not in dataset.dims:
        return dataset
    renamed = dataset.rename(dict(zip(LEVEL_AXES, AXES, strict=True)))
    for part in (renamed, *renamed.data_vars.values()):
        part.attrs["spatial:dimensions"] = list(AXES)
    return renamed
