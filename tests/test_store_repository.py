"""Making and opening stores."""

import numpy as np
import pytest
import zarr
from store_maps import NATIVE, make_spec, write_tiles

from mapper.errors import SpecError, StoreError, StoreLockedError, StoreMismatchError
from mapper.predict.quality import BITS, MAP_BITS, mask_of
from mapper.store.location import parse_location
from mapper.store.lock import hold_lock, lock_path
from mapper.store.product import NOT_WRITTEN, map_product
from mapper.store.repository import (
    check_store,
    create_store,
    open_map,
    open_repository,
    open_store,
    read_store,
    store_exists,
)
from mapper.store.writer import open_writer


@pytest.fixture
def spec(location):
    spec = make_spec(location)
    create_store(spec.store, product=map_product(spec))
    return spec


def test_a_new_store_has_all_its_metadata_and_no_pixel(spec):
    root = zarr.open_group(open_store(spec.store).store, mode="r")
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
    with open_writer(spec.store, product=map_product(spec), run_id="r") as writer:
        snapshot = write_tiles(writer, spec, list(spec.map_grid.tiles())[:1])
        create_store(spec.store, product=map_product(spec))  # even while it is written
    assert open_store(spec.store).snapshot_id == snapshot


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
        lambda: create_store(spec.store, product=map_product(other)),
        lambda: check_store(spec.store, product=map_product(other)),
        lambda: open_writer(spec.store, product=map_product(other), run_id="r").__enter__(),
    ):
        with pytest.raises(StoreMismatchError, match=word) as caught:
            refused()
        assert all(part in str(caught.value) for part in ("little-map", "expected", "choose another store"))
        assert "\n" not in str(caught.value)
        assert caught.value.exit_code == 2


def test_stores_that_are_there_are_told_from_those_that_are_not(spec, tmp_path):
    assert store_exists(spec.store)
    assert not store_exists(tmp_path)
    assert not store_exists(tmp_path / "nowhere")
    check_store(spec.store, product=map_product(spec))


def test_names_and_the_catalogue_do_not_make_another_map(spec):
    create_store(spec.store, product=map_product(make_spec(spec.store, name="renamed")))


def test_a_store_tells_its_map_without_the_description_file(spec):
    description = read_store(spec.store)
    assert description.grid.digest == spec.map_grid.digest
    assert description.spec_digest == spec.digest
    (band,) = description.values
    assert (band.name, band.units, band.bounds) == (spec.target.name, spec.target.units, spec.target.bounds)
    assert description.spec_yaml == spec.to_yaml()
    assert list(description.grid.tiles()) == list(spec.map_grid.tiles())


@pytest.mark.parametrize("opened", [open_repository, open_store, read_store, open_map])
def test_a_store_that_is_not_there_is_said_to_be_missing_and_not_made(tmp_path, opened):
    with pytest.raises(StoreError, match="does not exist"):
        opened(tmp_path / "nowhere" / "map.icechunk")
    assert not (tmp_path / "nowhere").exists()


def test_what_is_no_store_is_left_alone(tmp_path):
    (tmp_path / "map.icechunk").mkdir()
    (tmp_path / "map.icechunk" / "thesis.tex").write_text("years of work")
    with pytest.raises(StoreError, match="is no store"):
        create_store(tmp_path / "map.icechunk", product=map_product(make_spec(tmp_path / "map.icechunk")))
    assert (tmp_path / "map.icechunk" / "thesis.tex").read_text() == "years of work"
    assert len(list(tmp_path.iterdir())) == 2  # and the lock file


def test_an_empty_directory_becomes_a_store(tmp_path):
    (tmp_path / "map.icechunk").mkdir()
    create_store(tmp_path / "map.icechunk", product=map_product(make_spec(tmp_path / "map.icechunk")))
    assert {path.name for path in tmp_path.iterdir()} == {"map.icechunk", "map.icechunk.lock"}


def test_a_store_half_made_by_a_killed_process_is_made_anew(tmp_path, monkeypatch):
    spec = make_spec(tmp_path / "map.icechunk")
    monkeypatch.setattr("mapper.store.repository.create_ledger", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        create_store(spec.store, product=map_product(spec))
    with pytest.raises(StoreError, match="does not exist"):
        open_store(spec.store)
    monkeypatch.undo()
    create_store(spec.store, product=map_product(spec))
    assert read_store(spec.store).name == "little-map"


def test_two_processes_do_not_make_one_store(tmp_path):
    spec = make_spec(tmp_path / "map.icechunk")
    with hold_lock(parse_location(spec.store)), pytest.raises(StoreLockedError):
        create_store(spec.store, product=map_product(spec))


def test_targets_may_not_take_the_names_of_other_arrays(tmp_path):
    spec = make_spec(tmp_path / "m", target={"name": "qa"})
    with pytest.raises(SpecError, match="qa"):
        create_store(spec.store, product=map_product(spec))


def test_older_versions_open_by_branch_tag_and_snapshot(spec):
    with open_writer(spec.store, product=map_product(spec), run_id="r") as writer:
        first = write_tiles(writer, spec, list(spec.map_grid.tiles())[:1])
        open_repository(spec.store).create_tag("v1", snapshot_id=first)
        second = write_tiles(writer, spec, list(spec.map_grid.tiles())[1:2])
    assert open_store(spec.store).snapshot_id == second
    assert open_store(spec.store, ref="v1").snapshot_id == first
    assert open_store(spec.store, ref=first).snapshot_id == first
    for ref in ("nothing", "1CECHNKREP0F1RSTCMTZ"):
        with pytest.raises(StoreError, match="no version"):
            open_store(spec.store, ref=ref)


def test_the_lock_names_its_holder_and_ends_with_it(tmp_path):
    place = parse_location(tmp_path / "map.icechunk")
    with hold_lock(place):
        with pytest.raises(StoreLockedError, match=r"process \d+ on .+ since 20") as caught, hold_lock(place):
            pass
        assert "\n" not in str(caught.value)
    with hold_lock(place):
        pass
    assert lock_path(place.path).name == "map.icechunk.lock"
