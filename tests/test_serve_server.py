"""The process that serves, its socket, and connections that ask for nothing."""

import socket
import time
from contextlib import closing, suppress

import pytest
import uvicorn
from fastapi import FastAPI, Response

from mapper.serve import server
from mapper.serve.server import BackgroundServer, run_server

ASKED = b"GET /ok HTTP/1.1\r\nHost: a\r\n\r\n"
LARGE = 24 << 20
"""More than the kernel holds for both ends of a connection."""


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_answers_do_not_wait_for_one_another_on_a_connection(monkeypatch, host):
    delayed = []

    def accept(_server, sockets):
        (listener,) = sockets
        with socket.create_connection(listener.getsockname()[:2], timeout=10), listener.accept()[0] as connection:
            delayed.append(connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 0)

    monkeypatch.setattr(uvicorn.Server, "run", accept)
    try:
        run_server(FastAPI(), host=host, port=0, on_ready=lambda _url: None)
    except Exception as error:
        if host == "::1" and "cannot listen" in str(error):
            pytest.skip("this machine has no IPv6")
        raise
    assert delayed == [False]


@pytest.fixture
def port(monkeypatch):
    """A small server whose patience is short."""
    monkeypatch.setattr(server, "_HEADER_S", 0.6)
    monkeypatch.setattr(server, "_UNREAD_S", 0.4)
    monkeypatch.setattr(server, "_CONNECTIONS", 12)
    app = FastAPI()
    app.get("/ok")(lambda: Response("ok"))
    app.get("/large")(lambda: Response(bytes(LARGE)))
    with BackgroundServer(app, host="127.0.0.1", port=0) as running:
        yield int(running.url.rpartition(":")[2])


def connect(port, sent=b""):
    connection = socket.create_connection(("127.0.0.1", port), timeout=10)
    connection.sendall(sent)
    return connection


def is_closed(connection):
    """Whether a server ended a connection within the time that its socket waits."""
    try:
        return connection.recv(1 << 16) == b""
    except ConnectionError:
        return True


def receive_answer(connection):
    """All of an answer to :data:`ASKED`; it may come in several packets."""
    received = b""
    while not received.endswith(b"ok"):
        part = connection.recv(1 << 16)
        assert part, received
        received += part


@pytest.mark.parametrize("sent", [b"", b"G", b"GET /ok HTTP/1.1\r\nHost: a\r\n", b"GET /ok HTTP/1.1\r\nA: "])
def test_a_connection_without_a_header_is_closed(port, sent):
    began = time.monotonic()
    with closing(connect(port, sent)) as connection:
        assert is_closed(connection)
    assert 0.5 < time.monotonic() - began < 5


def test_a_header_that_trickles_in_gains_no_time(port):
    with closing(connect(port, ASKED)) as connection:
        receive_answer(connection)
        time.sleep(0.8)  # between requests there is more time than for a header
        connection.sendall(ASKED)
        receive_answer(connection)
        began = time.monotonic()
        connection.settimeout(0.05)
        for byte in b"GET /ok HTTP/1.1\r\n" * 9:
            with suppress(TimeoutError):
                with suppress(ConnectionError):
                    connection.sendall(bytes([byte]))
                if is_closed(connection):
                    break
    assert 0.5 < time.monotonic() - began < 5


def test_silent_connections_take_no_place_from_others(port):
    silent = [connect(port, b"G" * (number % 2)) for number in range(40)]
    began = time.monotonic()
    for _ in range(5):
        with closing(connect(port, ASKED)) as connection:
            assert b" 200 " in connection.recv(1 << 16)
    assert time.monotonic() - began < 5
    assert all(map(is_closed, silent))
    for connection in silent:
        connection.close()


def test_an_answer_that_nobody_takes_is_dropped_and_a_slow_reader_gets_it(port):
    asked = ASKED.replace(b"/ok", b"/large")
    with closing(connect(port, asked)) as idle, closing(connect(port, asked)) as slow:
        received, began = 0, time.monotonic()
        while received < LARGE:
            part = slow.recv(1 << 19)
            assert part, "the slow reader was cut off"
            received += len(part)
            time.sleep(0.03)
        assert time.monotonic() - began > 1
        received = 0
        with suppress(ConnectionError):
            while part := idle.recv(1 << 20):
                received += len(part)
        assert received < LARGE
