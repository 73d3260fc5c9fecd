"""The Icechunk repository of a map: made once with all its metadata, opened by readers at any version.

Everything that forks in workers must know is committed before the first fork is taken.
"""

import os
import re
import shutil
from pathlib import Path

import icechunk
import obstore
import xarray as xr
import zarr
from icechunk.session import Session

from mapper import __version__
from mapper.errors import StoreError
from mapper.store.description import Description, check_same, read_description, write_description
from mapper.store.errors import explain_faults
from mapper.store.layout import create_arrays
from mapper.store.ledger_arrays import create_ledger
from mapper.store.levels import count_levels, level_path
from mapper.store.location import Location, parse_location
from mapper.store.lock import hold_lock
from mapper.store.product import Product

_BEGINNING = re.compile(r"config\.yaml|(?:snapshots|transactions)/1CECHNKREP0F1RSTCMT0")
"""What Icechunk writes before a repository is there: its settings, and the empty version that has always this name."""
_MANIFEST_SPLIT = 64
"""Chunk references of one manifest along a dimension: a small commit rewrites little of a continent."""
_KEPT_REFS, _KEPT_NODES = 100_000, 10_000
"""Chunk references (24 full manifests) and nodes of snapshots (some 800 versions) that a process keeps in memory.

Icechunk's own limits are never reached by most, but a driver meets new manifests with every commit: with them it grew
by 12 kB a tile, more than a gigabyte by the end of a continent.
"""


def create_store(location: str | Path, *, product: Product) -> None:
    """Make the store of a product: metadata only, no pixel. A store of the same is left as it is.

    Raises:
        StoreMismatchError: If the store holds something else.
        StoreLockedError: If another process is making it.
        StoreError: If the location holds something else, or cannot be written.
    """
    place = parse_location(location)
    if not _is_made(place):
        with explain_faults(str(place)):
            (place.path or Path()).parent.mkdir(parents=True, exist_ok=True)
        with hold_lock(place):
            if not _is_made(place):
                _make(place, product)
    check_store(location, product=product)


def store_exists(location: str | Path) -> bool:
    """Whether a store is there; looking changes nothing.

    Raises:
        StoreError: If the location cannot be asked.
    """
    return _exists(parse_location(location))


def check_store(location: str | Path, *, product: Product) -> None:
    """Check that an existing store holds a product.

    Raises:
        StoreMismatchError: Naming what differs and what to do.
        StoreError: If there is no store, or it was not made by mapper.
    """
    check_same(read_store(location), product, str(parse_location(location)))


def open_repository(location: str | Path) -> icechunk.Repository:
    """Open the repository of an existing store.

    Raises:
        StoreError: If there is none, or it cannot be read.
    """
    place = parse_location(location)
    if not _exists(place):
        raise StoreError(f"{place} does not exist or is no store; make one with `mapper run`")
    with explain_faults(str(place)):
        kept = icechunk.CachingConfig(num_chunk_refs=_KEPT_REFS, num_snapshot_nodes=_KEPT_NODES)
        return icechunk.Repository.open(place.open_storage(), config=icechunk.RepositoryConfig(caching=kept))


def open_session(repository: icechunk.Repository, *, ref: str = "main") -> Session:
    """A read-only session at a branch, a tag or a snapshot id.

    Raises:
        StoreError: If there is no such version.
    """
    if ref in repository.list_branches():
        return repository.readonly_session(branch=ref)
    if ref in repository.list_tags():
        return repository.readonly_session(tag=ref)
    try:
        return repository.readonly_session(snapshot_id=ref)
    except (icechunk.IcechunkError, ValueError) as error:
        raise StoreError(f"the store has no version {ref!r}: expected a branch, a tag or a snapshot id") from error


def open_store(location: str | Path, *, ref: str = "main") -> Session:
    """Open a store for reading; ``session.store`` is the Zarr store.

    Args:
        location: Directory, or s3://, gs://, az:// location.
        ref: Branch, tag or snapshot id; what it shows never changes while the session is open.

    Raises:
        StoreError: If the store or the version does not exist.
    """
    repository = open_repository(location)
    with explain_faults(str(location)):
        return open_session(repository, ref=ref)


