"""The lease of a store in an object store: one holder, who gives signs of life, proves to hold it, and gives way."""

import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import pytest
from s3_server import make_location
from store_maps import make_spec, make_tile, write_tiles
from stored_objects import StoredObjects

from mapper.errors import StoreError, StoreLockedError, TransientStoreError
from mapper.store import lease
from mapper.store.garbage import collect_garbage
from mapper.store.location import parse_location
from mapper.store.lock import hold_lock, read_holder
from mapper.store.map_store import MapStore
from mapper.store.product import map_product
from mapper.store.verify import verify_store

SCRIPT = Path(__file__).with_name("store_maps.py")


@pytest.fixture
def place(bucket):  # noqa: ARG001 - its environment
    return parse_location(make_location())


@pytest.fixture
def spec(place):
    spec = make_spec(str(place))
    MapStore.create(spec.store, map_product(spec))
    return spec


@pytest.fixture
def silent(bucket, monkeypatch):  # noqa: ARG001 - it sets the term as well
    """Leases of two seconds that are not renewed: those of writers that are paused, or have crashed."""
    monkeypatch.setattr(lease, "TERM_S", 2.0)
    monkeypatch.setattr(lease._Claim, "keep", lambda _: None)


def test_a_second_writer_is_refused_at_the_first_sign_of_life(place):
    with hold_lock(place, run_id="first"):
        start = time.monotonic()
        with (
            pytest.raises(StoreLockedError, match=rf"process {os.getpid()} on .+ since 20") as caught,
            hold_lock(place),
        ):
            pass
        assert time.monotonic() - start < lease.TERM_S
        assert "\n" not in str(caught.value)
        assert read_holder(place).pid == os.getpid()
        assert lease.read_lease(place)["run_id"] == "first"
    assert read_holder(place) is None
    with hold_lock(place):
        pass


def test_of_many_who_want_a_lease_one_gets_it(place):
    def try_once(_):
        try:
            with hold_lock(place):
                time.sleep(1.5)  # three signs of life
        except StoreLockedError:
            return False
        return True

    with ThreadPoolExecutor(4) as threads:
        assert sum(threads.map(try_once, range(4))) == 1


@pytest.mark.usefixtures("silent")
def test_a_silent_holder_is_waited_for_and_then_replaced_and_learns_of_it(place):
    with hold_lock(place) as first:
        first()
        start = time.monotonic()
        with hold_lock(place) as second:
            assert time.monotonic() - start >= 2
            with pytest.raises(StoreLockedError, match="taken over by process"):
                first()
            second()
        with pytest.raises(StoreLockedError, match="taken over by process"):
            first()
    with hold_lock(place):  # who lost it gave nothing back, who took it did
        assert time.monotonic() - start < 4


@pytest.mark.usefixtures("silent")
def test_a_writer_that_lost_its_lease_stops_before_its_next_commit(spec):
    a, b, c = list(spec.map_grid.tiles())[:3]
    with MapStore.open(spec.store).writer(map_product(spec), run_id="paused") as paused:
        write_tiles(paused, spec, [a])
        paused.add(*make_tile(paused.fork(), spec, b))
        with MapStore.open(spec.store).writer(map_product(spec), run_id="next") as writer:
            write_tiles(writer, spec, [c])
            with pytest.raises(StoreLockedError, match="what was committed stays"):
                paused.commit()
            assert paused.pending == 1
    report = verify_store(spec.store)
    assert report.ok == (a, c)
    assert not report.corrupt


def test_a_holder_that_died_on_this_machine_is_not_waited_for(spec):
    with subprocess.Popen([sys.executable, SCRIPT, spec.store], stdout=subprocess.PIPE, text=True) as driver:
        assert driver.stdout.readline().strip() == "open"
        driver.send_signal(signal.SIGKILL)
    assert lease.read_lease(parse_location(spec.store))["term_s"] == 60
    start = time.monotonic()
    with hold_lock(parse_location(spec.store)):
        assert time.monotonic() - start < 30


@pytest.mark.usefixtures("silent")
def test_a_process_number_of_another_machine_says_nothing(place, monkeypatch):
    monkeypatch.setattr(lease._Claim, "release", lambda _: None)
    monkeypatch.setattr(lease.os, "getpid", lambda: 2**22 + 1)  # larger than any
    with hold_lock(place):
        pass
    monkeypatch.setattr(lease, "_machine", lambda: "another machine")
    start = time.monotonic()
    with hold_lock(place):
        assert time.monotonic() - start >= 2


