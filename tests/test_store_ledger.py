"""The ledger: state of all tiles at once, one record quickly, the version that wrote it."""

import pytest
import zarr
from store_maps import make_record, make_spec, make_tile, task_id, write_tiles

from mapper.grid import Tile
from mapper.store.map_store import MapStore
from mapper.store.product import map_product


@pytest.fixture
def spec(location):
    spec = make_spec(location)
    MapStore.create(spec.store, map_product(spec))
    return spec


def test_a_new_ledger_is_empty(spec):
    ledger = MapStore.open(spec.store).ledger
    assert ledger.entries == {}
    assert list(ledger.records()) == []
    assert ledger.record_at(Tile(0, 0)) is None
    assert ledger.batches == 0


def test_records_come_back_whole_and_only_the_standing_ones(spec):
    tiles = list(spec.map_grid.tiles())
    with MapStore.open(spec.store).writer(map_product(spec), run_id="r") as writer:
        write_tiles(writer, spec, tiles)
        write_tiles(writer, spec, tiles[2:4], seed=1, version=1)
        expected = {}
        for tile in tiles:
            version = int(tile in tiles[2:4])
            expected[tile] = make_tile(writer.fork(), spec, tile, seed=version, version=version)[1]
    ledger = MapStore.open(spec.store).ledger
    assert {record.tile: record for record in ledger.records()} == expected
    assert {tile: ledger.record_at(tile) for tile in tiles} == expected
    assert {tile: entry.task_id for tile, entry in ledger.entries.items()} == {
        tile: task_id(tile, int(tile in tiles[2:4])) for tile in tiles
    }


def test_every_batch_knows_the_version_it_made(spec):
    tiles = list(spec.map_grid.tiles())
    snapshots = []
    for tile in tiles[:4]:  # a new writer each time, and other commits between
        with MapStore.open(spec.store).writer(map_product(spec), run_id="r") as writer:
            snapshots.append(write_tiles(writer, spec, [tile]))
        session = MapStore.open(spec.store).repository.writable_session("main")
        zarr.open_group(session.store, mode="r+").attrs["note"] = str(tile)
        session.commit("something else")
    ledger = MapStore.open(spec.store).ledger
    assert [ledger.snapshot_of(k).id for k in (1, 2, 3, 4)] == snapshots
    assert [ledger.snapshot_of(ledger.batch_at(tile)).id for tile in tiles[:4]] == snapshots
    assert ledger.snapshot_of(1).written_at < ledger.snapshot_of(4).written_at
    assert ledger.snapshot_of(9) is None


def test_a_version_that_has_expired_is_no_error(spec):
    with MapStore.open(spec.store).writer(map_product(spec), run_id="r") as writer:
        first = write_tiles(writer, spec, list(spec.map_grid.tiles())[:1])
        write_tiles(writer, spec, list(spec.map_grid.tiles())[1:2])
    repository = MapStore.open(spec.store).repository
    repository.expire_snapshots(next(iter(repository.ancestry(branch="main"))).written_at)
    repository.garbage_collect(next(iter(repository.ancestry(branch="main"))).written_at)
    ledger = MapStore.open(spec.store).ledger
    assert ledger.snapshot_of(1) is None
    assert ledger.record_at(next(iter(spec.map_grid.tiles()))).content_sha256
    assert first


def test_the_number_of_arrays_does_not_grow_with_commits(spec):
    def count_nodes():
        return len(list(zarr.open_group(MapStore.open(spec.store).zarr, mode="r").members(max_depth=None)))

    before = count_nodes()
    with MapStore.open(spec.store).writer(map_product(spec), run_id="r") as writer:
        for k in range(8):
            writer.add(None, make_record(Tile(0, 0), status="failed", reason=str(k)))
            writer.commit()
    assert count_nodes() == before
    ledger = MapStore.open(spec.store).ledger
    assert ledger.batches == 8
    assert ledger.record_at(Tile(0, 0)).reason == "7"
    assert [ledger.records_of(k)[0].reason for k in (1, 3, 8)] == ["0", "2", "7"]
