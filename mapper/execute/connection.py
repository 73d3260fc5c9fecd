"""Connection to a Dask scheduler by its address; one that cannot be right is refused before anything is started.

A scheduler that does not answer yet is waited for: its pod may be starting. What no patience mends ends at once: an
address that is none, certificates that are missing, a host that nobody knows.
"""

import difflib
import ipaddress
import logging
import re
import socket
import time
from contextlib import suppress
from functools import lru_cache
from typing import Any
from urllib.parse import SplitResult, urlsplit

import dask
from distributed import Client
from distributed.comm.registry import backends
from distributed.security import Security
from distributed.utils import sync

from mapper.errors import ClusterError, SpecError

_PORT = 8786
_ENCRYPTED = ("tls", "wss")
_INSIDE = "inproc"
"""Protocol of a scheduler in this very process, whose addresses have a form of their own."""
_UNPRINTABLE = re.compile(r"[\s\x00-\x1f\x7f]")
_NAME_SECONDS = 10.0
"""Patience with a name that is not known: in Kubernetes that of a new service is, after a moment."""
_LOOK_SECONDS = 1.0
_CLOSE_SECONDS = 5.0
_CERTIFICATES = (
    "DASK_DISTRIBUTED__COMM__TLS__CA_FILE, DASK_DISTRIBUTED__COMM__TLS__CLIENT__CERT and "
    "DASK_DISTRIBUTED__COMM__TLS__CLIENT__KEY name their files"
)
_logger = logging.getLogger(__name__)


class _WholeClient(Client):
    """A client that is connected, or closed: Dask's own, half made, waits for minutes when it is deleted."""

    def __init__(self, *args: Any, **options: Any) -> None:
        try:
            super().__init__(*args, **options)  # type: ignore[no-untyped-call]
        except BaseException:  # an interrupt too
            self._give_up()
            raise

    def _give_up(self) -> None:
        runner = getattr(self, "_loop_runner", None)
        if runner is None:
            return
        with suppress(Exception):
            if self.status not in ("closed", "newly-created") and self.loop is not None:
                sync(self.loop, self._close, fast=True, callback_timeout=_CLOSE_SECONDS)
        self.status = "closed"
        with suppress(Exception):
            runner.stop()


def connect(address: str, *, timeout_s: float) -> Client:
    """Connect to a scheduler; returns a client that is not Dask's default.

    Args:
        address: For example ``tls://host:8786``.
        timeout_s: Seconds until the scheduler must answer.

    Raises:
        SpecError: If the address cannot be right.
        ClusterError: If the host is not known, or no scheduler answers.
    """
    check_address(address)
    _find_host(address)
    warn_of_clear_text(address)
    try:
        return _WholeClient(address, timeout=timeout_s, set_as_default=False)
    except AssertionError:
        raise  # distributed asserts that a greeting comes alone; the caller may ask again
    except Exception as error:  # whatever Dask makes of it, there is no connection
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ClusterError(f"no Dask scheduler answers at {address}: {reason}") from error


def check_address(address: str) -> None:
    """Check that an address can be that of a scheduler, and that there are certificates where it needs them.

    Raises:
        SpecError: With what is wrong, and what was probably meant.
    """
    if fault := _find_fault(address):
        raise SpecError(f"{_conceal(address)!r} is no address of a Dask scheduler, such as tcp://host:{_PORT}: {fault}")
    scheme = address.partition("://")[0]
    if scheme == _INSIDE or dask.config.get("distributed.client.security-loader", None):
        return
    try:
        security = Security()
        encrypted = security.get_connection_args("client")["ssl_context"] is not None
    except (OSError, ValueError) as error:
        raise SpecError(f"the certificates for {address} cannot be read: {error}; {_CERTIFICATES}") from error
    if scheme in _ENCRYPTED and not encrypted:
        raise SpecError(f"{address} needs certificates: {_CERTIFICATES}")
    if scheme not in _ENCRYPTED and security.require_encryption:
        raise SpecError(f"{address} is not encrypted, as the configuration of Dask demands: use tls:// in its place")


def _find_fault(address: str) -> str | None:
    """Return what is wrong with an address, None where nothing is."""
    scheme, separator, _ = address.partition("://")
    if scheme.lower() in ("http", "https"):
        return "this is the address of a page, perhaps of the dashboard; a scheduler's begins with tcp:// or tls://"
    if not separator or scheme not in backends:
        near = difflib.get_close_matches(scheme.lower(), backends, n=1, cutoff=0.5)
        return f"unknown protocol {scheme!r}, {f'did you mean {near[0]}?' if near else 'expected tcp or tls'}"
    if scheme == _INSIDE:
        return None
    if _UNPRINTABLE.search(address):
        return "it holds spaces or control characters"
    try:
        return _find_fault_behind(urlsplit(address))
    except ValueError as error:
        return f"{error}; a port is 1 to 65535, and IPv6 stands in brackets, as in tcp://[::1]:{_PORT}"


def _find_fault_behind(parts: SplitResult) -> str | None:
    """Return what is wrong behind the protocol of an address, None where nothing is.

    Raises:
        ValueError: If host or port cannot be told apart.
    """
    if "@" in parts.netloc:
        return "a scheduler asks for no name or password, but for certificates (tls://)"
    if parts.path.strip("/") or parts.query or parts.fragment:
        return f"nothing follows the port, got {(parts.path or parts.query or parts.fragment)!r}"
    if not parts.hostname:
        return f"the host is missing; IPv6 stands in brackets, as in tcp://[::1]:{_PORT}"
    if not parts.port:
        return f"the port is missing, by default it is {_PORT}: {parts.scheme}://{parts.hostname}:{_PORT}"
    return None


def _conceal(address: str) -> str:
    """Return an address without name and password, in case it has them."""
    return re.sub(r"(://)[^/]*@", r"\1***@", address)


def _find_host(address: str) -> tuple[str, ...]:
    """Return the numeric addresses of a scheduler's host, after a moment's patience.

    Raises:
        ClusterError: If the host is not known.
    """
    if address.startswith(f"{_INSIDE}:"):
        return ()
    parts = urlsplit(address)
    deadline = time.monotonic() + _NAME_SECONDS
    while True:
        try:
            found = socket.getaddrinfo(parts.hostname, parts.port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            if time.monotonic() > deadline:
                raise ClusterError(f"no Dask scheduler at {address}: the host is not known ({error})") from error
            time.sleep(_LOOK_SECONDS)
        else:
            return tuple({str(entry[4][0]) for entry in found})


@lru_cache(maxsize=64)
def warn_of_clear_text(address: str) -> None:
    """Warn once of a scheduler on another machine that is spoken to unencrypted, where anybody can give orders."""
    scheme = address.partition("://")[0]
    if scheme in _ENCRYPTED or scheme == _INSIDE:
        return
    if all(ipaddress.ip_address(host.partition("%")[0]).is_loopback for host in _find_host(address)):
        return
    _logger.warning(
        "%s is not encrypted: whoever reaches this scheduler or the network between can read what is sent and run "
        "code on its workers; use tls:// with certificates (deploy/README.md)",
        address,
    )
