"""Object stores that fail: what passes is tried again, the rest is said in a line, nothing is lost or half there."""

import itertools
from datetime import timedelta

import pytest
from s3_server import make_location
from store_maps import make_spec, make_tile, write_tiles
from stored_objects import StoredObjects

from mapper.errors import StoreError, StoreMismatchError, TransientStoreError
from mapper.store.garbage import collect_garbage
from mapper.store.map_store import MapStore
from mapper.store.product import map_product
from mapper.store.verify import verify_store


@pytest.fixture
def unready(bucket):  # noqa: ARG001 - its environment
    """A map that is not made yet."""
    return make_spec(make_location())


@pytest.fixture
def spec(unready):
    MapStore.create(unready.store, map_product(unready))
    return unready


@pytest.fixture
def writer(spec):
    with MapStore.open(spec.store).writer(map_product(spec), run_id="r") as writer:
        yield writer


def tiles_of(spec):
    return list(spec.map_grid.tiles())


def test_what_passes_within_icechunks_own_patience_is_not_noticed(bucket):
    spec = make_spec(make_location())
    MapStore.create(spec.store, map_product(spec))
    with MapStore.open(spec.store).writer(map_product(spec), run_id="r") as writer:
        for status in (503, 0):
            bucket.fail("map.icechunk/", times=3, status=status)
            write_tiles(writer, spec, tiles_of(spec)[:1])
    assert verify_store(spec.store).ok == tuple(tiles_of(spec)[:1])


@pytest.mark.parametrize("kind", ["chunks", "manifests", "snapshots", "transactions"])
def test_a_commit_that_fails_for_a_while_may_be_tried_again_and_loses_nothing(spec, writer, bucket, kind):
    tiles = tiles_of(spec)[:2]
    for tile in tiles:
        writer.add(*make_tile(writer.fork(), spec, tile))
    before = MapStore.open(spec.store).snapshot
    bucket.fail(f"PUT .*/{kind}/", status=409)
    with pytest.raises(TransientStoreError, match="perhaps for a while"):
        writer.commit()
    assert writer.pending == 2
    bucket.fail()
    assert MapStore.open(spec.store).snapshot == before
    assert writer.commit()
    assert verify_store(spec.store).ok == tuple(tiles)
    assert MapStore.open(spec.store).ledger.batches == 1


@pytest.mark.parametrize("status", [503, 0])
def test_a_commit_whose_answer_is_lost_has_come_to_pass_once(spec, writer, bucket, status):
    bucket.fail("PUT .*/refs/branch", times=1, status=status, late=True)
    snapshots = [write_tiles(writer, spec, [tile]) for tile in tiles_of(spec)[:3]]
    assert [info.id for info in MapStore.open(spec.store).repository.ancestry(branch="main")][:3] == snapshots[::-1]
    assert MapStore.open(spec.store).ledger.batches == 3
    assert verify_store(spec.store).ok == tuple(tiles_of(spec)[:3])


def test_a_tile_that_could_not_be_written_may_be_written_again_with_the_same_fork(spec, writer, bucket):
    tile, fork = tiles_of(spec)[0], writer.fork()
    bucket.fail("PUT .*/chunks/", status=409)
    with pytest.raises(TransientStoreError):
        make_tile(fork, spec, tile)
    bucket.fail()
    writer.add(*make_tile(fork, spec, tile))
    writer.commit()
    assert verify_store(spec.store).ok == (tile,)


def test_a_store_whose_making_was_cut_short_at_any_step_is_finished_by_the_next_run(unready, bucket):
    bucket.fail()
    MapStore.create(unready.store, map_product(unready))
    whole = MapStore.open(unready.store).description
    steps = [line for line in bucket.log() if line.startswith("PUT") and "lease" not in line]
    assert len(steps) > 8
    for step in range(len(steps)):
        spec = make_spec(make_location())
        bucket.fail("PUT .*icechunk/", status=403, after=step)
        with pytest.raises(StoreError):
            MapStore.create(spec.store, map_product(spec))
        bucket.fail()
        MapStore.create(spec.store, map_product(spec))
        assert MapStore.open(spec.store).description.spec_digest == whole.spec_digest
        assert MapStore.open(spec.store).repository.config.manifest.splitting is not None
    assert collect_garbage(spec.store, older_than=timedelta(0), no_run_alive=True).objects > 0
    with MapStore.open(spec.store).writer(map_product(spec), run_id="r") as writer:
        write_tiles(writer, spec, tiles_of(spec)[:1])
    assert len(verify_store(spec.store).ok) == 1


def test_a_store_of_others_is_not_finished(bucket):  # noqa: ARG001 - its environment
    spec, other = (make_spec(make_location(), name="one"), make_spec(make_location(), consistency="hard"))
    MapStore.create(other.store, map_product(other))
    with pytest.raises(StoreMismatchError):
        MapStore.create(other.store, map_product(spec))


def test_other_objects_are_left_alone(unready):
    objects = StoredObjects(unready.store)
    objects.write("thesis.tex", b"years of work")
    with pytest.raises(StoreError, match="is no store"):
        MapStore.create(unready.store, map_product(unready))
    assert objects.sizes() == {"thesis.tex": 13}


@pytest.mark.parametrize("use", [MapStore.open, lambda store: MapStore.create(store, map_product(make_spec(store)))])
def test_a_bucket_that_is_not_there_is_said_to_be_missing(bucket, use):  # noqa: ARG001 - its environment
    with pytest.raises(StoreError, match="there is no such bucket; make it"):
        use("s3://no-such-bucket/map.icechunk")


@pytest.mark.parametrize(("kind", "word"), [("GET", "icechunk"), ("PUT", "lease"), ("PUT", "icechunk/chunks")])
def test_access_that_is_denied_is_said_to_be_with_what_to_set(spec, bucket, kind, word):
    bucket.fail(f"{kind} .*{word}", status=403)
    with (
        pytest.raises(StoreError, match=r"denied \(.+\).*credentials") as caught,
        MapStore.open(spec.store).writer(map_product(spec), run_id="r") as writer,
    ):
        write_tiles(writer, spec, tiles_of(spec)[:1])
    assert "\n" not in str(caught.value)
    assert not isinstance(caught.value, TransientStoreError)
    assert "AWS_ACCESS_KEY_ID" in str(caught.value) or "tile" in str(caught.value)


def test_missing_credentials_are_named(spec, monkeypatch):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    with pytest.raises(StoreError, match="no credentials were found; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"):
        MapStore.open(spec.store)


def test_requests_of_tiles_and_commits_do_not_grow(spec, writer, bucket):
    """A continent has thousands of commits: the last costs no more requests than the tenth."""
    counts = []
    for tile in itertools.islice(itertools.cycle(tiles_of(spec)), 20):
        writer.add(*make_tile(writer.fork(), spec, tile))
        bucket.fail()
        writer.commit()
        counts.append(sum("lease" not in line for line in bucket.log()))
    assert max(counts[13:]) <= max(counts[5:12])
    assert StoredObjects(spec.store).sizes("chunks")
