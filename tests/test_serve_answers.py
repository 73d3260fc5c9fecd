"""Whatever text a map holds, answers are valid documents and nothing in them is run."""

import json
import re
from urllib.parse import unquote
from xml.etree.ElementTree import Element, fromstring, tostring

import pystac
import pytest
import zarr
from fastapi.testclient import TestClient
from hypothesis import given
from hypothesis import strategies as st
from store_maps import make_spec, write_tiles

from mapper.serve.answers import JsonAnswer, write_header, write_xml
from mapper.serve.app import make_app
from mapper.store.map_store import MapStore
from mapper.store.product import map_product

HOSTILE = (
    '"><script>alert(1)</script>', "]]></Title><x>&y; &#0;", "µg m⁻³", "a\r\nX-Injected: yes\r\n\r\n<html>",
    "\x00\x01\x1f\x7f", "😀\u202e\ufffe\uffff", "' OR 1=1 --", "%", "%25", " Mg ha-1 ", "{z}", "é" * 5000,
)  # fmt: skip
RING = [[12.0, 50.0], [12.01, 50.0], [12.01, 50.011], [12.0, 50.011], [12.0, 50.0]]
OWS = "{http://www.opengis.net/ows/1.1}"


@given(st.text(st.characters()))
def test_text_in_a_header_comes_back(text):
    value = write_header(text)
    if value is None:
        assert len(text) > 80
        return
    assert re.fullmatch(r"[ -~]*", value)
    assert value == value.strip()
    encoded = value.removeprefix("UTF-8''")
    told = value if encoded == value else unquote(encoded)
    assert told == text.encode("utf-8", "replace").decode()


def test_plain_units_stay_as_they_are():
    assert [write_header(units) for units in ("Mg ha-1", "%", "1", "dB")] == ["Mg ha-1", "%", "1", "dB"]
    assert write_header("µg") == "UTF-8''%C2%B5g"
    assert write_header("x" * 5000) is None


@given(st.text(st.characters(codec=None)))
def test_any_text_is_valid_xml_and_json(text):
    element = Element("a")
    element.text = write_xml(text)
    read = fromstring(tostring(element, encoding="utf-8")).text or ""  # noqa: S314
    assert len(read) == len(text.replace("\r\n", "\n"))
    assert json.loads(JsonAnswer({"a": text}).body)["a"] == text.encode("utf-8", "replace").decode()


@pytest.fixture(scope="module")
def spec(tmp_path_factory):
    spec = make_spec(tmp_path_factory.mktemp("hostile") / "map.icechunk")
    MapStore.create(spec.store, map_product(spec))
    with MapStore.open(spec.store).writer(map_product(spec), run_id="run-1") as writer:
        write_tiles(writer, spec, list(spec.map_grid.tiles())[:1])
    return spec


@pytest.fixture(scope="module")
def client(spec):
    return TestClient(make_app(spec.store))


def rename(spec, texts):
    """Give the bands of a map other units and names; the snapshot with them."""
    session = MapStore.open(spec.store).repository.writable_session("main")
    group = zarr.open_group(session.store)
    for name, text in texts.items():
        group[name].attrs.update({"units": text, "long_name": f"about {text}"})
    return session.commit("units")


@pytest.mark.parametrize("first", range(0, len(HOSTILE), 3))
def test_documents_stay_valid_whatever_units_and_names_hold(spec, client, first):
    texts = dict(zip(("agb", "agb_sd", "n_valid"), HOSTILE[first : first + 3], strict=False))
    ref = rename(spec, texts)
    item = client.get(f"/stac/item?ref={ref}").json()
    pystac.Item.from_dict(item)
    root = fromstring(client.get(f"/wmts?ref={ref}").content)  # noqa: S314
    titles = [(element.text or "").replace("\r\n", "\n") for element in root.iter(f"{OWS}Title")]
    for variable, text in texts.items():
        tilejson = client.get(f"/tilejson.json?variable={variable}&ref={ref}").json()
        assert tilejson["units"] == text
        assert tilejson["name"].endswith(f"about {text}")
        assert item["properties"]["cube:variables"][variable]["unit"] == text
        assert any(write_xml(text).replace("\r\n", "\n") in title for title in titles)
        tile = client.get(f"/tiles/{ref}/{variable}/13/4369/2778.npy")
        assert tile.status_code == 200
        assert tile.headers.get("x-units", "") == (write_header(text) or "")
        assert "x-injected" not in tile.headers
        assert text not in client.get("/").text
    assert client.get(f"/pixel?x=12.001&y=50.011&ref={ref}").json()["units"] == texts["agb"]
    answer = client.post(f"/stats?ref={ref}", json={"type": "Polygon", "coordinates": [RING]})
    assert answer.json()["mean"]["units"] == texts["agb"]


def test_halves_of_surrogate_pairs_break_no_document(spec, client):
    ref = rename(spec, {"agb": "\ud800 m"})
    for path in ("/tilejson.json", "/stac/item", "/stac", "/versions"):
        assert client.get(f"{path}?ref={ref}").json()
    assert fromstring(client.get(f"/wmts?ref={ref}").content).tag.endswith("Capabilities")  # noqa: S314
    assert client.get(f"/tiles/{ref}/agb/13/4369/2778.npy").headers["x-units"] == "UTF-8''%3F%20m"
