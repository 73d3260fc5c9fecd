"""The store over HTTP: every client reads the numbers of the store, and nothing but keys of Zarr is there."""

import json
import subprocess
import sys
import time
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
import rioxarray  # noqa: F401 - registers the accessor
import xarray as xr
import zarr
from fastapi.testclient import TestClient
from map_server import MapServer
from obstore.store import HTTPStore
from store_maps import make_spec, write_tiles
from zarr.storage import ObjectStore

from mapper.errors import StoreError
from mapper.serve.app import make_app
from mapper.serve.settings import AppSettings
from mapper.store.garbage import collect_garbage, expire_snapshots
from mapper.store.map_store import MapStore, open_map
from mapper.store.product import map_product
from mapper.store.zarr_keys import open_plain

BANDS = ("agb", "agb_sd", "qa", "n_valid")
KEY = "agb/c/0/0"
CLIENT = """
import sys
import numpy as np, tensorstore, xarray as xr, zarr
from obstore.store import HTTPStore
from zarr.storage import ObjectStore
url, folder = sys.argv[1:]
data = xr.open_dataset(url + "/zarr/main", engine="zarr", mask_and_scale=False)
np.save(folder + "/xarray.npy", data.agb.values)
store = ObjectStore(HTTPStore(url + "/zarr/main", client_options={"allow_http": True}), read_only=True)
np.save(folder + "/zarr.npy", zarr.open_group(store, mode="r")["agb"][:])
place = {"driver": "http", "base_url": url, "path": "/zarr/main/agb/"}
array = tensorstore.open({"driver": "zarr3", "kvstore": place}, open=True, read=True).result()
np.save(folder + "/tensorstore.npy", array.read().result())
foreign = {name.split(".")[0] for name in sys.modules} & {"icechunk", "mapper"}
sys.exit(f"imported {foreign}" if foreign else 0)
"""


@pytest.fixture(scope="module")
def spec(tmp_path_factory):
    """A map of which four tiles are written."""
    spec = make_spec(tmp_path_factory.mktemp("served") / "map.icechunk")
    MapStore.create(spec.store, map_product(spec))
    with MapStore.open(spec.store).writer(map_product(spec), run_id="run-1") as writer:
        snapshot = write_tiles(writer, spec, list(spec.map_grid.tiles())[:4])
    MapStore.open(spec.store).repository.create_tag("v1", snapshot_id=snapshot)
    return spec


@pytest.fixture(scope="module")
def server(spec):
    with MapServer(spec.store) as server:
        yield server


@pytest.fixture(scope="module")
def client(spec):
    return TestClient(make_app(spec.store))


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


def snapshot_of(spec):
    return MapStore.open(spec.store).snapshot


def stored(spec, key=KEY):
    """The bytes of a key, from the store."""
    session = MapStore.open(spec.store).session
    plain = open_plain(session)
    return zarr.core.sync.sync(read_all(plain, key))


async def read_all(plain, key):
    return await plain.read(key, 0, await plain.size_of(key))


@pytest.mark.filterwarnings("ignore:.*unclosed:ResourceWarning")
@pytest.mark.parametrize("ref", ["main", "v1", "snapshot"])
def test_xarray_reads_the_same_map(spec, server, ref):
    name = snapshot_of(spec) if ref == "snapshot" else ref
    direct = open_map(spec.store)
    with xr.open_dataset(f"{server.url}/zarr/{name}", engine="zarr", decode_coords="all") as served:
        xr.testing.assert_identical(served.load(), direct.load())
        assert served.rio.crs == direct.rio.crs
        assert np.isfinite(served.agb).any()
        assert np.isnan(served.agb).any()


def test_zarr_reads_the_same_arrays_through_obstore(spec, server):
    store = ObjectStore(HTTPStore(f"{server.url}/zarr/main", client_options={"allow_http": True}), read_only=True)
    group = zarr.open_group(store, mode="r")
    direct = zarr.open_group(MapStore.open(spec.store).zarr, mode="r")
    assert {name for name, _ in group.members()} == {*BANDS, "x", "y", "spatial_ref"}
    for name in (*BANDS, "x", "y"):
        np.testing.assert_array_equal(group[name][:], direct[name][:])


