"""Middleware before every route: limits of size and time, the token, security headers."""

import asyncio
import hmac
import re
from collections.abc import Mapping
from contextlib import suppress
from types import MappingProxyType

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

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
        reply = _Reply(send)
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

    def __init__(self, send: Send) -> None:
        self._send = send
        self._taken = False
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
            headers = MutableHeaders(scope=message)
            for name, value in _SECURITY_HEADERS.items():
                headers.setdefault(name, value)
            self.begun.set()
        await self._send(message)


def _is_allowed(headers: Headers, token: str) -> bool:
    kind, _, given = headers.get("authorization", "").partition(" ")
    return kind.lower() == "bearer" and hmac.compare_digest(given.strip().encode(), token.encode())
