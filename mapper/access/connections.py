"""Connections of this process: shared between threads, through the proxy that the environment names.

A name of a host says nothing of where it leads, and another thing a moment later: what a name resolves to is judged
when a connection is made, and the connection goes to the very address that was judged. Where a proxy makes the
connections, names are judged by what they resolve to here, if they do; the rest is the proxy's to allow.
"""

import socket
import urllib.request
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any
from urllib.parse import urljoin, urlsplit

import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import ConnectTimeoutError, HTTPError, NewConnectionError

from mapper.access.admission import refuse_address, refuse_name

_IDLE = 32
"""Idle connections for each host."""
_MOST_REDIRECTS = 5
_ONCE = urllib3.Retry(total=None, connect=0, read=0, redirect=False, status=0, other=0)

Judge = Callable[[str], str]
"""Returns why no connection is made to a numerical address; empty if one is."""


class RefusedAddressError(HTTPError):
    """Address that nothing is asked of, or redirect that is not followed."""


class Reach:
    """Judge of the connections to a catalogue, which remembers whether any led to a public network.

    A catalogue on a private network may lead to others there. It is none once it was public: a name whose owner moves
    it onto a private network is refused.
    """

    def __init__(self, address: str = "", *, private: bool = False) -> None:
        """Begin without a connection.

        Args:
            address: Of the catalogue; one that is reached through a proxy counts as public.
            private: True where private networks may be reached in any case.
        """
        self._allowed = private
        self._public, self._private = bool(address) and _is_proxied(address), False

    @property
    def private(self) -> bool:
        """True where there were connections, all to private networks."""
        return self._private and not self._public

    def __call__(self, address: str) -> str:
        """Return why no connection is made to an address; empty if one is."""
        refusal = refuse_address(address, private=self._allowed or not self._public)
        inside = bool(refuse_address(address, private=False))
        self._public |= not refusal and not inside
        self._private |= not refusal and inside
        return refusal


def open_url(url: str, *, private: bool, headers: dict[str, str], timeout: urllib3.Timeout) -> Any:
    """Send a GET, follow redirects that may be followed, and return the last answer, its body unread.

    Args:
        url: Address.
        private: True where private networks may be reached.
        headers: Of every request.
        timeout: Of connecting, and of the next bytes.

    Raises:
        RefusedAddressError: If an address is on a network that may not be reached, or a redirect leads to another
            scheme or has no end.
        HTTPError: If there is no answer.
    """
    for _ in range(_MOST_REDIRECTS + 1):
        _judge_proxied(url, private=private)
        pool = pool_for(url, private=private)
        answer = pool.request(
            "GET", url, headers=headers, preload_content=False, retries=_ONCE, redirect=False, timeout=timeout
        )
        target = answer.get_redirect_location()
        if not target:
            return answer
        answer.close()  # its body may have no end
        answer.release_conn()
        url = _follow(url, str(target), private=private)
    raise RefusedAddressError(f"it leads through more than {_MOST_REDIRECTS} redirects")


def pool_for(url: str, *, private: bool = True) -> urllib3.PoolManager:
    """Return the connection pool for requests to an address: that of a proxy where one is configured.

    Args:
        url: Address.
        private: True where private networks may be reached.
    """
    parts = urlsplit(url)
    return _pool(_proxy_of(parts.scheme, parts.hostname or ""), private=private)


def guard(pool: urllib3.PoolManager, judge: Judge) -> None:
    """Let a pool make no connection to an address that a judge refuses."""
    plain = type("_Plain", (_Judged, HTTPConnection), {"judge": staticmethod(judge)})
    secure = type("_Secure", (_Judged, HTTPSConnection), {"judge": staticmethod(judge)})
    pool.pool_classes_by_scheme = {
        "http": type("_PlainPool", (HTTPConnectionPool,), {"ConnectionCls": plain}),
        "https": type("_SecurePool", (HTTPSConnectionPool,), {"ConnectionCls": secure}),
    }


class _Judged:
    """Connection to the addresses of a name that a judge lets pass."""

    judge: Judge

    def _new_conn(self) -> socket.socket:
        connection: Any = self
        name, fault = connection._dns_host, None  # noqa: SLF001 - the name as the resolver gets it
        for address in self._addresses(name, connection.port):
            connection._dns_host = address  # noqa: SLF001 - else it is resolved again, to what was not judged
            try:
                return super()._new_conn()  # type: ignore[misc,no-any-return]
            except (NewConnectionError, ConnectTimeoutError) as error:
                fault = error
            finally:
                connection._dns_host = name  # noqa: SLF001
        raise fault or NewConnectionError(connection, f"{name} has no address")

    def _addresses(self, name: str, port: int) -> Iterator[str]:
        for address in _resolve(name.strip("[]"), port):
            refusal = self.judge(address)
            if refusal:
                raise RefusedAddressError(refusal if name == address else f"{name} leads to {refusal}")
            yield address


def _resolve(name: str, port: int) -> list[str]:
    """Return the addresses of a name in the order of the resolver; none where there is none."""
    try:
        found = socket.getaddrinfo(name, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return []
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


def _judge_proxied(url: str, *, private: bool) -> None:
    if not _is_proxied(url):
        return
    parts = urlsplit(url)
    for address in _resolve(parts.hostname or "", parts.port or 0):
        refusal = refuse_address(address, private=private)
        if refusal:
            raise RefusedAddressError(f"{parts.hostname} leads to {refusal}")


def _follow(url: str, target: str, *, private: bool) -> str:
    """Return the address that a redirect leads to.

    Raises:
        RefusedAddressError: If it is not followed.
    """
    found = urljoin(url, target)
    old, new = urlsplit(url), urlsplit(found)
    if new.scheme not in ("https", old.scheme) or not new.hostname:
        raise RefusedAddressError(f"it redirects from {old.scheme}: to {new.scheme}:, which is not followed")
    refusal = refuse_name(new.hostname, private=private)
    if refusal:
        raise RefusedAddressError(f"it redirects: {refusal}")
    return found


def _is_proxied(url: str) -> bool:
    parts = urlsplit(url)
    return _proxy_of(parts.scheme, parts.hostname or "") is not None


@lru_cache(maxsize=256)
def _proxy_of(scheme: str, host: str) -> str | None:
    return None if urllib.request.proxy_bypass(host) else urllib.request.getproxies().get(scheme)


@lru_cache(maxsize=8)
def _pool(proxy: str | None, *, private: bool) -> urllib3.PoolManager:
    if proxy is not None:
        return urllib3.ProxyManager(proxy, maxsize=_IDLE)
    pool = urllib3.PoolManager(maxsize=_IDLE)
    guard(pool, lambda address: refuse_address(address, private=private))
    return pool
