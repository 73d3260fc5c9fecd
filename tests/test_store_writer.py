"""One writer: forks out, tiles and records back, both visible together."""

import logging
import multiprocessing
import pickle
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from datetime import datetime, timedelta
from functools import partial

import numpy as np
import pytest
import zarr
from store_maps import make_arrays, make_record, make_spec, make_tile, name_bands, task_id, write_tiles

from mapper.errors import StoreError, StoreLockedError
from mapper.grid import Tile
from mapper.store.map_store import MapStore, open_map
from mapper.store.product import NOT_WRITTEN, map_product
from mapper.store.verify import verify_store
from mapper.store.writer import write_tile


@pytest.fixture
def spec(location):
    spec = make_spec(location)
    MapStore.create(spec.store, map_product(spec))
    return spec


@pytest.fixture
def writer(spec):
    with MapStore.open(spec.store).writer(map_product(spec), run_id="run-1") as writer:
        yield writer


def tiles_of(spec):
    return list(spec.map_grid.tiles())


def stored(spec, tile, name="agb", ref="main"):
    return zarr.open_array(MapStore.open(spec.store, ref).zarr, path=name, mode="r")[spec.map_grid.window(tile).slices]


def test_pixels_and_records_become_visible_together(spec, writer):
    tile, other = tiles_of(spec)[:2]
    writer.add(*make_tile(writer.fork(), spec, tile))
    assert writer.pending == 1
    assert (stored(spec, tile) == 65535).all()
    assert not MapStore.open(spec.store).ledger.entries
    snapshot = writer.commit()
    assert writer.pending == 0
    assert MapStore.open(spec.store).snapshot == snapshot
    arrays = make_arrays(spec.map_grid, tile)
    map_ = open_map(spec.store).isel(dict(zip("yx", spec.map_grid.window(tile).slices, strict=True)))
    np.testing.assert_allclose(map_.agb, arrays["agb"], atol=0.0501)
    np.testing.assert_allclose(map_.agb_sd, arrays["agb_sd"], atol=0.0501)
    assert (map_.qa == arrays["qa"]).all()
    assert (map_.n_valid == arrays["n_valid"]).all()
    assert MapStore.open(spec.store).ledger.entries[tile].task_id == task_id(tile)
    assert (stored(spec, other, "qa") == NOT_WRITTEN).all()


def test_nothing_to_commit_is_no_commit(spec, writer):
    before = MapStore.open(spec.store).snapshot
    assert writer.commit() == ""
    assert MapStore.open(spec.store).snapshot == before


def test_forks_in_flight_outlive_commits(spec, writer):
    """Two overlapping generations: the first is half committed before the second is taken, then mixed with it."""
    a, b, c, d, e = tiles_of(spec)[:5]
    first = {tile: writer.fork() for tile in (a, b, c)}
    writer.add(*make_tile(first[a], spec, a))
    writer.commit()
    second = {tile: writer.fork() for tile in (d, e)}
    writer.add(*make_tile(second[d], spec, d))
    writer.add(*make_tile(first[b], spec, b))
    writer.commit()
    writer.add(*make_tile(first[c], spec, c))
    writer.add(*make_tile(second[e], spec, e))
    writer.commit()
    report = verify_store(spec.store)
    assert report.ok == (a, b, c, d, e)
    assert not report.corrupt
    assert {tile: entry.batch for tile, entry in MapStore.open(spec.store).ledger.entries.items()} == {
        a: 1,
        b: 2,
        d: 2,
        c: 3,
        e: 3,
    }


def test_a_fork_written_before_a_commit_merges_after_it(spec, writer):
    a, b = tiles_of(spec)[:2]
    early, late = writer.fork(), writer.fork()
    finished = make_tile(early, spec, a)
    writer.add(*make_tile(late, spec, b))
    writer.commit()
    writer.add(*finished)
    writer.commit()
    assert verify_store(spec.store).ok == (a, b)


def test_one_fork_serves_several_threads_and_several_forks_too(spec, writer):
    tiles = tiles_of(spec)
    with ThreadPoolExecutor(4) as threads:
        running = [threads.submit(make_tile, writer.fork(), spec, tile) for tile in tiles]
        for k, future in enumerate(running):
            writer.add(*future.result())
            if k % 3 == 0:
                writer.commit()
    writer.commit()
    assert verify_store(spec.store).ok == tuple(tiles)


