"""An object store on loopback: moto's S3, which refuses stale conditional writes, behind faults and a request log.

As a program it serves until it is ended, and prints its address. ``PUT /_faults`` takes a list of rules and empties the
log, ``GET /_log`` gives the log. A rule is ``{"match": regex, "after": m, "times": n, "status": 503, "late": false}``;
the expression is searched for in ``METHOD /bucket/key``, and the first m requests that it fits pass. Status 0 breaks
the connection; ``late`` does what was asked for first.
"""

import json
import logging
import re
import socket
import subprocess
import sys
import urllib.request
import uuid
from contextlib import contextmanager
from http import HTTPStatus
from pathlib import Path
from threading import Lock

BUCKET = "maps"
CODES = {403: "AccessDenied", 409: "OperationAborted", 503: "SlowDown"}
"""409 is what S3 answers to a request that it wants to see again, and the one that Icechunk does not put again."""


def make_location():
    """A location in the bucket that no other test has."""
    return f"s3://{BUCKET}/{uuid.uuid4().hex}/map.icechunk"


class Faulty:
    """A WSGI application that fails as it is told."""

    def __init__(self, app):
        self.app, self.rules, self.log, self.lock = app, [], [], Lock()

    def __call__(self, environ, start_response):
        line = f"{environ['REQUEST_METHOD']} {environ['PATH_INFO']}"
        if line == "PUT /_faults":
            with self.lock:
                self.rules = json.loads(environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"])))
                self.log = []
            return _answer(start_response, 200, b"")
        if line == "GET /_log":
            return _answer(start_response, 200, json.dumps(self.log).encode())
        rule = self._strike(line)
        if rule and rule.get("late"):
            b"".join(self.app(environ, lambda *_: None))
        if rule:
            return _fail(environ, start_response, rule["status"])
        return self.app(environ, start_response)

    def _strike(self, line):
        with self.lock:
            self.log.append(line)
            for rule in self.rules:
                if not re.search(rule["match"], line):
                    continue
                if rule["after"] > 0:
                    rule["after"] -= 1
                elif rule["times"] > 0:
                    rule["times"] -= 1
                    return rule
        return None


def _fail(environ, start_response, status):
    if not status:
        environ["werkzeug.socket"].shutdown(socket.SHUT_RDWR)
        return _answer(start_response, 200, b"")
    body = f"<?xml version='1.0'?><Error><Code>{CODES[status]}</Code><Message>as told</Message></Error>"
    return _answer(start_response, status, body.encode())


def _answer(start_response, status, body):
    headers = [("Content-Length", str(len(body))), ("Content-Type", "application/xml")]
    start_response(f"{status} {HTTPStatus(status).phrase}", headers)
    return [body]


class ObjectStore:
    """The server from outside."""

    def __init__(self, address):
        self.address = address
        self._request("PUT", BUCKET)

    def environment(self):
        """What a process needs to use it."""
        return {
            "AWS_ENDPOINT_URL": self.address,
            "AWS_ACCESS_KEY_ID": "key",
            "AWS_SECRET_ACCESS_KEY": "secret",
            "AWS_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
            "NO_PROXY": "127.0.0.1",
        }

    def fail(self, match="", *, after=0, times=10**9, status=503, late=False):
        """Let requests fail from now on; the log starts anew. Without an expression nothing fails."""
        rules = [{"match": match, "after": after, "times": times, "status": status, "late": late}] if match else []
        self._request("PUT", "_faults", json.dumps(rules).encode())

    def log(self):
        """Requests since :meth:`fail` was called, as ``METHOD /bucket/key``."""
        return json.loads(self._request("GET", "_log"))

    def _request(self, method, path, data=None):
        request = urllib.request.Request(f"{self.address}/{path}", method=method, data=data)  # noqa: S310 - loopback
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=60) as answer:
            return answer.read()


@contextmanager
def serve_objects():
    """Start a server with one empty bucket."""
    with subprocess.Popen([sys.executable, Path(__file__)], stdout=subprocess.PIPE, text=True) as process:
        try:
            yield ObjectStore(process.stdout.readline().strip())
        finally:
            process.terminate()


def main():
    from moto.server import create_backend_app  # noqa: PLC0415 - heavy
    from werkzeug.serving import make_server  # noqa: PLC0415

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    # not behind moto's dispatcher, which looks through the folders of all services at every request
    app = Faulty(create_backend_app("s3").wsgi_app)
    server = make_server("127.0.0.1", 0, app, threaded=True)
    sys.stdout.write(f"http://127.0.0.1:{server.port}\n")
    sys.stdout.flush()
    server.serve_forever()


if __name__ == "__main__":
    main()
