"""Server process: one port, stopped by SIGTERM or Ctrl-C after the requests under way.

Connections that ask for nothing take no place from others: uvicorn waits for a first header, and for a client that
reads no answer, as long as it takes.
"""

import asyncio
import signal
import socket
import sys
import threading
from collections.abc import Callable
from operator import itemgetter
from types import FrameType
from typing import Self

import uvicorn
from fastapi import FastAPI
from uvicorn.protocols.http.h11_impl import H11Protocol

from mapper.errors import InputError

_GRACE_S = 10
_CONNECTIONS = 512
"""Connections at once. A further one takes the place of that which has been silent longest; while none is silent,
requests are turned away with 503 instead of filling the memory."""
_BACKLOG = 256
"""Connections that are taken at once, before any can be closed: with all others they stay below 1024 open files."""
_HEADER_S = 10.0
"""Seconds until the header of a request is there, from the opening of a connection or the first byte of the header."""
_UNREAD_S = 30.0
"""Seconds between looks at what a client has not taken yet of its answer."""
_LEAST_READ = 30_000
"""Bytes that it is to take meanwhile; else the connection is closed."""


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
        app: Application from :func:`mapper.serve.app.make_app`.
        host: Address to listen on.
        port: Port to listen on; 0 takes any that is free.
        log_requests: Log every request.

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
        """Return the address of the server."""
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


class _Connection(H11Protocol):
    """HTTP connection that is closed when no header comes, or nobody takes the answer."""

    silent_since: float | None = None
    """Time of the loop since when a header is waited for; None while a request is answered."""
    _header_timer: asyncio.TimerHandle | None = None
    _unread_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Wait for a first header, in the place of a silent connection if there are too many."""
        self._make_room()
        super().connection_made(transport)
        self._follow(started=True)

    def connection_lost(self, exc: Exception | None) -> None:
        """Drop the timers."""
        super().connection_lost(exc)
        for timer in (self._header_timer, self._unread_timer):
            if timer:
                timer.cancel()

    def data_received(self, data: bytes) -> None:
        """Take bytes of a client."""
        super().data_received(data)
        self._follow(started=True)

    def on_response_complete(self) -> None:
        """Go on with the next request, of which nothing may be here yet."""
        super().on_response_complete()
        self._follow(started=False)
        self._watch_unread()

    def pause_writing(self) -> None:
        """Wait until the client takes more, but not for ever."""
        super().pause_writing()
        self._watch_unread()

    def resume_writing(self) -> None:
        """Go on with the answer."""
        super().resume_writing()
        self._watch_unread()

    def _follow(self, *, started: bool) -> None:
        """Start or stop waiting for a header, which begins to come if ``started``."""
        waits = self.cycle is None or self.cycle.response_complete
        if not waits:
            self.silent_since = None
        elif self.silent_since is None:
            self.silent_since = self.loop.time()
        if self._header_timer and not waits:
            self._header_timer.cancel()
            self._header_timer = None
        elif started and waits and not self._header_timer:
            self._header_timer = self.loop.call_later(_HEADER_S, self.transport.close)

    def _watch_unread(self) -> None:
        """Look later at what of an answer its client has not taken yet; nothing is added to it until then."""
        if self._unread_timer:
            self._unread_timer.cancel()
            self._unread_timer = None
        unread = self.transport.get_write_buffer_size()
        if unread:
            self._unread_timer = self.loop.call_later(_UNREAD_S, self._check_unread, unread)

    def _check_unread(self, before: int) -> None:
        unread = self.transport.get_write_buffer_size()
        if unread > max(0, before - _LEAST_READ):
            self.transport.abort()
        else:
            self._watch_unread()

    def _make_room(self) -> None:
        """Close the connection that has been silent longest, if there are too many."""
        if len(self.connections) < _CONNECTIONS - 1:
            return
        silent = [
            (other.cycle is not None, other.silent_since, other)
            for other in self.connections
            if isinstance(other, _Connection) and other.silent_since is not None
            if not other.transport.get_write_buffer_size()
        ]
        if silent:
            _, _, longest = min(silent, key=itemgetter(0, 1))
            self.connections.discard(longest)
            longest.transport.abort()


def _make_server(app: FastAPI, *, log_requests: bool) -> uvicorn.Server:
    return uvicorn.Server(
        uvicorn.Config(
            app,
            http=_Connection,
            ws="none",
            backlog=_BACKLOG,
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
        listener = socket.create_server(address, family=family, backlog=_BACKLOG)
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
