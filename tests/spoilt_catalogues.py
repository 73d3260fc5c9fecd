"""Catalogues, pages and files of items with one thing wrong, and what must come of each."""

import copy
import json
import threading
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from catalog_fakes import make_items, make_spec
from mutated_items import mutate_bytes, mutate_json, to_text
from test_catalog_search import QUICK, on_disk

from mapper.catalog.freeze import load_items, open_items, save_items
from mapper.catalog.items import freeze_items, item_digest
from mapper.catalog.search import search
from mapper.errors import MapperError

REFUSED, SAME, OTHER = "refused in one line", "the same items", "other items, as the document says"


def refusal(error):
    """The outcome of an error that a person reads."""
    assert "\n" not in str(error), str(error)
    assert str(error)
    return REFUSED


def spoil(content, text, draw):
    """The text of a document with one thing wrong, most often with what it says."""
    return to_text(mutate_json(content, draw)[0]).encode() if draw.random() < 0.8 else mutate_bytes(text, draw)


def digests(items):
    return {(item["collection"], item["id"]): item_digest(item) for item in items}


class SpoiltCatalogue:
    """A static catalogue on disk, of which one document is spoilt at a time."""

    def __init__(self, folder, scenes=8):
        self.spec = make_spec(on_disk(folder, make_items(scenes)))
        self.documents = sorted(folder.rglob("*.json"))
        self.clean = digests(search(self.spec))

    def spoil(self, draw):
        path = draw.choice(self.documents)
        whole = path.read_bytes()
        content = json.loads(whole)
        spoilt = spoil(content, whole, draw)
        path.write_bytes(spoilt)
        try:
            found = digests(search(self.spec))
        except MapperError as error:
            return refusal(error)
        finally:
            path.write_bytes(whole)
        return self.judge(found, content)

    def judge(self, found, content):
        """What one item says may change that item; what a list of links says may shorten it; nothing else changes."""
        touched = {(content.get("collection"), content.get("id"))} if content["type"] == "Feature" else set()
        if not touched:
            assert set(found.items()) <= set(self.clean.items()), "a list of links made up or changed an item"
        else:
            assert {key: found.get(key) for key in self.clean if key not in touched} == {
                key: digest for key, digest in self.clean.items() if key not in touched
            }, "an item changed that was not touched"
        return SAME if found == self.clean else OTHER


class SpoiltArchive:
    """A STAC API on loopback, of which one page is spoilt at a time."""

    def __init__(self, scenes=8, page=3):
        self.items, self.page = make_items(scenes), page
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Handler, self))
        self.server.daemon_threads = True
        threading.Thread(target=partial(self.server.serve_forever, 0.01), daemon=True).start()
        self.address = f"http://127.0.0.1:{self.server.server_port}"
        self.spec = make_spec(self.address, catalog__override={"access": {"limits": {"page": page}}})
        self.spoilt = {}
        self.clean = digests(search(self.spec, retry=QUICK))

    def close(self):
        self.server.shutdown()
        self.server.server_close()

    def answer(self, request):
        (name,), start = request["collections"], int(request.get("token", 0))
        members = [item for item in self.items if item["collection"] == name]
        end = start + int(request["limit"])
        body = {**request, "token": str(end)}
        links = [{"rel": "next", "href": f"{self.address}/search", "method": "POST", "body": body}]
        return {
            "type": "FeatureCollection",
            "features": copy.deepcopy(members[start:end]),
            "numberMatched": len(members),
            "links": links if end < len(members) else [],
        }

    def spoil(self, draw):
        start = self.page * draw.randrange(3)
        request = {"collections": ["sentinel-2-l2a"], "limit": self.page, "token": str(start)}
        page = self.answer(request)
        spoilt = spoil(page, json.dumps(page).encode(), draw)
        self.spoilt = {("sentinel-2-l2a", start, self.page): spoilt}
        try:
            found = digests(search(self.spec, retry=QUICK))
        except MapperError as error:
            return refusal(error)
        finally:
            self.spoilt = {}
        return self.judge(found, page["features"], json.loads(spoilt)["features"])

    def judge(self, found, features, spoilt):
        """Items whose text is as it was are found as they were: a page that ends too early does not go unseen."""
        sound = {(item["collection"], item["id"]) for item in features if item in spoilt}
        touched = {(item["collection"], item["id"]) for item in features} - sound
        assert {key: found.get(key) for key in self.clean if key not in touched} == {
            key: digest for key, digest in self.clean.items() if key not in touched
        }, "an item is missing or changed that was not touched"
        return SAME if found == self.clean else OTHER


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def __init__(self, archive, *arguments):
        self.archive = archive
        super().__init__(*arguments)

    def log_message(self, *_):
        """Keep quiet."""

    def do_GET(self):
        root = self.archive.address
        if self.path in ("", "/"):
            classes = [f"https://api.stacspec.org/v1.0.0/{part}" for part in ("core", "collections", "item-search")]
            links = [{"rel": rel, "href": root} for rel in ("root", "self")]
            links += [{"rel": "data", "href": f"{root}/collections"}]
            links += [{"rel": "search", "href": f"{root}/search", "method": "POST", "type": "application/geo+json"}]
            head = {"type": "Catalog", "id": "t", "stac_version": "1.0.0", "description": "t"}
            self.send({**head, "conformsTo": classes, "links": links})
        else:
            extent = {"spatial": {"bbox": [[-180, -90, 180, 90]]}, "temporal": {"interval": [[None, None]]}}
            head = {"type": "Collection", "id": self.path.split("/")[2], "stac_version": "1.0.0", "description": "t"}
            self.send({**head, "license": "other", "extent": extent, "links": []})

    def do_POST(self):
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        try:
            key = (request["collections"][0], int(request.get("token", 0)), int(request["limit"]))
            self.send(self.archive.spoilt.get(key) or self.archive.answer(request))
        except (KeyError, TypeError, ValueError, IndexError, AttributeError):
            self.send({"code": "BadRequest"}, 400)

    def send(self, content, status=200):
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


class SpoiltFile:
    """A file of frozen items whose bytes are spoilt."""

    def __init__(self, folder, scenes=24):
        self.path = folder / "items.parquet"
        self.items = freeze_items(make_items(scenes), query={"provider": "demo", "superseded": []})
        save_items(self.items, self.path)
        self.whole = self.path.read_bytes()

    def spoil(self, draw):
        self.path.write_bytes(mutate_bytes(self.whole, draw))
        outcomes = {self.judge(read) for read in (load_items, open_items)}
        return REFUSED if REFUSED in outcomes else SAME

    def judge(self, read):
        try:
            found = read(self.path)
        except MapperError as error:
            return refusal(error)
        assert tuple(found) == self.items.items, "other items came out of a damaged file"
        assert found.query == self.items.query, "another query came out of a damaged file"
        return SAME
