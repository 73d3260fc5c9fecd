"""Requests that nobody means well by, made from a seed: bytes as they go over the wire.

A route that is added to the server is added to :data:`TARGETS` here, with what it takes; every kind of malice is then
tried on it.
"""

import json
import math
import random
import re
import socket
from dataclasses import dataclass
from urllib.parse import quote

SNAPSHOT = "CVWZ7WN0P7T9WDE5CYF0"
TARGETS = {
    "/zarr/{ref}/{key}": (),
    "/pixel": ("x", "y", "crs", "ref"),
    "/history": ("x", "y", "crs", "ref", "limit"),
    "/tiles/{ref}/{variable}/{z}/{x}/{y}.png": ("colormap", "rescale", "resampling", "scale"),
    "/tiles/{ref}/{variable}/{z}/{x}/{y}.npy": ("resampling", "scale"),
    "/tilejson.json": ("variable", "ref", "colormap", "rescale"),
    "/wmts": ("ref", "request"),
    "/stats": ("ref", "correlation", "bins", "range"),
    "/stac": (),
    "/stac/item": ("ref",),
    "/health": (),
    "/": (),
    "/versions": ("ref", "limit"),
    "/static/{name}": (),
    "/docs/{name}": (),
    "/openapi.json": (),
}
"""Paths of the server, and the parameters of each."""
GOOD = {
    "ref": "main", "key": "agb/c/0/0", "name": "swagger-ui.css", "x": "12.01", "y": "50.006", "crs": "EPSG:4326",
    "limit": "3", "variable": "agb", "colormap": "magma", "rescale": "0,300", "resampling": "nearest", "scale": "1",
    "request": "GetCapabilities", "correlation": "500", "bins": "10", "range": "0,300",
}  # fmt: skip
"""A value of each parameter that is meant well."""
PLACES = {"z": "13", "x": "4369", "y": "2778"}
"""The same of parts of a path that mean something else than the parameter of their name."""
SQUARE = [[12.0, 50.0], [12.01, 50.0], [12.01, 50.01], [12.0, 50.01], [12.0, 50.0]]
POSTED = {
    "/stats": (
        {"type": "Polygon", "coordinates": [SQUARE]},
        {"type": "Feature", "geometry": {"type": "MultiPolygon", "coordinates": [[SQUARE]]}, "properties": None},
        {"type": "Polygon", "coordinates": [[[-180, -90], [180, -90], [180, 90], [-180, 90], [-180, -90]]]},
        {"type": "Polygon", "coordinates": [[[-80, -80], [80, -80], [80, 80], [-80, 80], [-80, -80]]]},
        {"type": "Polygon", "coordinates": [[[12 + 0.02 * (k % 2), 50 + k * 1e-6] for k in range(9000)]]},
        {"type": "Polygon", "coordinates": [[[0, 0]] * 50_000]},
        {"type": "Polygon", "coordinates": [[[math.nan, math.inf], [1e308, -1e308], [0, 0], [math.nan, math.inf]]]},
        {"type": "Polygon", "coordinates": [[[10**300, 0], [0, "0"], [None, {}], [[], 0]]]},
        {"type": "GeometryCollection", "geometries": [{"type": "Polygon", "coordinates": [SQUARE]}] * 1000},
        {"type": "Feature", "geometry": {"type": "Feature", "geometry": {}}},
        {"type": "Polygon", "coordinates": "/etc/passwd", "url": "file:///etc/passwd"},
        ["[" * 20_000],
    )
}
"""Bodies of what is not asked for with GET; the first two are meant well."""
CLIMBS = (
    "..",
    "%2e%2e",
    "%252e%252e",
    "..%2f",
    "..%252f",
    "..\\",
    "..%5c",
    "%c0%ae%c0%ae",
    "....//",
    ".%00.",
    "/",
    "//",
)
AIMS = (
    "secret.txt", "etc/passwd", "map.icechunk/repo", "refs/branch.main/ref.json", "snapshots", "proc/self/environ",
    "C:\\windows\\win.ini", "file:///etc/passwd", "http://127.0.0.1:1/", "zarr.json", "ledger/records/c/0",
)  # fmt: skip
JUNK = (
    "", "%00", "main%00", "\u202emain", "a" * 300, "a" * 3000, "a" * 9000, "' OR 1=1 --", "<script>alert(1)</script>",
    "${jndi:ldap://a}", "{{7*7}}", "%", "%zz", "%ff%fe", "..;/", "-1", "0" * 20, SNAPSHOT, "z" * 20, "main/../main",
    "refs/heads/main", "*", "?", "#", "~", "null", "undefined", "NaN", "main%0d%0aX-Injected:%20yes",
    "agb%0d%0a%0d%0a<html>", "%u002e%u002e", "main%e2%80%8b", "ma%69n", "x" * 200 + "/" * 200,
)  # fmt: skip
NUMBERS = (
    "nan", "NaN", "inf", "-inf", "1e308", "-1e308", "1e309", "9" * 400, "1e-400", "0x10", "1,5", "1_0", "", " ", "--1",
    "true", "[]", "1e999999999", "\u0661", "0", "-0", "90.0000001", "180", "-180", "4465000", "2990000",
    "12.01", "50.006", "14", "24", "25", "31", "63", "64", "1000000", "16777215", "16777216", "4294967296",
    "-9999999999",
)  # fmt: skip
SPANS = (
    "0,0", "1,0", "nan,nan", "0,inf", "-1e308,1e308", "1e-320,2e-320", "0,1,2", ",", "0;1", "0x0,0x1", "1e30,2e30",
    "-1e30,1e30", "\u0661,\u0662", "9" * 300 + ",1", "0,1e-30",
)  # fmt: skip
SYSTEMS = (
    "EPSG:0", "EPSG:-1", "EPSG:99999999999999", "EPSG:4978", "EPSG:5773", "EPSG:3857", "EPSG:3035", "EPSG:32633", "map",
    "OGC:CRS84", "ESRI:102022", "IAU_2015:30100", "EPSG", ":", "EPSG:4326+5773", "+proj=longlat +nadgrids=/etc/passwd",
    "+init=/etc/passwd:1", "/etc/passwd", "http://127.0.0.1:1/x.prj", "urn:ogc:def:crs:EPSG::4326", "PROJCRS[", "{}",
    "EPSG:4326\n", "EPSG:2193", "EPSG:27700", "EPSG:3031",
)  # fmt: skip
RANGES = (
    "bytes=0-", "bytes=-0", "bytes=-1", "bytes=5-2", "bytes=-", "bytes=", "bytes=0-0,1-1", "bytes=" + "0-0," * 500,
    "bytes=99999999999999999999999-", "bytes=0-99999999999999999999999", "bytes=-99999999999999999999", "bytes=a-b",
    "lines=1-2", "bytes=--5", "bytes=0-1-2", "bytes=\u0661-", "bytes=" + "9" * 6000 + "-", "bytes =0-1", "0-1", "",
)  # fmt: skip
METHODS = (
    "POST",
    "PUT",
    "DELETE",
    "PATCH",
    "OPTIONS",
    "TRACE",
    "CONNECT",
    "PROPFIND",
    "get",
    "GE T",
    "BREW",
    "A" * 300,
)
HEADERS = (
    ("If-None-Match", "*"), ("If-None-Match", '"' * 500), ("If-Range", "x"), ("Authorization", "Bearer " + "a" * 4000),
    ("Authorization", "Basic Og=="), ("Host", "evil.example"), ("Host", "a b"), ("X-Forwarded-For", "1" * 500),
    ("X-Forwarded-Host", "evil.example"), ("Origin", "null"), ("Cookie", "a=b; " * 300), ("Content-Length", "-1"),
    ("Content-Length", "99999999999999"), ("Content-Length", "abc"), ("Transfer-Encoding", "chunked, chunked"),
    ("Transfer-Encoding", "gzip"), ("Expect", "100-continue"), ("Upgrade", "websocket"), ("Accept", "\x01"),
    ("Accept-Encoding", "gzip;q=\u0661"), ("Content-Type", "multipart/form-data"), ("X-HTTP-Method-Override", "DELETE"),
    ("Long", "a" * 20000), ("Accept-Language", "../" * 1000), ("Referer", "file:///etc/passwd"), ("Nul", "a\0b"),
    ("Range", "a" * 12000), ("X-Original-URL", "/../secret.txt"), ("X-Rewrite-URL", "/../secret.txt"), ("Host", ""),
)  # fmt: skip
MEDIA = (
    "text/plain", "text/xml", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "text/html",
    "application/json; charset=utf-7", "application/json; charset=nothing", "application/geo+json", "application/xml",
    "application/x-python-pickle", "application/octet-stream", "image/png", "*/*", "", "json", "application/json" * 99,
    "application/json\x01", "application/x-protobuf", "application/JSON;;;", "text/yaml",
)  # fmt: skip
"""Kinds that bodies are said to be of."""
BODIES = (
    b"", b"null", b"[]", b'"a"', b"[" * 5000, b'"', b"\xff\xfe", b"1e999", b'{"type": "Polygon"' * 100, b"\0" * 100,
    b'{"a":' * 3000 + b"1" + b"}" * 3000, b"NaN", b'{"type": NaN}', b"9" * 5000, b'{"type": "Polygon", "type": []}',
    b'<?xml version="1.0"?><!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/passwd">]><a>&b;</a>',
    b"!!python/object:os.system", b"polygon=%7B%7D",
    b"--x\r\nContent-Disposition: form-data; name=a; filename=../a\r\n\r\nb\r\n--x--\r\n",
    b"\x80\x04\x95", b'{"\\ud800": 1}', b"\xef\xbb\xbf{}", b"a" * (1 << 20), b" " * ((1 << 20) + 1),
)  # fmt: skip
"""Bodies that hold no polygon; the last is larger than is taken."""
END = b"Host: a\r\nConnection: close\r\n\r\n"
PIECES = b"POST /stats HTTP/1.1\r\nTransfer-Encoding: chunked\r\n" + END
LINES = (
    b"GET /health HTTP/9.9\r\n" + END, b"GET /health\r\n\r\n", b"GET  /health  HTTP/1.1\r\n" + END, b"\r\n\r\n\r\n\r\n",
    b"GET /health HTTP/1.1\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", b"\0" * 64 + b"\r\n\r\n",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"GET http://127.0.0.1:1/health HTTP/1.1\r\n" + END,
    b"GET //127.0.0.1:1/..;/etc/passwd HTTP/1.1\r\n" + END, b"GET ../../etc/passwd HTTP/1.1\r\n" + END,
    b"GET \\..\\..\\secret.txt HTTP/1.1\r\n" + END, b"GET /%00/../secret.txt HTTP/1.1\r\n" + END,
    b"GET * HTTP/1.1\r\n" + END, b"OPTIONS * HTTP/1.1\r\n" + END, b"CONNECT 127.0.0.1:1 HTTP/1.1\r\n" + END,
    b"GET / HTTP/1.0\r\n\r\n",
    b"GET /health HTTP/1.1\r\n folded: a\r\n" + END, b"GET /health HTTP/1.1\r\nno colon\r\n" + END,
    b"GET /health HTTP/1.1\r\n" + b"A: b\r\n" * 400 + END, b"GET /health HTTP/1.1\r\nA : b\r\n" + END,
    b"GET /health HTTP/1.1\r\nHost: a\r\n" + END, b"GET /" + b"a" * 30_000 + b" HTTP/1.1\r\n" + END,
    b"POST /stats HTTP/1.1\r\nContent-Length: 4\r\nContent-Length: 5\r\n" + END + b"nulll",
    b"POST /stats HTTP/1.1\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n" + END + b"0\r\n\r\n",
    PIECES + b"4\r\nnull\r\n0\r\n\r\n",
    PIECES + b"zz\r\nnull\r\n0\r\n\r\n",
    PIECES + b"8000\r\n" + b"a" * 0x8000 + b"\r\n0\r\nA: b\r\n\r\n",
    PIECES + (b"40000\r\n" + b"a" * 0x40000 + b"\r\n") * 6 + b"0\r\n\r\n",
)  # fmt: skip
"""Requests that are none, or are so in a way that servers in a row understand differently."""


