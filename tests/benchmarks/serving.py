"""Chunks a second through ``/zarr``, against a server of static files; tiles a second, against titiler-xarray.

Measures and prints. Not collected unless named; about two minutes on two quiet cores:

pytest -s -m benchmark tests/benchmarks/serving.py

The tiles need ``pip install titiler.xarray``. Both servers draw the same distinct tiles of the same version of the same
store, each in a process that has just started, so that nothing is cached; another tile is drawn before, for what is
imported late. titiler-xarray does not choose levels: it is measured on the map, as it is, and on the level that the
client chose for it. Tiles a second are the median of rounds and their ratio that of pairs of the same round, CPU is
that of the server for a tile, the mean of rounds: load from elsewhere changes it less than the time.

Chunks: both run on uvicorn in one process each, on loopback, one after the other in alternating order, so that load
from elsewhere falls on both; on a busy machine, believe the CPU time of the server. The client is obstore with four
requests at a time on connections that are kept; what it asks for is what readers of Zarr ask for: the range of a chunk
inside a shard, distinct chunks in random order. Every answer is checked against the bytes of the store.
"""

import math
import os
import random
import statistics
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path

import numpy as np
import psutil
import pytest
import urllib3
import zarr
from obstore.store import HTTPStore
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[1]))
from map_server import MapServer
from store_maps import make_record, make_spec, name_bands

from mapper.execute.executors import SerialExecutor
from mapper.run.pyramid import build_pyramid
from mapper.store.levels import count_levels
from mapper.store.map_store import MapStore
from mapper.store.product import map_product
from mapper.store.writer import write_tile
from mapper.store.zarr_keys import open_plain

SECONDS = float(os.environ.get("MAPPER_SECONDS", "4"))
ROUNDS = int(os.environ.get("MAPPER_ROUNDS", "3"))
AT_ONCE = 4
GRID = {"kind": "projected", "crs": "EPSG:3035", "resolution": 10, "tile": 1024, "chunk": 256}
INDEX_BYTES = 16
FILES = """
import sys, uvicorn
from starlette.applications import Starlette
from starlette.routing import Mount
from starlette.staticfiles import StaticFiles
app = Starlette(routes=[Mount("/", StaticFiles(directory=sys.argv[1]))])
uvicorn.run(app, port=int(sys.argv[2]), log_level="warning", access_log=False, server_header=False)
"""
TILES = int(os.environ.get("MAPPER_TILES", "60"))
"""Of each zoom and round."""
LARGE = [12.0, 50.0, 12.7, 50.45]
TITILER = """
import sys, functools, attr, icechunk, uvicorn, xarray
from fastapi import FastAPI, Query
from titiler.core.errors import DEFAULT_STATUS_CODES, add_exception_handlers
from titiler.xarray.factory import TilerFactory
from titiler.xarray.io import Reader
session = icechunk.Repository.open(icechunk.local_filesystem_storage(sys.argv[1])).readonly_session("main")
@functools.lru_cache(16)
def open_group(path, group=None, decode_times=True):
    opened = xarray.open_zarr(session.store, group=group, consolidated=False, decode_coords="all", chunks=None)
    return opened.rename({"yc": "y", "xc": "x"}) if "yc" in opened.dims else opened  # names that titiler looks for
@attr.s
class StoreReader(Reader):
    opener = attr.ib(default=open_group)
def path_of(url: str = Query("")): return "main"
app = FastAPI()
app.include_router(TilerFactory(reader=StoreReader, path_dependency=path_of).router)
add_exception_handlers(app, DEFAULT_STATUS_CODES)
uvicorn.run(app, port=int(sys.argv[2]), log_level="warning", access_log=False)
"""


def write_map(folder, box=(12.0, 50.0, 12.18, 50.12), most=4):
    """Tiles of smooth biomass with noise, quantised as maps are."""
    spec = make_spec(folder / "map.icechunk", grid=GRID, area={"bbox": list(box)})
    MapStore.create(spec.store, map_product(spec))
    grid = spec.map_grid
    random_field = np.random.default_rng(3)
    with MapStore.open(spec.store).writer(map_product(spec), run_id="bench") as writer:
        for tile in list(grid.tiles())[:most]:
            y, x = np.mgrid[:1024, :1024].astype(np.float32) / 200
            value = (90 + 80 * np.sin(x + tile.col) * np.cos(y + tile.row)).astype(np.float32)
            value = np.maximum(value + random_field.normal(0, 4, value.shape).astype(np.float32), 0)
            flags = np.zeros(value.shape, np.uint16)
            arrays = name_bands(value=value, sd=np.abs(value) * np.float32(0.3), qa=flags, n_valid=flags + 12)
            fork = writer.fork()
            sha = write_tile(fork, product=map_product(spec), tile=tile, arrays=arrays)
            writer.add(fork, make_record(tile, sha=sha))
        writer.commit()
    return spec


