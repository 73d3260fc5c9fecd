"""Middleware around every route: limits of size and time, the token, security headers, HEAD and If-None-Match.

HEAD is answered with the status and the headers of GET (RFC 9110, 9.3.2), and what a client has already with 304, in
one place for all routes.
"""

import asyncio
import hmac
import re
from collections.abc import Mapping
from contextlib import suppress
from types import MappingProxyType

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mapper.serve.conditions import is_known
from mapper.serve.errors import make_refusal
from mapper.serve.settings import AppSettings

_SECURITY_HEADERS: Mapping[str, str] = MappingProxyType(
    {
        "X-Content-Type-Options": "nosniff",
        "X-Frame-Options": "DENY",
        "Referrer-Policy": "no-referrer",
        "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    }
)
"""Headers of every answer; a page sets a policy of its own."""
_CLOSE: Mapping[str, str] = MappingProxyType({"Connection": "close"})
"""Header of an answer to a body that was not read: the rest of it would be taken for the next request."""
_OPEN = re.compile(r"/(?:health|static/.*)?")
"""Paths without a token: the one that orchestrators ask, and the map page, which holds nothing of the map."""
_OWN_HEAD = "/zarr/"
"""Paths of routes that answer HEAD themselves: GET would read whole shards, only to throw them away."""
_HOST = re.compile(r"(?:[A-Za-z0-9._~%!$&'()*+,;=-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{0,5})?")
"""Host and port as RFC 9110 (7.2) has them: they may stand in links of an answer."""
_OF_CONTENT = ("content-length", "content-type")
"""Headers that an answer without content does not have."""


class _TooLargeError(Exception):
    """A body goes on beyond the limit."""


class LimitsMiddleware:
    """Middleware that refuses what is too long, too large or not allowed, and ends what takes too long."""

    def __init__(self, app: ASGIApp, *, settings: AppSettings) -> None:
        self._app = app
        self._settings = settings

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or answer it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        reply = _Reply(send, scope, varies=bool(self._settings.cors))
        if scope["method"] == "HEAD" and not scope["path"].startswith(_OWN_HEAD):
            scope = {**scope, "method": "GET"}
        refusal = self._find_refusal(scope)
        if refusal:
            await refusal(scope, receive, reply.send)
            return
        work = asyncio.create_task(self._run_app(scope, receive, reply))
        try:
            begun = asyncio.create_task(reply.begun.wait())
            await asyncio.wait((work, begun), timeout=self._settings.max_seconds, return_when=asyncio.FIRST_COMPLETED)
            begun.cancel()
            if not (reply.begun.is_set() or work.done()):
                late = make_refusal(
                    503, f"no answer within {self._settings.max_seconds:g} s; ask for less", {"Retry-After": "5"}
                )
                await late(scope, receive, reply.take_over())
                return
            await work
        finally:
            work.cancel()

    def _find_refusal(self, scope: Scope) -> ASGIApp | None:
        """Return the answer to a request that goes no further; None to pass it on."""
        settings, headers = self._settings, Headers(scope=scope)
        if len(scope.get("raw_path") or b"") + len(scope["query_string"]) > settings.max_url_bytes:
            return make_refusal(414, f"the address is longer than {settings.max_url_bytes} bytes")
        host = headers.get("host")
        if host is not None and not _HOST.fullmatch(host):
            return make_refusal(400, "the Host header names no host")
        length = headers.get("content-length", "0")
        if not length.isdecimal() or int(length[:20]) > settings.max_body_bytes:
            return make_refusal(413, f"the body is larger than {settings.max_body_bytes} bytes", _CLOSE)
        if settings.token and not _OPEN.fullmatch(scope["path"]) and not _is_allowed(headers, settings.token):
            return make_refusal(401, "a token is needed: Authorization: Bearer ...", {"WWW-Authenticate": "Bearer"})
        return None

    async def _run_app(self, scope: Scope, receive: Receive, reply: "_Reply") -> None:
        """Run the application, its body cut off at the limit."""
        left = self._settings.max_body_bytes

        async def receive_limited() -> Message:
            nonlocal left
            message = await receive()
            left -= len(message.get("body", b""))
            if left < 0:
                raise _TooLargeError
            return message

        async def send_unless_too_large(message: Message) -> None:
            if left >= 0 or reply.begun.is_set():  # else the application took the error for one of its own
                await reply.send(message)

        with suppress(_TooLargeError):
            await self._app(scope, receive_limited, send_unless_too_large)
        if left < 0 and not reply.begun.is_set():
            large = make_refusal(413, f"the body is larger than {self._settings.max_body_bytes} bytes", _CLOSE)
            await large(scope, receive, reply.send)


class _Reply:
    """Answer to a client, with security headers, from one sender alone."""

    def __init__(self, send: Send, scope: Scope, *, varies: bool) -> None:
        self._send = send
        self._method = scope["method"]
        self._asked = Headers(scope=scope)
        self._varies = varies
        self._taken = False
        self._bodiless = self._method == "HEAD"
        self.begun = asyncio.Event()

    async def send(self, message: Message) -> None:
        """Send a message of the application, unless another sender has taken over."""
        if not self._taken:
            await self._pass_on(message)

    def take_over(self) -> Send:
        """Return the sender of an answer in place of the application's."""
        self._taken = True
        return self._pass_on

    async def _pass_on(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._complete(message)
            self.begun.set()
        elif self._bodiless and message["type"] == "http.response.body":
            message = {**message, "body": b""}
        await self._send(message)

    def _complete(self, message: Message) -> None:
        """Complete status and headers of an answer."""
        headers = MutableHeaders(scope=message)
        for name, value in _SECURITY_HEADERS.items():
            headers.setdefault(name, value)
        if self._varies:  # what a page of another origin may not read, a cache is not to give it
            headers.add_vary_header("Origin")
        asked = self._method in ("GET", "HEAD") and message["status"] == 200
        if asked and is_known(self._asked, headers.get("etag", "")):
            message["status"] = 304
            self._bodiless = True
            for name in _OF_CONTENT:
                del headers[name]
        elif message["status"] == 405 and headers.get("allow") == "GET":
            headers["Allow"] = "GET, HEAD"


def _is_allowed(headers: Headers, token: str) -> bool:
    kind, _, given = headers.get("authorization", "").partition(" ")
    return kind.lower() == "bearer" and hmac.compare_digest(given.strip().encode(), token.encode())
