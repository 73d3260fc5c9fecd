"""A hostile catalogue reads nothing of the machine that reads it: no file, no variable, no address, by any form."""

import os
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

import numpy as np
import pytest
import rasterio
from hostile_hrefs import MARKUP, WMS, all_forms, make_hostile
from pystac_client.exceptions import APIError
from scenes import HERE, S2, box_at, flat, s2, write_cog

from mapper.access import connections
from mapper.access.admission import PERSON, Document
from mapper.access.files import Access, gdal_environment
from mapper.access.retry import RetryPolicy
from mapper.access.rules import AccessRule, FileRule
from mapper.access.tally import AssetName
from mapper.catalog.items import freeze_items, name_asset
from mapper.catalog.normalise import find_refused, normalise_item
from mapper.catalog.pages import SearchChannel
from mapper.catalog.provider import load_provider
from mapper.cube.read import read_block
from mapper.errors import CorruptAssetError, MapperError, SearchError

ARCHIVE = Document(location="https://stac.archive.test/v1")
SECRET = 4242
ONCE = RetryPolicy(attempts=1, connect_timeout_s=1.0, read_timeout_s=1.0)
FORMS = all_forms(path="PATH", variable="VARIABLE", port=0)


class _Inside(BaseHTTPRequestHandler):
    """A server of this machine, which gives whoever asks the secret raster."""

    def log_message(self, *_):
        """Keep quiet."""

    def do_GET(self):
        self.server.asked.append(self.path)
        body = self.server.content
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@pytest.fixture(scope="module")
def machine(tmp_path_factory):
    """A machine with a raster of one secret number: in a file, in a file that a variable names, and behind a server."""
    folder = tmp_path_factory.mktemp("machine")
    path = write_cog(folder / "secret.tif", *flat(SECRET))
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Inside)
    server.asked, server.content = [], path.read_bytes()
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield SimpleNamespace(folder=folder, path=path, port=server.server_port, asked=server.asked)
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(autouse=True)
def names(monkeypatch, machine):
    """No network but this machine: ``rebound.test`` leads to it, other names nowhere; the variable names the file."""
    resolve = socket.getaddrinfo

    def find(host, *rest, **options):
        if host == "rebound.test":
            return resolve("127.0.0.1", *rest, **options)
        if str(host).replace(".", "").isdigit() or ":" in str(host):
            return resolve(host, *rest, **options)
        raise socket.gaierror(socket.EAI_NONAME, "no such name")

    monkeypatch.setattr(socket, "getaddrinfo", find)
    monkeypatch.setenv("no_proxy", "*")
    connections._proxy_of.cache_clear()
    monkeypatch.setenv("VARIABLE", str(machine.path))
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "keys-of-the-worker")
    machine.asked.clear()


def attempt(folder, href, document=ARCHIVE, **rule):
    """Read an item whose files lie at an href, from a catalogue; returns the values, or what was said."""
    item = s2(folder, "a")
    for asset in item["assets"].values():
        asset["href"] = href
    item["links"] = [{"rel": "self", "href": "https://stac.archive.test/v1/items/a"}] if document is ARCHIVE else []
    asked = S2.model_copy(update={"access": AccessRule(files=FileRule(**rule)), "mask": None})
    try:
        normal = normalise_item(item, assets=frozenset(item["assets"]), document=document)
        found = read_block(freeze_items([normal]), HERE, bands=["B02"], rule=asked, access=Access(retry=ONCE))
    except MapperError as error:
        return str(error)
    return found["B02"].values


@pytest.mark.parametrize("form", FORMS)
def test_nothing_of_the_machine_is_read_by(form, machine, tmp_path):
    href = all_forms(path=machine.path, variable="VARIABLE", port=machine.port)[form]
    found = attempt(tmp_path, href)
    assert isinstance(found, str) or not np.isfinite(found).any()
    assert machine.asked == []


@pytest.mark.parametrize(
    ("href", "document", "rule"),
    [
        ("{path}", PERSON, {}),
        ("file://{path}", PERSON, {}),
        ("file://{path}", ARCHIVE, {"local": True}),
        ("http://127.0.0.1:{port}/secret.tif", PERSON, {}),
        ("http://127.0.0.1:{port}/secret.tif", ARCHIVE, {"private": True}),
        ("http://rebound.test:{port}/secret.tif", ARCHIVE, {"private": True}),
        ("secret.tif", Document(location="http://127.0.0.1:{port}/catalog.json"), {}),
    ],
)
def test_whoever_may_name_it_reads_it(href, document, rule, machine, tmp_path):
    known = {"path": machine.path, "port": machine.port}
    document = document if document in (ARCHIVE, PERSON) else Document(location=document.location.format(**known))
    found = attempt(tmp_path, href.format(**known), document, **rule)
    np.testing.assert_allclose(found, SECRET / 10000, rtol=1e-6)