def test_tensorstore_reads_the_same_arrays(spec, server):
    tensorstore = pytest.importorskip("tensorstore")
    direct = zarr.open_group(MapStore.open(spec.store).zarr, mode="r")
    for name in BANDS:
        place = {"driver": "http", "base_url": server.url, "path": f"/zarr/main/{name}/"}
        array = tensorstore.open({"driver": "zarr3", "kvstore": place}, open=True, read=True).result()
        np.testing.assert_array_equal(array.read().result(), direct[name][:])


def test_clients_in_a_process_of_their_own_need_neither_icechunk_nor_mapper(spec, server, tmp_path):
    pytest.importorskip("tensorstore")
    done = subprocess.run([sys.executable, "-c", CLIENT, server.url, str(tmp_path)], check=False)
    assert done.returncode == 0
    direct = zarr.open_group(MapStore.open(spec.store).zarr, mode="r")
    for client in ("xarray", "zarr", "tensorstore"):
        np.testing.assert_array_equal(np.load(tmp_path / f"{client}.npy"), direct["agb"][:], strict=True)


def test_every_stored_key_is_served_as_it_is_and_the_ledger_is_not(spec, client):
    async def list_keys(store):
        return [key async for key in store.list()]

    keys = zarr.core.sync.sync(list_keys(MapStore.open(spec.store).zarr))
    served = [key for key in keys if not key.startswith("ledger/")]
    assert len(served) > 20
    for key in keys:
        answer = client.get(f"/zarr/main/{key}")
        assert answer.status_code == (200 if key in served else 404), key
        if key in served and not key.endswith("zarr.json"):
            assert answer.content == stored(spec, key)


def test_metadata_of_the_group_holds_that_of_all_arrays(client):
    root = client.get("/zarr/main/zarr.json").json()
    metadata = root["consolidated_metadata"]["metadata"]
    assert set(metadata) == {*BANDS, "x", "y", "spatial_ref"}
    for name, document in metadata.items():
        assert client.get(f"/zarr/main/{name}/zarr.json").json() == document


@pytest.mark.parametrize(
    ("asked", "start", "stop"),
    [
        ("bytes=0-0", 0, 1),
        ("bytes=10-99", 10, 100),
        ("bytes=100-", 100, None),
        ("bytes=-68", -68, None),
        ("bytes=5-999999999", 5, None),
        ("bytes=-999999999", 0, None),
    ],
)
def test_a_range_is_a_part(spec, client, asked, start, stop):
    whole = stored(spec)
    answer = client.get(f"/zarr/main/{KEY}", headers={"Range": asked})
    first, *_ = range(len(whole))[start:stop]
    assert answer.status_code == 206
    assert answer.content == whole[start:stop]
    assert answer.headers["content-range"] == f"bytes {first}-{first + len(answer.content) - 1}/{len(whole)}"


@pytest.mark.parametrize("asked", ["bytes=0-1,5-9", "bytes=9-5", "bytes=-", "bytes=a-b", "lines=0-1", "bytes 0-1", ""])
def test_a_range_that_is_not_understood_is_answered_with_all(spec, client, asked):
    answer = client.get(f"/zarr/main/{KEY}", headers={"Range": asked})
    assert (answer.status_code, answer.content) == (200, stored(spec))


@pytest.mark.parametrize("asked", ["bytes=999999999-", "bytes=999999999-9999999999", "bytes=-0"])
def test_a_range_beyond_the_end_is_refused_with_the_size(spec, client, asked):
    answer = client.get(f"/zarr/main/{KEY}", headers={"Range": asked})
    assert answer.status_code == 416
    assert answer.headers["content-range"] == f"bytes */{len(stored(spec))}"


def test_head_tells_the_size_and_sends_nothing(spec, client):
    answer = client.head(f"/zarr/main/{KEY}")
    assert (answer.status_code, answer.content) == (200, b"")
    assert int(answer.headers["content-length"]) == len(stored(spec))
    assert client.head("/zarr/main/agb/c/2/2").status_code == 404