def test_processes_that_have_ended_do_not_run():
    with subprocess.Popen([sys.executable, "-c", ""]) as ended:
        os.waitid(os.P_PID, ended.pid, os.WEXITED | os.WNOWAIT)  # and is not waited for yet
        assert not lease._runs(ended.pid)
    assert not lease._runs(ended.pid)
    assert lease._runs(os.getpid())
    assert lease._runs(1)


def test_a_storage_that_is_away_for_a_while_ends_no_lease(place, bucket):
    with hold_lock(place) as confirm:
        bucket.fail("lease")
        with pytest.raises(TransientStoreError):
            confirm()
        bucket.fail()
        confirm()


@pytest.mark.parametrize("status", [503, 0])
def test_an_answer_that_is_lost_on_the_way_does_not_lose_the_lease(place, bucket, status):
    for step in ("taken", "renewed"):
        bucket.fail("PUT .*lease", times=1, status=status, late=True)
        if step == "taken":
            holding = hold_lock(place)
            confirm = holding.__enter__()
        else:
            confirm()
    confirm()
    holding.__exit__(None, None, None)
    assert read_holder(place) is None


def test_a_lease_that_was_removed_is_lost(place):
    with hold_lock(place) as confirm:
        StoredObjects(str(place).rpartition("/")[0]).delete("map.icechunk.lease")
        with pytest.raises(StoreLockedError, match="removed"):
            confirm()


def test_another_object_in_its_place_is_left_alone(place):
    objects = StoredObjects(str(place).rpartition("/")[0])
    objects.write("map.icechunk.lease", b"years of work")
    with pytest.raises(StoreError, match="is no lease"), hold_lock(place):
        pass
    assert objects.read("map.icechunk.lease") == b"years of work"


def test_garbage_is_not_collected_under_a_lease_and_a_lease_is_no_garbage(spec):
    with MapStore.open(spec.store).writer(map_product(spec), run_id="r") as writer:
        write_tiles(writer, spec, list(spec.map_grid.tiles())[:1])
        with pytest.raises(StoreLockedError):
            collect_garbage(spec.store, older_than=timedelta(0), no_run_alive=True)
    before = StoredObjects(spec.store).sizes()
    assert collect_garbage(spec.store, older_than=timedelta(0), no_run_alive=True).objects == 0
    assert StoredObjects(spec.store).sizes() == before
    assert not any("lease" in name for name in before)
    assert lease.read_lease(parse_location(spec.store)) is None


@contextmanager
def no_lock(*_, **__):
    yield lambda: None


def test_without_any_lease_no_commit_is_lost(spec, monkeypatch):
    """The last line of defence: commits are conditional writes themselves."""
    monkeypatch.setattr("mapper.store.map_store.hold_lock", no_lock)
    tiles = list(spec.map_grid.tiles())
    refused = []

    def write(some, run_id):
        with MapStore.open(spec.store).writer(map_product(spec), run_id=run_id) as writer:
            for tile in some:
                writer.add(*make_tile(writer.fork(), spec, tile))
                while writer.pending:
                    try:
                        writer.commit()
                    except StoreLockedError:
                        refused.append(tile)

    with ThreadPoolExecutor(2) as threads:
        for future in [threads.submit(write, tiles[k::2], f"run-{k}") for k in (0, 1)]:
            future.result()
    report = verify_store(spec.store)
    assert report.ok == tuple(tiles)
    assert MapStore.open(spec.store).ledger.batches == len(tiles)


def test_a_commit_between_opening_and_committing_is_refused_and_keeps_its_tiles(spec, monkeypatch):
    monkeypatch.setattr("mapper.store.map_store.hold_lock", no_lock)
    a, b = list(spec.map_grid.tiles())[:2]
    with (
        MapStore.open(spec.store).writer(map_product(spec), run_id="1") as one,
        MapStore.open(spec.store).writer(map_product(spec), run_id="2") as two,
    ):
        two.add(*make_tile(two.fork(), spec, b))
        find = one._find_last_batch
        one._find_last_batch = lambda session: (two.commit(), find(session))[1]
        one.add(*make_tile(one.fork(), spec, a))
        with pytest.raises(StoreLockedError, match="another run committed"):
            one.commit()
        assert verify_store(spec.store).ok == (b,)
        assert one.pending == 1
        one.commit()
    assert verify_store(spec.store).ok == (a, b)
