"""Thousands of requests that nobody means well by: refused, every one, and nothing leaks."""

import re
import time
from collections import Counter
from pathlib import Path

import pytest
from hostile_requests import GOOD, TARGETS, Wire, make_requests
from map_server import MapServer
from store_maps import make_spec, write_tiles

from mapper.serve.app import make_app
from mapper.store.map_store import MapStore
from mapper.store.product import map_product

SECRET = b"nobody-should-read-this"
SIGNS = (SECRET, b"root:x:", b"Traceback", b"site-packages")
COUNT, WARM_UP = 2000, 700
GROWTH = 16 << 20
"""More memory after all of them than after the first hundreds."""
PEAK = 48 << 20
"""More memory at any moment than at the highest of the first hundreds."""


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hostile")
    spec = make_spec(folder / "map.icechunk")
    MapStore.create(spec.store, map_product(spec))
    with MapStore.open(spec.store).writer(map_product(spec), run_id="run-1") as writer:
        write_tiles(writer, spec, list(spec.map_grid.tiles())[:4])
    for place in (folder, folder / "map.icechunk", folder / "map.icechunk" / "snapshots"):
        (place / "secret.txt").write_bytes(SECRET)
    return spec.store


def read_private(store):
    """What is in the files of a store that are no chunks."""
    paths = [path for path in Path(store).rglob("*") if path.is_file() and "chunks" not in path.parts]
    return {content for content in (path.read_bytes() for path in paths) if content}


def read_peak(server):
    """Bytes that a server held at most."""
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    return int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) << 10


def test_every_route_is_tried(store):
    routes = set(make_app(store).openapi()["paths"])
    assert routes <= set(TARGETS), "add the new routes to hostile_requests.TARGETS"
    for path, parameters in TARGETS.items():
        assert set(parameters) <= set(GOOD), path


def test_hostile_requests_are_refused_and_leave_no_trace(store):
    statuses, slowest, private = Counter(), 0.0, read_private(store)
    assert len(private) > 5
    with MapServer(store) as server:
        wire = Wire(server.port)
        for number, request in enumerate(make_requests(COUNT, seed=20)):
            if number == WARM_UP:
                before, highest = server.memory, read_peak(server)
            began = time.monotonic()
            reply = wire.send(request)
            slowest = max(slowest, time.monotonic() - began)
            statuses[reply.status] += 1
            assert reply.status < 500, (request[:5000], reply)
            assert not any(sign in reply.body for sign in SIGNS), request[:5000]
            assert reply.body not in private, request[:5000]
            assert "x-injected" not in reply.head, request[:5000]
        grown, risen = server.memory - before, read_peak(server) - highest
        wire.close()
        assert wire.send(b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n").status == 200
        wire.close()
    assert "Traceback" not in server.log
    assert grown < GROWTH, f"{grown / 1e6:.0f} MB more after {COUNT - WARM_UP} requests"
    assert risen < PEAK, f"{risen / 1e6:.0f} MB more at the highest"
    assert slowest < 10
    refused = sum(count for status, count in statuses.items() if status >= 400)
    assert refused > COUNT / 3, statuses
    assert statuses[200] > COUNT / 50, "none got through to what it was aimed at"
    assert statuses[0] < COUNT / 20, statuses
