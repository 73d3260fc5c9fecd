"""What stands around the routes: token, origins, limits, and errors that tell no secrets."""

import re
import threading
import time

import pytest
from fastapi.testclient import TestClient
from starlette.responses import PlainTextResponse
from store_maps import make_spec, write_tiles

from mapper.errors import InputError, StoreError
from mapper.serve import pixel
from mapper.serve.app import make_app
from mapper.serve.middleware import LimitsMiddleware
from mapper.serve.settings import AppSettings, read_token
from mapper.store.map_store import MapStore
from mapper.store.product import map_product
from mapper.store.zarr_keys import PlainZarr

WORD = "correct-horse-battery"
OPEN = ("/", "/static/main.js", "/static/leaflet/leaflet.css")
"""The map page, which holds nothing of the map."""
PATHS = (
    "/versions",
    "/docs",
    "/docs/swagger-ui.css",
    "/openapi.json",
    "/zarr/main/zarr.json",
    "/pixel?x=12.01&y=50.006",
    "/stac",
)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    spec = make_spec(tmp_path_factory.mktemp("app") / "map.icechunk")
    MapStore.create(spec.store, map_product(spec))
    with MapStore.open(spec.store).writer(map_product(spec), run_id="run-1") as writer:
        write_tiles(writer, spec, list(spec.map_grid.tiles())[:1])
    return spec.store


def serve(store, **settings):
    return TestClient(make_app(store, AppSettings(**settings)), raise_server_exceptions=False)


@pytest.mark.parametrize("path", PATHS)
def test_with_a_token_nothing_is_told_without_it(store, path):
    client = serve(store, token=WORD)
    for given in (None, "", "Bearer", "Bearer ", f"Bearer {WORD}x", f"Bearer {WORD[:-1]}", f"Basic {WORD}", WORD):
        answer = client.get(path, headers={} if given is None else {"Authorization": given})
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"] == "Bearer"
        assert answer.json() == {"detail": "a token is needed: Authorization: Bearer ..."}
    assert client.get(path, headers={"Authorization": f"bearer {WORD}"}).status_code == 200


@pytest.mark.parametrize("path", OPEN)
def test_the_map_page_is_shown_without_a_token(store, path):
    assert serve(store, token=WORD).get(path).content == serve(store).get(path).content


def test_health_is_asked_without_a_token(store):
    assert serve(store, token=WORD).get("/health").json()["status"] == "ok"


def test_a_token_file_is_read_and_bad_ones_are_refused(tmp_path):
    path = tmp_path / "token"
    path.write_text(f"{WORD}\n")
    assert read_token(path) == WORD
    for content in ("", "\n", "short", "with a space in between", "two-lines-of-it\ntwo-lines-of-it", "ü" * 20):
        path.write_text(content)
        with pytest.raises(InputError, match="token file"):
            read_token(path)
    with pytest.raises(InputError, match="cannot be read"):
        read_token(tmp_path / "missing")


ALL_PATHS = (
    *PATHS, *OPEN, "/health", "/history?x=12.01&y=50.006", "/tilejson.json", "/wmts", "/stac/item", "/docs/start.js",
    "/tiles/main/agb/13/4369/2778.png", "/tiles/main/qa/13/4369/2778.npy", "/zarr/main/agb/c/0/0", "/static/none",
    "/nothing", "/pixel", "/stats", "/tiles/main/agb/3/99/0.png", "/versions?ref=none", "/zarr/main/none",
)  # fmt: skip


def test_head_is_get_without_the_content(store):
    client = serve(store, token=WORD)
    for path in ALL_PATHS:
        for given in ({}, {"Authorization": f"Bearer {WORD}"}):
            got, head = (client.request(method, path, headers=given) for method in ("GET", "HEAD"))
            assert head.status_code == got.status_code, path
            assert dict(head.headers) == dict(got.headers), path
            assert head.content == b"", path


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH"])
@pytest.mark.parametrize("path", [*PATHS, *OPEN, "/health", "/zarr/main/agb/c/0/0", "/stac/item"])
def test_nothing_can_be_written(store, method, path):
    answer = serve(store).request(method, path)
    assert answer.status_code == 405
    assert {"GET", "HEAD"} == set(answer.headers["allow"].split(", "))


