"""The map page in a browser: people see what the server says, and nothing else happens."""

import hashlib
import json
import re
import socket
import threading
from importlib.resources import files
from urllib.parse import parse_qs, urlsplit

import pytest
import urllib3
import uvicorn
from band_maps import COLOURS, REFLECTANCE, write_map
from browser import Browser, needs_chromium
from fastapi.testclient import TestClient
from map_server import MapServer
from store_maps import make_items, make_record, make_spec, make_tile, write_tiles

from mapper.serve.app import make_app
from mapper.serve.page import read_assets
from mapper.serve.settings import AppSettings
from mapper.store.map_store import MapStore
from mapper.store.product import map_product

WORD = "correct-horse-battery"
HOSTILE = "<img src=x onerror=\"document.title='broken in'\"></script><script>document.title='broken in'</script>"
LEAFLET = {
    "leaflet/leaflet.js": "db49d009c841f5ca34a888c96511ae936fd9f5533e90d8b2c4d57596f4e5641a",
    "leaflet/leaflet.css": "a7837102824184820dfa198d1ebcd109ff6d0ff9a2672a074b9a1b4d147d04c6",
}
"""Sha256 of the files of version 1.9.4, as they were published."""
VIEW = "at=50.006,12.01,15"
LOADED = (
    "document.querySelectorAll('img.tile.leaflet-tile-loaded').length > 3 && document.querySelector('#busy').hidden"
)
ANSWERED = "document.querySelector('#pixel .facts')?.innerText"


@pytest.fixture(scope="module")
def spec(tmp_path_factory):
    """All tiles once, tagged v1; then tile 4, in the middle, anew. Names in it are meant badly."""
    folder = tmp_path_factory.mktemp("page")
    spec = make_spec(folder / "map.icechunk", target={"long_name": HOSTILE})
    MapStore.create(spec.store, map_product(spec))
    tiles = list(spec.map_grid.tiles())
    with MapStore.open(spec.store).writer(map_product(spec), run_id="run-1") as writer:
        first = write_tiles(writer, spec, tiles)
        MapStore.open(spec.store).repository.create_tag("v1", first)
        fork, record = make_tile(writer.fork(), spec, tiles[4], seed=1, version=1)
        item = make_items()[0]
        changed = make_record(
            record.tile, sha=record.content_sha256, version=1, model=HOSTILE,
            items=(item.__class__(**(item.__dict__ | {"id": HOSTILE, "dropped": HOSTILE})), *make_items()[1:]),
        )  # fmt: skip
        writer.add(fork, changed)
        writer.commit()
    return spec


@pytest.fixture(scope="module")
def server(spec):
    with MapServer(spec.store) as server:
        yield server


@pytest.fixture(scope="module")
def guarded(spec):
    """The same with a token, in this process."""
    server = uvicorn.Server(uvicorn.Config(make_app(spec.store, AppSettings(token=WORD)), log_level="warning"))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        server.should_exit = True
        thread.join(20)


@pytest.fixture(scope="module")
def chromium():
    with Browser() as browser:
        yield browser


@pytest.fixture
def browser(chromium, server, guarded):
    """A browser; after each test all that it asked for went to the two servers, and it complained about nothing."""
    chromium.requests.clear()
    chromium.errors.clear()
    chromium.resize(1280, 800)
    yield chromium
    hosts = {urlsplit(request["url"].removeprefix("blob:")).netloc for request in chromium.requests}
    assert hosts <= {urlsplit(server.url).netloc, urlsplit(guarded).netloc, ""}, hosts  # "" is about:blank, data:
    assert chromium.errors == []


def ask(url, content=None):
    method = "GET" if content is None else "POST"
    return urllib3.request(method, url, body=content, headers={"Content-Type": "application/json"}).json()


def read_link(browser):
    return {name: values[0] for name, values in parse_qs(browser.ask("location.hash.slice(1)")).items()}


def read_pixel(browser, server, ref):
    lat, lon = read_link(browser)["pixel"].split(",")
    return ask(f"{server.url}/pixel?x={lon}&y={lat}&ref={ref}")


