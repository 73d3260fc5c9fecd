"""A map that grows while it is served."""

import threading
import time

import numpy as np
import pytest
import zarr
from fastapi.testclient import TestClient
from map_server import MapServer
from obstore.store import HTTPStore
from store_maps import fill_tile, make_arrays, make_spec, names_of, write_tiles
from zarr.storage import ObjectStore

from mapper.serve.app import make_app
from mapper.serve.settings import AppSettings
from mapper.store.map_store import MapStore
from mapper.store.product import map_product
from mapper.store.tiles import encode_tile


@pytest.fixture
def spec(tmp_path, monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    spec = make_spec(tmp_path / "map.icechunk")
    MapStore.create(spec.store, map_product(spec))
    return spec


def read_bands(url, names):
    store = ObjectStore(HTTPStore(url, client_options={"allow_http": True}), read_only=True)
    group = zarr.open_group(store, mode="r")
    return {name: group[name][:] for name in names}


def write_rounds(spec, rounds, done):
    """What a run does, and then runs that do it again: every commit adds or replaces two tiles."""
    tiles = list(spec.map_grid.tiles())
    try:
        with MapStore.open(spec.store).writer(map_product(spec), run_id="run-1") as writer:
            for version in range(rounds):
                for start in range(0, len(tiles), 2):
                    write_tiles(writer, spec, tiles[start : start + 2], seed=version, version=version)
                    time.sleep(0.05)
    finally:
        done.set()


def test_a_client_sees_whole_tiles_of_main_and_no_change_of_a_snapshot(spec):
    grid, names, rounds = spec.map_grid, names_of(spec.target), 4
    known = {
        tile: [
            fill_tile(grid, spec.target),
            *(encode_tile(map_product(spec), make_arrays(grid, tile, seed)) for seed in range(rounds)),
        ]
        for tile in grid.tiles()
    }
    done = threading.Event()
    with MapServer(spec.store) as server:
        first = MapStore.open(spec.store).snapshot
        run = threading.Thread(target=write_rounds, args=(spec, rounds, done))
        run.start()
        fixed, seen, looks = read_bands(f"{server.url}/zarr/{first}", names), set(), 0
        last = {(tile, name): 0 for tile in known for name in names}
        while not done.is_set():
            shown, again = (read_bands(f"{server.url}/zarr/{ref}", names) for ref in ("main", first))
            looks += 1
            for name in names:
                np.testing.assert_array_equal(again[name], fixed[name])
            for tile, versions in known.items():
                for name in names:
                    part = shown[name][grid.window(tile).slices]
                    matches = [k for k, bands in enumerate(versions) if np.array_equal(bands[name], part)]
                    assert matches, f"{name} of tile {tile} is no whole tile of any version"
                    assert matches[-1] >= last[tile, name], "a tile went back to an older version"
                    last[tile, name] = matches[0]
                    seen.add(matches[0])
        run.join()
        time.sleep(1.2)
        shown = read_bands(f"{server.url}/zarr/main", names)
    assert looks > 3
    assert len(seen) > 2, "the map did not grow while it was looked at"
    for tile, versions in known.items():
        for name in names:
            np.testing.assert_array_equal(shown[name][grid.window(tile).slices], versions[-1][name])


def test_a_commit_is_seen_without_a_restart(spec):
    client = TestClient(make_app(spec.store, AppSettings(stale_after_s=0.0)))
    tile, other = list(spec.map_grid.tiles())[:2]
    before = client.get("/health").json()["snapshot"]
    assert client.get("/zarr/main/agb/c/0/0").status_code == 404
    with MapStore.open(spec.store).writer(map_product(spec), run_id="run-1") as writer:
        after = write_tiles(writer, spec, [tile])
        assert client.get("/zarr/main/agb/c/0/0").status_code == 200
        assert client.get(f"/zarr/{before}/agb/c/0/0").status_code == 404
        assert client.get("/health").json()["snapshot"] == after != before
        tag = client.get("/zarr/main/agb/c/0/0").headers["etag"]
        write_tiles(writer, spec, [other])
    assert client.get("/zarr/main/agb/c/0/0", headers={"If-None-Match": tag}).status_code == 200


def test_chunks_come_from_the_shard_whose_index_was_read(spec):
    client = TestClient(make_app(spec.store, AppSettings(stale_after_s=0.0)))
    tile = next(iter(spec.map_grid.tiles()))
    url = f"/zarr/main/agb/c/{tile.row}/{tile.col}"
    with MapStore.open(spec.store).writer(map_product(spec), run_id="run-1") as writer:
        write_tiles(writer, spec, [tile])
        old = client.get(url).content
        assert client.get(url, headers={"Range": "bytes=-68"}).content == old[-68:]
        write_tiles(writer, spec, [tile], seed=1, version=1)
    assert client.get(url, headers={"Range": "bytes=0-999"}).content == old[:1000]
    new = client.get(url).content
    assert new != old
    assert client.get(url, headers={"Range": "bytes=-68"}).content == new[-68:]
    assert client.get(url, headers={"Range": "bytes=0-999"}).content == new[:1000]
