"""mapper serve: what it prints, how it stops, and what it says when it cannot start."""

import signal
import socket
import subprocess
import sys
from urllib.error import HTTPError
from urllib.request import ProxyHandler, Request, build_opener

import pytest
from map_server import MapServer
from region import run_mapper
from store_maps import make_spec

from mapper.store.map_store import MapStore
from mapper.store.product import map_product


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    spec = make_spec(tmp_path_factory.mktemp("cli") / "map.icechunk")
    MapStore.create(spec.store, map_product(spec))
    return spec.store


def status_of(url, **headers):
    try:
        with build_opener(ProxyHandler({})).open(Request(url, headers=headers), timeout=30) as answer:  # noqa: S310
            return answer.status
    except HTTPError as error:
        return error.code


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_it_prints_where_it_is_and_how_to_open_it_and_stops_when_told(store, how):
    with MapServer(store) as server:
        assert status_of(f"{server.url}/health") == 200
        server.process.send_signal(how)
        assert server.process.wait(timeout=30) == 0
    assert f'xarray.open_dataset("{server.url}/zarr/main", engine="zarr", decode_coords="all")' in server.log
    assert "Traceback" not in server.log


def test_with_a_token_file_it_asks_for_the_token(store, tmp_path):
    (tmp_path / "token").write_text("correct-horse-battery\n")
    with MapServer(store, "--token-file", tmp_path / "token", "--cors", "*") as server:
        assert status_of(f"{server.url}/zarr/main/zarr.json") == 401
        allowed = {"Authorization": "Bearer correct-horse-battery"}
        assert status_of(f"{server.url}/zarr/main/zarr.json", **allowed) == 200
        assert status_of(f"{server.url}/health") == 200
    assert "correct-horse-battery" not in server.log


def test_a_port_that_is_taken_is_said(store):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        command = [sys.executable, "-m", "mapper.cli", "serve", store, "--port", str(taken.getsockname()[1])]
        answer = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert answer.returncode == 2
    assert "Address already in use" in answer.stderr
    assert "--port" in answer.stderr
    assert "Traceback" not in answer.stderr


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--token-file", "/nothing/there"), "cannot be read"),
        (("--host", "nothing.invalid", "--port", "0"), "cannot listen"),
    ],
)
def test_what_cannot_work_is_said_in_one_line(store, options, words):
    code, said = run_mapper("serve", store, *options)
    assert code == 2
    assert words in said
    assert "\n" not in said


def test_a_store_that_is_not_there_is_said(tmp_path):
    code, said = run_mapper("serve", tmp_path / "nothing")
    assert code == 1
    assert "does not exist" in said


def test_a_missing_extra_is_said(store):
    code = "import sys; sys.modules['uvicorn'] = None; from mapper.cli import main; main()"
    command = [sys.executable, "-c", code, "serve", str(store)]
    answer = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert answer.returncode == 2
    assert "mapper[serve]" in answer.stderr