def choose(browser, control, value):
    """Set a control and let it tell so, as people make it do."""
    element = f"document.querySelector('#{control}')"
    browser.ask(f"{element}.value = {json.dumps(value)}")
    for event in ("input", "change"):
        browser.ask(f"{element}.dispatchEvent(new Event('{event}', {{bubbles: true}}))")


def say(value):
    return re.sub(r"\.?0+$", "", f"{value:.1f}")


@needs_chromium
def test_the_map_pans_and_zooms_and_the_address_keeps_the_view(browser, server):
    browser.open(f"{server.url}/#{VIEW}")
    browser.wait(LOADED)
    before = len(browser.requests)
    browser.drag((300, 300), (500, 420))
    lat, lng, zoom = map(float, browser.wait("location.hash.match(/at=([^&]*)/)[1]").split(","))
    assert lng == pytest.approx(12.01 - 200 * 360 / 256 / 2**15, abs=1e-4), "dragged to the right: looks further west"
    assert lat > 50.006
    assert zoom == 15
    browser.turn_wheel(500, 420, -120)
    browser.wait("/,16(&|$)/.test(location.hash)")
    browser.wait(LOADED)
    tiles = [r["url"] for r in browser.requests[before:] if re.search(r"/tiles/[0-9A-Z]{20}/agb/16/", r["url"])]
    assert len(tiles) > 4
    browser.ask("location.reload()")
    browser.wait(LOADED)
    assert read_link(browser)["at"].endswith(",16")


@needs_chromium
def test_a_click_shows_what_a_pixel_holds_what_made_it_and_what_it_held_before(browser, server):
    browser.open(f"{server.url}/#{VIEW}")
    browser.wait(LOADED)
    browser.click(440, 400)
    facts = browser.wait(ANSWERED)
    told = read_pixel(browser, server, "main")
    shown = browser.text("#pixel")
    assert f"{say(told['value'])} ± {say(told['sd'])} Mg ha⁻¹" in shown
    assert all(entry["meaning"] in shown for entry in told["quality"])
    assert told["snapshot"] in facts
    assert told["record"]["run_id"] in facts
    assert "3 items made it, 2 left out" in shown
    browser.press_button("#pixel summary")
    items = browser.text("#pixel table")
    assert "sentinel-2-l2a" in items
    assert "2021-06-02" in items
    before = ask(f"{server.url}/history?x={told['x']}&y={told['y']}")["versions"][1]
    assert say(before["value"]) in browser.text(".history")
    browser.press_button(".history button")
    browser.wait(f"document.querySelector('#pixel').innerText.includes('{before['snapshot']}')")
    assert say(before["value"]) in browser.text("#pixel .value")
    assert read_link(browser)["version"] == before["snapshot"]


@needs_chromium
def test_the_pointer_tells_place_and_value(browser, server):
    browser.open(f"{server.url}/#{VIEW}")
    browser.wait(LOADED)
    browser.move(430, 390)
    browser.move(440, 400)
    assert re.match(r"50\.0\d{4}° N, 12\.0\d{4}° E:  [\d.]+ ± [\d.]+ Mg ha⁻¹", browser.wait(
        "document.querySelector('#pointer').innerText.includes('Mg') && document.querySelector('#pointer').innerText"
    ))  # fmt: skip


@needs_chromium
def test_a_polygon_is_drawn_and_its_total_is_that_of_the_server(browser, server):
    browser.open(f"{server.url}/#{VIEW}")
    browser.wait(LOADED)
    browser.press_button("#draw")
    for corner in ((350, 320), (520, 300), (560, 480), (400, 500)):
        browser.click(*corner)
    browser.click(400, 500, count=2)
    browser.wait("document.querySelector('#area .value')?.innerText")
    (asked,) = [r for r in browser.requests if urlsplit(r["url"]).path == "/stats"]
    assert len(json.loads(asked["postData"])["coordinates"][0]) >= 5
    told = ask(asked["url"], asked["postData"])
    shown = browser.text("#area")
    assert f"{told['total']['value']:,.0f} ± {told['total']['sd']['fully_correlated']:,.0f} Mg" in shown
    assert re.search(rf"{told['mean']['value']:.1f}\d? ± [\d.]+ Mg ha⁻¹", shown)
    assert f"{told['area_ha']:.2f} ha" in shown
    assert browser.ask("document.querySelectorAll('#area svg rect').length") == len(told["histogram"]["area_ha"])
    browser.press_button("#clear-area")
    assert browser.text("#area") == ""


