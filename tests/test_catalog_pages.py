"""Pages of a search: every one is read, and every search comes to an end, good or in one line."""

import gzip
import itertools
import json
import threading
import time
from dataclasses import replace
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from catalog_fakes import make_items, make_spec
from pystac_client.exceptions import APIError
from test_catalog_search import QUICK, conditions, ids, search_error, served

from mapper.catalog.pages import PageRequest, SearchChannel, count_of, read_pages
from mapper.catalog.search import search
from mapper.errors import SearchError

SEARCH = "http://api.test/v1/search"
FIRST = PageRequest(href=SEARCH, method="POST", body={"collections": ["c"], "limit": 2})


class Script:
    """A channel that answers from a function of (method, address, body), and remembers what it was asked."""

    def __init__(self, answer):
        self.answer, self.asked, self.answered_at = answer, [], ""

    def request(self, href, method=None, headers=None, parameters=None):
        self.asked.append((method, href, parameters, headers))
        self.answered_at = href
        content = self.answer(len(self.asked), parameters)
        return content if isinstance(content, str) else json.dumps(content)


def page(*names, link=None):
    features = [{"type": "Feature", "id": str(name), "collection": "c"} for name in names]
    return {"type": "FeatureCollection", "features": features, "links": [{"rel": "next", **link}] if link else []}


def read(answer, first=FIRST):
    script = Script(answer)
    found = [item["id"] for content, _ in read_pages(script, first) for item in content["features"]]
    return found, script.asked


def error_of(answer):
    with pytest.raises(SearchError) as error:
        read(answer)
    line = str(error.value)
    assert "\n" not in line
    assert SEARCH in line
    return line


LINKS = {
    "a body of its own": ({"href": SEARCH, "method": "POST", "body": {"token": "2"}}, "POST", SEARCH, {"token": "2"}),
    "a body to merge": (
        {"href": SEARCH, "method": "post", "merge": True, "body": {"token": "2", "limit": 1}},
        "POST", SEARCH, {"collections": ["c"], "limit": 1, "token": "2"},
    ),
    "a body without a method": ({"href": "search", "body": {"token": "2"}}, "POST", SEARCH, {"token": "2"}),
    "an address": ({"href": f"{SEARCH}?token=2", "method": "GET"}, "GET", f"{SEARCH}?token=2", {}),
    "an address by default": ({"href": f"{SEARCH}?token=2"}, "GET", f"{SEARCH}?token=2", {}),
    "a path": ({"href": "/v2/search?token=2"}, "GET", "http://api.test/v2/search?token=2", {}),
    "a query": ({"href": "?token=a%2Fb"}, "GET", f"{SEARCH}?token=a%2Fb", {}),
}  # fmt: skip


@pytest.mark.parametrize("kind", LINKS)
def test_a_next_link_says_how_the_next_page_is_asked_for(kind):
    link, method, href, body = LINKS[kind]
    found, asked = read(lambda number, _: page(1, 2, link=link) if number == 1 else page(3))
    assert found == ["1", "2", "3"]
    assert asked == [("POST", SEARCH, FIRST.body, {}), (method, href, body, {})]


def test_of_several_next_links_the_one_by_the_same_method_counts():
    links = [{"rel": "next", "href": f"{SEARCH}?t=1"}, {"rel": "next", **LINKS["a body of its own"][0]}]
    _, asked = read(lambda number, _: {**page(1), "links": links} if number == 1 else page(2))
    assert asked[1][0] == "POST"
    _, asked = read(
        lambda number, _: {**page(1), "links": links} if number == 1 else page(2), replace(FIRST, method="GET")
    )
    assert asked[1][:2] == ("GET", f"{SEARCH}?t=1")


def test_empty_pages_are_read_over():
    pages = [(), (1, 2), (), (), (), (2, 3), (), (4,), ()]
    found, asked = read(
        lambda number, _: page(*pages[number - 1], link={"href": f"?t={number}"} if number < len(pages) else None)
    )
    assert found == ["1", "2", "2", "3", "4"]
    assert len(asked) == len(pages)


def test_a_circle_is_an_error():
    line = error_of(lambda number, _: page(number, link={"href": f"?t={number % 3}"}))
    assert "leads from page 4 back to page 2, with 4 items so far" in line
    assert "from page 1 back to page 1" in error_of(
        lambda *_: page(1, link={"href": SEARCH, "method": "POST", "body": dict(FIRST.body)})
    )


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (lambda _: (), "names a next page after 1000 empty pages"),
        (lambda _: (1, 2), "repeats its items on 20 pages"),
        (lambda number: (number % 5,), "repeats its items on 20 pages"),
        (lambda number: (number,), "has no end after 300 pages"),
    ],
    ids=["empty", "the same", "a few again and again", "ever new"],
)
def test_what_has_no_end_is_an_error(names, words, monkeypatch):
    monkeypatch.setattr("mapper.catalog.pages._MOST_PAGES", 300 if "300" in words else 10_000)
    assert words in error_of(lambda number, _: page(*names(number), link={"href": f"?t={number}"}))


@pytest.mark.parametrize(
    "answer",
    ["{", "[]", "null", "[" * 100_000, '{"code": "NotFound"}', '{"features": {}}', '{"features": ["a"]}', "\ud800"],
)
def test_what_is_no_page_is_an_error(answer):
    error_of(lambda *_: answer)


@pytest.mark.parametrize("href", ["file:///etc/passwd", "ftp://api.test/x", "javascript:1", "s3://bucket/x"])
def test_a_next_page_without_an_address_is_an_error(href):
    assert "no address" in error_of(lambda *_: page(1, link={"href": href}))


