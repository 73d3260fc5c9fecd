"""Icechunk repository of a map: made once with all its metadata, opened by readers at any version.

Everything that forks in workers must know is committed before the first fork is taken.
"""

import os
import re
import shutil
from pathlib import Path

import icechunk
import obstore
import zarr
from icechunk.session import Session

from mapper import __version__
from mapper.errors import StoreError
from mapper.store.description import write_description
from mapper.store.errors import explain_faults
from mapper.store.layout import create_arrays
from mapper.store.ledger_arrays import create_ledger
from mapper.store.location import Location
from mapper.store.lock import hold_lock
from mapper.store.product import Product

_BEGINNING = re.compile(r"config\.yaml|(?:snapshots|transactions)/1CECHNKREP0F1RSTCMT0")
"""Objects that Icechunk writes before a repository is there: its settings, and the empty version, always so named."""
_MANIFEST_SPLIT = 64
"""Chunk references of one manifest along a dimension: a small commit rewrites little of a continent."""
_CACHED_REFS, _CACHED_NODES = 100_000, 10_000
"""Chunk references (24 full manifests) and nodes of snapshots (some 800 versions) that a process keeps in memory.

Icechunk's own limits are never reached by most, but a driver meets new manifests with every commit: with them it grew
by 12 kB a tile, more than a gigabyte by the end of a continent.
"""


def make_repository(location: Location, product: Product) -> None:
    """Make the store of a product: metadata only, no pixel. A store that is there is left as it is.

    Raises:
        StoreLockedError: If another process is making it.
        StoreError: If the location holds something else, or cannot be written.
    """
    if _is_made(location):
        return
    with explain_faults(str(location)):
        (location.path or Path()).parent.mkdir(parents=True, exist_ok=True)
    with hold_lock(location):
        if not _is_made(location):
            _make(location, product)


def find_repository(location: Location) -> icechunk.Repository | None:
    """Open the repository of a store; return None if there is no store.

    Raises:
        StoreError: If it cannot be read.
    """
    if not _exists(location):
        return None
    with explain_faults(str(location)):
        caching = icechunk.CachingConfig(num_chunk_refs=_CACHED_REFS, num_snapshot_nodes=_CACHED_NODES)
        return icechunk.Repository.open(location.open_storage(), config=icechunk.RepositoryConfig(caching=caching))


def open_session(repository: icechunk.Repository, *, ref: str = "main") -> Session:
    """Open a read-only session at a branch, a tag or a snapshot id.

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


def _exists(location: Location) -> bool:
    """Check that a repository is there, without making a directory, as Icechunk's storage does."""
    if location.path is not None and not location.path.is_dir():
        return False
    with explain_faults(str(location)):
        return bool(icechunk.Repository.exists(location.open_storage()))


def _is_made(location: Location) -> bool:
    """Check that a store is there as a whole; in an object store a killed process may have left a part of it."""
    if not _exists(location):
        return False
    if location.path is not None:
        return True
    with explain_faults(str(location)):
        repository = icechunk.Repository.open(location.open_storage())
        return next(iter(repository.ancestry(branch="main"))).parent_id is not None


def _make(location: Location, product: Product) -> None:
    if location.path is not None:
        _create_aside(location.path, product)
        return
    with explain_faults(str(location)):
        _create(location, product)


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


def _create(location: Location, product: Product) -> None:
    if _exists(location):  # begun by a process that was killed
        repository = icechunk.Repository.open(location.open_storage(), config=_configure())
        repository.save_config()
    else:
        if location.path is None:
            _clear_beginnings(location)
        repository = icechunk.Repository.create(location.open_storage(), config=_configure())
    session = repository.writable_session("main")
    root = zarr.create_group(session.store)
    write_description(root, product)
    create_arrays(root, product)
    create_ledger(root, product.grid.tile_shape)
    session.commit(f"create {product.name}", metadata={"code_version": __version__})


def _clear_beginnings(location: Location) -> None:
    """Remove what a killed process had made before there was a repository; Icechunk wants a clean prefix."""
    bucket, folder = location.open_bucket(), f"{location.prefix}/"
    names = [meta["path"] for batch in obstore.list(bucket, folder) for meta in batch]
    if not all(_BEGINNING.fullmatch(name.removeprefix(folder)) for name in names):
        raise StoreError(f"{location} holds other objects and is no store; choose another location or remove them")
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