def test_pages_of_allowed_origins_alone_may_read(store):
    client = serve(store, cors=("https://maps.example.org",), token=WORD)
    asked = {"Origin": "https://maps.example.org", "Access-Control-Request-Method": "GET"}
    granted = client.options("/zarr/main/zarr.json", headers=asked | {"Access-Control-Request-Headers": "range"})
    assert granted.status_code == 200
    assert granted.headers["access-control-allow-origin"] == "https://maps.example.org"
    assert "Range" in granted.headers["access-control-allow-headers"]
    allowed = {"Authorization": f"Bearer {WORD}", "Origin": "https://maps.example.org"}
    answer = client.get("/zarr/main/zarr.json", headers=allowed)
    assert answer.headers["access-control-allow-origin"] == "https://maps.example.org"
    assert {"Content-Range", "ETag"} <= set(answer.headers["access-control-expose-headers"].split(", "))
    other = client.get("/zarr/main/zarr.json", headers=allowed | {"Origin": "https://evil.example"})
    assert "access-control-allow-origin" not in other.headers
    assert "access-control-allow-origin" not in serve(store).get("/", headers={"Origin": "https://a.example"}).headers


@pytest.mark.parametrize("path", [*PATHS, *OPEN, "/nothing", "/pixel?x=nan"])
def test_browsers_are_told_to_be_careful(store, path):
    headers = serve(store).get(path).headers
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["content-security-policy"].startswith("default-src 'none'")
    assert "unsafe" not in headers["content-security-policy"].partition("script-src")[2].partition(";")[0]


def test_the_page_of_the_api_needs_no_other_server(store):
    client = serve(store)
    page = client.get("/docs").text
    assert not re.search(r"(?:src|href)=\"(?:https?:)?//", page)
    loaded = re.findall(r"(?:src|href)=\"([^\"]+)\"", page)
    assert len(loaded) == 3
    for name in loaded:
        assert client.get(f"/{name}").status_code == 200
    assert client.get("/docs/start.js").headers["content-type"].startswith("text/javascript")
    assert set(client.get("/openapi.json").json()["paths"]) >= {"/zarr/{ref}/{key}", "/pixel", "/stac"}


def test_what_is_too_long_or_too_large_is_refused(store):
    client = serve(store, max_url_bytes=200, max_body_bytes=1000)
    assert client.get(f"/pixel?x={'1' * 300}").status_code == 414
    assert client.request("GET", "/health", content=b"a" * 1001).status_code == 413
    assert client.request("GET", "/health", content=b"a" * 1000).status_code == 200


def test_a_body_without_a_length_is_refused_as_soon_as_it_is_too_large():
    taken = []

    async def take(scope, receive, send):
        more = True
        while more:
            message = await receive()
            taken.append(len(message["body"]))
            more = message.get("more_body", False)
        await PlainTextResponse("done")(scope, receive, send)

    client = TestClient(LimitsMiddleware(take, settings=AppSettings(max_body_bytes=1000)))
    assert client.post("/", content=(b"a" * 100 for _ in range(50))).status_code == 413
    assert sum(taken) <= 1000
    assert client.post("/", content=(b"a" * 100 for _ in range(10))).text == "done"


def test_a_polygon_without_a_length_is_refused_as_too_large(store):
    client = serve(store, max_body_bytes=1000)
    answer = client.post(
        "/stats", content=(b" " * 100 for _ in range(50)), headers={"Content-Type": "application/json"}
    )
    assert answer.status_code == 413
    assert answer.json() == {"detail": "the body is larger than 1000 bytes"}
    assert answer.headers["connection"] == "close"


def test_what_takes_too_long_is_ended(store, monkeypatch):
    held = threading.Event()
    monkeypatch.setattr(pixel, "explain_pixel", lambda *_, **__: held.wait(20))
    client = serve(store, max_seconds=0.3)
    began = time.monotonic()
    answer = client.get("/pixel?x=12.01&y=50.006")
    took = time.monotonic() - began
    held.set()
    assert answer.status_code == 503
    assert "no answer within 0.3 s" in answer.json()["detail"]
    assert took < 10


def test_a_storage_that_fails_is_said_without_telling_where_it_is(store, monkeypatch, caplog):
    async def fail(*_):
        raise StoreError(f"{store}: permission denied")

    monkeypatch.setattr(PlainZarr, "size_of", fail)
    answer = serve(store).get("/zarr/main/agb/c/0/0")
    assert answer.status_code == 503
    assert str(store) not in answer.text
    assert "permission denied" in caplog.text


