"""Short-lived signatures for archives that want them, put on just before a file is read and never stored.

Planetary Computer gives one token per storage container, valid for less than an hour. A process keeps its tokens
until shortly before they expire.
"""

import json
import threading
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from urllib.parse import urlsplit

import urllib3

from mapper.catalog.intake import unsign
from mapper.catalog.provider import Provider
from mapper.errors import AssetError, TransientAssetError

_TOKENS_AT = "https://planetarycomputer.microsoft.com/api/sas/v1/token"
_BLOB_HOST = ".blob.core.windows.net"
_PUBLIC_ACCOUNTS = frozenset({"ai4edatasetspublicassets"})
_MARGIN = timedelta(minutes=5)
"""A token is renewed this long before it expires, so that a read that has begun can end."""


@dataclass(frozen=True, kw_only=True)
class _Token:
    value: str
    expires: datetime


@dataclass(frozen=True, kw_only=True)
class Signer:
    """Signs locations in Azure blob storage; safe to share between threads."""

    endpoint: str = _TOKENS_AT
    """Gives a token for ``{endpoint}/{account}/{container}``."""
    backoff_s: float = 0.5
    """Pause before the second retry of a busy service, doubled each time."""
    _tokens: dict[str, _Token] = field(default_factory=dict, repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)
    _pool: urllib3.PoolManager = field(default_factory=urllib3.PoolManager, repr=False)

    def sign(self, href: str) -> str:
        """A location with a valid token; anything outside blob storage, or public, comes back unsigned.

        Raises:
            TransientAssetError: If the token service does not answer or is busy.
            AssetError: If it refuses.
        """
        href = unsign(href)
        parts = urlsplit(href)
        host = parts.hostname or ""
        account, container = host.removesuffix(_BLOB_HOST), parts.path.lstrip("/").split("/")[0]
        if not host.endswith(_BLOB_HOST) or account in _PUBLIC_ACCOUNTS or not container:
            return href
        return f"{href}?{self._token(f'{account}/{container}', href)}"

    def _token(self, place: str, href: str) -> str:
        with self._lock:
            token = self._tokens.get(place)
            if token is None or token.expires - _MARGIN <= datetime.now(UTC):
                token = self._tokens[place] = self._fetch(place, href)
            return token.value

    def _fetch(self, place: str, href: str) -> _Token:
        retries = urllib3.Retry(
            total=4,
            connect=2,
            backoff_factor=self.backoff_s,
            status_forcelist=(429, 500, 502, 503, 504),
            raise_on_status=False,
        )
        try:
            answer = self._pool.request("GET", f"{self.endpoint}/{place}", retries=retries, timeout=30.0)
        except urllib3.exceptions.HTTPError as error:
            raise TransientAssetError(f"no token for {place}: {error}", href=href) from error
        if answer.status != 200:
            kind = TransientAssetError if answer.status == 429 or answer.status >= 500 else AssetError
            raise kind(f"no token for {place}: {self.endpoint} answered {answer.status}", href=href)
        content = json.loads(answer.data)
        return _Token(value=str(content["token"]), expires=datetime.fromisoformat(content["msft:expiry"]))


def sign(href: str, provider: Provider) -> str:
    """A location that can be read now, from the unsigned one that is kept.

    Raises:
        TransientAssetError: If the provider's token service does not answer.
        AssetError: If it refuses.
    """
    return _shared_signer().sign(href) if provider.signing == "planetary-computer" else href


@lru_cache(maxsize=1)
def _shared_signer() -> Signer:
    """One signer per process: the token service limits how often it is asked."""
    return Signer()