def read_store(location: str | Path, *, ref: str = "main") -> Description:
    """What map a store holds.

    Raises:
        StoreError: If the store does not exist or was not made by mapper.
    """
    session = open_store(location, ref=ref)
    try:
        return read_description(session.store)
    except (StoreError, FileNotFoundError) as error:
        raise StoreError(f"{location}: {error}") from error


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
        ``<target>`` and ``<target>_sd`` (y, x) in the target's units, NaN where missing; ``qa`` and ``n_valid``.

    Raises:
        StoreError: If the store, the version or the level does not exist.
    """
    session = open_store(location, ref=ref)
    with explain_faults(str(location)):
        levels = count_levels(session.store)
    if not 0 <= level <= levels:
        raise StoreError(
            f"{location} has no level {level}, only 0 to {levels}: `mapper pyramid` makes those above the map"
        )
    group = level_path(level) or None
    dataset: xr.Dataset = xr.open_zarr(
        session.store, group=group, consolidated=False, decode_coords="all", chunks=chunks
    )
    return dataset


def _exists(place: Location) -> bool:
    """Whether a repository is there; looking must not make a directory, as Icechunk's storage does."""
    if place.path is not None and not place.path.is_dir():
        return False
    with explain_faults(str(place)):
        return bool(icechunk.Repository.exists(place.open_storage()))


def _is_made(place: Location) -> bool:
    """Whether a store is there as a whole; in an object store a killed process may have left a part of it."""
    if not _exists(place):
        return False
    if place.path is not None:
        return True
    with explain_faults(str(place)):
        repository = icechunk.Repository.open(place.open_storage())
        return next(iter(repository.ancestry(branch="main"))).parent_id is not None


def _make(place: Location, product: Product) -> None:
    if place.path is not None:
        _create_aside(place.path, product)
        return
    with explain_faults(str(place)):
        _create(place, product)


def _create_aside(path: Path, product: Product) -> None:
    """Make a local store under another name, then rename it: a killed process leaves no half-made store."""
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise StoreError(f"{path} exists and is no store; choose another location or remove it")
    aside = path.with_name(f"{path.name}.{os.getpid()}.new")
    shutil.rmtree(aside, ignore_errors=True)
    with explain_faults(str(path)):
        try:
            _create(Location(path=aside), product)
            aside.rename(path)
        finally:
            shutil.rmtree(aside, ignore_errors=True)


def _create(place: Location, product: Product) -> None:
    if _exists(place):  # begun by a process that was killed
        repository = icechunk.Repository.open(place.open_storage(), config=_configure())
        repository.save_config()
    else:
        if place.path is None:
            _clear_beginnings(place)
        repository = icechunk.Repository.create(place.open_storage(), config=_configure())
    session = repository.writable_session("main")
    root = zarr.create_group(session.store)
    write_description(root, product)
    create_arrays(root, product)
    create_ledger(root, product.grid.tile_shape)
    session.commit(f"create {product.name}", metadata={"code_version": __version__})


def _clear_beginnings(place: Location) -> None:
    """Remove what a killed process had made before there was a repository; Icechunk wants a clean prefix."""
    bucket, folder = place.open_bucket(), f"{place.prefix}/"
    names = [meta["path"] for batch in obstore.list(bucket, folder) for meta in batch]
    if not all(_BEGINNING.fullmatch(name.removeprefix(folder)) for name in names):
        raise StoreError(f"{place} holds other objects and is no store; choose another location or remove them")
    obstore.delete(bucket, names)


def _configure() -> icechunk.RepositoryConfig:
    config = icechunk.RepositoryConfig.default()
    splitting = icechunk.ManifestSplittingConfig.from_dict(
        {icechunk.ManifestSplitCondition.AnyArray(): {icechunk.ManifestSplitDimCondition.Any(): _MANIFEST_SPLIT}}
    )
    # Icechunk reads small manifests ahead whenever a version is opened: work that grows with the map (the record
    # of a tile after 2000 commits took 25 ms with it, 11 ms without)
    preload = icechunk.ManifestPreloadConfig(max_total_refs=0)
    config.manifest = icechunk.ManifestConfig(preload=preload, splitting=splitting)
    return config
