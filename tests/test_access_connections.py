"""Connections are shared, and go through the proxy that the environment names."""

import pytest
import urllib3

from mapper.access import connections
from mapper.access.connections import pool_for


@pytest.fixture(autouse=True)
def proxies(monkeypatch):
    monkeypatch.setenv("https_proxy", "http://proxy.test:3128")
    monkeypatch.setenv("no_proxy", "127.0.0.1,.inside.test")
    connections._proxy_of.cache_clear()
    yield
    connections._proxy_of.cache_clear()


def test_addresses_outside_go_through_the_proxy():
    pool = pool_for("https://archive.test/b.tif?sig=1")
    assert isinstance(pool, urllib3.ProxyManager)
    assert pool.proxy.host == "proxy.test"
    assert pool_for("https://other.test/c.tif") is pool


@pytest.mark.parametrize("url", ["https://127.0.0.1:80/b.tif", "https://files.inside.test/b.tif"])
def test_addresses_inside_do_not(url):
    assert not isinstance(pool_for(url), urllib3.ProxyManager)
    assert pool_for(url) is pool_for("https://127.0.0.1/")