@needs_chromium
def test_a_pasted_polygon_and_words_for_one_that_is_none(browser, server):
    browser.open(f"{server.url}/#{VIEW}")
    browser.wait(LOADED)
    polygon = {
        "type": "Polygon",
        "coordinates": [[[12.005, 50.003], [12.015, 50.003], [12.01, 50.009], [12.005, 50.003]]],
    }
    browser.ask("document.querySelector('#area-heading ~ details').open = true")
    for text, words in (("{", "no JSON"), ('{"type": "Point"}', "Expected a GeoJSON Polygon")):
        browser.ask(f"document.querySelector('#paste').value = {json.dumps(text)}")
        browser.press_button("#paste-form button")
        browser.wait(f"document.querySelector('#area').innerText.includes({json.dumps(words)})")
    text = json.dumps({"type": "FeatureCollection", "features": [{"type": "Feature", "geometry": polygon}]})
    browser.ask(f"document.querySelector('#paste').value = {json.dumps(text)}")
    browser.press_button("#paste-form button")
    browser.wait("document.querySelector('#area .value')?.innerText")
    told = ask(f"{server.url}/stats", json.dumps(polygon))
    assert f"{told['total']['value']:,.0f} ±" in browser.text("#area .value")


@needs_chromium
def test_variables_colours_ranges_opacity_and_versions_are_chosen(browser, server):
    browser.open(f"{server.url}/#{VIEW}")
    browser.wait(LOADED)
    for control, value, wanted in (
        ("variable", "agb_sd", r"/tiles/.*/agb_sd/15/"),
        ("colormap", "plasma", r"/tiles/.*/agb_sd/15/.*colormap=plasma"),
        ("high", "77", r"/tiles/.*rescale=[^&]*%2C77"),
        ("version", "v1", r"/tiles/.*/agb_sd/15/.*rescale=[^&]*%2C77"),
        ("variable", "qa", r"/tiles/.*/qa/15/"),
    ):
        before = len(browser.requests)
        choose(browser, control, value)
        browser.wait_for_request(wanted, before)
        browser.wait(LOADED)
        tiles = [r["url"] for r in browser.requests[before:] if "/tiles/" in r["url"]]
        assert tiles
        assert all(re.search(wanted, tile) for tile in tiles), (control, tiles[0])
    assert "a guide channel had no valid observation" in browser.text("#flags")
    first = next(tag for tag in ask(f"{server.url}/versions")["tags"] if tag["name"] == "v1")["snapshot"]
    assert f"/tiles/{first}/" in tiles[0]
    assert first in browser.text("#lineage")
    choose(browser, "opacity", "40")
    layer = "document.querySelector('.leaflet-tile-pane .leaflet-layer:last-child')"
    assert browser.ask(f"Number({layer}.style.opacity)") == 0.4
    assert read_link(browser)["opacity"] == "40"


@needs_chromium
def test_a_map_of_several_bands_shows_all_of_a_pixel_and_the_mean_of_the_one_shown(chromium, tmp_path):
    spec, _ = write_map(tmp_path, REFLECTANCE | {"target": {"sd": True, "quality": []}})
    with MapServer(spec.store) as server:
        chromium.open(f"{server.url}/#at=50.003,12.005,16&pixel=50.003,12.005")
        chromium.wait(LOADED)
        assert chromium.wait(ANSWERED).count("±") == len(COLOURS)
        chromium.press_button("#take-view")
        chromium.wait("document.querySelector('#area .value')?.innerText")
        assert COLOURS[0] in chromium.text("#area")
        before = len(chromium.requests)
        choose(chromium, "variable", f"{COLOURS[2]}_sd")
        chromium.wait_for_request(rf"/stats\?.*variable={COLOURS[2]}$", before)
        chromium.wait(f"document.querySelector('#area').innerText.includes('{COLOURS[2]}')")
        (asked,) = [r for r in chromium.requests[before:] if urlsplit(r["url"]).path == "/stats"]
        mean = ask(asked["url"], asked["postData"])["mean"]["value"]
        assert f"{mean:.4f}".rstrip("0") in chromium.text("#area .value")
        chromium.move(430, 390)
        chromium.move(440, 400)
        chromium.wait("document.querySelector('#pointer').innerText.includes('±')")
    assert chromium.errors == []