def make_requests(count, seed=0):
    """Yield requests as bytes; each may end the connection that it is sent over."""
    dice = random.Random(seed)
    for _ in range(count):
        yield _make_request(dice)


def _make_request(dice):
    kind = dice.randrange(9)
    if kind == 8 and dice.random() < 0.5:
        return dice.choice(LINES)
    method, headers, body = dice.choice(("GET", "GET", "GET", "HEAD")), {"Host": "127.0.0.1"}, b""
    path, parameters = dice.choice(list(TARGETS.items()) if kind < 7 else [(path, TARGETS[path]) for path in POSTED])
    address = _climb(dice) if kind == 0 else _fill(dice, path, parameters, spoiled=kind != 5)
    if kind and path in POSTED:
        method, body = "POST", _fill_body(dice, path)
        media = dice.choice(MEDIA) if kind == 7 else "application/json"
        headers |= {"Content-Type": media, "Content-Length": str(len(body))}
    if kind == 1 or dice.random() < 0.1:
        headers["Range"] = dice.choice(RANGES)
    if kind == 2:
        method = dice.choice(METHODS)
        body = bytes(dice.choice((0, 10, 2000)))
        headers["Content-Length"] = str(len(body))
    if kind == 3:
        name, value = dice.choice(HEADERS)
        headers[name] = value
    if kind == 4:
        address = _scramble(dice, address)
    if kind == 6 and dice.random() < 0.2:
        address += f"{'&' if '?' in address else '?'}{'ref=main&' * dice.choice((3, 100, 400, 1000))}x=1"
    lines = [f"{method} {address} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items()), "", ""]
    return "\r\n".join(lines).encode("utf-8", "surrogateescape") + body


def _climb(dice):
    """An address that leads out of the store, if anything takes it for a path."""
    start = dice.choice(("", "/", "/zarr/main/", "/zarr/", "/zarr/main/agb/c/", "/docs/", "/stac/", "//", "http://a/"))
    steps = [dice.choice(CLIMBS) for _ in range(dice.randrange(1, 9))]
    return start + dice.choice(("/", "")).join(steps) + "/" + dice.choice(AIMS)


def _fill(dice, path, parameters, *, spoiled):
    """An address of the server with values filled in, some of which are spoiled."""
    for name in re.findall(r"{(\w+)}", path):
        good = PLACES.get(name, GOOD.get(name))
        path = path.replace(f"{{{name}}}", _choose(dice, name, good) if spoiled else good)
    given = [
        (name, _choose(dice, name, GOOD[name]) if spoiled else GOOD[name])
        for name in parameters
        if dice.random() < 0.95
    ]
    if spoiled and dice.random() < 0.1:
        given.append((dice.choice(("url", "path", "file", "x", "ref")), dice.choice(AIMS)))
    return path + "?" * bool(given) + "&".join(f"{name}={quote(value, safe='%')}" for name, value in given)


def _fill_body(dice, path):
    """A body that is sent; some are no JSON at all."""
    good, bad = POSTED[path][:2], POSTED[path][2:]
    if dice.random() < 0.2:
        return dice.choice(BODIES)
    return json.dumps(dice.choice(good if dice.random() < 0.5 else bad)).encode()


def _choose(dice, name, good):
    """A value of a parameter; half of them are good, so that the bad ones get somewhere."""
    if dice.random() < 0.5:
        return good
    numbers = ("x", "y", "z", "limit", "correlation", "bins", "scale")
    kinds = dict.fromkeys(numbers, NUMBERS) | {"crs": SYSTEMS, "name": AIMS, "rescale": SPANS, "range": SPANS}
    return dice.choice(kinds.get(name, JUNK) if dice.random() < 0.8 else JUNK + AIMS)


def _scramble(dice, address):
    """An address with a few characters changed."""
    characters = list(address or "/")
    for _ in range(dice.randrange(1, 5)):
        characters[dice.randrange(len(characters))] = chr(dice.choice((0, 9, 10, 32, 37, 92, 127, 128, 0x3B1, 0x1F600)))
    return "".join(characters)


@dataclass(frozen=True, kw_only=True)
class Reply:
    """What came back."""

    status: int
    """0 where the connection was ended without an answer."""
    head: str = ""
    """Headers in lower case."""
    body: bytes = b""


class Wire:
    """A connection that sends what it is given, and is made anew when it was closed."""

    def __init__(self, port, timeout_s=20):
        self._port = port
        self._timeout_s = timeout_s
        self._socket = None
        self._rest = b""

    def send(self, request):
        """Send a request, and wait for the answer."""
        if self._socket is None:
            self._socket = socket.create_connection(("127.0.0.1", self._port), timeout=self._timeout_s)
            self._rest = b""
        try:
            self._socket.sendall(request)
            return self._receive(request)
        except TimeoutError as error:
            raise AssertionError(f"no answer to {request[:500]!r}") from error
        except (ConnectionError, EOFError):
            self.close()
            return Reply(status=0)

    def close(self):
        """End the connection."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _receive(self, request):
        head = self._read_until(b"\r\n\r\n").decode("latin-1").lower()
        status = int(head.split(" ", 2)[1])
        fields = dict(line.split(": ", 1) for line in head.split("\r\n")[1:] if ": " in line)
        bodiless = request.startswith(b"HEAD ") or status in (204, 304) or status < 200
        body = b"" if bodiless else self._read(int(fields.get("content-length", 0)))
        if fields.get("connection") == "close" or self._rest or status < 200:
            self.close()
        return Reply(status=status, head=head, body=body)

    def _read_until(self, mark):
        while mark not in self._rest:
            self._rest += self._more()
        head, _, self._rest = self._rest.partition(mark)
        return head

    def _read(self, count):
        while len(self._rest) < count:
            self._rest += self._more()
        body, self._rest = self._rest[:count], self._rest[count:]
        return body

    def _more(self):
        received = self._socket.recv(1 << 16)
        if not received:
            raise EOFError
        return received
