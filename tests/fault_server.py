"""A file server for tests and for trying things out, which fails on purpose.

    python tests/fault_server.py FOLDER --share 0.1 --seed 3 --token-life 5

It serves the files of a folder over HTTP/1.1 with ranges, kept connections and ETags, prints its address, and answers
``/log`` with what it has served. A share of the requests for files meets a fault, drawn with a seed; ``--first`` says
in order what the first requests meet. Faults:

    429 503 403 404 ...  that status, 429 and 503 with Retry-After
    reset                the connection is reset before an answer
    stall                nothing comes after the headers
    cut                  half of the stated body, then the connection ends
    short                a smaller range than asked for, stated correctly
    whole                all of the file, as if no range had been asked for
    html                 a web page
    tag                  another ETag
    none                 nothing wrong

With ``--token-life`` files want ``?se=..&sig=..`` as ``/token/ACCOUNT/CONTAINER`` gives it, for so many seconds; the
container is the first folder of a path. Anything else is answered with 403.
"""

import argparse
import hashlib
import hmac
import json
import random
import re
import socket
import struct
import subprocess
import sys
import threading
import time
import urllib.request
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

from file_server import KeptOpen

KINDS = ("429", "503", "reset", "stall", "cut", "short")
SECRET = b"only for tests"
PAGE = b"<html><body>Please log in</body></html>"
_RANGE = re.compile(r"bytes=(\d+)-(\d*)$")


class Server:
    """A running server: its address, and what it has served."""

    def __init__(self, address):
        self.address = address

    def log(self):
        """Requests for files and tokens in order: path, first, last, status, fault, time, client."""
        with urllib.request.urlopen(f"{self.address}/log") as answer:  # noqa: S310 - loopback
            return json.load(answer)