def test_links_that_are_none_are_passed_over():
    links = [None, "next", {"rel": "next"}, {"href": "x"}]
    assert "back to page 1" in error_of(lambda *_: {**page(1), "links": [{"rel": "next", "method": "POST",
                                                                          "body": dict(FIRST.body)}]})  # fmt: skip
    assert read(lambda *_: {**page(1), "links": [*links[:2], links[3]]})[0] == ["1"]
    assert read(lambda *_: {**page(1), "links": None})[0] == ["1"]


@pytest.mark.parametrize(
    ("content", "count"),
    [
        ({"numberMatched": 7}, 7), ({"context": {"matched": 7}}, 7), ({"numberMatched": "7"}, 7), ({}, None),
        ({"numberMatched": None, "context": {"matched": 3.0}}, 3), ({"numberMatched": "many"}, None),
        ({"numberMatched": float("inf")}, None), ({"numberMatched": []}, None), ({"context": []}, None),
    ],
)  # fmt: skip
def test_a_count_is_a_number_or_none(content, count):
    assert count_of(content) == count


FAULTS = {
    "empty pages between": ("--fault", "gaps"),
    "empty pages, no count": ("--fault", "gaps", "--no-count"),
    "a count that is a guess": ("--fault", "guess"),
    "a count in words": ("--fault", "words"),
    "items repeated": ("--fault", "twice"),
    "a body to merge": ("--next", "merge"),
    "a relative link": ("--next", "relative"),
    "a link to get after a post": ("--next", "get"),
    "get alone": ("--get-only", "--filter"),
}


@pytest.mark.parametrize("kind", FAULTS)
def test_a_search_finds_every_item_however_it_is_paged(stac_api, kind, caplog):
    address = stac_api(make_items(), "--page", "5", *FAULTS[kind])
    assert ids(search(make_spec(address), retry=QUICK)) == ids(make_items())
    assert ("a guess" in caplog.text) == (kind == "a count that is a guess")
    if kind == "get alone":
        assert not conditions(address)
        assert set(served(address)) >= {"GET /search"}


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("lossy", "did not give the same complete answer twice"),
        ("torn twice", "came twice and not the same"),
        ("round", "leads from page 6 back to page 2"),
        ("stuck", "repeats its items on"),
    ],
)
def test_a_search_that_loses_or_changes_items_or_has_no_end_is_an_error(stac_api, fault, words):
    faults = [option for name in fault.split() for option in ("--fault", name)]
    address = stac_api(make_items(), "--page", "5", *faults)
    assert words in search_error(address)


class Odd(BaseHTTPRequestHandler):
    """Answers that come slowly, packed, by another way, or without end."""

    def log_message(self, *_):
        """Keep quiet."""

    def do_GET(self):
        body = json.dumps(page(1)).encode()
        headers = {"/packed": {"Content-Encoding": "gzip"}, "/moved": {"Location": "/plain"}}.get(self.path, {})
        self.send_response(301 if self.path == "/moved" else 404 if self.path == "/lost" else 200)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        try:
            for part in self.parts(body):
                self.wfile.write(part)
                self.wfile.flush()
        except OSError:
            pass

    def do_POST(self):
        self.do_GET()

    def parts(self, body):
        match self.path:
            case "/packed":
                yield gzip.compress(body)
            case "/slow":
                yield from (bytes([letter]) for letter in itertools.cycle(body) if not time.sleep(0.05))
            case "/large":
                yield from itertools.repeat(b" " * 65536, 2000)
            case "/silent":
                time.sleep(1)
            case _:
                yield body


@pytest.fixture(scope="module")
def odd():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Odd)
    server.daemon_threads = True
    threading.Thread(target=partial(server.serve_forever, 0.01), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.fixture
def channel(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr("mapper.catalog.pages._MOST_BYTES", 1_000_000)
    policy = replace(QUICK.request, attempts=2, read_timeout_s=0.2, total_timeout_s=0.3)
    with (made := SearchChannel(policy)).session:
        yield made


@pytest.mark.parametrize("path", ["/plain", "/packed"])
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_channel_gives_what_a_server_answers(odd, channel, path, method):
    assert json.loads(channel.request(f"{odd}{path}", method)) == page(1)
    assert channel.answered_at == f"{odd}{path}"


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("/slow", "takes more than 0.3 s"),
        ("/large", "larger than 1000000 bytes"),
        ("/silent", "timed out"),
        ("/lost", "HTTP 404"),
    ],
)
def test_a_channel_does_not_wait_for_ever(odd, channel, path, words):
    begun = time.monotonic()
    with pytest.raises(APIError, match=words) as error:
        channel.request(f"{odd}{path}", "GET")
    assert time.monotonic() - begun < 10
    assert getattr(error.value, "status_code", None) == (404 if path == "/lost" else None)


def test_a_channel_follows_no_redirect_that_forgets_the_question(odd, channel):
    assert json.loads(channel.request(f"{odd}/moved", "GET")) == page(1)
    assert channel.answered_at == f"{odd}/plain"
    with pytest.raises(APIError, match="give that address instead"):
        channel.request(f"{odd}/moved", "POST", None, {"collections": ["c"]})


def test_a_channel_opens_no_file(channel, tmp_path):
    (tmp_path / "secret.json").write_text("{}")
    for address in (str(tmp_path / "secret.json"), f"file://{tmp_path}/secret.json"):
        with pytest.raises(SearchError, match="not read"):
            channel.read_text(address)