def test_a_snapshot_is_kept_for_ever_and_a_name_is_asked_again(spec, client):
    fixed = client.get(f"/zarr/{snapshot_of(spec)}/{KEY}").headers["cache-control"]
    assert fixed == "public, max-age=31536000, immutable"
    for ref in ("main", "v1"):
        assert client.get(f"/zarr/{ref}/{KEY}").headers["cache-control"] == "no-cache"


def test_what_a_token_protects_is_not_for_shared_caches(spec):
    app = make_app(spec.store, AppSettings(token="t" * 16))
    answer = TestClient(app, headers={"Authorization": f"Bearer {'t' * 16}"}).get(f"/zarr/{snapshot_of(spec)}/{KEY}")
    assert answer.headers["cache-control"].startswith("private")


@pytest.mark.parametrize("form", ["{}", "W/{}", '"other", {}', "*"])
def test_what_a_client_has_is_not_sent_again(client, form):
    tag = client.get(f"/zarr/main/{KEY}").headers["etag"]
    answer = client.get(f"/zarr/main/{KEY}", headers={"If-None-Match": form.format(tag)})
    assert (answer.status_code, answer.content) == (304, b"")
    assert answer.headers["etag"] == tag
    assert client.get(f"/zarr/main/{KEY}", headers={"If-None-Match": '"other"'}).status_code == 200


def test_a_part_of_what_has_changed_is_answered_with_all(client):
    headers = {"Range": "bytes=0-9", "If-Range": '"other"'}
    assert client.get(f"/zarr/main/{KEY}", headers=headers).status_code == 200
    headers["If-Range"] = client.get(f"/zarr/main/{KEY}").headers["etag"]
    assert client.get(f"/zarr/main/{KEY}", headers=headers).status_code == 206


@pytest.mark.parametrize(
    "key",
    [
        "", "agb", "agb/", "agb/c", "agb/c/", "agb/c/0", "agb/c/0/0/0", "agb/c/00/0", "agb/c/-1/0", "agb/c/0/3",
        "agb/c/0/0/zarr.json", "agb//c/0/0", "agb/c/0/0/", "agb/c/\u0660/0", ".zgroup", ".zattrs", "agb/.zarray",
        "nothing/zarr.json", "ledger/zarr.json", "ledger/records/c/0", "ledger/status/zarr.json", "zarr.json/",
        "x/c/0/0", "spatial_ref/c/0", "../map.icechunk/repo", "refs/branch.main/ref.json", "snapshots", "c/0",
    ],
)  # fmt: skip
def test_only_keys_of_zarr_are_there(client, key):
    assert client.get(f"/zarr/main/{key}").status_code == 404


@pytest.mark.parametrize("ref", ["", "nothing", "..", "main%00", "MAIN", "0" * 20, "main ", "é", "a" * 500])
def test_only_versions_of_the_store_are_there(client, ref):
    assert client.get(f"/zarr/{ref}/zarr.json").status_code == 404


def test_another_spelling_of_a_snapshot_is_no_version(spec, client):
    assert client.get(f"/zarr/{snapshot_of(spec).lower()}/zarr.json").status_code == 404


def test_a_large_object_is_sent_in_pieces(spec, client, monkeypatch):
    monkeypatch.setattr("mapper.serve.zarr._PIECE", 1000)
    assert len(stored(spec)) > 5000
    answer = client.get(f"/zarr/main/{KEY}")
    assert answer.content == stored(spec)
    assert int(answer.headers["content-length"]) == len(stored(spec))
    assert client.get(f"/zarr/main/{KEY}", headers={"Range": "bytes=7-4321"}).content == stored(spec)[7:4322]


def test_json_is_json(client):
    assert client.get("/zarr/main/agb/zarr.json").headers["content-type"] == "application/json"
    assert json.loads(client.get("/zarr/main/agb/zarr.json").content)["node_type"] == "array"


