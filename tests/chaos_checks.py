"""What must hold for a map whatever was killed while it was made."""

import json
import threading
from pathlib import Path

import numcodecs
import numpy as np
import zarr

from mapper.store.description import read_description
from mapper.store.garbage import collect_garbage
from mapper.store.ledger import read_ledger
from mapper.store.repository import open_repository, store_exists
from mapper.store.tiles import blank_bands, digest_bands
from mapper.store.verify import verify_store

_POLL_SECONDS = 0.1
_DIGITS = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
"""Of names of Icechunk's objects: base 32 of twelve bytes."""
_HEADER = 39
"""Bytes before the compressed part of Icechunk's files."""


class Watcher(threading.Thread):
    """A reader of ``main`` that checks every tile of every version it meets, while the map is made."""

    def __init__(self, place):
        super().__init__(daemon=True)
        self.snapshots, self.faults = 0, []
        self._store, self._stopping = place.store, threading.Event()

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self._stopping.set()
        self.join()

    def run(self):
        seen = None
        while not self._stopping.wait(_POLL_SECONDS):
            if not store_exists(self._store):
                continue
            ledger = read_ledger(self._store)
            if ledger.session.snapshot_id != seen:
                seen = ledger.session.snapshot_id
                self.faults += [f"a reader at {seen} saw {fault}" for fault in find_partial_tiles(ledger)]
                self.snapshots += 1


def find_partial_tiles(ledger):
    """Tiles whose pixels are neither what their record says nor, without a record, untouched."""
    store, description = ledger.session.store, read_description(ledger.session.store)
    grid, names = description.grid, description.band_names
    records = {record.tile: record.content_sha256 for record in ledger.records(items=False)}
    arrays = {name: np.asarray(zarr.open_array(store, path=name, mode="r")[:]) for name in names}
    untouched = digest_bands(blank_bands(store, grid=grid, names=names))
    for tile in grid.tiles():
        window = grid.window(tile).slices
        found = digest_bands({name: array[window] for name, array in arrays.items()})
        if found != (records.get(tile) or untouched):
            yield f"tile {tile} with pixels {found[:12]}, its record says {records.get(tile, 'nothing')[:12]}"


def checksums_of(place):
    """Content checksum of every tile in the ledger."""
    return {record.tile: record.content_sha256 for record in read_ledger(place.store).records(items=False)}


def find_faults(place, watcher, checksums):
    """All that is wrong with a finished map and its store, and how many objects were garbage."""
    ledger = read_ledger(place.store)
    faults = [*watcher.faults, *find_recomputed(ledger)]
    if checksums_of(place) != checksums:
        faults.append("checksums differ from those of the undisturbed run")
    collected = collect_garbage(place.store).objects
    faults += find_left_over(place.store)
    if collect_garbage(place.store).objects:
        faults.append("a second garbage collection found more")
    verdict = verify_store(place.store)
    if not verdict.is_complete:
        faults.append(f"verify: {verdict.to_text()}")
    return faults, collected


def find_recomputed(ledger):
    """Tiles that stood in an earlier commit and were written again by a later one."""
    standing = {}
    for batch in range(1, ledger.batches + 1):
        for record in ledger.records_of(batch, items=False):
            if record.tile in standing:
                yield f"tile {record.tile} of batch {standing[record.tile]} was made again in batch {batch}"
            if record.status in ("ok", "empty"):
                standing[record.tile] = batch


def find_left_over(location):
    """Objects and files that a walk over all versions does not come by, and objects that are missing on the way.

    The walk is our own: not the one by which garbage is found.
    """
    store, repository = Path(location), open_repository(location)
    versions = {info.id for info in repository.ancestry(branch="main")}
    manifests = {entry["id"] for version in versions for entry in _inspect(repository, version)["manifests"]}
    there = {
        folder: {path.name for path in (store / folder).iterdir()} for folder in ("snapshots", "manifests", "chunks")
    }
    yield from (f"snapshots/{name} left over or missing" for name in there["snapshots"] ^ versions)
    yield from (f"manifests/{name} left over or missing" for name in there["manifests"] ^ manifests)
    named = b"".join(_unpack(store / "manifests" / name) for name in manifests & there["manifests"])
    yield from (f"chunks/{name} left over" for name in there["chunks"] if not _is_named(name, named))
    for path in (store / "transactions").iterdir():
        if path.name not in versions:
            yield f"transactions/{path.name} left over"
    beside = {store.name, f"{store.name}.lock"}
    for path in store.parent.glob(f"{store.name}*"):
        if path.name not in beside:
            yield f"{path.name} left over"


def _inspect(repository, version):
    facts = repository.inspect_snapshot(version)
    return facts if isinstance(facts, dict) else json.loads(facts)


def _unpack(path):
    return numcodecs.Zstd().decode(path.read_bytes()[_HEADER:])


def _is_named(name, manifests):
    """Whether the id of an object, which is its name in base 32, stands in manifests."""
    if set(name) - set(_DIGITS):
        return False
    bits = "".join(f"{_DIGITS.index(digit):05b}" for digit in name)
    return int(bits[:96], 2).to_bytes(12, "big") in manifests
