"""Garbage: what no version refers to goes, nothing else does, and never while somebody writes."""

import os
import signal
import subprocess
import sys
import time
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
from store_maps import make_spec, make_tile, read_tile, write_tiles
from stored_objects import StoredObjects

from mapper.errors import StoreError, StoreLockedError
from mapper.grid import Tile
from mapper.store.garbage import USUAL_AGE, collect_garbage, expire_snapshots
from mapper.store.map_store import MapStore
from mapper.store.product import map_product
from mapper.store.verify import verify_store
from mapper.store.why import why

NOW = timedelta(0)
REFS = ("main", "v1")
SCRIPT = Path(__file__).with_name("store_maps.py")


def make_map(location):
    """A map of which the last tile is missing."""
    spec = make_spec(location)
    MapStore.create(spec.store, map_product(spec))
    with MapStore.open(spec.store).writer(map_product(spec), run_id="first") as writer:
        write_tiles(writer, spec, list(spec.map_grid.tiles())[:-1])
    return spec


@pytest.fixture
def spec(location):
    return make_map(location)


@pytest.fixture
def released(spec):
    """The same, tagged; then three tiles were made again, one commit each."""
    repository = MapStore.open(spec.store).repository
    repository.create_tag("v1", snapshot_id=repository.lookup_branch("main"))
    with MapStore.open(spec.store).writer(map_product(spec), run_id="second") as writer:
        for tile in list(spec.map_grid.tiles())[:3]:
            write_tiles(writer, spec, [tile], seed=1, version=1)
    return spec


@pytest.fixture
def local(tmp_path):
    """The map on local disk, where files have times that a test can change."""
    return make_map(tmp_path / "map.icechunk")


def collect(spec, **options):
    """Collect garbage of any age; nobody writes, unless the lock says otherwise."""
    return collect_garbage(spec.store, **({"older_than": NOW, "no_run_alive": True} | options))


def expire(spec, older_than=NOW, **options):
    return expire_snapshots(spec.store, older_than=older_than, no_run_alive=True, **options)


def files_of(spec):
    return StoredObjects(spec.store).sizes()


def pixels_of(spec, ref):
    store = MapStore.open(spec.store, ref).zarr
    tiles = spec.map_grid.tiles()
    return {tile: read_tile(store, grid=spec.map_grid, target=spec.target, tile=tile) for tile in tiles}


def assert_same_pixels(one, other):
    for tile, bands in one.items():
        for name, values in bands.items():
            np.testing.assert_array_equal(values, other[tile][name], err_msg=f"{tile} {name}")


def lose_tile(spec, seed=9):
    """Write a tile as a worker does, and never commit it."""
    with MapStore.open(spec.store).writer(map_product(spec), run_id="lost") as writer:
        make_tile(writer.fork(), spec, next(iter(spec.map_grid.tiles())), seed=seed)


def test_shards_of_a_killed_run_go_and_nothing_else(spec):
    before, judged = files_of(spec), verify_store(spec.store)
    with subprocess.Popen([sys.executable, SCRIPT, spec.store, "6"], stdout=subprocess.PIPE, text=True) as driver:
        while driver.stdout.readline().strip() != "waiting":
            assert driver.poll() is None
        during = files_of(spec)
        for dry_run in (True, False):
            with pytest.raises(StoreLockedError, match=f"process {driver.pid} "):
                collect(spec, dry_run=dry_run)
        with pytest.raises(StoreLockedError, match=f"process {driver.pid} "):
            expire(spec)
        assert files_of(spec) == during
        os.kill(driver.pid, signal.SIGKILL)
    orphans = during.keys() - before.keys()
    assert len(orphans) == 4  # one shard of each array
    told = collect(spec, dry_run=True)
    assert files_of(spec) == during
    done = collect(spec)
    assert files_of(spec) == before
    assert done.chunks == told.chunks == done.objects == 4
    assert done.bytes_removed == told.bytes_removed == sum(during[name] for name in orphans)
    assert told.to_text().startswith("would remove 4 objects")
    assert done.to_text().startswith("removed 4 objects")
    assert verify_store(spec.store) == judged
    assert collect(spec).to_text().startswith("no garbage")


def test_shards_of_a_run_that_commits_later_are_not_garbage(spec):
    last = list(spec.map_grid.tiles())[-1]
    with MapStore.open(spec.store).writer(map_product(spec), run_id="third") as writer:
        fork, record = make_tile(writer.fork(), spec, last)
        with pytest.raises(StoreLockedError):
            collect(spec)
        writer.add(fork, record)
        writer.commit()
    assert collect(spec).objects == 0
    assert verify_store(spec.store).is_complete


