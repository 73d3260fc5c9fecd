"""Versions of a served store: found by name, looked up anew, kept while they are used."""

import threading
from datetime import timedelta
from pathlib import Path

import pytest
from store_maps import make_spec, write_tiles

from mapper.errors import StoreError
from mapper.serve.versions import GoneVersionError, UnknownVersionError, Versions
from mapper.store.garbage import collect_garbage, expire_snapshots
from mapper.store.map_store import MapStore
from mapper.store.product import map_product
from mapper.store.snapshots import trace_commits


@pytest.fixture
def spec(tmp_path):
    spec = make_spec(tmp_path / "map.icechunk")
    MapStore.create(spec.store, map_product(spec))
    return spec


def commit_all(spec):
    """A commit of each tile; the snapshots."""
    with MapStore.open(spec.store).writer(map_product(spec), run_id="run-1") as writer:
        return [write_tiles(writer, spec, [tile]) for tile in spec.map_grid.tiles()]


def test_a_name_is_recalled_for_a_while_and_then_looked_up(spec, monkeypatch):
    clock = [100.0]
    monkeypatch.setattr("mapper.serve.versions.time.monotonic", lambda: clock[0])
    versions = Versions(spec.store, stale_after_s=1.0)
    first = versions.find("main").version
    latest = commit_all(spec)[-1]
    clock[0] += 0.9
    assert versions.find_cached("main").version is first
    clock[0] += 0.2
    assert versions.find_cached("main") is None
    found = versions.find("main")
    assert (found.version.snapshot, found.fixed) == (latest, False)
    assert versions.find_cached("main").version is found.version


def test_a_tag_and_a_snapshot_are_found_and_only_the_snapshot_is_fixed(spec):
    snapshots = commit_all(spec)
    MapStore.open(spec.store).repository.create_tag("v1", snapshot_id=snapshots[2])
    versions = Versions(spec.store, stale_after_s=0.0)
    tagged, fixed = versions.find("v1"), versions.find(snapshots[2])
    assert tagged.version is fixed.version
    assert (tagged.fixed, fixed.fixed) == (False, True)
    assert versions.list_names() == (["main"], ["v1"])
    assert versions.find_cached(snapshots[2]).fixed


@pytest.mark.parametrize(
    "ref", ["", "nothing", "..", "a/b", "main\n", "main\0", "-main", "ma in", "0" * 20, "A" * 20, "m" * 101, "mäin"]
)
def test_what_is_no_version_is_not_found(spec, ref):
    versions = Versions(spec.store)
    with pytest.raises(UnknownVersionError, match=r"no such version|has no version"):
        versions.find(ref)
    assert versions.find_cached(ref) is None


def test_few_versions_stay_open_and_one_in_use_stays_as_it_is(spec):
    snapshots = commit_all(spec)
    versions = Versions(spec.store, max_open=2)
    used = versions.find(snapshots[0]).version
    for snapshot in snapshots[1:]:
        versions.find(snapshot)
    assert versions.find_cached(snapshots[0]) is None
    assert versions.find_cached(snapshots[-1]) is not None
    assert used.ledger.batches == 1
    assert versions.find(snapshots[0]).version is not used


def test_a_store_may_go_back_to_an_older_version(spec):
    snapshots = commit_all(spec)
    versions = Versions(spec.store, stale_after_s=0.0)
    assert versions.find("main").version.snapshot == snapshots[-1]
    MapStore.open(spec.store).repository.reset_branch("main", snapshot_id=snapshots[0])
    assert versions.find("main").version.snapshot == snapshots[0]


def test_many_threads_find_the_same(spec):
    snapshots = commit_all(spec)
    versions = Versions(spec.store, stale_after_s=0.0, max_open=2)
    faults = []

    def look(number):
        try:
            for step in range(20):
                wanted = snapshots[(number + step) % len(snapshots)]
                assert versions.find(wanted).version.snapshot == wanted
                assert versions.find("main").version.snapshot == snapshots[-1]
        except BaseException as error:  # noqa: BLE001 - told by the test below
            faults.append(error)

    threads = [threading.Thread(target=look, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert faults == []


def move_away(spec):
    Path(spec.store).rename(f"{spec.store}.away")


def empty_the_folder(spec):
    move_away(spec)
    Path(spec.store).mkdir()


def lose(folder):
    return lambda spec: (Path(spec.store) / folder).rename(f"{spec.store}.lost")


@pytest.mark.parametrize(
    "harm",
    [move_away, empty_the_folder, lose("refs"), lose("snapshots")],
    ids=["moved", "unmounted", "refs", "snapshots"],
)
def test_a_store_that_cannot_be_seen_is_no_store_without_versions(spec, harm):
    snapshots = commit_all(spec)
    versions = Versions(spec.store, stale_after_s=0.0)
    versions.find("main"), versions.find(snapshots[0])
    versions._seen.clear()
    harm(spec)
    for ref in ("main", snapshots[0], snapshots[3], "0" * 20):
        with pytest.raises(StoreError):
            versions.find(ref)


def test_a_version_that_was_collected_is_gone_and_others_go_on(spec):
    snapshots = commit_all(spec)
    versions = Versions(spec.store, stale_after_s=0.0)
    for ref in ("main", snapshots[0]):
        versions.find(ref)
    expire_snapshots(spec.store, older_than=timedelta(0))
    collect_garbage(spec.store)
    versions._seen.clear()
    for gone in snapshots[:2]:
        with pytest.raises(GoneVersionError, match="has expired"):
            versions.find(gone)
        assert versions.recall(gone) is None
    with pytest.raises(UnknownVersionError) as unknown:
        versions.find("0" * 20)
    assert not isinstance(unknown.value, GoneVersionError)
    assert versions.find("main").version.snapshot == snapshots[-1]
    commits = trace_commits(versions.find("main").version.ledger, 30)
    assert [commit.snapshot for commit in commits] == [snapshots[-1]]


def test_a_tag_whose_version_is_lost_is_a_fault_of_the_storage(spec):
    snapshots = commit_all(spec)
    MapStore.open(spec.store).repository.create_tag("v1", snapshot_id=snapshots[1])
    (Path(spec.store) / "snapshots" / snapshots[1]).unlink()
    with pytest.raises(StoreError, match="has no version"):
        Versions(spec.store).find("v1")