def test_forks_travel_to_spawned_processes_across_commits(spec, writer):
    tiles = tiles_of(spec)[:6]
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as processes:
        running = [processes.submit(make_tile, writer.fork(), spec, tile) for tile in tiles[:4]]
        writer.add(*running[0].result())
        writer.commit()
        running += [processes.submit(make_tile, writer.fork(), spec, tile) for tile in tiles[4:]]
        for future in running[1:]:
            writer.add(*future.result())
            if writer.pending == 2:
                writer.commit()
    writer.commit()
    assert verify_store(spec.store).ok == tuple(tiles)


def test_what_a_worker_sends_back_is_small(spec, writer):
    fork, record = make_tile(writer.fork(), spec, tiles_of(spec)[0])
    assert len(pickle.dumps((fork, record))) < 20_000


def test_a_fork_that_never_comes_back_leaves_no_trace(spec, writer):
    a, b = tiles_of(spec)[:2]
    make_tile(writer.fork(), spec, a)
    writer.add(*make_tile(writer.fork(), spec, b))
    writer.commit()
    assert (stored(spec, a) == 65535).all()
    assert verify_store(spec.store).ok == (b,)


def test_a_stale_tile_is_overwritten_with_its_record(spec, writer):
    tile = tiles_of(spec)[0]
    old = write_tiles(writer, spec, [tile])
    before = stored(spec, tile)
    write_tiles(writer, spec, [tile], seed=1, version=1)
    assert (stored(spec, tile) != before).any()
    assert MapStore.open(spec.store).ledger.record_at(tile).task_id == task_id(tile, 1)
    assert verify_store(spec.store).ok == (tile,)
    assert (stored(spec, tile, ref=old) == before).all()
    assert MapStore.open(spec.store, old).ledger.record_at(tile).task_id == task_id(tile, 0)


def test_failed_and_empty_tiles_are_recorded(spec, writer):
    a, b, c = tiles_of(spec)[:3]
    writer.add(None, make_record(a, status="failed", reason="no guide"))
    writer.add(None, make_record(b, status="empty", reason="water"))
    fork, record = make_tile(writer.fork(), spec, c)  # an empty tile whose flags say why
    writer.add(fork, make_record(c, status="empty", reason="outside", sha=record.content_sha256))
    writer.commit()
    ledger = MapStore.open(spec.store).ledger
    assert {tile: entry.status for tile, entry in ledger.entries.items()} == {a: "failed", b: "empty", c: "empty"}
    assert ledger.record_at(a).reason == "no guide"
    assert (stored(spec, b) == 65535).all()
    report = verify_store(spec.store)
    assert report.failed == {a: "no guide"}
    assert report.empty == (b, c)
    assert not report.corrupt


def test_a_tile_that_becomes_empty_loses_its_pixels(spec, writer):
    tile = tiles_of(spec)[0]
    write_tiles(writer, spec, [tile])
    writer.add(None, make_record(tile, status="empty", version=1))
    writer.commit()
    assert (stored(spec, tile) == 65535).all()
    assert (stored(spec, tile, "qa") == NOT_WRITTEN).all()
    assert verify_store(spec.store).empty == (tile,)


def test_a_failed_attempt_never_replaces_a_tile_that_stands(spec, writer):
    tile = tiles_of(spec)[0]
    write_tiles(writer, spec, [tile])
    before = stored(spec, tile)
    fork, _ = make_tile(writer.fork(), spec, tile, seed=1)  # it wrote, then failed
    writer.add(fork, make_record(tile, status="failed", reason="worker lost", version=1))
    writer.commit()
    ledger = MapStore.open(spec.store).ledger
    assert ledger.entries[tile].status == "ok"
    assert ledger.entries[tile].task_id == task_id(tile, 0)
    assert ledger.records_of(2)[0].reason == "worker lost"
    assert (stored(spec, tile) == before).all()
    assert verify_store(spec.store).ok == (tile,)


def test_of_two_attempts_in_one_batch_the_one_that_came_through_counts(spec, writer):
    a, b = tiles_of(spec)[:2]
    for attempts in ((a, "ok", "failed"), (b, "failed", "ok")):
        for status in attempts[1:]:
            if status == "ok":
                writer.add(*make_tile(writer.fork(), spec, attempts[0]))
            else:
                writer.add(None, make_record(attempts[0], status="failed"))
    writer.commit()
    assert verify_store(spec.store).ok == (a, b)


