"""How a server is set up."""

import re
from dataclasses import dataclass
from pathlib import Path

from mapper.errors import InputError

_TOKEN = re.compile(r"[A-Za-z0-9._~+/-]{16,512}=*")
"""A bearer token as RFC 6750 writes one, too long to be guessed."""


@dataclass(frozen=True, kw_only=True)
class AppSettings:
    """What whoever runs a server decides."""

    token: str = ""
    """Asked of every request but those for ``/health``; empty serves everybody."""
    cors: tuple[str, ...] = ()
    """Origins whose pages may read, for example ``https://maps.example.org``; ``*`` for all."""
    public_url: str = ""
    """Where clients reach the server, if behind a proxy that does not pass the host on."""
    stale_after_s: float = 1.0
    """New commits are seen after at most this."""
    open_versions: int = 8
    """Versions of the store kept open."""
    max_url_bytes: int = 4096
    """Path and query of a request."""
    max_body_bytes: int = 1 << 20
    """Body of a request."""
    max_seconds: float = 30.0
    """Until an answer begins."""
    max_polygon_pixels: int = 1 << 25
    """Added up for one polygon; larger ones are answered from coarser levels."""
    polygons_at_once: int = 2
    """Others wait."""
    chunk_cache_bytes: int = 128 << 20
    """Chunks of tiles kept in memory."""


def read_token(path: Path) -> str:
    """The token in a file.

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