@contextmanager
def serve_faults(folder, *options):
    """Run a server in a process of its own; options as on the command line."""
    command = [sys.executable, str(Path(__file__)), str(folder), *map(str, options)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield Server(process.stdout.readline().strip())
        finally:
            process.kill()


class Faults:
    """Which fault the next request meets."""

    def __init__(self, *, first=(), share=0.0, kinds=KINDS, seed=0):
        self.first, self.share, self.kinds = list(first), share, kinds
        self.random = random.Random(seed)
        self.lock = threading.Lock()

    def draw(self):
        with self.lock:
            if self.first:
                return self.first.pop(0)
            return self.random.choice(self.kinds) if self.random.random() < self.share else "none"


def sign(container, expires):
    """A query string that lets in until a time."""
    text = expires.isoformat()
    return f"se={text.replace('+', '%2B')}&sig={_signature(container, text)}"


def _signature(container, expires):
    return hmac.new(SECRET, f"{container} {expires}".encode(), hashlib.sha256).hexdigest()


class Handler(KeptOpen):
    """One connection."""

    def do_GET(self):  # noqa: N802 - the name that the base class calls
        parts = urlsplit(self.path)
        if parts.path == "/log":
            self.reply(200, json.dumps(self.server.served).encode(), {"Content-Type": "application/json"})
        elif parts.path.startswith("/token/"):
            self.note("token", status=200)
            self.give_token(parts.path.split("/")[-1])
        else:
            self.serve_file(parts)

    def give_token(self, container):
        expires = datetime.now(UTC) + timedelta(seconds=self.server.options.token_life or 3600)
        body = {"token": sign(container, expires), "msft:expiry": expires.isoformat()}
        self.reply(200, json.dumps(body).encode())

    def serve_file(self, parts):
        time.sleep(self.server.options.delay)
        fault = self.server.faults.draw()
        path = (self.server.folder / unquote(parts.path).lstrip("/")).resolve()
        if not self.may_read(parts):
            self.fail(403, fault="expired")
        elif fault.isdigit():
            self.fail(int(fault), fault=fault)
        elif fault == "reset":
            self.note(fault)
            # closing with data unsent and no time to linger resets the connection
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()
            self.close_connection = True
        elif fault == "html":
            self.note(fault, status=200)
            self.reply(200, PAGE, {"Content-Type": "text/html"})
        elif not path.is_relative_to(self.server.folder) or not path.is_file():
            self.fail(404)
        else:
            self.send_part(path, fault)

    def may_read(self, parts):
        if not self.server.options.token_life:
            return True
        query = parse_qs(parts.query)
        expires, given = query.get("se", [""])[0], query.get("sig", [""])[0]
        if not hmac.compare_digest(given, _signature(parts.path.split("/")[1], expires)):
            return False
        return datetime.fromisoformat(expires) > datetime.now(UTC)

    def send_part(self, path, fault):
        size = path.stat().st_size
        match = _RANGE.match(self.headers.get("Range", ""))
        ranged = match is not None and fault != "whole"
        first = int(match[1]) if ranged else 0
        last = min(int(match[2]), size - 1) if ranged and match[2] else size - 1
        if first > last:
            self.fail(416, headers={"Content-Range": f"bytes */{size}"})
            return
        if fault == "short":
            last = first + (last - first) // 2
        headers = {"ETag": f'"{size:x}{fault if fault == "tag" else ""}"', "Accept-Ranges": "bytes"}
        if ranged:
            headers["Content-Range"] = f"bytes {first}-{last}/{size}"
        with path.open("rb") as file:
            file.seek(first)
            body = file.read(last + 1 - first)
        status = 206 if ranged else 200
        self.note(fault, status=status, first=first, last=last)
        if fault == "stall":
            self.reply(status, b"", headers, length=len(body))
            self.wfile.flush()
            time.sleep(self.server.options.stall)
            self.close_connection = True
        elif fault == "cut":
            self.reply(status, body[: len(body) // 2], headers, length=len(body))
            self.close_connection = True
        else:
            self.reply(status, body, headers)

    def fail(self, status, *, fault="none", headers=None):
        self.note(fault, status=status)
        pause = {"Retry-After": self.server.options.retry_after} if status in (429, 503) else {}
        self.reply(status, b"", {**pause, **(headers or {})})

    def note(self, fault, *, status=0, first=0, last=-1):
        # before the answer leaves, so that a client that has its answer finds it in the log
        self.server.served.append(
            {
                "path": urlsplit(self.path).path,
                "first": first,
                "last": last,
                "status": status,
                "fault": fault,
                "time": time.monotonic(),
                "client": self.client_address[1],
            }
        )

    def reply(self, status, body, headers=None, *, length=None):
        self.send_response(status)
        for key, value in (headers or {}).items():
            self.send_header(key, str(value))
        self.send_header("Content-Length", str(len(body) if length is None else length))
        self.end_headers()
        self.wfile.write(body)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def handle_error(self, *_):
        """Clients that hang up are nothing to talk about."""


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--share", type=float, default=0.0, help="of the requests that meet a fault")
    parser.add_argument("--kinds", nargs="+", default=KINDS, help="faults to draw from")
    parser.add_argument("--first", nargs="+", default=(), help="faults of the first requests, in order")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--stall", type=float, default=5.0, help="seconds")
    parser.add_argument("--delay", type=float, default=0.0, help="seconds before every answer")
    parser.add_argument("--retry-after", default="0", help="seconds, or a date")
    parser.add_argument("--token-life", type=float, default=0.0, help="seconds; 0 for files that want no token")
    options = parser.parse_args()
    server = _Server(("127.0.0.1", options.port), Handler)
    server.options, server.folder, server.served = options, options.folder.resolve(), []
    server.faults = Faults(first=options.first, share=options.share, kinds=options.kinds, seed=options.seed)
    sys.stdout.write(f"http://127.0.0.1:{server.server_port}\n")
    sys.stdout.flush()
    server.serve_forever()


if __name__ == "__main__":
    main()