@pytest.fixture
def little(tmp_path):
    """A map of its own: one tile is written, and once more, with the version before."""
    spec = make_spec(tmp_path / "map.icechunk")
    MapStore.create(spec.store, map_product(spec))
    with MapStore.open(spec.store).writer(map_product(spec), run_id="run-1") as writer:
        before = write_tiles(writer, spec, list(spec.map_grid.tiles())[:1])
        write_tiles(writer, spec, list(spec.map_grid.tiles())[:1], seed=1)
    return spec, before


def ask_keys(client, ref):
    keys = (KEY, "agb/c/2/2", "x/c/0", "nothing/c/0/0", "zarr.json", "pyramid/1/x/c/0")
    answers = [client.get(f"/zarr/{ref}/{key}") for key in keys]
    assert all("Retry-After" in answer.headers for answer in answers if answer.status_code == 503)
    return [answer.status_code for answer in answers]


def test_a_chunk_that_was_never_written_alone_is_not_found(little):
    spec, _ = little
    client = TestClient(make_app(spec.store, AppSettings(stale_after_s=0.0)))
    assert ask_keys(client, "main") == [200, 404, 200, 410, 200, 410]
    assert ask_keys(client, "no-such-tag") == [410, 410, 410, 410, 404, 410]
    assert ask_keys(client, "0" * 20) == [410, 410, 410, 410, 404, 410]
    Path(spec.store).rename(f"{spec.store}.away")
    assert ask_keys(client, "main") == [503] * 6
    assert client.get("/health").status_code == 503
    Path(f"{spec.store}.away").rename(spec.store)
    assert ask_keys(client, "main") == [200, 404, 200, 410, 200, 410]


@pytest.mark.parametrize("part", ["chunks", "manifests"])
def test_what_is_lost_of_a_store_that_was_copied_by_half_is_not_filled(little, part):
    spec, _ = little
    for path in (Path(spec.store) / part).iterdir():
        path.unlink()
    if part == "manifests":
        with pytest.raises(StoreError, match="manifests"):
            make_app(spec.store)
    else:
        assert TestClient(make_app(spec.store)).get(f"/zarr/main/{KEY}").status_code == 503
    with pytest.raises(StoreError):
        MapStore.open(spec.store).rasters.find("agb").read(slice(0, 64), slice(0, 64))
    with pytest.raises(Exception, match="not found"):
        open_map(spec.store).agb.load()


def test_a_chunk_that_is_cut_off_is_not_sent(little):
    spec, _ = little
    for path in (Path(spec.store) / "chunks").iterdir():
        path.write_bytes(path.read_bytes()[:-9])
    client = TestClient(make_app(spec.store))
    assert client.get(f"/zarr/main/{KEY}").status_code == 503
    assert client.get(f"/zarr/main/{KEY}", headers={"Range": "bytes=-68"}).status_code == 503


def test_a_version_that_was_collected_is_gone_on_servers_that_went_on_and_new_ones(little):
    spec, before = little
    old = make_app(spec.store, AppSettings(stale_after_s=0.0))
    assert ask_keys(TestClient(old), before)[:2] == [200, 404]
    expire_snapshots(spec.store, older_than=timedelta(0))
    collect_garbage(spec.store)
    time.sleep(1.05)  # what was found by its id is believed for a second
    for app in (old, make_app(spec.store)):
        client = TestClient(app)
        assert ask_keys(client, before) == [410] * 6
        assert client.get("/versions").json()["snapshots"][0]["message"].startswith("batch 2")
        x, y = spec.map_grid.geobox.transform @ (5.5, 5.5)
        history = client.get("/history", params={"x": x, "y": y, "crs": "map"})
        assert [each["snapshot"] for each in history.json()["versions"]] == [MapStore.open(spec.store).snapshot]


def test_the_history_of_a_server_that_never_read_it_ends_where_versions_were_collected(little):
    spec, _ = little
    client = TestClient(make_app(spec.store))
    assert client.get("/tilejson.json").status_code == 200
    expire_snapshots(spec.store, older_than=timedelta(0))
    collect_garbage(spec.store)
    x, y = spec.map_grid.geobox.transform @ (5.5, 5.5)
    assert len(client.get("/history", params={"x": x, "y": y, "crs": "map"}).json()["versions"]) == 1
    assert len(client.get("/versions").json()["snapshots"]) == 1
