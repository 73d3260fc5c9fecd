"""Readers that take an index of one version and then its chunks, while other readers take others."""

import numpy as np
import pytest
from fastapi.testclient import TestClient
from store_maps import make_spec, write_tiles

from mapper.serve.app import make_app
from mapper.serve.index_reads import IndexReads
from mapper.serve.settings import AppSettings
from mapper.store.map_store import MapStore
from mapper.store.product import map_product

INDEX_BYTES = 68
"""Index of a shard of 2 x 2 chunks, with its checksum."""


def test_reads_of_an_index_are_by_client_and_key_and_expire(monkeypatch):
    clock = [0.0]
    monkeypatch.setattr("mapper.serve.index_reads.time.monotonic", lambda: clock[0])
    reads = IndexReads()
    reads.record("a", "agb/c/0/0", "OLD")
    clock[0] = 1.0
    reads.record("b", "agb/c/0/0", "NEW")
    assert [reads.find(client, "agb/c/0/0") for client in "abc"] == ["OLD", "NEW", ""]
    assert reads.list("agb/c/0/0") == ["NEW", "OLD"]
    assert reads.find("a", "agb/c/0/1") == ""
    clock[0] = 60.5
    assert reads.list("agb/c/0/0") == ["NEW"]
    clock[0] = 62.0
    assert [reads.find(client, "agb/c/0/0") for client in "ab"] == ["", ""]
    assert reads.list("agb/c/0/0") == []


def test_reads_of_many_clients_fill_no_memory():
    reads = IndexReads()
    for number in range(5000):
        reads.record(f"client {number}", f"agb/c/0/{number}", "OLD")
    assert reads.find("client 0", "agb/c/0/0") == ""
    assert reads.find("client 4999", "agb/c/0/4999") == "OLD"
    assert reads.list("agb/c/0/0") == []


@pytest.fixture
def shard(tmp_path):
    """A client, the address of a shard, and a function that replaces the shard and returns what it holds then."""
    spec = make_spec(tmp_path / "map.icechunk")
    MapStore.create(spec.store, map_product(spec))
    client = TestClient(make_app(spec.store, AppSettings(stale_after_s=0.0)))
    tile = next(iter(spec.map_grid.tiles()))
    url = f"/zarr/main/agb/c/{tile.row}/{tile.col}"

    def replace(version):
        with MapStore.open(spec.store).writer(map_product(spec), run_id="run-1") as writer:
            write_tiles(writer, spec, [tile], seed=version, version=version)
        return client.get(url).content

    return client, url, replace


def spans_of(shard):
    """First byte and the one after the last of every chunk, as they lie in the shard."""
    index = np.frombuffer(shard[-INDEX_BYTES:-4], "<u8").reshape(-1, 2).tolist()
    return sorted((start, start + length) for start, length in index)


def read(client, url, span, **headers):
    return client.get(url, headers={"Range": f"bytes={span[0]}-{span[1] - 1}", **headers}).content


def read_index(client, url, **headers):
    return client.get(url, headers={"Range": f"bytes=-{INDEX_BYTES}", **headers}).content


def test_readers_behind_one_address_each_get_the_chunks_of_their_index(shard):
    client, url, replace = shard
    versions = []
    for version in range(3):  # each reads the index of what is there, and none says who it is
        versions.append(replace(version))
        assert read_index(client, url) == versions[-1][-INDEX_BYTES:]
    spans = [spans_of(content) for content in versions]
    for content, mine in zip(versions, spans, strict=True):
        for span in mine:
            if sum(span in other for other in spans) == 1:
                assert read(client, url, span) == content[slice(*span)]
    joined = spans[0][1][0], spans[0][2][1]
    assert read(client, url, joined) == versions[0][slice(*joined)], "neighbours are read at once"


def test_where_several_versions_fit_who_read_which_decides(shard):
    client, url, replace = shard
    old = replace(0)
    read_index(client, url, **{"X-Forwarded-For": "192.0.2.1"})
    new = replace(1)
    read_index(client, url, **{"X-Forwarded-For": "192.0.2.2"})
    client_of = {"192.0.2.1": old, "192.0.2.2": new}
    for address, content in client_of.items():
        for _ in range(2):
            other = TestClient(client.app, client=("testclient", 1))
            assert read(other, url, (0, 999), **{"X-Forwarded-For": address}) == content[:999]


def test_who_read_no_index_gets_what_is_there_now(shard):
    client, url, replace = shard
    replace(0)
    read_index(client, url, **{"User-Agent": "a"})
    new = replace(1)
    stranger = TestClient(client.app, client=("testclient", 2))
    assert read(stranger, url, (0, 999), **{"User-Agent": "b"}) == new[:999]
    for span in spans_of(new):
        assert read(stranger, url, span, **{"User-Agent": "b"}) == new[slice(*span)]


def test_junk_pushes_out_no_read(shard):
    client, url, replace = shard
    old = replace(0)
    read_index(client, url)
    for number in range(50):
        assert client.get(f"/zarr/main/agb/c/9/{number}", headers={"Range": "bytes=-1"}).status_code == 404
    replace(1)
    span = spans_of(old)[2]
    assert read(client, url, span) == old[slice(*span)]
