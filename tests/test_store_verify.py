"""Verify: pixels against records, records against expectations."""

import json
from dataclasses import replace

import numpy as np
import pytest
import zarr
from store_maps import make_items, make_record, make_spec, task_id, write_tiles
from stored_objects import StoredObjects

from mapper.grid import Tile
from mapper.store.map_store import MapStore
from mapper.store.product import map_product
from mapper.store.staleness import Expected, explain_stale
from mapper.store.verify import verify_store


@pytest.fixture
def spec(location):
    spec = make_spec(location)
    MapStore.create(spec.store, map_product(spec))
    return spec


@pytest.fixture
def full(spec):
    """All tiles in three batches, the last two of one tile each."""
    tiles = list(spec.map_grid.tiles())
    with MapStore.open(spec.store).writer(map_product(spec), run_id="r") as writer:
        for batch in (tiles[:-2], tiles[-2:-1], tiles[-1:]):
            write_tiles(writer, spec, batch)
    return spec


def edit(spec, name, window, value):
    session = MapStore.open(spec.store).repository.writable_session("main")
    zarr.open_array(session.store, path=name, mode="r+")[window] = value
    session.commit("edited by hand")


def test_a_finished_map_is_complete(full):
    tiles = tuple(full.map_grid.tiles())
    report = verify_store(full.store, expected={tile: task_id(tile) for tile in tiles})
    assert report.ok == tiles
    assert report.is_complete
    assert report.due == ()
    assert report.to_text().startswith(f"{len(tiles)} ok, 0 empty")


def test_an_empty_store_misses_every_tile_of_the_area(spec):
    report = verify_store(spec.store)
    assert report.missing == tuple(spec.map_grid.tiles()) == report.due
    assert not report.is_complete


def test_one_changed_pixel_of_any_array_is_corrupt(full):
    grid = full.map_grid
    places = dict(zip(("agb", "agb_sd", "qa", "n_valid"), list(grid.tiles())[3:7], strict=True))
    for name, tile in places.items():
        window = grid.window(tile)
        edit(full, name, (slice(window.top + 40, window.top + 41), slice(window.left + 40, window.left + 41)), 7)
    report = verify_store(full.store)
    assert list(report.corrupt) == [*places.values()]
    assert all("its record says" in why for why in report.corrupt.values())
    assert len(report.ok) == len(list(grid.tiles())) - len(places)


def test_pixels_without_a_tile_are_corrupt(spec):
    with MapStore.open(spec.store).writer(map_product(spec), run_id="r") as writer:
        writer.add(None, make_record(Tile(0, 0), status="empty"))
        writer.commit()
    edit(spec, "agb", (slice(0, 64), slice(0, 64)), 7)
    assert list(verify_store(spec.store).corrupt) == [Tile(0, 0)]


@pytest.mark.parametrize("damage", ["gone", "cut", "flipped"])
def test_damaged_files_are_corrupt(full, damage):
    objects = StoredObjects(full.store)
    sizes = objects.sizes("chunks")
    name = max(sizes, key=sizes.get)
    content = bytearray(objects.read(name))
    if damage == "gone":
        objects.delete(name)
    elif damage == "cut":
        objects.write(name, content[: len(content) // 2])
    else:
        content[len(content) // 3] ^= 0xFF
        objects.write(name, content)
    report = verify_store(full.store)
    assert len(report.corrupt) == 1
    assert len(report.ok) == len(list(full.map_grid.tiles())) - 1
    assert "\n" not in next(iter(report.corrupt.values()))


def test_a_damaged_record_is_corrupt_and_the_others_are_judged(full):
    blobs = zarr.open_array(MapStore.open(full.store).zarr, path="ledger/blobs", mode="r")
    offset, length = (int(v) for v in blobs[2])
    tile = next(tile for tile, entry in MapStore.open(full.store).ledger.entries.items() if entry.batch == 3)
    edit(full, "ledger/records", slice(offset + length // 3, offset + length // 3 + 8), 7)
    report = verify_store(full.store)
    assert report.corrupt == {tile: "its record cannot be read"}
    assert len(report.ok) == len(list(full.map_grid.tiles())) - 1


def test_other_task_ids_are_stale_with_the_reason(full):
    tiles = list(full.map_grid.tiles())
    records = {record.tile: record for record in MapStore.open(full.store).ledger.records()}
    expected = {tile: Expected.of(record) for tile, record in records.items()}
    newer = replace(records[tiles[1]], task_id=task_id(tiles[1], 1), items=make_items(1))
    expected[tiles[1]] = Expected.of(newer)
    expected[tiles[3]] = task_id(tiles[3], 1)
    report = verify_store(full.store, expected=expected)
    assert list(report.stale) == [tiles[1], tiles[3]]
    assert report.stale[tiles[1]].startswith("item changed: sentinel-2-l2a/S2_0 ")
    assert "removed" not in report.stale[tiles[1]]
    assert task_id(tiles[3], 1) in report.stale[tiles[3]]
    assert report.due == (tiles[1], tiles[3])


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"identity": {"model": "c" * 64}, "model": "msg"}, "model changed: bicubic bbbbbbbbbbbb -> msg cccccccccccc"),
        ({"items": {}}, "item removed: sentinel-2-l2a/S2_0; item removed: sentinel-2-l2a/S2_1; item removed"),
        ({"identity": {"spec": "d" * 64}}, "spec changed: 555555555555 -> dddddddddddd"),
        ({"identity": {"grid": "d" * 64}}, "grid changed"),
        ({"code_version": "9"}, "code changed: 0.1.0 -> 9"),
        ({}, "task id"),
    ],
)
def test_reasons_name_what_changed(changes, reason):
    record = make_record(Tile(0, 0))
    made = Expected.of(record)
    identity = replace(made.identity, **changes.pop("identity", {}))
    expected = replace(made, task_id="another", identity=identity, **changes)
    assert explain_stale(record, expected).startswith(reason)


def test_changed_and_added_items_are_named_and_long_lists_counted():
    record = make_record(Tile(0, 0))
    items = {f"s2/{k}": "f" * 64 for k in range(10)} | {"sentinel-2-l2a/S2_1": "e" * 64}
    reason = explain_stale(record, replace(Expected.of(record), task_id="another", items=items))
    assert "item changed: sentinel-2-l2a/S2_1 000000000000 -> eeeeeeeeeeee" in reason
    assert "item added: s2/0; item added: s2/1; item added: s2/2; 7 more items added" in reason
    assert "item removed: sentinel-2-l2a/S2_0" in reason


def test_the_expected_task_is_not_stale():
    record = make_record(Tile(0, 0))
    assert explain_stale(record, Expected(task_id=record.task_id)) == ""


def test_reports_are_plain_json(full):
    edit(full, "agb", (slice(0, 1), slice(0, 1)), np.uint16(7))
    report = verify_store(
        full.store, expected={Tile(0, 1): task_id(Tile(0, 1), 5), Tile(50, 50): task_id(Tile(50, 50))}
    )
    content = json.loads(json.dumps(report.to_dict()))
    assert content["corrupt"].keys() == {"0,0"}
    assert content["stale"].keys() == {"0,1"}
    assert content["missing"] == ["50,50"]
    assert "corrupt 0,0: content sha256" in report.to_text()