def test_young_garbage_stays(local):
    spec = local
    kept = files_of(spec)
    lose_tile(spec)
    before = files_of(spec)
    assert collect_garbage(spec.store, older_than=timedelta(minutes=5)).objects == 0
    assert files_of(spec) == before
    old = time.time() - 600
    for name in list(before.keys() - kept.keys())[:3]:
        os.utime(Path(spec.store) / name, (old, old))
    assert collect_garbage(spec.store, older_than=timedelta(minutes=5)).chunks == 3


def test_unfinished_files_and_half_made_stores_go(local):
    spec = local
    before = files_of(spec)
    store = Path(spec.store)
    part = store / "chunks" / "0123456789ABCDEFGHJK#1"
    part.write_bytes(b"x" * 100)
    half_made = store.with_name(f"{store.name}.4711.new")
    (half_made / "chunks").mkdir(parents=True)
    (half_made / "chunks" / "A").write_bytes(b"x" * 10)
    other = store.with_name("other.icechunk.4711.new")
    other.mkdir()
    assert collect_garbage(spec.store, older_than=timedelta(hours=1)).unfinished == 0
    assert collect_garbage(spec.store, dry_run=True).unfinished == 2
    report = collect_garbage(spec.store)
    assert (report.unfinished, report.bytes_removed, report.objects) == (2, 110, 2)
    assert not half_made.exists()
    assert other.exists()
    assert files_of(spec) == before


def test_expired_versions_are_freed_and_tags_stay_as_they_are(released):
    grid = released.map_grid
    ((x, y),) = grid.geobox_of(grid.window(Tile(0, 0))).extent.centroid.coords
    place = {"x": x, "y": y, "crs": "EPSG:3035"}
    before = {
        ref: (pixels_of(released, ref), list(MapStore.open(released.store, ref).ledger.records())) for ref in REFS
    }
    entries = dict(MapStore.open(released.store).ledger.entries)
    answers = {ref: why(released.store, **place, ref=ref) for ref in REFS}
    second = [info.id for info in MapStore.open(released.store).repository.ancestry(branch="main")][1]
    expired = expire(released)
    assert (expired.versions, expired.tags) == (2, ("v1",))
    assert expired.expired == 3  # of six: the first, and the two between tag and main; the root stays
    collected = collect(released)
    assert collected.snapshots == 3
    assert collected.chunks == 0  # all shards are those of the tag or of main
    with pytest.raises(StoreError, match="no version"):
        MapStore.open(released.store, second)
    for ref, (pixels, records) in before.items():
        assert_same_pixels(pixels_of(released, ref), pixels)
        ledger = MapStore.open(released.store, ref).ledger
        assert list(ledger.records()) == records
        assert not verify_store(released.store, ref=ref).corrupt
        answer = why(released.store, **place, ref=ref)
        assert answer.record == answers[ref].record
        assert answer.to_text()
    assert dict(MapStore.open(released.store).ledger.entries) == entries
    assert why(released.store, **place, ref="v1") == answers["v1"]
    assert expire(released).expired == 0


def test_shards_of_untagged_versions_are_freed_once_they_expire(released):
    first = list(released.map_grid.tiles())[:1]
    for seed in (2, 3):
        with MapStore.open(released.store).writer(map_product(released), run_id="again") as writer:
            write_tiles(writer, released, first, seed=seed)
    assert collect(released).objects == 0
    assert expire(released, timedelta(minutes=5)).expired == 0
    expire(released)
    assert collect(released).chunks >= 8  # four shards of each of two versions, and their ledgers
    assert not verify_store(released.store).corrupt


def test_a_run_goes_on_after_expiry(released):
    expire(released)
    collect(released)
    with MapStore.open(released.store).writer(map_product(released), run_id="third") as writer:
        write_tiles(writer, released, list(released.map_grid.tiles())[-1:])
    assert verify_store(released.store).is_complete


def test_tags_go_only_when_asked(released):
    report = expire(released, keep_tags=False)
    assert report.tags == ()
    assert "no tags" in report.to_text()
    assert collect(released).chunks >= 12
    assert not verify_store(released.store).corrupt


def test_leases_can_be_lost_so_young_garbage_is_refused_in_object_stores():
    for age in (NOW, timedelta(hours=23)):
        with pytest.raises(StoreError, match="--no-run-alive"):
            collect_garbage("s3://bucket/map.icechunk", older_than=age)
        with pytest.raises(StoreError, match="--no-run-alive"):
            expire_snapshots("s3://bucket/map.icechunk", older_than=age)
    assert timedelta(days=7) <= USUAL_AGE


def test_a_store_that_is_not_there_gets_no_lock(tmp_path):
    with pytest.raises(StoreError, match="does not exist"):
        collect_garbage(tmp_path / "none.icechunk")
    assert not list(tmp_path.iterdir())


def test_the_future_is_no_age(local):
    with pytest.raises(ValueError, match="future"):
        collect_garbage(local.store, older_than=timedelta(seconds=-1))
