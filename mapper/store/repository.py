"""Icechunk repository of a map: made once with all its metadata, opened by readers at any version.

Everything that forks in workers must know is committed before the first fork is taken.
"""

import os
import platform
import re
import shutil
from contextlib import suppress
from itertools import islice
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
_PARTS = ("snapshots", "manifests", "chunks", "transactions", "refs", "repo")
"""Names in a repository, by one of which a part of one is known."""
_MAGIC = "ICE🧊CHUNK".encode()
_FORMAT_AT = len(_MAGIC) + 24
"""Place of the number of the format in a file of Icechunk, after its magic and the name of its writer."""
_NOT_FOUND = re.compile(r"snapshot (?:id )?not found|invalid snapshot id")
_MANIFEST_SPLIT = 64
"""Chunk references of one manifest along a dimension: a small commit rewrites little of a continent."""
_CACHED_REFS, _CACHED_NODES = 100_000, 10_000
"""Chunk references (24 full manifests) and nodes of snapshots (some 800 versions) that a process keeps in memory.

Icechunk's own limits are never reached by most, but a driver meets new manifests with every commit: with them it grew
by 12 kB a tile, more than a gigabyte by the end of a continent.
"""


class NoVersionError(StoreError):
    """Version that a store does not have: it never had it, or it is gone for good."""


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
        StoreError: If it cannot be read, or is a part of one.
    """
    if not _exists(location):
        if _is_part(location):
            raise StoreError(_describe_part(location))
        return None
    with explain_faults(str(location)):
        caching = icechunk.CachingConfig(num_chunk_refs=_CACHED_REFS, num_snapshot_nodes=_CACHED_NODES)
        return icechunk.Repository.open(location.open_storage(), config=icechunk.RepositoryConfig(caching=caching))


def open_session(repository: icechunk.Repository, *, ref: str = "main") -> Session:
    """Open a read-only session at a branch, a tag or a snapshot id.

    Raises:
        NoVersionError: If there is no such version.
        StoreError: If the store itself cannot be seen.
    """
    if ref in repository.list_branches():
        return repository.readonly_session(branch=ref)
    if ref in repository.list_tags():
        return repository.readonly_session(tag=ref)
    return open_snapshot(repository, ref)


def open_snapshot(repository: icechunk.Repository, snapshot: str) -> Session:
    """Open a read-only session at a snapshot id.

    Raises:
        NoVersionError: If there is none: it never was, or is gone for good.
        StoreError: If the store itself cannot be seen.
    """
    try:
        return repository.readonly_session(snapshot_id=snapshot)
    except (icechunk.IcechunkError, ValueError) as error:
        if not _NOT_FOUND.search(str(error)):
            raise
        confirm_there(repository)
        raise NoVersionError(
            f"the store has no version {snapshot!r}: expected a branch, a tag or a snapshot id that has not expired"
        ) from error


def is_kept(repository: icechunk.Repository, snapshot: str) -> bool:
    """Check whether a version that was there is there still; False if it is gone for good.

    Raises:
        StoreError: If the store itself cannot be seen.
    """
    try:
        open_snapshot(repository, snapshot)
    except NoVersionError:
        return False
    return True


def confirm_there(repository: icechunk.Repository) -> None:
    """Confirm that a store that was opened can still be seen.

    An empty folder in place of a disk looks like a store without names: what is missing then is no answer.

    Raises:
        StoreError: If its main branch, or the version that this stands for, is not there.
    """
    if "main" not in repository.list_branches():
        raise StoreError("the store cannot be seen: it has no main branch; is its disk or bucket away, or moved?")
    repository.readonly_session(snapshot_id=repository.lookup_branch("main"))


def trace_ancestry(repository: icechunk.Repository, snapshot: str, limit: int) -> list[icechunk.SnapshotInfo]:
    """Return the versions that led to one, itself first, as far as they are kept.

    A process remembers versions that it has met. Where these are gone meanwhile, the history is read anew.

    Args:
        repository: Of the store, opened at any time.
        snapshot: A version that is kept.
        limit: Versions at most, 1 or more.

    Raises:
        StoreError: If the store itself cannot be seen.
    """
    try:
        known = list(islice(repository.ancestry(snapshot_id=snapshot), limit))
        oldest = [info.id for info in known if info.parent_id is not None] or [snapshot]  # the very first never goes
        if is_kept(repository, oldest[-1]):
            return known
    except icechunk.IcechunkError:
        confirm_there(repository)
    anew = icechunk.Repository.open(repository.storage, config=repository.config)
    return list(islice(anew.ancestry(snapshot_id=snapshot), limit))


def _exists(location: Location) -> bool:
    """Check that a repository is there, without making a directory, as Icechunk's storage does.

    Raises:
        StoreError: If it is there in a format that this Icechunk does not know: to it, there is nothing.
    """
    if location.path is not None and not location.path.is_dir():
        return False
    with explain_faults(str(location)):
        if icechunk.Repository.exists(location.open_storage()):
            return True
        made_with = _find_format(location)
    if made_with:
        need = "which needs Python 3.12 or newer" if made_with == 2 else "which is newer than this one"
        raise StoreError(
            f"{location} was made with Icechunk {made_with}, {need}: this is Python {platform.python_version()} with "
            f"Icechunk {icechunk.__version__}; leave the map as it is, and open it from such an environment"
        )
    return False


def _find_format(location: Location) -> int:
    """Return the number of the format of a repository that has the file of Icechunk 2 and later; 0 without it."""
    with suppress(FileNotFoundError):
        if location.path is not None:
            with (location.path / "repo").open("rb") as file:
                begin = file.read(_FORMAT_AT + 1)
        else:
            key, stop = f"{location.prefix}/repo", _FORMAT_AT + 1
            begin = bytes(obstore.get_range(location.open_bucket(), key, start=0, end=stop))
        if begin.startswith(_MAGIC) and len(begin) > _FORMAT_AT:
            return begin[_FORMAT_AT]
    return 0


def _is_part(location: Location) -> bool:
    """Check whether parts of a repository lie where there is none, as after a copy that was interrupted."""
    if location.path is not None:
        return any((location.path / name).exists() for name in _PARTS)
    with explain_faults(str(location)):
        names = _list_names(location)
    return any(name.split("/")[0] in _PARTS and not _BEGINNING.fullmatch(name) for name in names)


def _describe_part(location: Location) -> str:
    return (
        f"{location} holds parts of a store, but not its references: if it is a copy, copy all of it; if it is "
        "damaged, keep what there is and restore the rest"
    )


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
    if _is_part(Location(path=path)):
        raise StoreError(_describe_part(Location(path=path)))
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise StoreError(f"{path} exists and is no store: choose another location")
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
    bucket, folder, names = location.open_bucket(), f"{location.prefix}/", _list_names(location)
    if not all(_BEGINNING.fullmatch(name) for name in names):
        raise StoreError(f"{location} holds other objects and is no store: choose another location")
    obstore.delete(bucket, [f"{folder}{name}" for name in names])


def _list_names(location: Location) -> list[str]:
    """Return the names of all objects below the prefix of a location, from there."""
    folder = f"{location.prefix}/"
    listed = obstore.list(location.open_bucket(), folder)
    return [meta["path"].removeprefix(folder) for batch in listed for meta in batch]


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