@needs_chromium
def test_a_link_that_asks_for_what_cannot_be_still_shows_the_map(browser, server):
    browser.open(f"{server.url}/#{VIEW}&variable=qa&range=0,5&colours=magma&opacity=a&pixel=1,2,3")
    browser.wait(LOADED)
    assert read_link(browser)["variable"] == "qa"
    assert "range" not in read_link(browser)
    assert all("422" in str(error) for error in browser.errors)
    browser.errors.clear()


@needs_chromium
def test_hostile_names_are_text_and_nothing_more(browser, server):
    browser.open(f"{server.url}/#{VIEW}&pixel=50.006,12.01")
    browser.wait(ANSWERED)
    assert HOSTILE in browser.text("h1")
    assert HOSTILE in browser.text("#pixel")
    assert browser.ask("document.title").endswith(HOSTILE)
    assert browser.ask("document.querySelectorAll('img:not(.tile), script:not([src])').length") == 0


@needs_chromium
def test_the_keyboard_is_enough(browser, server):
    browser.open(f"{server.url}/#{VIEW}")
    browser.wait(LOADED)
    browser.ask("document.querySelector('#map').focus()")
    browser.press("ArrowRight", 39)
    browser.wait("Number(location.hash.match(/at=[^,]*,([^,]*)/)[1]) > 12.0105")
    browser.press("+", 187)
    browser.wait("/,16(&|$)/.test(location.hash)")
    browser.press("Enter", 13)
    browser.wait(ANSWERED)
    unnamed = browser.ask(
        "[...document.querySelectorAll('input, select, textarea')].filter((e) => !e.labels.length).map((e) => e.id)"
    )
    assert unnamed == []


@needs_chromium
def test_text_stands_out_from_what_is_behind_it(browser, server):
    browser.open(f"{server.url}/#{VIEW}&pixel=50.006,12.01")
    browser.wait(ANSWERED)
    assert browser.find_weak_text("#panel *") == []


@needs_chromium
def test_a_phone_shows_map_and_answers_side_by_side(browser, server):
    browser.resize(390, 844, touch=True)
    browser.open(f"{server.url}/#{VIEW}")
    browser.wait(LOADED)
    browser.tap(190, 200)
    browser.wait(ANSWERED)
    assert browser.ask("document.scrollingElement.scrollWidth") == 390
    value = "document.querySelector('#pixel .value').getBoundingClientRect()"
    browser.wait(f"{value}.top > document.querySelector('#stage').getBoundingClientRect().bottom")
    assert browser.ask(f"{value}.bottom") < 844


@needs_chromium
def test_a_token_is_asked_for_and_goes_out_in_headers_alone(browser, guarded):
    browser.open(f"{guarded}/#{VIEW}")
    enter = "document.querySelector('#token').value = {}; document.querySelector('#token-form button').click()"
    browser.wait("!document.querySelector('#token-form').hidden")
    assert browser.text("h1") == "Map", "without the token nothing of the map is told"
    browser.ask(enter.format(json.dumps("wrong-horse-battery")))
    browser.wait("!document.querySelector('#fault').hidden")
    assert "not the right one" in browser.text("#fault")
    refused = [error for error in browser.errors if "401" in str(error)]
    assert refused == browser.errors, "browsers report refusals by themselves"
    browser.errors.clear()
    browser.requests.clear()
    browser.ask(enter.format(json.dumps(WORD)))
    browser.wait(LOADED)
    asked = [request for request in browser.requests if not request["url"].startswith("blob:")]
    assert all(request["headers"].get("Authorization") == f"Bearer {WORD}" for request in asked)
    assert not any(WORD in request["url"] for request in browser.requests)
    assert WORD not in browser.ask("document.cookie + location.href + document.documentElement.outerHTML")
    assert "Bearer TOKEN" in browser.text("#elsewhere")


