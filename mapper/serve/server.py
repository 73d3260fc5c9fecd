"""Server process: one port, stopped by SIGTERM or Ctrl-C after the requests under way."""

import signal
import socket
import sys
from collections.abc import Callable
from types import FrameType

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
    config = uvicorn.Config(
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
    before = signal.signal(signal.SIGTERM, _leave)  # uvicorn raises the signal again when it has stopped
    try:
        on_ready(_describe(listener))
        uvicorn.Server(config).run(sockets=[listener])
    except KeyboardInterrupt:
        return
    finally:
        signal.signal(signal.SIGTERM, before)
        listener.close()


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
