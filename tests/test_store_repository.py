"""Making and opening stores."""

from datetime import timedelta
from pathlib import Path

import icechunk
import numpy as np
import pytest
import zarr
from store_maps import NATIVE, make_spec, write_tiles

from mapper.errors import SpecError, StoreError, StoreLockedError, StoreMismatchError
from mapper.predict.quality import BITS, MAP_BITS, mask_of
from mapper.store.garbage import collect_garbage, expire_snapshots
from mapper.store.location import parse_location
from mapper.store.lock import hold_lock, lock_path
from mapper.store.map_store import MapStore, open_map
from mapper.store.product import NOT_WRITTEN, map_product
from mapper.store.repository import NoVersionError, is_kept, trace_ancestry


@pytest.fixture
def spec(location):
    spec = make_spec(location)
    MapStore.create(spec.store, map_product(spec))
    return spec


def test_a_new_store_has_all_its_metadata_and_no_pixel(spec):
    root = zarr.open_group(MapStore.open(spec.store).zarr, mode="r")
    grid = spec.map_grid
    for name in ("agb", "agb_sd", "qa", "n_valid"):
        assert root[name].shape == grid.shape
        assert root[name].shards == (grid.tile_px, grid.tile_px)
        assert root[name].chunks == (grid.chunk_px, grid.chunk_px)
        assert root[name].nchunks_initialized == 0
    dataset = open_map(spec.store)
    assert np.isnan(dataset.agb).all()
    assert (dataset.qa == NOT_WRITTEN).all()
    assert dataset.attrs["Conventions"].startswith("CF-1.")
    assert {"title", "source", "history"} <= set(dataset.attrs)
    assert "of the source pixel alone" in dataset.agb_sd.attrs["comment"]


def test_flags_of_the_qa_band_are_those_of_the_predictor(spec):
    attributes = open_map(spec.store).qa.attrs
    meanings = dict(zip(attributes["flag_masks"], attributes["flag_meanings"].split(), strict=True))
    assert meanings == {mask_of(name): name for name in MAP_BITS} | {NOT_WRITTEN: "not_written"}
    assert NOT_WRITTEN not in [bit.mask for bit in BITS.values()]


def test_making_a_store_again_changes_nothing(spec):
    with MapStore.open(spec.store).writer(map_product(spec), run_id="r") as writer:
        snapshot = write_tiles(writer, spec, list(spec.map_grid.tiles())[:1])
        MapStore.create(spec.store, map_product(spec))  # even while it is written
    assert MapStore.open(spec.store).snapshot == snapshot


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"grid": NATIVE}, "EPSG:4326"),
        ({"consistency": "hard"}, "spec digest"),
        ({"area": {"bbox": [13, 50, 13.01, 50.01]}}, "grid EPSG:3035"),
    ],
)
def test_a_store_of_another_map_is_refused(spec, changes, word):
    other = make_spec(spec.store, **changes)
    for refused in (
        lambda: MapStore.create(spec.store, map_product(other)),
        lambda: MapStore.open(spec.store).check(map_product(other)),
        lambda: MapStore.open(spec.store).writer(map_product(other), run_id="r").__enter__(),
    ):
        with pytest.raises(StoreMismatchError, match=word) as caught:
            refused()
        assert all(part in str(caught.value) for part in ("little-map", "expected", "choose another store"))
        assert "\n" not in str(caught.value)
        assert caught.value.exit_code == 2


def test_stores_that_are_there_are_told_from_those_that_are_not(spec, tmp_path):
    assert MapStore.find(spec.store) is not None
    assert not (MapStore.find(tmp_path) is not None)
    assert not (MapStore.find(tmp_path / "nowhere") is not None)
    MapStore.open(spec.store).check(map_product(spec))


def test_names_and_the_catalogue_do_not_make_another_map(spec):
    MapStore.create(spec.store, map_product(make_spec(spec.store, name="renamed")))


def test_a_store_tells_its_map_without_the_description_file(spec):
    description = MapStore.open(spec.store).description
    assert description.grid.digest == spec.map_grid.digest
    assert description.spec_digest == spec.digest
    (band,) = description.values
    assert (band.name, band.units, band.bounds) == (spec.target.name, spec.target.units, spec.target.bounds)
    assert description.spec_yaml == spec.to_yaml(public=True)
    assert list(description.grid.tiles()) == list(spec.map_grid.tiles())


@pytest.mark.parametrize("opened", [MapStore.open, open_map])
def test_a_store_that_is_not_there_is_said_to_be_missing_and_not_made(tmp_path, opened):
    with pytest.raises(StoreError, match="does not exist"):
        opened(tmp_path / "nowhere" / "map.icechunk")
    assert not (tmp_path / "nowhere").exists()


def test_what_is_no_store_is_left_alone(tmp_path):
    (tmp_path / "map.icechunk").mkdir()
    (tmp_path / "map.icechunk" / "thesis.tex").write_text("years of work")
    with pytest.raises(StoreError, match="is no store"):
        MapStore.create(tmp_path / "map.icechunk", map_product(make_spec(tmp_path / "map.icechunk")))
    assert (tmp_path / "map.icechunk" / "thesis.tex").read_text() == "years of work"
    assert len(list(tmp_path.iterdir())) == 2  # and the lock file


def test_an_empty_directory_becomes_a_store(tmp_path):
    (tmp_path / "map.icechunk").mkdir()
    MapStore.create(tmp_path / "map.icechunk", map_product(make_spec(tmp_path / "map.icechunk")))
    assert {path.name for path in tmp_path.iterdir()} == {"map.icechunk", "map.icechunk.lock"}