@needs_chromium
def test_a_new_commit_is_told_and_shown_when_asked_for(browser, spec, server):
    browser.open(f"{server.url}/#{VIEW}")
    browser.wait(LOADED)
    with MapStore.open(spec.store).writer(map_product(spec), run_id="run-2") as writer:
        latest = write_tiles(writer, spec, list(spec.map_grid.tiles())[:1], seed=5, version=5)
    browser.wait("window.dispatchEvent(new Event('focus')), !document.querySelector('#newer').hidden")
    assert latest not in browser.text("#lineage"), "what somebody looks at does not change under them"
    browser.press_button("#show-newer")
    browser.wait(f"document.querySelector('#lineage').innerText.includes('{latest}')")


def test_the_page_tells_nothing_of_the_map_and_loads_from_its_server_alone(spec):
    client = TestClient(make_app(spec.store, AppSettings(token=WORD)))
    page = client.get("/")
    assert page.status_code == 200
    assert spec.name not in page.text
    assert "default-src 'none'; script-src 'self'; style-src 'self';" in page.headers["content-security-policy"]
    assert "<style" not in page.text
    assert not re.search(r"\son\w+=|\sstyle=|<script(?![^>]* src=)", page.text)
    loaded = re.findall(r"(?:src|href)=\"(static/[^\"]+)\"", page.text)
    assert len(loaded) >= 5
    for name in [*loaded, *(f"static/{name}" for name in read_assets() if name != "page.html")]:
        answer = client.get(f"/{name}")
        assert answer.status_code == 200, name
        assert client.get(f"/{name}", headers={"If-None-Match": answer.headers["etag"]}).status_code == 304
    for name in ("nothing.js", "..%2fpage.py", "%2e%2e/page.py", "page.html", "leaflet/", ""):
        assert client.get(f"/static/{name}").status_code == 404, name


def test_scripts_make_no_markup_from_text_and_name_no_other_server():
    ours = [asset for name, asset in read_assets().items() if not name.startswith("leaflet/")]
    text = b"\n".join(asset.content for asset in ours).decode()
    assert not re.search(
        r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b|new Function|DOMParser", text
    )
    assert set(re.findall(r"https?://[\w./]+", text)) == {"http://www.w3.org/2000/svg"}


def test_leaflet_is_as_it_was_published():
    folder = files("mapper.serve") / "static"
    for name, digest in LEAFLET.items():
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == digest
    assert "BSD 2-Clause" in (folder / "leaflet" / "LICENSE").read_text()


def test_versions_are_told_with_their_dates(spec):
    client = TestClient(make_app(spec.store))
    told = client.get("/versions").json()
    assert [branch["name"] for branch in told["branches"]] == ["main"]
    assert told["branches"][0]["snapshot"] == told["version"] == told["snapshots"][0]["snapshot"]
    assert [tag["name"] for tag in told["tags"]] == ["v1"]
    assert told["tags"][0]["snapshot"] in [entry["snapshot"] for entry in told["snapshots"]]
    times = [entry["written_at"] for entry in told["snapshots"]]
    assert times == sorted(times, reverse=True)
    assert len(client.get("/versions?limit=1").json()["snapshots"]) == 1
    assert client.get("/versions?ref=v1").json()["snapshots"][0]["snapshot"] == told["tags"][0]["snapshot"]
    for entry in told["snapshots"]:
        assert client.get(f"/stac/item?ref={entry['snapshot']}").status_code == 200, "each of them can be shown"
    assert client.get("/versions?ref=nothing").status_code == 404
    assert client.get("/versions?limit=0").status_code == 422