def test_a_fault_of_the_server_is_said_without_a_trace(store, monkeypatch, caplog):
    def fail(*_, **__):
        raise ZeroDivisionError("inside")

    monkeypatch.setattr(pixel, "explain_pixel", fail)
    answer = serve(store).get("/pixel?x=12.01&y=50.006")
    assert answer.status_code == 500
    assert answer.json() == {"detail": "the server failed to answer; its log says why"}
    assert "ZeroDivisionError" in caplog.text


def test_no_route_takes_an_address_or_a_file(store):
    paths = serve(store).get("/openapi.json").json()["paths"]
    names = {
        p["name"] for methods in paths.values() for method in methods.values() for p in method.get("parameters", ())
    }
    assert names == {
        "ref", "key", "x", "y", "z", "crs", "limit", "variable", "scale", "colormap", "rescale", "resampling",
        "correlation", "bins", "range",
    }  # fmt: skip


def test_a_store_that_is_not_there_is_not_served(tmp_path):
    with pytest.raises(StoreError, match="does not exist"):
        make_app(tmp_path / "nothing")


ADDRESSED = ("/tilejson.json", "/wmts", "/stac", "/stac/item")
"""Documents with addresses of the server in them."""


def test_what_a_client_says_of_the_host_stands_in_nothing_that_a_cache_keeps(store):
    snapshot = MapStore.open(store).snapshot
    claimed = {"Host": "evil.example", "X-Forwarded-Host": "evil.example", "Forwarded": "host=evil.example"}
    open_to_claims, fixed = serve(store), serve(store, public_url="https://maps.example.org/forest")
    for path in ADDRESSED:
        refs = {"ref": snapshot} if path != "/stac" else {}
        assert open_to_claims.get(path, params=refs, headers=claimed).headers["cache-control"] == "no-store"
        answer = fixed.get(path, params=refs, headers=claimed)
        assert "evil.example" not in answer.text
        assert "https://maps.example.org/forest/" in answer.text
        assert ("immutable" in answer.headers["cache-control"]) == bool(refs)


def test_a_host_that_is_none_is_refused(store):
    client = serve(store)
    for host in ("a b", "a/b", "<b>", "a@b", "", "a:b", "a?b", "a\\b", "[::1", "ü.example", "a:999999"):
        answer = client.get("/stac", headers={"Host": host.encode()})
        assert answer.status_code == 400, host
        assert answer.json() == {"detail": "the Host header names no host"}


def test_a_host_that_is_one_stands_in_links(store):
    client = serve(store)
    for host in ("maps.example.org", "127.0.0.1:8080", "[::1]:8080", "xn--bcher-kva.example", "a_b"):
        assert client.get("/stac", headers={"Host": host}).json()["links"][0]["href"] == f"http://{host}/stac"


@pytest.mark.parametrize(
    "address",
    ["maps.example.org", "ftp://a.example", "https://user:secret@a.example", "https://a.example/?a=b", "https://a b",
     "javascript:alert(1)", "https://a.example/{z}", "https://a.example/#x", 'https://a.example/"><b>', "https://"],
)  # fmt: skip
def test_a_public_address_that_is_none_is_refused(address):
    with pytest.raises(InputError, match="public_url is no address") as error:
        AppSettings(public_url=address)
    assert "secret" not in str(error.value)


def test_the_public_address_stands_in_the_description_of_the_api(store):
    client = serve(store, public_url="https://maps.example.org/forest")
    assert client.get("/openapi.json").json()["servers"] == [{"url": "https://maps.example.org/forest"}]
    assert "servers" not in serve(store).get("/openapi.json", headers={"Host": "evil.example"}).json()


def test_caches_keep_apart_what_pages_of_other_origins_may_read(store):
    client = serve(store, cors=("https://maps.example.org",))
    for origin in ({}, {"Origin": "https://maps.example.org"}, {"Origin": "https://evil.example"}):
        assert set(client.get("/zarr/main/zarr.json", headers=origin).headers["vary"].split(", ")) == {"Origin"}
    assert "vary" not in serve(store).get("/zarr/main/zarr.json").headers


def test_only_versions_that_are_served_are_linked(tmp_path):
    spec = make_spec(tmp_path / "map.icechunk")
    MapStore.create(spec.store, map_product(spec))
    repository = MapStore.open(spec.store).repository
    head = repository.lookup_branch("main")
    for name in ("v1", "a b", "<b>", "a&ref=main", "é"):
        repository.create_tag(name, snapshot_id=head)
    client = serve(spec.store)
    links = [link for link in client.get("/stac").json()["links"] if link["rel"] == "item"]
    assert [link["title"] for link in links] == ["main", "v1"]
    assert all(client.get(link["href"]).status_code == 200 for link in links)
