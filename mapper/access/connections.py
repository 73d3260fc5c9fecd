"""Connection pools of this process: shared between threads, through the proxy that the environment names."""

import urllib.request
from functools import lru_cache
from urllib.parse import urlsplit

import urllib3

_IDLE = 32
"""Idle connections for each host."""


def pool_for(url: str) -> urllib3.PoolManager:
    """Return the connection pool for requests to an address: that of a proxy where one is configured."""
    parts = urlsplit(url)
    return _pool(_proxy_of(parts.scheme, parts.hostname or ""))


@lru_cache(maxsize=256)
def _proxy_of(scheme: str, host: str) -> str | None:
    return None if urllib.request.proxy_bypass(host) else urllib.request.getproxies().get(scheme)


@lru_cache(maxsize=8)
def _pool(proxy: str | None) -> urllib3.PoolManager:
    if proxy is None:
        return urllib3.PoolManager(maxsize=_IDLE)
    return urllib3.ProxyManager(proxy, maxsize=_IDLE)
