"""Settings of a server, and the file of its token."""

import re
from dataclasses import dataclass
from pathlib import Path

from mapper.errors import InputError

_TOKEN = re.compile(r"[A-Za-z0-9._~+/-]{16,512}=*")
"""A bearer token as RFC 6750 writes one, too long to be guessed."""
_PUBLIC_URL = re.compile(
    r"https?://(?:[A-Za-z0-9._~-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?(?:/[A-Za-z0-9._~!$&'()*+,;=:@%-]*)*"
)
"""Scheme, host, port and path (RFC 3986): no user, no query, nothing that a template or a page takes for its own."""


@dataclass(frozen=True, kw_only=True)
class AppSettings:
    """Settings of a server.

    Raises:
        InputError: If ``public_url`` is no address.
    """

    token: str = ""
    """Token that every request but those for ``/health`` must have; empty serves everybody."""
    cors: tuple[str, ...] = ()
    """Origins whose pages may read, for example ``https://maps.example.org``; ``*`` for all."""
    public_url: str = ""
    """Address at which clients reach the server. Links in answers begin with it; without one they begin with the host
    that the client names, and no cache may keep them."""
    stale_after_s: float = 1.0
    """Seconds after which new commits are seen, at most."""
    open_versions: int = 8
    """Versions of the store that stay open."""
    max_url_bytes: int = 4096
    """Bytes of path and query of a request, at most."""
    max_body_bytes: int = 1 << 20
    """Bytes of the body of a request, at most."""
    max_seconds: float = 30.0
    """Seconds until an answer begins, at most."""
    max_polygon_pixels: int = 1 << 25
    """Pixels added up for one polygon; larger ones are answered from coarser levels."""
    max_outline_pixels: int = 1 << 21
    """Length of the outline of one polygon in pixels; longer ones are answered from coarser levels."""
    polygons_at_once: int = 2
    """Polygons added up at once; others wait."""
    polygons_waiting: int = 16
    """Polygons that wait, at most; others are turned away."""
    chunk_cache_bytes: int = 128 << 20
    """Bytes of the cache of chunks that tiles are drawn from."""

    def __post_init__(self) -> None:
        if self.public_url and not _PUBLIC_URL.fullmatch(self.public_url):
            raise InputError(
                "public_url is no address of a server; expected scheme, host and perhaps port and path, without user "
                "or query, as https://maps.example.org/forest"
            )


def read_token(path: Path) -> str:
    """Return the token in a file.

    Raises:
        InputError: If it cannot be read, or is no token.
    """
    try:
        token = path.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"token file {path} cannot be read: {error}") from error
    if not _TOKEN.fullmatch(token):
        raise InputError(
            f"token file {path} holds no token: expected one line of 16 to 512 letters, digits or -._~+/ "
            "(`openssl rand -hex 32` makes one)"
        )
    return token
