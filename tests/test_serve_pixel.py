"""Pixels over HTTP: what they hold, what made them, what they held before, and clear words for bad questions."""

import numpy as np
import pytest
from fastapi.testclient import TestClient
from pyproj import Transformer
from store_maps import PROJECTED, make_arrays, make_record, make_spec, write_tiles

from mapper.predict.quality import BITS
from mapper.serve.app import make_app
from mapper.serve.pixel import SAID
from mapper.serve.settings import AppSettings
from mapper.store.product import map_product
from mapper.store.repository import create_store
from mapper.store.why import why
from mapper.store.writer import open_writer


@pytest.fixture(scope="module")
def spec(tmp_path_factory):
    """Tile 0 was made three times, tile 1 once, tile 2 failed, the rest was never attempted."""
    spec = make_spec(tmp_path_factory.mktemp("pixels") / "map.icechunk", grid=PROJECTED)
    create_store(spec.store, product=map_product(spec))
    tiles = list(spec.map_grid.tiles())
    with open_writer(spec.store, product=map_product(spec), run_id="run-1") as writer:
        write_tiles(writer, spec, tiles[:2])
        write_tiles(writer, spec, tiles[:1], seed=1, version=1)
        writer.add(None, make_record(tiles[2], status="failed", reason="no item could be read"))
        writer.commit()
        write_tiles(writer, spec, tiles[:1], seed=2, version=2)
    return spec


@pytest.fixture(scope="module")
def client(spec):
    return TestClient(make_app(spec.store, AppSettings(stale_after_s=0.0)))


def centre_of(spec, number, row, col):
    tile = list(spec.map_grid.tiles())[number]
    window = spec.map_grid.window(tile)
    return tile, spec.map_grid.geobox.transform @ (window.left + col + 0.5, window.top + row + 0.5)


def ask(client, path, x, y, **more):
    return client.get(path, params={"x": x, "y": y, "crs": "EPSG:3035"} | more)


def test_a_pixel_tells_what_the_library_tells(spec, client):
    tile, (x, y) = centre_of(spec, 1, 20, 33)
    answer, told = why(spec.store, x, y, crs="EPSG:3035"), ask(client, "/pixel", x, y).json()
    arrays = make_arrays(spec.map_grid, tile)
    assert told["value"] == pytest.approx(arrays["agb"][20, 33], abs=0.0501)
    assert told["value"] == pytest.approx(answer.value)
    assert told["sd"] == pytest.approx(answer.sd)
    assert len(str(told["value"])) < 9, "as many digits as are known"
    assert told["units"] == "Mg ha-1"
    assert told["record"] == answer.to_dict()["record"]
    assert [item["id"] for item in told["record"]["items"]] == ["S2_0", "S2_1", "S2_2"]
    assert (told["snapshot"], told["tile"]) == (answer.snapshot, {"row": tile.row, "col": tile.col})
    assert told["version"] == client.get("/health").json()["snapshot"]


def test_flags_are_told_in_words(spec, client):
    tile, (x, y) = centre_of(spec, 1, 20, 33)
    qa = int(make_arrays(spec.map_grid, tile)["qa"][20, 33])
    assert qa, "the pixel must have flags"
    told = ask(client, "/pixel", x, y).json()["quality"]
    assert told == [{"flag": bit.name, "meaning": SAID[bit.name]} for bit in BITS.values() if bit.mask & qa]
    assert BITS.keys() <= set(SAID)


def test_a_missing_value_is_null_and_a_tile_never_attempted_has_no_record(spec, client):
    _, (x, y) = centre_of(spec, 1, 1, 1)
    assert ask(client, "/pixel", x, y).json()["value"] is None
    _, (x, y) = centre_of(spec, 4, 1, 1)
    told = ask(client, "/pixel", x, y).json()
    assert (told["value"], told["record"], told["snapshot"]) == (None, None, "")
    assert [entry["flag"] for entry in told["quality"]] == ["not_written"]
    assert ask(client, "/history", x, y).json()["versions"] == []


def test_the_same_pixel_in_longitude_and_latitude_and_in_the_crs_of_the_map(spec, client):
    _, (x, y) = centre_of(spec, 0, 5, 60)
    lon, lat = Transformer.from_crs("EPSG:3035", "EPSG:4326", always_xy=True).transform(x, y)
    here, there = ask(client, "/pixel", x, y, crs="map").json(), client.get(f"/pixel?x={lon}&y={lat}").json()
    assert (here["row"], here["col"]) == (there["row"], there["col"])


def test_history_is_what_the_pixel_held_the_latest_first(spec, client):
    tile, (x, y) = centre_of(spec, 0, 20, 33)
    versions = ask(client, "/history", x, y).json()["versions"]
    values = [make_arrays(spec.map_grid, tile, seed)["agb"][20, 33] for seed in (2, 1, 0)]
    np.testing.assert_allclose([version["value"] for version in versions], values, atol=0.0501)
    assert len({version["snapshot"] for version in versions}) == len({v["task_id"] for v in versions}) == 3
    assert [v["written_at"] for v in versions] == sorted((v["written_at"] for v in versions), reverse=True)
    assert ask(client, "/history", x, y, limit=2).json()["versions"] == versions[:2]
    then = ask(client, "/pixel", x, y, ref=versions[2]["snapshot"])
    assert then.json()["value"] == versions[2]["value"]
    assert "immutable" in then.headers["cache-control"]


def test_a_failed_attempt_is_told(spec, client):
    _, (x, y) = centre_of(spec, 2, 0, 0)
    assert ask(client, "/pixel", x, y).json()["record"]["reason"] == "no item could be read"
    assert [v["status"] for v in ask(client, "/history", x, y).json()["versions"]] == ["failed"]


@pytest.mark.parametrize("path", ["/pixel", "/history"])
@pytest.mark.parametrize(
    ("question", "status", "words"),
    [
        ("x=0&y=0", 404, "outside the map"),
        ("x=1e308&y=-1e308", 404, "outside the map"),
        ("x=12&y=90.5", 404, "outside the map"),
        ("x=nan&y=50", 422, "x: Input should be a finite number"),
        ("x=12&y=inf", 422, "y: Input should be a finite number"),
        ("x=a&y=50", 422, "x: Input should be a valid number"),
        ("x=12", 422, "y: Field required"),
        ("x=12&y=50&crs=EPSG:999999", 422, "EPSG:999999 is no CRS"),
        ("x=12&y=50&crs=EPSG:5773", 422, "is no CRS"),
        ("x=12&y=50&crs=/etc/passwd", 422, "is no CRS"),
        ("x=12&y=50&crs=%2Bproj%3Dlonglat", 422, "is no CRS"),
        ("x=12&y=50&ref=nothing", 404, "no such version"),
        ("x=12&y=50&ref=../main", 404, "no such version"),
    ],
)
def test_bad_questions_get_clear_words(client, path, question, status, words):
    answer = client.get(f"{path}?{question}")
    assert answer.status_code == status, answer.text
    assert words in answer.json()["detail"]
