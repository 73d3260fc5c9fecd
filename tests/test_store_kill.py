"""A killed writer loses at most what it had not committed; a reader never sees a part of a tile."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from store_maps import fill_tile, make_spec, make_tile, read_tile, write_tiles

from mapper.errors import StoreLockedError
from mapper.store.map_store import MapStore
from mapper.store.product import map_product
from mapper.store.tiles import digest_bands
from mapper.store.verify import verify_store

SCRIPT = Path(__file__).with_name("store_maps.py")


@pytest.fixture
def spec(location):
    spec = make_spec(location)
    MapStore.create(spec.store, map_product(spec))
    return spec


@pytest.fixture
def driver(spec):
    with subprocess.Popen([sys.executable, SCRIPT, spec.store, "6"], stdout=subprocess.PIPE, text=True) as process:
        yield process
        process.kill()


def read_until(driver, word, times=1):
    for line in driver.stdout:
        times -= line.startswith(word)
        if not times:
            return
    raise AssertionError(f"the driver ended with {driver.wait()} before it said {word}")


def kill(driver):
    os.kill(driver.pid, signal.SIGKILL)
    assert driver.wait() == -signal.SIGKILL


def find_partial_tiles(spec):
    """Tiles whose pixels are neither what the ledger of the same version says nor untouched."""
    ledger = MapStore.open(spec.store).ledger
    grid, target, store = spec.map_grid, spec.target, ledger.session.store
    records = {record.tile: record.content_sha256 for record in ledger.records()}
    untouched = digest_bands(fill_tile(grid, target))
    return [
        tile
        for tile in grid.tiles()
        if digest_bands(read_tile(store, grid=grid, target=target, tile=tile)) != records.get(tile, untouched)
    ]


def test_a_writer_killed_between_tiles_loses_only_what_was_not_committed(spec, driver):
    read_until(driver, "added", times=5)  # two commits of two tiles, one tile pending
    with (
        pytest.raises(StoreLockedError, match=f"process {driver.pid} "),
        MapStore.open(spec.store).writer(map_product(spec), run_id="2"),
    ):
        pass
    kill(driver)
    tiles = list(spec.map_grid.tiles())
    committed = verify_store(spec.store).ok  # it went on while the other was refused
    assert committed == tuple(tiles[: len(committed)])
    assert len(committed) in (4, 6, 8)
    assert not find_partial_tiles(spec)
    with MapStore.open(spec.store).writer(map_product(spec), run_id="next") as writer:
        entries = MapStore.open(spec.store).ledger.entries
        write_tiles(writer, spec, [tile for tile in tiles if tile not in entries])
        uninterrupted = {tile: make_tile(writer.fork(), spec, tile)[1].content_sha256 for tile in tiles}
    assert verify_store(spec.store).is_complete
    assert {
        record.tile: record.content_sha256 for record in MapStore.open(spec.store).ledger.records()
    } == uninterrupted


def test_a_polling_reader_sees_whole_tiles_and_whole_commits_only(spec, driver):
    seen = set()
    while driver.poll() is None and len(list(MapStore.open(spec.store).ledger.entries)) < 8:
        assert not find_partial_tiles(spec)
        seen.add(len(MapStore.open(spec.store).ledger.entries))
    kill(driver)
    assert not find_partial_tiles(spec)
    assert seen <= {0, 2, 4, 6, 8}
    assert len(MapStore.open(spec.store).ledger.entries) == 8


def test_a_reader_that_stays_sees_one_version(spec):
    session = MapStore.open(spec.store).session
    with MapStore.open(spec.store).writer(map_product(spec), run_id="r") as writer:
        tile = next(iter(spec.map_grid.tiles()))
        write_tiles(writer, spec, [tile])
    grid, target = spec.map_grid, spec.target
    seen = digest_bands(read_tile(session.store, grid=grid, target=target, tile=tile))
    assert seen == digest_bands(fill_tile(grid, target))
