"""A thousand generated hrefs of a hostile catalogue: files, variables and addresses of the machine that reads them.

    pytest -s -m benchmark tests/benchmarks/hostile_catalogue.py

Every form of :mod:`hostile_hrefs` and its mutations, as hrefs of items of a remote catalogue, through the rule where
items are read and through the reader. The machine holds one secret raster: in a file, in a file that a variable names,
and behind a server that gives it to whoever asks.
"""

import socket
import sys
import threading
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))
from hostile_hrefs import make_hostile
from scenes import flat, s2, write_cog

from mapper.access.admission import Document
from mapper.access.files import Access, gdal_environment
from mapper.access.retry import RetryPolicy
from mapper.access.rules import AccessRule
from mapper.catalog.items import name_asset
from mapper.catalog.normalise import find_refused, normalise_item
from mapper.errors import AssetError, SearchError

COUNT = 1000
ARCHIVE = Document(location="https://stac.archive.test/v1")
HERE = "https://stac.archive.test/v1/items/a"


class Inside(BaseHTTPRequestHandler):
    """Gives the secret to whoever asks."""

    def log_message(self, *_):
        """Keep quiet."""

    def do_GET(self):
        self.server.asked.append(self.path)
        self.send_response(200)
        self.send_header("Content-Length", str(len(self.server.content)))
        self.end_headers()
        self.wfile.write(self.server.content)


@pytest.fixture
def machine(tmp_path, monkeypatch):
    path = write_cog(tmp_path / "secret.tif", *flat(4242))
    server = ThreadingHTTPServer(("127.0.0.1", 0), Inside)
    server.asked, server.content = [], path.read_bytes()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    resolve = socket.getaddrinfo

    def find(host, *rest, **options):
        if host == "rebound.test":
            return resolve("127.0.0.1", *rest, **options)
        if str(host).replace(".", "").isdigit() or ":" in str(host):
            return resolve(host, *rest, **options)
        raise socket.gaierror(socket.EAI_NONAME, "no network")

    monkeypatch.setattr(socket, "getaddrinfo", find)
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setenv("VARIABLE", str(path))
    yield path, server
    server.shutdown()
    server.server_close()


def read(item):
    """Return what became of an item, and the seconds that the rule took."""
    try:
        normal = normalise_item(item, assets=frozenset({"B02"}), document=ARCHIVE)
    except SearchError:
        return "no item", 0.0
    begun = time.perf_counter()
    refused = bool(find_refused(normal, AccessRule()))
    took = time.perf_counter() - begun
    once = RetryPolicy(attempts=1, connect_timeout_s=0.5, read_timeout_s=0.5)
    try:
        with gdal_environment():
            Access(retry=once).read(name_asset(normal, "B02"), AccessRule(), lambda file: file.read(1))
    except AssetError as error:
        kind = "refused where it is opened" if "is not read" in str(error) else "led nowhere on the network"
        return "refused where items are read, and where it is opened" if refused else kind, took
    return "READ", took


@pytest.mark.benchmark
def test_of_a_thousand_hostile_hrefs_none_is_read(machine, tmp_path):
    path, server = machine
    hrefs = make_hostile(COUNT, seed=11, path=path, variable="VARIABLE", port=server.server_port)
    item = s2(tmp_path, "a")
    item["links"] = [{"rel": "self", "href": HERE}]
    outcomes, seconds, read_hrefs = Counter(), 0.0, []
    for href in hrefs:
        item["assets"]["B02"]["href"] = href
        outcome, took = read(item)
        outcomes[outcome] += 1
        seconds += took
        read_hrefs += [href] if outcome == "READ" else []
    told = (
        f"{COUNT} hostile hrefs, {len(set(hrefs))} different: {dict(outcomes.most_common())}",
        f"requests that reached a server of the machine: {len(server.asked)}",
        f"the rule takes {seconds / COUNT * 1e6:.0f} us for a href that it has not seen",
    )
    sys.stdout.write("".join(f"\n{line}" for line in told) + "\n")
    assert read_hrefs == []
    assert server.asked == []
    assert outcomes.total() == COUNT
