"""The server keeps to the description of its API, whatever it is asked: Schemathesis makes the requests."""

import json
import os
import re
import subprocess
import sys

import pytest
from map_server import MapServer
from pyramid_maps import make_map

from mapper.grid import Tile
from mapper.serve.settings import AppSettings
from mapper.store.map_store import MapStore

schemathesis = pytest.importorskip("schemathesis")

WORD = "correct-horse-battery"
TOKEN = {"Authorization": f"Bearer {WORD}"}
SEED, EXAMPLES = 6, 15
CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_schema_conformance",
    "negative_data_rejection",
    "unsupported_method",
    "allow_header_conformance",
    "ignored_auth",
)
KNOWN = {
    "ref": ["main", "v1"],
    "variable": ["agb", "agb_sd", "qa", "n_valid"],
    "key": ["zarr.json"],
    "column": [4369],
    "row": [2778],
    "zoom": [13],
    "longitude": [12.01, 12.012],
    "latitude": [50.006, 50.008],
    "crs": ["EPSG:4326"],
    "span": ["0,300", "-5,5.5"],
}
"""Values that lead somewhere: of texts and numbers made by chance, hardly any would."""
PLACES = {
    "path.ref": "ref", "query.ref": "ref", "path.variable": "variable", "query.variable": "variable",
    "path.key": "key", "path.z": "zoom", "path.x": "column", "path.y": "row", "query.x": "longitude",
    "query.y": "latitude", "query.crs": "crs", "query.rescale": "span", "query.range": "span",
}  # fmt: skip
OFTEN = 0.8
KEY = {"ref": "main", "key": "agb/c/0/0"}
TILE = {"ref": "main", "variable": "agb", "z": 13, "x": 4369, "y": 2778}
MISSING = {"x": 4465685, "y": 2990795, "crs": "EPSG:3035"}
EMPTY = {"x": 4465685, "y": 2989395, "crs": "map"}
NUMBERS, CHUNKS = "/tiles/{ref}/{variable}/{z}/{x}/{y}.npy", "/zarr/{ref}/{key}"
SQUARE = [[12.0, 50.0], [12.01, 50.0], [12.01, 50.01], [12.0, 50.01], [12.0, 50.0]]
LARGE = {"type": "Polygon", "coordinates": "a" * AppSettings().max_body_bytes}
LONG = "a" * AppSettings().max_url_bytes


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("described")
    spec = make_map(folder / "map.icechunk", missing=[Tile(row=0, col=2)], empty=[Tile(row=2, col=2)])
    MapStore.open(spec.store).repository.create_tag("v1", snapshot_id=MapStore.open(spec.store).snapshot)
    (folder / "token").write_text(WORD)
    with MapServer(spec.store, "--token-file", str(folder / "token")) as server:
        yield server


@pytest.fixture
def described(server, monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    return schemathesis.openapi.from_url(f"{server.url}/openapi.json", headers=TOKEN)


def ask_everything(url, folder):
    """Have Schemathesis ask what it likes: what it exits with and says, and the requests with their answers."""
    lines = [f'headers = {{ Authorization = "Bearer {WORD}" }}']
    lines += [f"[dictionaries.{name}]\nvalues = {json.dumps(values)}" for name, values in KNOWN.items()]
    lines += ["[parameters]"]
    lines += [f'"{place}" = {{ dictionary = "{name}", probability = {OFTEN} }}' for place, name in PLACES.items()]
    (folder / "settings.toml").write_text("\n".join(lines))
    command = [
        sys.executable, "-m", "schemathesis.cli", "--config-file", "settings.toml", "run", f"{url}/openapi.json",
        "--checks", ",".join(CHECKS), "--phases", "examples,coverage,fuzzing", "--seed", str(SEED), "--max-examples",
        str(EXAMPLES), "--no-shrink", "--suppress-health-check", "all", "--no-color", "--report-har-path", "asked.har",
    ]  # fmt: skip
    environment = os.environ | {"NO_PROXY": "127.0.0.1"}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    return done, json.loads((folder / "asked.har").read_text())["log"]["entries"]


def test_whatever_is_asked_the_answer_is_as_described(server, described, tmp_path):
    done, asked = ask_everything(server.url, tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    for path in described.raw_schema["paths"]:
        pattern = re.compile(re.escape(server.url) + re.sub(r"\\{\w+\\}", "[^/?]+", re.escape(path)) + r"(\?.*)?")
        statuses = {entry["response"]["status"] for entry in asked if pattern.fullmatch(entry["request"]["url"])}
        assert 200 in statuses, f"nothing that was asked of {path} got through: {statuses}"


@pytest.mark.parametrize(
    ("path", "asked", "status"),
    [
        (CHUNKS, {"path_parameters": KEY}, 200),
        (CHUNKS, {"path_parameters": KEY | {"key": "agb/zarr.json"}}, 200),
        (CHUNKS, {"path_parameters": KEY, "headers": {"Range": "bytes=-68"}}, 206),
        (CHUNKS, {"path_parameters": KEY | {"key": "zarr.json"}, "headers": {"Range": "bytes=0-9"}}, 206),
        (CHUNKS, {"path_parameters": KEY, "headers": {"If-None-Match": "*"}}, 304),
        (CHUNKS, {"path_parameters": KEY, "headers": {"Range": "bytes=99999999-"}}, 416),
        (CHUNKS, {"path_parameters": KEY | {"key": "ledger/zarr.json"}}, 404),
        (CHUNKS, {"path_parameters": KEY | {"key": LONG}}, 414),
        (NUMBERS, {"path_parameters": TILE}, 200),
        (NUMBERS, {"path_parameters": TILE | {"z": 3}}, 404),
        ("/pixel", {"query": {"x": 12.01, "y": 50.006}}, 200),
        ("/pixel", {"query": MISSING}, 200),
        ("/pixel", {"query": EMPTY}, 200),
        ("/pixel", {"query": {"x": 0, "y": 0}}, 404),
        ("/history", {"query": MISSING}, 200),
        ("/history", {"query": EMPTY}, 200),
        ("/history", {"query": {"x": 12.01, "y": 50.006, "limit": 51}}, 422),
        (NUMBERS, {"path_parameters": TILE | {"z": 25}}, 422),
        ("/pixel", {"query": {"x": 12.01, "y": 50.006, "crs": "/etc/passwd"}}, 422),
        ("/tilejson.json", {"query": {"variable": "qa"}}, 200),
        ("/tilejson.json", {"query": {"variable": "qa", "rescale": "0,1"}}, 422),
        ("/stats", {"body": {"type": "Polygon", "coordinates": [SQUARE]}, "query": {"correlation": 500}}, 200),
        ("/stats", {"body": {"type": "Polygon", "coordinates": [SQUARE], "crs": {}}, "query": {"bins": 201}}, 422),
        ("/stats", {"body": LARGE}, 413),
    ],
)
def test_answers_that_chance_hardly_finds_are_as_described_too(described, path, asked, status):
    method = "POST" if path == "/stats" else "GET"
    media = {"media_type": "application/json"} if "body" in asked else {}
    case = described[path][method].Case(**{**asked, **media, "headers": TOKEN | asked.get("headers", {})})
    assert case.call_and_validate().status_code == status
