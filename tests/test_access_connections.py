"""Connections are shared, go through the proxy that the environment names, and to addresses that were judged."""

import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

import pytest
import urllib3

from mapper.access import connections
from mapper.access.connections import Reach, RefusedAddressError, _follow, open_url, pool_for


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


@pytest.fixture
def resolver(monkeypatch):
    """A resolver that gives its answers in turn, and a network that notes where connections would go."""
    answers, made = [], []

    def find(host, port, *_, **__):
        addresses = [host] if host[0].isdigit() else answers.pop(0)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in addresses]

    def connect(address, *_, **__):
        made.append(find(*address)[0][4][0])
        raise OSError("unreachable")

    monkeypatch.setattr(socket, "getaddrinfo", find)
    monkeypatch.setattr(urllib3.util.connection, "create_connection", connect)
    monkeypatch.setenv("no_proxy", "*")
    return SimpleNamespace(answers=answers, made=made)


def ask(url, *, private=False):
    return open_url(url, private=private, headers={}, timeout=urllib3.Timeout(1))


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_connection_goes_to_the_address_that_was_judged(resolver, scheme):
    resolver.answers += [["9.9.9.9"], ["127.0.0.1"], ["127.0.0.1"]]
    with pytest.raises(urllib3.exceptions.MaxRetryError):
        ask(f"{scheme}://rebound.test/a.tif")
    with pytest.raises(RefusedAddressError, match=r"rebound\.test leads to 127\.0\.0\.1 is an address on a private"):
        ask(f"{scheme}://rebound.test/a.tif")
    assert resolver.made == ["9.9.9.9"], "the name was not resolved again after it was judged"


@pytest.mark.parametrize("address", ["10.1.2.3", "169.254.169.254", "100.64.0.1", "127.8.8.8"])
def test_names_that_lead_inside_are_not_asked(resolver, address):
    resolver.answers += [[address]]
    with pytest.raises(RefusedAddressError):
        ask("https://inside.test/a.tif")
    assert resolver.made == []


def test_where_private_networks_are_allowed_the_host_of_the_machine_is_not(resolver):
    resolver.answers += [["10.1.2.3"], ["169.254.169.254"]]
    with pytest.raises(urllib3.exceptions.MaxRetryError):
        ask("https://inside.test/a.tif", private=True)
    with pytest.raises(RefusedAddressError):
        ask("https://inside.test/a.tif", private=True)
    assert resolver.made == ["10.1.2.3"]


def test_a_catalogue_is_private_as_long_as_all_of_it_is():
    inside, turned = Reach(), Reach()
    assert not inside.private
    assert [inside(address) for address in ("10.0.0.1", "10.0.0.2", "::1")] == ["", "", ""]
    assert inside.private
    assert turned("10.0.0.1") == turned("9.9.9.9") == ""
    assert not turned.private
    assert "private network" in turned("10.0.0.1")
    assert Reach(private=True)("10.0.0.1") == ""
    assert "of the link" in inside("169.254.169.254")


class _Redirects(BaseHTTPRequestHandler):
    """Leads to ``server.target``, again and again, or to a text."""

    def log_message(self, *_):
        """Keep quiet."""

    def do_GET(self):
        target = None if self.path == "/end" else self.server.target
        self.send_response(200 if target is None else 302)
        if target is not None:
            self.send_header("Location", target)
        self.send_header("Content-Length", "3")
        self.end_headers()
        self.wfile.write(b"end")


@pytest.fixture
def redirects(monkeypatch):
    monkeypatch.setenv("no_proxy", "*")
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Redirects)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize(
    "target",
    [
        "file:///etc/passwd", "ftp://127.0.0.1/a", "gopher://127.0.0.1/a", "data:text/plain,a",
        "http://169.254.169.254/latest", "//169.254.169.254/latest", "http://2852039166/", "https:///a", "/again",
    ],
)  # fmt: skip
def test_redirects_lead_to_archives_only(redirects, target):
    redirects.target = target
    with pytest.raises(RefusedAddressError):
        ask(f"http://127.0.0.1:{redirects.server_port}/a.tif", private=True)


def test_a_redirect_on_the_way_is_followed(redirects):
    redirects.target = "/end"
    assert ask(f"http://127.0.0.1:{redirects.server_port}/a.tif", private=True).data == b"end"


@pytest.mark.parametrize("target", ["http://10.0.0.1/a", "https://localhost/a", "https://metadata.google.internal/a"])
def test_a_public_archive_leads_to_no_private_network(target):
    with pytest.raises(RefusedAddressError):
        _follow("https://archive.test/a", target, private=False)
    with pytest.raises(RefusedAddressError, match="from https: to http:"):
        _follow("https://archive.test/a", "http://archive.test/a", private=False)
    assert _follow("http://archive.test/a/b", "https://archive.test/c", private=False) == "https://archive.test/c"