def test_a_store_half_made_by_a_killed_process_is_made_anew(tmp_path, monkeypatch):
    spec = make_spec(tmp_path / "map.icechunk")
    monkeypatch.setattr("mapper.store.repository.create_ledger", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        MapStore.create(spec.store, map_product(spec))
    with pytest.raises(StoreError, match="does not exist"):
        MapStore.open(spec.store)
    monkeypatch.undo()
    MapStore.create(spec.store, map_product(spec))
    assert MapStore.open(spec.store).description.name == "little-map"


def test_two_processes_do_not_make_one_store(tmp_path):
    spec = make_spec(tmp_path / "map.icechunk")
    with hold_lock(parse_location(spec.store)), pytest.raises(StoreLockedError):
        MapStore.create(spec.store, map_product(spec))


def test_targets_may_not_take_the_names_of_other_arrays(tmp_path):
    spec = make_spec(tmp_path / "m", target={"name": "qa"})
    with pytest.raises(SpecError, match="qa"):
        MapStore.create(spec.store, map_product(spec))


def test_older_versions_open_by_branch_tag_and_snapshot(spec):
    with MapStore.open(spec.store).writer(map_product(spec), run_id="r") as writer:
        first = write_tiles(writer, spec, list(spec.map_grid.tiles())[:1])
        MapStore.open(spec.store).repository.create_tag("v1", snapshot_id=first)
        second = write_tiles(writer, spec, list(spec.map_grid.tiles())[1:2])
    assert MapStore.open(spec.store).snapshot == second
    assert MapStore.open(spec.store, "v1").snapshot == first
    assert MapStore.open(spec.store, first).snapshot == first
    for ref in ("nothing", "1CECHNKREP0F1RSTCMTZ"):
        with pytest.raises(StoreError, match="no version"):
            MapStore.open(spec.store, ref)


def test_the_lock_names_its_holder_and_ends_with_it(tmp_path):
    place = parse_location(tmp_path / "map.icechunk")
    with hold_lock(place):
        with pytest.raises(StoreLockedError, match=r"process \d+ on .+ since 20") as caught, hold_lock(place):
            pass
        assert "\n" not in str(caught.value)
    with hold_lock(place):
        pass
    assert lock_path(place.path).name == "map.icechunk.lock"


def write_newer(path, number):
    """What a repository of a newer Icechunk begins with, and some of its folders."""
    (path / "snapshots").mkdir(parents=True)
    (path / "repo").write_bytes("ICE🧊CHUNK".encode() + f"ic-{number}.3.0".ljust(24).encode() + bytes([number, 6, 1]))
    (path / "snapshots" / "1CECHNKREP0F1RSTCMT0").write_bytes(b"snapshot")


@pytest.mark.parametrize(
    ("number", "need"),
    [(2, "made with Icechunk 2, which needs Python 3.12"), (9, "made with Icechunk 9, which is newer")],
)
def test_a_store_of_a_newer_icechunk_is_recognised_and_left_alone(tmp_path, number, need):
    spec = make_spec(tmp_path / "map.icechunk")
    path = tmp_path / "map.icechunk"
    write_newer(path, number)
    before = {each: each.read_bytes() for each in path.rglob("*") if each.is_file()}
    if icechunk.Repository.exists(parse_location(path).open_storage()):
        pytest.skip("this Icechunk knows the format")
    for opened in (MapStore.open, MapStore.find, open_map, lambda _: MapStore.create(spec.store, map_product(spec))):
        with pytest.raises(StoreError, match=need) as caught:
            opened(path)
        assert "leave the map as it is" in str(caught.value)
    assert {each: each.read_bytes() for each in path.rglob("*") if each.is_file()} == before


@pytest.fixture
def local(tmp_path):
    spec = make_spec(tmp_path / "map.icechunk")
    MapStore.create(spec.store, map_product(spec))
    return spec


@pytest.mark.parametrize("lost", ["refs", "snapshots", "manifests"])
def test_a_store_that_was_copied_by_half_is_neither_missing_nor_to_be_removed(local, lost):
    spec = local
    (Path(spec.store) / lost).rename(f"{spec.store}.{lost}")
    for refused in (lambda: open_map(spec.store), lambda: MapStore.create(spec.store, map_product(spec))):
        with pytest.raises(StoreError) as caught:
            refused()
        assert "remove" not in str(caught.value)
        assert "does not exist" not in str(caught.value)


def test_a_history_is_read_anew_where_what_is_remembered_was_collected(local):
    spec = local
    with MapStore.open(spec.store).writer(map_product(spec), run_id="r") as writer:
        snapshots = [write_tiles(writer, spec, [tile]) for tile in list(spec.map_grid.tiles())[:4]]
    known = MapStore.open(spec.store)
    assert [info.id for info in trace_ancestry(known.repository, snapshots[3], 9)][:4] == snapshots[::-1]
    expire_snapshots(spec.store, older_than=timedelta(0))
    collect_garbage(spec.store)
    kept, first = trace_ancestry(known.repository, snapshots[3], 9)
    assert (kept.id, first.parent_id) == (snapshots[3], None)
    assert (is_kept(known.repository, snapshots[3]), is_kept(known.repository, snapshots[0])) == (True, False)
    with pytest.raises(NoVersionError):
        known.at(snapshots[0])
    assert known.ledger.snapshot_of(1) is None
    Path(spec.store).rename(f"{spec.store}.away")
    for ask in (lambda: is_kept(known.repository, snapshots[0]), lambda: known.at(snapshots[0])):
        with pytest.raises(StoreError, match="cannot be seen") as caught:
            ask()
        assert not isinstance(caught.value, NoVersionError)
