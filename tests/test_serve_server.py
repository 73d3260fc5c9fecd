"""The process that serves, and its socket."""

import socket

import pytest
import uvicorn
from fastapi import FastAPI

from mapper.serve.server import run_server


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
