"""The levels of a pyramid over HTTP: as plain Zarr, without what they were made from."""

import pytest
import rioxarray  # noqa: F401 - registers the accessor
import xarray as xr
import zarr
from fastapi.testclient import TestClient
from map_server import MapServer
from obstore.store import HTTPStore
from pyramid_maps import WIDE, make_map
from zarr.core.sync import sync
from zarr.storage import ObjectStore

from mapper.execute.executors import SerialExecutor
from mapper.run.pyramid import build_pyramid
from mapper.serve.app import make_app
from mapper.store.map_store import MapStore, open_map

BANDS = {"agb", "agb_sd", "qa", "n_valid", "x", "y", "spatial_ref"}


@pytest.fixture(scope="module")
def spec(tmp_path_factory):
    """A map of 3 x 5 tiles with its pyramid."""
    spec = make_map(tmp_path_factory.mktemp("served") / "map.icechunk", bbox=WIDE)
    build_pyramid(spec.store, SerialExecutor())
    return spec


@pytest.fixture(scope="module")
def server(spec):
    with MapServer(spec.store) as server:
        yield server


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


@pytest.mark.filterwarnings("ignore:.*unclosed:ResourceWarning")
@pytest.mark.parametrize("level", [1, 2, 3])
def test_xarray_reads_every_level(spec, server, level):
    direct = open_map(spec.store, level=level)
    group = f"pyramid/{level}"
    with xr.open_dataset(f"{server.url}/zarr/main", group=group, engine="zarr", decode_coords="all") as served:
        xr.testing.assert_equal(served.load().rename(yc="y", xc="x"), direct.load())
        assert served.rio.crs == direct.rio.crs
        assert served.rio.bounds() == direct.rio.bounds()
    with xr.open_dataset(f"{server.url}/zarr/main/{group}", engine="zarr", decode_coords="all") as alone:
        xr.testing.assert_equal(alone.load().rename(yc="y", xc="x"), direct.load())


def test_xarray_opens_map_and_levels_as_one_tree(spec, server):
    with xr.open_datatree(f"{server.url}/zarr/main", engine="zarr") as tree:
        assert tree["agb"].shape == spec.map_grid.shape
        for level in (1, 2, 3):
            assert tree[f"pyramid/{level}/agb"].shape == open_map(spec.store, level=level)["agb"].shape


def test_all_levels_are_found_from_the_metadata_of_the_root(server):
    store = ObjectStore(HTTPStore(f"{server.url}/zarr/main", client_options={"allow_http": True}), read_only=True)
    root = zarr.open_group(store, mode="r")
    assets = [entry["asset"] for entry in root.attrs["multiscales"]["layout"]]
    assert assets == [".", "pyramid/1", "pyramid/2", "pyramid/3"]
    for asset in assets[1:]:
        assert {name for name, _ in root[asset].members()} == BANDS - {"x", "y"} | {"xc", "yc"}
    assert {name for name, _ in root.members()} == {*BANDS, "pyramid"}


def test_every_stored_key_of_a_level_is_served_and_its_bookkeeping_is_not(spec):
    async def list_keys(store):
        return [key async for key in store.list()]

    client = TestClient(make_app(spec.store))
    keys = sync(list_keys(MapStore.open(spec.store).zarr))
    assert any(key.startswith("ledger/pyramid/1/c/") for key in keys)
    assert any(key.startswith("pyramid/3/agb/c/") for key in keys)
    for key in keys:
        assert client.get(f"/zarr/main/{key}").status_code == (404 if key.startswith("ledger") else 200), key