def export_files(store, folder):
    """The shards of the map's values as files."""
    plain = open_plain(MapStore.open(store).session)
    rows, cols = plain.chunk_grids["agb"]
    for key in (f"agb/c/{row}/{col}" for row in range(rows) for col in range(cols)):
        size = zarr.core.sync.sync(plain.size_of(key))
        if size:
            (folder / key).parent.mkdir(parents=True, exist_ok=True)
            (folder / key).write_bytes(zarr.core.sync.sync(plain.read(key, 0, size)))
    return folder


def find_chunks(folder):
    """Key, offset and length of every chunk, from the index at the end of each shard."""
    count = (GRID["tile"] // GRID["chunk"]) ** 2
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        index = np.frombuffer(path.read_bytes()[-4 - count * INDEX_BYTES : -4], "<u8").reshape(count, 2)
        for offset, length in index.tolist():
            yield str(path.relative_to(folder)), offset, length


def measure(url, process, requests, folder):
    """Requests a second, MB/s, and milliseconds of the server's CPU for each request."""
    store = HTTPStore(url, client_options={"allow_http": True})
    content = {key: (folder / key).read_bytes() for key, _, _ in requests}
    dice, deadline = random.Random(1), time.monotonic() + SECONDS

    def work(seed):
        dice, count, size = random.Random(seed), 0, 0
        while time.monotonic() < deadline:
            key, offset, length = dice.choice(requests)
            body = bytes(store.get_range(key, start=offset, length=length))
            assert body == content[key][offset : offset + length]
            count, size = count + 1, size + length
        return count, size

    began, before = time.monotonic(), sum(process.cpu_times()[:2])
    with ThreadPoolExecutor(AT_ONCE) as pool:
        done = list(pool.map(work, [dice.random() for _ in range(AT_ONCE)]))
    took, spent = time.monotonic() - began, sum(process.cpu_times()[:2]) - before
    count = sum(count for count, _ in done)
    return count / took, sum(size for _, size in done) / took / 1e6, 1e3 * spent / count


@pytest.mark.benchmark
@pytest.mark.timeout(900)
def test_serving(tmp_path, monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    store = write_map(tmp_path).store
    folder = export_files(store, tmp_path / "files")
    chunks = list(find_chunks(folder))
    shards = [(key, 0, (folder / key).stat().st_size) for key in sorted({key for key, _, _ in chunks})]
    port = "18763"
    files = subprocess.Popen([sys.executable, "-c", FILES, str(folder), port])
    try:
        with MapServer(store) as server:
            snapshot = MapStore.open(store).snapshot
            own = psutil.Process(server.process.pid)
            servers = {
                "static files": (f"http://127.0.0.1:{port}", psutil.Process(files.pid)),
                "/zarr/main": (f"{server.url}/zarr/main", own),
                "/zarr/snapshot": (f"{server.url}/zarr/{snapshot}", own),
            }
            time.sleep(3)
            for what, requests in (("chunks", chunks), ("whole shards", shards)):
                compare(what, requests, servers, folder)
    finally:
        files.terminate()
        files.wait()


def compare(what, requests, servers, folder):
    """Measure all servers in alternating order, and print rates and their ratio to the first."""
    rates = {name: [] for name in servers}
    for turn in range(ROUNDS):
        for name in list(servers)[:: -1 if turn % 2 else 1]:
            rates[name].append(measure(*servers[name], requests, folder))
    size = statistics.mean(length for _, _, length in requests) / 1e3
    sys.stdout.write(f"\n{what} of {size:.0f} kB, {AT_ONCE} at a time, {ROUNDS} rounds of {SECONDS:g} s\n")
    for name, figures in rates.items():
        ratios = [mine[0] / other[0] for mine, other in zip(figures, rates["static files"], strict=True)]
        told = ", ".join(f"{rate:.0f}" for rate, _, _ in figures)
        bandwidth, cpu = (statistics.median(figure[place] for figure in figures) for place in (1, 2))
        sys.stdout.write(
            f"  {name:<16} {told} a second, {statistics.median(ratios):.2f} of files; {bandwidth:.0f} MB/s, "
            f"{cpu:.2f} ms CPU each\n"
        )


@pytest.mark.benchmark
@pytest.mark.timeout(1800)
@pytest.mark.skipif(
    find_spec("titiler.xarray") is None if find_spec("titiler") else True, reason="needs titiler.xarray"
)
def test_tiles(tmp_path, monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    spec = write_map(tmp_path, LARGE, most=10_000)
    build_pyramid(spec.store, SerialExecutor())
    levels = count_levels(MapStore.open(spec.store).zarr)
    rows, cols = spec.map_grid.shape
    sys.stdout.write(
        f"\n256 px tiles of a map of {rows} x {cols} px with {levels} levels, {AT_ONCE} at a time, cold; "
        f"{ROUNDS} rounds\n"
        f"  zoom  tiles  {'server':<24} tiles/s  ms CPU  /tiles: faster  less CPU\n"
    )
    least = []
    for zoom in (9, 11, 12, 13, 14, 15):
        level = max(0, min(levels, math.floor(math.log2(156543.03 / 2**zoom * math.cos(math.radians(50.2)) / 10))))
        group = f"&group=pyramid/{level}" if level else ""
        style = "rescale=0,200"
        theirs = f"/tiles/WebMercatorQuad/{{}}/{{}}/{{}}.png?variable=agb&colormap_name=viridis&{style}"
        servers = {
            "/tiles": (serve_map, f"/tiles/main/agb/{{}}/{{}}/{{}}.png?colormap=viridis&{style}"),
            "titiler-xarray": (serve_titiler, theirs),
            f"titiler-xarray, level {level}": (serve_titiler, theirs + group),
        }
        least.append(race(zoom, servers if level else dict(list(servers.items())[:2]), spec))
    faster, cheaper = map(min, zip(*least, strict=True))
    sys.stdout.write(f"  /tiles is at least {faster:.1f} times as fast, and takes {cheaper:.1f} times less CPU\n")


@contextmanager
def serve_map(store):
    """Our own server."""
    with MapServer(store) as server:
        yield server.url, psutil.Process(server.process.pid)


@contextmanager
def serve_titiler(store, port="18764"):
    """titiler-xarray on the same store."""
    process = subprocess.Popen([sys.executable, "-c", TITILER, store, port])
    try:
        yield f"http://127.0.0.1:{port}", psutil.Process(process.pid)
    finally:
        process.terminate()
        process.wait()


def race(zoom, servers, spec):
    """Draw the tiles of one zoom with all servers in alternating order; see :func:`print_race`."""
    tiles = list_tiles(zoom, spec.area.geometry.bounds)
    random.Random(5).shuffle(tiles)
    shown = {}
    figures = {name: [] for name in servers}
    for turn in range(ROUNDS):
        for name in list(servers)[:: -1 if turn % 2 else 1]:
            serve, address = servers[name]
            with serve(spec.store) as (url, process):
                rate, cpu, body = draw(url + address, zoom, tiles[:TILES], process)
            figures[name].append((rate, cpu))
            shown[name] = np.asarray(Image.open(BytesIO(body)).convert("RGBA"), np.float32)
    first, *others = shown.values()
    for other in others:  # what is drawn is the same, but for how it is resampled
        assert abs((first[..., 3] > 0).mean() - (other[..., 3] > 0).mean()) < 0.02
        colours = [image[image[..., 3] > 0].mean(axis=0) for image in (first, other)]
        assert np.abs(colours[0] - colours[1]).max() < 12
    return print_race(zoom, min(TILES, len(tiles)), figures)


def print_race(zoom, count, figures):
    """Print what each server gave; returns by how many times ours draws more tiles a second, and takes less CPU."""
    least = []
    ours = figures["/tiles"]
    for name, theirs in figures.items():
        rates = statistics.median(mine[0] / other[0] for mine, other in zip(ours, theirs, strict=True))
        spent, own = (sum(cpu for _, cpu in each) / ROUNDS for each in (theirs, ours))
        times = "" if theirs is ours else f"{rates:13.1f} {spent / own:9.1f}"
        if theirs is not ours:
            least.append((rates, spent / own))
        rate = statistics.median(rate for rate, _ in theirs)
        sys.stdout.write(f"  {zoom:>4} {count:>6}  {name:<24} {rate:>8.1f} {spent:>7.1f} {times}\n")
    return tuple(map(min, zip(*least, strict=True)))


def draw(address, zoom, tiles, process):
    """Tiles a second, milliseconds of the server's CPU for each, and the last tile."""
    pool = urllib3.PoolManager(maxsize=AT_ONCE)

    def fetch(tile):
        answer = pool.request("GET", address.format(*tile), retries=urllib3.Retry(40, backoff_factor=0.25))
        assert answer.status == 200, answer.data
        return answer.data

    fetch((8, *place_of(12.3, 50.2, 8)))  # elsewhere: what is imported late
    began, before = time.monotonic(), sum(process.cpu_times()[:2])
    with ThreadPoolExecutor(AT_ONCE) as workers:
        bodies = list(workers.map(fetch, [(zoom, *tile) for tile in tiles]))
    took, spent = time.monotonic() - began, sum(process.cpu_times()[:2]) - before
    return len(tiles) / took, 1e3 * spent / len(tiles), bodies[-1]


def list_tiles(zoom, bounds):
    """Tiles of a zoom that a box in degrees touches."""
    west, south, east, north = bounds
    (left, bottom), (right, top) = place_of(west, south, zoom), place_of(east, north, zoom)
    return [(x, y) for x in range(left, right + 1) for y in range(top, bottom + 1)]


def place_of(lon, lat, zoom):
    """Column and row of the tile that holds a point."""
    height = math.asinh(math.tan(math.radians(lat))) / math.pi
    return int((lon + 180) / 360 * 2**zoom), int((1 - height) / 2 * 2**zoom)
