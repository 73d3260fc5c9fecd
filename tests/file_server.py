"""A plain file server for tests: GET and HEAD over HTTP/1.1 with ranges, keep-alive, ETags and a log of requests.

    with FileServer(folder) as server:
        read(server.url(folder / "B04.tif"))
        assert server.log()[0].method == "HEAD"

It is a process of its own, because GDAL holds Python up while it reads and would wait for itself. A query string is
logged and otherwise ignored, as an object store ignores a signature that it does not ask for.
"""

import json
import re
import subprocess
import sys
from dataclasses import asdict, dataclass
from email.utils import formatdate
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit
from urllib.request import ProxyHandler, build_opener

_LOG = "/.log"
_RANGE = re.compile(r"bytes=(\d*)-(\d*)$")


@dataclass(frozen=True, kw_only=True)
class Request:
    """One request, as it was answered."""

    method: str
    path: str
    """With the query string."""
    range: str | None
    status: int
    sent: int
    """Bytes of the body; a client may have hung up before the end."""
    connection: int
    """Port of the client: requests of one kept connection share it."""


class FileServer:
    """Files of a folder, for the length of a ``with`` block."""

    def __init__(self, folder):
        self.folder = Path(folder).resolve()

    def url(self, path):
        """Address of a file of the folder."""
        return f"{self.address}/{quote(str(Path(path).resolve().relative_to(self.folder)))}"

    def log(self):
        """Requests so far, in the order in which they were answered."""
        with build_opener(ProxyHandler({})).open(self.address + _LOG) as answer:
            return [Request(**entry) for entry in json.load(answer)]

    def __enter__(self):
        command = [sys.executable, __file__, str(self.folder)]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        self.address = self._process.stdout.readline().strip()
        return self

    def __exit__(self, *_):
        self._process.terminate()
        self._process.wait()
        self._process.stdout.close()


class KeptOpen(BaseHTTPRequestHandler):
    """A connection that is kept, answers at once, and prints nothing."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1  # head and body of a small answer in one packet

    def log_message(self, *_):
        """Keep quiet."""


class _Handler(KeptOpen):
    def do_GET(self):
        self.answer()

    def do_HEAD(self):
        self.answer()

    def answer(self):
        if self.path == _LOG:
            self.send_log()
            return
        folder = self.server.folder
        path = (folder / unquote(urlsplit(self.path).path).lstrip("/")).resolve()
        if not path.is_relative_to(folder) or not path.is_file():
            self.send(HTTPStatus.NOT_FOUND, b"", {})
            return
        state = path.stat()
        tag = f'"{state.st_size:x}-{state.st_mtime_ns:x}"'
        headers = {"ETag": tag, "Last-Modified": formatdate(state.st_mtime, usegmt=True), "Accept-Ranges": "bytes"}
        if self.headers.get("If-None-Match") in (tag, "*"):
            self.send(HTTPStatus.NOT_MODIFIED, b"", headers)
            return
        asked = self.headers.get("Range") if self.headers.get("If-Range", tag) == tag else None
        span = _parse_range(asked, state.st_size)
        if span is None:
            self.send(HTTPStatus.OK, path, headers, span=(0, state.st_size))
        elif span[0] >= span[1]:
            headers["Content-Range"] = f"bytes */{state.st_size}"
            self.send(HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE, b"", headers)
        else:
            headers["Content-Range"] = f"bytes {span[0]}-{span[1] - 1}/{state.st_size}"
            self.send(HTTPStatus.PARTIAL_CONTENT, path, headers, span=span)

    def send(self, status, content, headers, *, span=(0, 0)):
        length = span[1] - span[0]
        self.send_response(status)
        for key, value in {**headers, "Content-Type": "application/octet-stream"}.items():
            self.send_header(key, value)
        if status != HTTPStatus.NOT_MODIFIED:
            self.send_header("Content-Length", str(length))
        self.end_headers()
        sent = length if length and self.command == "GET" else 0
        # before the last packet leaves, so that a client that has its answer finds it in the log
        self.server.log.append(
            Request(
                method=self.command,
                path=self.path,
                range=self.headers.get("Range"),
                status=int(status),
                sent=sent,
                connection=self.client_address[1],
            )
        )
        if sent:
            with content.open("rb") as file:
                file.seek(span[0])
                self.wfile.write(file.read(sent))

    def send_log(self):
        body = json.dumps([asdict(request) for request in self.server.log]).encode()
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def handle_error(self, *_):
        """Clients may hang up when they have read enough."""


def _parse_range(text, size):
    """First byte and the byte after the last; None for all of it, also where a form is not understood."""
    match = _RANGE.match(text or "")
    if match is None or match.group(1) == match.group(2) == "":
        return None
    first, last = match.groups()
    if not first:
        return max(size - int(last), 0), size
    return int(first), min(int(last) + 1, size) if last else size


def main():
    server = _Server(("127.0.0.1", 0), _Handler)
    server.folder, server.log = Path(sys.argv[1]).resolve(), []
    sys.stdout.write(f"http://127.0.0.1:{server.server_port}\n")
    sys.stdout.flush()
    server.serve_forever()


if __name__ == "__main__":
    main()