def test_what_a_remote_item_says_of_its_own_place_is_not_believed(machine, tmp_path):
    item = s2(tmp_path, "a")
    item["assets"]["B02"]["href"] = machine.path.name
    item["links"] = [
        {"rel": "self", "href": str(machine.folder / "item.json")},
        {"rel": "root", "href": "/catalog.json"},
    ]
    normal = normalise_item(item, assets=frozenset({"B02"}), document=ARCHIVE)
    # a path is one of the host that the document came from (RFC 3986, 5.2.2)
    assert normal["assets"]["B02"]["href"] == f"https://stac.archive.test{machine.path}"
    item["assets"]["B02"]["href"] = machine.path.as_uri()
    assert "asset B02 of item a" in find_refused(
        normalise_item(item, assets=frozenset({"B02"}), document=ARCHIVE), S2.access
    )
    raw = item | {"links": [{"rel": "self", "href": "https://stac.archive.test/a"}]}
    with pytest.raises(CorruptAssetError, match="file of this machine"):
        Access().read(name_asset(raw, "B02"), S2.access, lambda file: file.read(1))


TEXTS = {
    "vrt.tif": MARKUP,
    "vrt.jp2": f"\n{MARKUP}",
    "wms.tif": WMS,
    "gti.tif": "<GDALTileIndexDataset><IndexDataset>{}</IndexDataset></GDALTileIndexDataset>",
    "stacit.tif": '{{"type": "FeatureCollection", "stac_version": "1.0.0", "features": [{{"href": "{}"}}]}}',
    "wcs.tif": "<WCS_GDAL><ServiceURL>{}</ServiceURL></WCS_GDAL>",
    "mrf.tif": "<MRF_META><CachedSource><Source>{}</Source></CachedSource></MRF_META>",
}


@pytest.mark.parametrize("name", TEXTS)
@pytest.mark.parametrize("remote", [True, False])
def test_what_a_file_holds_opens_no_other(name, remote, machine, tmp_path, monkeypatch):
    text = TEXTS[name].replace("{{", "{").replace("}}", "}").replace("{}", str(machine.path))
    (tmp_path / name).write_text(text)
    href = str(tmp_path / name)
    if remote:
        href = f"http://127.0.0.1:{machine.port}/{name}"
        monkeypatch.setattr(_Inside, "do_GET", lambda self: _send(self, text.encode()))
    assert "not recognized as a file of GTiff or JP2OpenJPEG" in attempt(tmp_path, href, PERSON)


def _send(handler, body):
    handler.send_response(200)
    handler.send_header("Content-Length", str(len(body)))
    handler.end_headers()
    handler.wfile.write(body)


@pytest.mark.parametrize("name", ["secret.tif", "secret.tif.aux.xml", "secret.tif.ovr", "secret.tif.msk", "secret.ovr"])
def test_nobody_looks_for_files_beside_a_file(name, machine, tmp_path):
    found = attempt(tmp_path, f"http://127.0.0.1:{machine.port}/{name}", PERSON)
    assert isinstance(found, str) or np.isfinite(found).all()
    assert set(machine.asked) == {f"/{name}"}


@pytest.mark.parametrize(
    "href", ["/etc/passwd", "file:///etc/passwd", "http://127.0.0.1:1/x", "http://169.254.169.254/x"]
)
def test_a_catalogue_links_to_nothing_of_the_machine(href, machine):
    channel = SearchChannel(ONCE, endpoint=ARCHIVE.location, rule=load_provider("stac-api").access)
    with pytest.raises(SearchError, match="which is not read"):
        channel.read_text(href)
    assert channel.reach("9.9.9.9") == "", "the archive is on a public network, as its first connection shows"
    with pytest.raises(APIError, match=r"rebound\.test leads to 127\.0\.0\.1"):
        channel.read_text(f"http://rebound.test:{machine.port}/")
    assert machine.asked == []


def test_mutated_hrefs_read_nothing(machine):
    read = []
    with gdal_environment():
        for href in make_hostile(100, seed=5, path=machine.path, variable="VARIABLE", port=machine.port):
            name = AssetName(item="a", asset="B02", href=href, document=ARCHIVE)
            try:
                Access(retry=ONCE).read(name, AccessRule(), lambda file: file.read(1))
            except MapperError:
                continue
            read.append(href)
    assert read == []
    assert machine.asked == []
    assert os.environ["VARIABLE"] == str(machine.path)


def test_a_raster_that_names_another_for_its_overviews_is_not_read(machine, tmp_path):
    path = write_cog(tmp_path / "a.tif", *flat(7, box_at("EPSG:32633", 300000, 5700000, size=64)))
    assert np.isfinite(attempt(tmp_path, str(path), PERSON)).all()
    with rasterio.open(path, "r+", IGNORE_COG_LAYOUT_BREAK=True) as file:
        file.update_tags(ns="OVERVIEWS", OVERVIEW_FILE=str(machine.path))
    assert "names another file" in attempt(tmp_path, str(path), PERSON)
