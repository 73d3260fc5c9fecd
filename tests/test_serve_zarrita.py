"""The store over HTTP in JavaScript: zarrita.js reads the numbers of the store, and knows nothing of Icechunk."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import zarr
from map_server import MapServer
from pyramid_maps import WIDE, make_map

from mapper.execute.executors import SerialExecutor
from mapper.grid import Tile
from mapper.run.pyramid import build_pyramid
from mapper.store.map_store import MapStore, open_map

READER = Path(__file__).with_name("zarrita")
BANDS = ("agb", "agb_sd", "qa", "n_valid")
AXES = ("x", "y")
MADE_WRONG = ("EUSAGE", "EINTEGRITY", "EJSONPARSE")
"""Errors of npm that no network explains."""


@pytest.fixture(scope="module")
def reader(tmp_path_factory):
    """The folder of the reader, with zarrita beside it."""
    for program in ("node", "npm"):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed: zarrita.js needs Node.js 18 or newer, and npm to be had with")
    folder = tmp_path_factory.mktemp("zarrita") / "reader"
    shutil.copytree(READER, folder)
    command = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--fetch-retries=1", "--fetch-timeout=30000"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=300)
    if done.returncode:
        assert not any(fault in done.stderr for fault in MADE_WRONG), done.stderr
        said = "; ".join(line for line in done.stderr.splitlines() if line.startswith("npm error"))
        pytest.skip(f"zarrita.js cannot be had from npm: {said[:200]}")
    return folder


@pytest.fixture(scope="module")
def spec(tmp_path_factory):
    """A map with levels, of which a tile in the middle is missing."""
    spec = make_map(tmp_path_factory.mktemp("served") / "map.icechunk", bbox=WIDE, missing=[Tile(row=1, col=2)])
    build_pyramid(spec.store, SerialExecutor())
    return spec


@pytest.fixture(scope="module")
def server(spec):
    with MapServer(spec.store) as server:
        yield server


def read(reader, folder, url, paths, *, suffix=False):
    """What zarrita says of a group, and the numbers of its arrays by path."""
    environment = os.environ | {"NO_PROXY": "127.0.0.1", "SUFFIX": str(int(suffix))}
    command = ["node", "read.mjs", url, str(folder), *paths]
    done = subprocess.run(
        command, cwd=reader, env=environment, capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    numbers = {
        path: np.fromfile(folder / str(place), said["arrays"][path]["type"]).reshape(said["arrays"][path]["shape"])
        for place, path in enumerate(paths)
    }
    return said, numbers


@pytest.mark.parametrize(("ref", "suffix"), [("main", False), ("snapshot", True)])
def test_zarrita_reads_the_same_arrays(spec, server, reader, tmp_path, ref, suffix):
    session = MapStore.open(spec.store).session
    direct = zarr.open_group(session.store, mode="r")
    name = session.snapshot_id if ref == "snapshot" else ref
    paths = [*BANDS, *AXES, *(f"pyramid/{level}/{band}" for level in (1, 2, 3) for band in BANDS)]
    said, numbers = read(reader, tmp_path, f"{server.url}/zarr/{name}", paths, suffix=suffix)
    for path in paths:
        array, about = direct[path], said["arrays"][path]
        np.testing.assert_array_equal(numbers[path], array[:], err_msg=path, strict=True)
        assert about["attributes"] == dict(array.attrs)
        assert about["dimensions"] == list(array.metadata.dimension_names)
        assert about["chunks"] == list(array.chunks)
        assert float(about["fill"]) == pytest.approx(float(array.fill_value), nan_ok=True)
    assert (numbers["agb"] == direct["agb"].fill_value).any()
    assert (numbers["agb"] != direct["agb"].fill_value).any()
    assert said["attributes"] == dict(direct.attrs)


def test_zarrita_finds_all_arrays_and_levels_in_one_document(spec, server, reader, tmp_path):
    said, _ = read(reader, tmp_path, f"{server.url}/zarr/main", [])
    expected = {"/": "group"} | {
        f"/{path}": "group" if isinstance(node, zarr.Group) else "array"
        for path, node in zarr.open_group(MapStore.open(spec.store).zarr, mode="r").members(max_depth=None)
        if path.split("/")[0] != "ledger"
    }
    assert {entry["path"]: entry["kind"] for entry in said["contents"]} == expected


def test_zarrita_reads_a_level_as_a_store_of_its_own(spec, server, reader, tmp_path):
    _, numbers = read(reader, tmp_path, f"{server.url}/zarr/main/pyramid/1", BANDS)
    level = zarr.open_group(MapStore.open(spec.store).zarr, mode="r")["pyramid/1"]
    for name in BANDS:
        np.testing.assert_array_equal(numbers[name], level[name][:])


def test_the_attributes_are_enough_to_have_values_in_units(spec, server, reader, tmp_path):
    said, _ = read(reader, tmp_path, f"{server.url}/zarr/main", ["agb", "agb_sd"])
    with open_map(spec.store) as direct:
        for name in ("agb", "agb_sd"):
            assert said["arrays"][name]["mean"] == pytest.approx(float(direct[name].mean(dtype=np.float64)), rel=1e-6)
