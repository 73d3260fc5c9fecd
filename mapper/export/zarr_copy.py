"""A version of a store as a folder of plain Zarr v3, for readers without Icechunk.

Objects are copied as they are, levels of a pyramid too, the ledger is left out. Checksums are compared on the way, and
where chunks have none, whole tiles with the ledger. A copy that was interrupted goes on where it stopped, as long as it
is of the same version; until it is whole, it lies under another name.
"""

import asyncio
import itertools
import json
import os
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mapper.errors import InputError, StoreError
from mapper.export.files import Progress, check_free, ignore_progress
from mapper.store.map_store import MapStore
from mapper.store.verify import check_contents
from mapper.store.zarr_keys import PlainZarr, open_plain

_AT_ONCE = 4
"""Objects that are held in memory."""
_NOTE = "copy-of.json"
_DRAFT = ".new"
"""Suffix of files that are being written."""


@dataclass(frozen=True, kw_only=True)
class CopyReport:
    """File that was written."""

    path: str
    arrays: int
    objects: int
    """Chunks and shards, those that were there already too."""
    bytes: int
    snapshot: str

    def to_dict(self) -> dict[str, Any]:
        """Return the report as JSON-ready values."""
        return asdict(self)

    def summary(self) -> str:
        """Return the report for people, in one line."""
        return f"{self.arrays} arrays, {self.objects:,} objects"


def copy_zarr(
    location: str | Path, out: Path, *, ref: str = "main", progress: Progress = ignore_progress
) -> CopyReport:
    """Copy a version of a store to a folder of plain Zarr v3 with consolidated metadata.

    Args:
        location: Of the store.
        out: The folder, which appears when it is whole; ``<out>.part`` until then.
        ref: Branch, tag or snapshot id.
        progress: Told of every object.

    Raises:
        InputError: If the folder exists already, or ``<out>.part`` is of another version.
        StoreError: If the store or the version does not exist, naming an object or tile that is not what was written,
            or if the folder cannot be written.
    """
    store = MapStore.open(location, ref)
    note, part = {"store": str(location), "snapshot": store.snapshot}, out.with_name(f"{out.name}.part")
    if _read_note(out) == note and not part.exists():
        out.rename(part)  # nothing but the removal of its note was left to do
    check_free(out)
    plain = open_plain(store.session)
    check_contents(store, list(store.description.grid.tiles()), levels=True)
    try:
        _begin(part, note)
        keys = list(_keys_of(plain))
        with ThreadPoolExecutor(1) as thread:  # a notebook has an event loop already, in its own thread
            sizes = thread.submit(asyncio.run, _copy_all(plain, keys, part, progress)).result()
        for key, document in plain.documents.items():
            _write(part / key, document)
        part.rename(out)
        (out / _NOTE).unlink()
    except OSError as error:
        raise StoreError(
            f"{out} cannot be written: {error.strerror or error}; what is copied stays in {part}"
        ) from error
    return CopyReport(
        path=str(out),
        arrays=len(plain.chunk_grids),
        objects=sum(1 for size in sizes if size),
        bytes=sum(sizes) + sum(len(document) for document in plain.documents.values()),
        snapshot=store.snapshot,
    )


def _begin(part: Path, note: dict[str, str]) -> None:
    """Make the folder of an unfinished copy, or check that what is there is of the same version; remove drafts."""
    part.mkdir(exist_ok=True)
    files = [path for path in part.rglob("*") if path.is_file()]
    drafts = [path for path in files if path.suffix == _DRAFT]
    known = _read_note(part)
    if known != note and (known is not None or len(files) > len(drafts)):
        raise InputError(f"{part} is an unfinished copy of something else: remove it, or choose another name")
    for draft in drafts:  # of a process that was killed
        draft.unlink()
    _write(part / _NOTE, json.dumps(note).encode())


def _read_note(folder: Path) -> Any:
    """Return what a folder says that it is a copy of; None if it does not."""
    try:
        return json.loads((folder / _NOTE).read_text())
    except (OSError, ValueError):
        return None


def _keys_of(plain: PlainZarr) -> Iterator[str]:
    for path, grid in plain.chunk_grids.items():
        for index in itertools.product(*map(range, grid)):
            yield "/".join([path, "c", *map(str, index)])


async def _copy_all(plain: PlainZarr, keys: Iterable[str], part: Path, progress: Progress) -> list[int]:
    """Copy what is written of some keys; bytes of each, 0 for what was never written."""
    todo = list(keys)
    slots, done = asyncio.Semaphore(_AT_ONCE), itertools.count(1)

    async def copy(key: str) -> int:
        async with slots:
            size = await _copy(plain, key, part / key)
            progress(next(done), len(todo))
            return size

    return list(await asyncio.gather(*map(copy, todo)))


async def _copy(plain: PlainZarr, key: str, path: Path) -> int:
    size = await plain.size_of(key)
    if size and not await asyncio.to_thread(_is_there, path, size):
        content = await plain.read(key, 0, size)
        await asyncio.to_thread(plain.check, key, content)
        await asyncio.to_thread(_write, path, content)
    return size


def _is_there(path: Path, size: int) -> bool:
    return path.is_file() and path.stat().st_size == size


def _write(path: Path, content: bytes) -> None:
    """Write a file that is whole or not there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f"{path.name}.{os.getpid()}{_DRAFT}")
    draft.write_bytes(content)
    draft.replace(path)
