"""Requests that nobody means well by, while others are answered: statuses, times of the good ones, memory.

Measures and prints. Not collected unless named; about two minutes on two quiet cores:

pytest -s -m benchmark tests/benchmarks/hostile.py

One process serves a map. Some threads send it hostile requests (``hostile_requests``, other seeds than in the ordinary
tests), 600 connections send nothing or half a header and are opened anew when they are closed, and one client asks for
chunks, tiles, pixels and documents; its times are those that people would see. Polygons with outlines as long as a
request can hold are sent one by one to a server of their own, whose memory is looked at after each.
"""

import json
import os
import random
import resource
import socket
import sys
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parent))
from hostile_requests import Wire, make_requests
from map_server import MapServer
from odd_polygons import make_comb, make_holes, make_parts, make_spiral
from serving import write_map

from mapper.execute.executors import SerialExecutor
from mapper.run.pyramid import build_pyramid

COUNT = int(os.environ.get("MAPPER_REQUESTS", "10000"))
SILENT = int(os.environ.get("MAPPER_SILENT", "600"))
SENDERS = 4
GOOD = (
    "/health", "/zarr/main/zarr.json", "/zarr/main/agb/c/0/0", "/pixel?x=12.05&y=50.05", "/tilejson.json", "/stac/item",
    "/tiles/main/agb/12/2185/1389.png", "/tiles/main/agb/13/4370/2778.png", "/", "/versions",
)  # fmt: skip
MOST_SECONDS, MOST_BYTES = 3, 300 << 20
"""That one polygon may take."""


class Silence:
    """Connections that send nothing, or half a header, opened anew when they are closed."""

    def __init__(self, port, count):
        self._port, self._count, self._ended = port, count, threading.Event()
        self.opened = 0
        self._thread = threading.Thread(target=self._keep_up)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._ended.set()
        self._thread.join()

    def _keep_up(self):
        connections = []
        while not self._ended.is_set():
            for connection in [each for each in connections if self._is_closed(each)]:
                connections.remove(connection)
                connection.close()
            while len(connections) < self._count and not self._ended.is_set():
                connections.append(self._open())
            time.sleep(0.05)
        for connection in connections:
            connection.close()

    def _open(self):
        connection = socket.create_connection(("127.0.0.1", self._port), timeout=20)
        connection.sendall(b"GET /health HTTP/1.1\r\nHost: a\r\n"[: random.choice((0, 1, 40))])
        connection.setblocking(False)
        self.opened += 1
        return connection

    @staticmethod
    def _is_closed(connection):
        try:
            return connection.recv(1) == b""
        except BlockingIOError:
            return False
        except OSError:
            return True


def send_hostile(port, seed, count):
    """Statuses of hostile requests."""
    wire, statuses = Wire(port, timeout_s=60), Counter()
    for request in make_requests(count, seed=seed):
        statuses[wire.send(request).status] += 1
    wire.close()
    return statuses


def ask_good(port, ended):
    """Seconds of requests that are meant well, each over a connection of its own, and their statuses."""
    seconds, statuses = [], Counter()
    while not ended.is_set():
        for path in GOOD:
            began = time.monotonic()
            wire = Wire(port, timeout_s=60)
            reply = wire.send(f"GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n".encode())
            seconds.append(time.monotonic() - began)
            statuses[reply.status] += 1
            wire.close()
    return seconds, statuses


