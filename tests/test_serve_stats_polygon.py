"""Polygons that nobody draws: answered in little time and memory, or refused in words."""

import json
import math

import numpy as np
import pytest
import shapely
from affine import Affine
from fastapi.testclient import TestClient
from hypothesis import given, settings
from hypothesis import strategies as st
from odd_polygons import make_comb, make_holes, make_parts, make_spiral
from store_maps import make_spec, write_tiles

from mapper.errors import InputError
from mapper.serve.app import make_app
from mapper.serve.settings import AppSettings
from mapper.serve.stats import pixel_coverage
from mapper.serve.stats.pixel_coverage import cover_window
from mapper.serve.stats.polygon import project_polygon, read_polygon
from mapper.store.map_store import MapStore
from mapper.store.product import map_product

BOX = (12.0, 50.0, 12.02, 50.012)


@pytest.fixture(scope="module")
def spec(tmp_path_factory):
    spec = make_spec(tmp_path_factory.mktemp("odd") / "map.icechunk")
    MapStore.create(spec.store, map_product(spec))
    with MapStore.open(spec.store).writer(map_product(spec), run_id="run-1") as writer:
        write_tiles(writer, spec, list(spec.map_grid.tiles()))
    return spec


@pytest.fixture(scope="module")
def client(spec):
    return TestClient(make_app(spec.store))


@pytest.mark.parametrize("make", [make_comb, make_spiral, make_holes, make_parts])
def test_odd_polygons_have_the_area_they_have(spec, client, make):
    polygon = make(BOX, 1200)
    answer = client.post("/stats", json=polygon)
    assert answer.status_code == 200, answer.text
    told = answer.json()
    area = project_polygon(read_polygon(polygon), spec.grid.crs)
    assert told["area_in_map_ha"] == pytest.approx(area.area / 1e4, rel=2e-3), "the projection is nearly of equal area"
    assert told["area_in_map_ha"] == pytest.approx(told["area_ha"], rel=1e-6)


@settings(max_examples=25, deadline=None)
@given(teeth=st.integers(3, 40), most=st.integers(1, 60), width=st.integers(3, 40))
def test_edges_cut_a_few_at_a_time_cover_the_same(teeth, most, width):
    comb = shapely.geometry.shape(make_comb((-3.0, -2.0, 30.0, 25.0), teeth * 4))
    transform = Affine(1.0, 0, 0.3, 0, -1.0, 20.7)
    with pytest.MonkeyPatch.context() as patch:
        whole = cover_window(comb, transform, (30, width))
        patch.setattr(pixel_coverage, "_MOST_PIECES", most)
        calls = []
        pieces = cover_window(comb, transform, (30, width), lambda: calls.append(1))
    np.testing.assert_allclose(pieces, whole, atol=1e-12)
    assert len(calls) > 1
    boxes = shapely.box(
        0.3 + np.arange(width)[None], 19.7 - np.arange(30)[:, None],
        1.3 + np.arange(width)[None], 20.7 - np.arange(30)[:, None],
    )  # fmt: skip
    np.testing.assert_allclose(whole, shapely.area(shapely.intersection(comb, boxes)), atol=1e-9)


def test_the_deadline_is_looked_at_amid_the_edges_of_one_window(monkeypatch):
    monkeypatch.setattr(pixel_coverage, "_MOST_PIECES", 100)
    calls = []

    def check():
        calls.append(1)
        if len(calls) == 3:
            raise InputError("too late")

    comb = shapely.geometry.shape(make_comb((0.0, 0.0, 100.0, 100.0), 400))
    with pytest.raises(InputError, match="too late"):
        cover_window(comb, Affine(1.0, 0, 0, 0, -1.0, 100.0), (100, 100), check)


def test_an_outline_that_is_too_long_is_refused_in_words(spec):
    client = TestClient(make_app(spec.store, AppSettings(max_outline_pixels=5000)))
    assert client.post("/stats", json=make_comb(BOX, 40)).status_code == 200
    answer = client.post("/stats", json=make_comb(BOX, 400))
    assert answer.status_code == 422
    assert "an outline of" in answer.json()["detail"]
    assert "at most 5,000" in answer.json()["detail"]


def test_the_time_of_an_answer_is_not_all_spent_on_a_polygon(spec):
    client = TestClient(make_app(spec.store, AppSettings(max_seconds=0.001)), raise_server_exceptions=False)
    answer = client.post("/stats", json=make_comb(BOX, 400))
    assert answer.status_code in (422, 503)
    assert "too long" in answer.json()["detail"] or "ask for less" in answer.json()["detail"]


def test_polygons_beyond_those_that_wait_are_turned_away(spec):
    client = TestClient(make_app(spec.store, AppSettings(polygons_at_once=1, polygons_waiting=0)))
    assert client.post("/stats", json=make_comb(BOX, 40)).status_code == 200
    full = TestClient(make_app(spec.store, AppSettings(polygons_at_once=0, polygons_waiting=0)))
    answer = full.post("/stats", json=make_comb(BOX, 40))
    assert answer.status_code == 503
    assert answer.headers["retry-after"] == "5"


def ring(*points):
    return {"type": "Polygon", "coordinates": [[*map(list, points), list(points[0])]]}


SQUARE = ring((12.0, 50.0), (12.01, 50.0), (12.01, 50.01), (12.0, 50.01))


@pytest.mark.parametrize(
    "polygon",
    [
        ring((math.nan, 50), (12.01, 50), (12.01, 50.01)),
        ring((12, math.inf), (12.01, 50), (12.01, 50.01)),
        ring((12, -math.inf), (12.01, 50), (12.01, 50.01)),
        ring((190, 50), (191, 50), (191, 50.01)),
        ring((-181, 50), (-179, 50), (-179, 50.01)),
        ring((12, 90.1), (12.01, 50), (12.01, 50.01)),
        ring((True, 50), (12.01, 50), (12.01, 50.01)),
        ring(("12", 50), (12.01, 50), (12.01, 50.01)),
        ring((12, 50), (12.02, 50.01), (12.02, 50), (12, 50.01)),
        {"type": "Polygon", "coordinates": [SQUARE["coordinates"][0]] * 2},
        {"type": "MultiPolygon", "coordinates": [SQUARE["coordinates"]] * 2},
        {"type": "MultiPolygon", "coordinates": [[[[12, 50]] * 4]] * 4000},
        {"type": "GeometryCollection", "geometries": [SQUARE] * 1000},
        {"type": "FeatureCollection", "features": [{"type": "Feature", "geometry": SQUARE}]},
        {"type": "Feature", "geometry": {"type": "GeometryCollection", "geometries": [SQUARE]}},
        {"type": "LineString", "coordinates": SQUARE["coordinates"][0]},
        make_comb((-179.0, -80.0, 179.0, 80.0), 20_000),
        make_comb(BOX, 30_000),
    ],
)
def test_what_is_no_polygon_is_refused_in_words(client, polygon):
    answer = client.post("/stats", content=json.dumps(polygon), headers={"Content-Type": "application/json"})
    assert answer.status_code == 422, answer.text
    assert len(answer.json()["detail"]) > 20
