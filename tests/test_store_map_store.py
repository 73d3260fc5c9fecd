"""The door to a store: opened once, read at any version, written through one lock."""

import icechunk
import pytest
from store_maps import make_spec, write_tiles

from mapper.errors import StoreError, StoreLockedError, StoreMismatchError
from mapper.store.map_store import MapStore
from mapper.store.product import map_product


@pytest.fixture
def spec(tmp_path):
    return make_spec(tmp_path / "map.icechunk")


def test_a_store_is_found_only_where_one_is(spec, tmp_path):
    assert MapStore.find(spec.store) is None
    with pytest.raises(StoreError, match="does not exist"):
        MapStore.open(spec.store)
    assert not list(tmp_path.iterdir())
    MapStore.create(spec.store, map_product(spec))
    assert MapStore.find(spec.store).description.name == spec.name


def test_versions_are_opened_from_one_repository(spec, monkeypatch):
    store, product = MapStore.create(spec.store, map_product(spec)), map_product(spec)
    monkeypatch.setattr(icechunk.Repository, "open", lambda *_, **__: pytest.fail("opened again"))
    tiles = list(spec.map_grid.tiles())[:2]
    with store.writer(product, run_id="run-1") as writer:
        write_tiles(writer, spec, tiles)
    newest = store.at()
    assert (len(store.ledger.entries), set(newest.ledger.entries)) == (0, set(tiles))
    assert newest.at(store.snapshot).ledger.entries == {}
    assert newest.totals.attempted == 2
    assert newest.rasters.names == product.band_names


def test_one_writer_at_a_time_whatever_it_writes(spec):
    store, product = MapStore.create(spec.store, map_product(spec)), map_product(spec)
    assert store.read_holder() is None
    with store.writer(product, run_id="run-1"):
        assert store.read_holder().alive
        with pytest.raises(StoreLockedError), store.level_writer(run_id="run-2"):
            pass
    with store.level_writer(run_id="run-3") as levels:
        assert levels.state.made() == []


def test_only_what_the_store_holds_is_written(spec, tmp_path):
    store = MapStore.create(spec.store, map_product(spec))
    other = map_product(make_spec(tmp_path / "map.icechunk", consistency="none"))
    with pytest.raises(StoreMismatchError, match="another map"):
        MapStore.create(spec.store, other)
    with pytest.raises(StoreMismatchError, match="another map"), store.writer(other, run_id="run-1"):
        pass


def test_a_fault_of_the_storage_names_the_store(spec, monkeypatch):
    store = MapStore.create(spec.store, map_product(spec))

    def fail(*_, **__):
        raise icechunk.IcechunkError("the shelf fell over")

    monkeypatch.setattr("mapper.store.ledger.read_status", fail)
    with pytest.raises(StoreError, match=r"map\.icechunk: .*shelf"):
        store.ledger.entries  # noqa: B018