def test_commits_say_what_they_hold(spec, writer):
    write_tiles(writer, spec, tiles_of(spec)[:2])
    info = next(iter(MapStore.open(spec.store).repository.ancestry(branch="main")))
    assert info.metadata["run_id"] == "run-1"
    assert info.metadata["batch"] == 1
    assert info.metadata["tiles"] == 2
    assert len(info.metadata["parquet_sha256"]) == 64
    assert info.metadata["code_version"]


def test_one_writer_at_a_time(spec, writer):
    with (
        pytest.raises(StoreLockedError, match="process"),
        MapStore.open(spec.store).writer(map_product(spec), run_id="second"),
    ):
        pass
    write_tiles(writer, spec, tiles_of(spec)[:1])


def test_a_store_must_exist_before_it_is_written(tmp_path):
    spec = make_spec(tmp_path / "nothing")
    with (
        pytest.raises(StoreError, match="does not exist"),
        MapStore.open(spec.store).writer(map_product(spec), run_id="r"),
    ):
        pass
    assert not list(tmp_path.iterdir())


def test_tiles_that_were_not_committed_are_mentioned(spec, caplog):
    with caplog.at_level(logging.WARNING), MapStore.open(spec.store).writer(map_product(spec), run_id="r") as writer:
        writer.add(None, make_record(tiles_of(spec)[0], status="failed"))
    assert "1 finished tiles were not committed" in caplog.text


@pytest.mark.parametrize(
    "record",
    [partial(make_record), partial(make_record, status="empty", sha="ab"), partial(make_record, sha="ab")],
    ids=["ok without fork", "checksum without fork", "ok with checksum but without fork"],
)
def test_records_that_do_not_fit_their_fork_are_refused(spec, writer, record):
    with pytest.raises(ValueError, match="go together"):
        writer.add(None, record(tiles_of(spec)[0]))
    with pytest.raises(ValueError, match="outside the grid"):
        writer.add(None, make_record(Tile(99, 0), status="failed"))


@pytest.mark.parametrize("shape", [(32, 64), (64, 65), (1, 64, 64)])
def test_only_whole_tiles_are_written(spec, writer, shape):
    arrays = name_bands(
        value=np.zeros(shape, np.float32),
        sd=np.zeros(shape, np.float32),
        qa=np.zeros(shape, np.uint16),
        n_valid=np.zeros(shape, np.uint16),
    )
    with pytest.raises(ValueError, match="whole tile"):
        write_tile(writer.fork(), product=map_product(spec), tile=Tile(0, 0), arrays=arrays)


def test_checksums_repeat_and_tell_tiles_apart(spec, writer):
    tile = tiles_of(spec)[0]
    shas = [make_tile(writer.fork(), spec, tile, seed=seed)[1].content_sha256 for seed in (0, 0, 1)]
    assert shas[0] == shas[1] != shas[2]


def test_values_that_cannot_be_stored_are_mentioned(spec, writer, caplog):
    tile = tiles_of(spec)[0]
    arrays = make_arrays(spec.map_grid, tile)
    arrays["agb"][5, 5] = 1e6
    write_tile(writer.fork(), product=map_product(spec), tile=tile, arrays=arrays)
    assert "agb: 1 pixels lie outside" in caplog.text


class LateClock(datetime):
    """A clock that is behind."""

    behind = timedelta(0)

    @classmethod
    def now(cls, tz=None):
        return datetime.now(tz) - cls.behind


@pytest.mark.parametrize("kind", ["tiles", "levels"])
def test_a_driver_whose_clock_is_behind_is_told_so_before_the_first_tile(spec, monkeypatch, kind):
    store = MapStore.open(spec.store)
    clock = type("Clock", (LateClock,), {"behind": timedelta(hours=3)})
    monkeypatch.setattr("mapper.store.writer.datetime", clock)
    opened = store.writer(map_product(spec), run_id="r") if kind == "tiles" else store.level_writer(run_id="r")
    with pytest.raises(
        StoreError, match=r"clock of this machine is (2 h 59|3 h 0) min behind the last commit.*set the clock"
    ):
        opened.__enter__()
    assert store.read_holder() is None


def test_a_clock_that_is_behind_by_a_moment_is_waited_for(spec, monkeypatch):
    slept = []
    monkeypatch.setattr("mapper.store.writer.time.sleep", slept.append)
    monkeypatch.setattr("mapper.store.writer.datetime", type("Clock", (LateClock,), {"behind": timedelta(seconds=7)}))
    with MapStore.open(spec.store).writer(map_product(spec), run_id="r"):
        pass
    assert 0 < slept[0] <= 7