@pytest.mark.benchmark
@pytest.mark.timeout(1800)
def test_others_are_served(tmp_path):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, max(soft, SILENT + 400)), hard))
    store = write_map(tmp_path).store
    with MapServer(store) as server, ThreadPoolExecutor(SENDERS + 1) as pool:
        ended, quiet = threading.Event(), threading.Event()
        threading.Timer(10, quiet.set).start()
        alone, _ = ask_good(server.port, quiet)
        before = server.memory
        with Silence(server.port, SILENT) as silence:
            good = pool.submit(ask_good, server.port, ended)
            began = time.monotonic()
            sent = [
                pool.submit(send_hostile, server.port, seed, COUNT // SENDERS) for seed in range(100, 100 + SENDERS)
            ]
            statuses = sum((each.result() for each in sent), Counter())
            took = time.monotonic() - began
            ended.set()
            seconds, answers = good.result()
        after, peak = server.memory, psutil.Process(server.process.pid).memory_info().rss
    sys.stdout.write(
        f"\n{COUNT} hostile requests in {took:.0f} s, {SENDERS} at a time, {silence.opened} silent connections opened, "
        f"{SILENT} at a time\n  statuses {dict(sorted(statuses.items()))}, 5xx {count_5xx(statuses)}\n"
        f"  good: {len(seconds)} answered {dict(answers)}; {describe(seconds)}; alone {describe(alone)}\n"
        f"  memory {before >> 20} MB before, {max(after, peak) >> 20} MB after\n"
    )
    assert "Traceback" not in server.log
    assert set(answers) == {200}
    assert count_5xx(statuses) == statuses[503]


def count_5xx(statuses):
    return sum(count for status, count in statuses.items() if status >= 500)


def describe(seconds):
    ordered = sorted(seconds)
    middle, late = (ordered[int(len(ordered) * share)] for share in (0.5, 0.99))
    return f"p50 {middle * 1e3:.0f} ms, p99 {late * 1e3:.0f} ms, longest {ordered[-1] * 1e3:.0f} ms"


@pytest.mark.benchmark
@pytest.mark.timeout(900)
@pytest.mark.parametrize("levels", [False, True], ids=["full resolution alone", "levels"])
def test_odd_polygons(tmp_path, levels):
    spec = write_map(tmp_path)
    if levels:
        build_pyramid(spec.store, SerialExecutor())
    box = spec.area.geometry.bounds
    polygons = {
        f"{make.__name__[5:]} of {vertices}": make(box, vertices)
        for make in (make_comb, make_spiral, make_holes, make_parts)
        for vertices in (2000, 19_000)
    }
    polygons["comb of the world"] = make_comb((-170.0, -80.0, 170.0, 80.0), 19_000)
    with MapServer(spec.store) as server:
        send_polygon(server, make_comb(box, 100))
        sys.stdout.write(f"\n  {server.memory >> 20} MB before")
        for name, polygon in polygons.items():
            before, busy = server.memory, sum(psutil.Process(server.process.pid).cpu_times()[:2])
            watch = Watch(server)
            status, size, seconds, said = send_polygon(server, polygon)
            grown, busy = watch.stop() - before, sum(psutil.Process(server.process.pid).cpu_times()[:2]) - busy
            spent = f"{seconds:5.2f} s ({busy:.2f} of CPU)  {grown >> 20:4} MB"
            sys.stdout.write(f"\n  {name:<24} {size / 1e3:4.0f} kB  {status}  {spent}  {said[:70]}")
            assert status in (200, 422)
            assert grown < MOST_BYTES
            assert busy < MOST_SECONDS, "the time of the clock depends on what else the machine does"
    sys.stdout.write("\n")


class Watch:
    """The most memory that a server holds meanwhile."""

    def __init__(self, server):
        self._server, self._ended, self._most = server, threading.Event(), 0
        self._thread = threading.Thread(target=self._look)
        self._thread.start()

    def _look(self):
        while not self._ended.wait(0.01):
            self._most = max(self._most, self._server.memory)

    def stop(self):
        self._ended.set()
        self._thread.join()
        return max(self._most, self._server.memory)


def send_polygon(server, polygon):
    """Status of an answer, bytes of the request, seconds, and why it was refused."""
    body = json.dumps(polygon).encode()
    head = f"POST /stats HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    wire, began = Wire(server.port, timeout_s=60), time.monotonic()
    reply = wire.send(head.encode() + body)
    wire.close()
    told = json.loads(reply.body)
    return reply.status, len(body), time.monotonic() - began, str(told.get("detail", told.get("area_in_map_ha")))
