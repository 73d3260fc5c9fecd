"""Server process: one port, stopped by SIGTERM or Ctrl-C after the requests under way."""

import signal
import socket
import sys
import threading
from collections.abc import Callable
from types import FrameType
from typing import Self

import uvicorn
from fastapi import FastAPI

from mapper.errors import InputError

_GRACE_S = 10
_CONNECTIONS = 512
"""Connections at once; beyond these, requests are turned away with 503 instead of filling the memory."""


def run_server(
    app: FastAPI, *, host: str, port: int, on_ready: Callable[[str], None], log_requests: bool = False
) -> None:
    """Serve an application until the process is stopped.

    Args:
        app: Application from :func:`mapper.serve.app.make_app`.
        host: Address to listen on.
        port: Port to listen on; 0 takes any that is free.
        on_ready: Called with the URL once the port is taken.
        log_requests: Log every request.

    Raises:
        InputError: If the port cannot be had.
    """
    listener = _listen(host, port)
    server = _make_server(app, log_requests=log_requests)
    before = signal.signal(signal.SIGTERM, _leave)  # uvicorn raises the signal again when it has stopped
    try:
        on_ready(_describe(listener))
        server.run(sockets=[listener])
    except KeyboardInterrupt:
        return
    finally:
        signal.signal(signal.SIGTERM, before)
        listener.close()


class BackgroundServer:
    """A server in a thread of this process, for notebooks; a context manager that stops it.

    Args:
        app: From :func:`mapper.serve.app.make_app`.
        host: Address to listen on.
        port: 0 takes any that is free.
        log_requests: Have every request in the log.

    Raises:
        InputError: If the port cannot be had.
    """

    def __init__(self, app: FastAPI, *, host: str, port: int, log_requests: bool = False) -> None:
        self._listener = _listen(host, port)
        self._url = _describe(self._listener)
        self._server = _make_server(app, log_requests=log_requests)
        self._thread = threading.Thread(target=self._serve, name="mapper-serve", daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        """Address of the server."""
        return self._url

    def stop(self) -> None:
        """Stop after the requests under way."""
        self._server.should_exit = True
        self._thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def __repr__(self) -> str:
        return f"server at {self.url}, {'serving' if self._thread.is_alive() else 'stopped'}"

    def _serve(self) -> None:
        try:
            self._server.run(sockets=[self._listener])
        finally:
            self._listener.close()


def _make_server(app: FastAPI, *, log_requests: bool) -> uvicorn.Server:
    return uvicorn.Server(
        uvicorn.Config(
            app,
            log_level="info" if log_requests else "warning",
            access_log=log_requests,
            server_header=False,
            date_header=True,
            limit_concurrency=_CONNECTIONS,
            timeout_keep_alive=30,
            timeout_graceful_shutdown=_GRACE_S,
            h11_max_incomplete_event_size=1 << 14,
        )
    )


def _listen(host: str, port: int) -> socket.socket:
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.create_server(address, family=family, backlog=512)
    except (OSError, OverflowError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise InputError(f"cannot listen on {host} port {port}: {reason}; choose another with --port") from error
    # connections inherit it: asyncio sees no TCP in such a socket, and an answer in two pieces would take 40 ms
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener


def _describe(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _leave(_: int, __: FrameType | None) -> None:
    sys.exit(0)
