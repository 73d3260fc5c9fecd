"""Short-lived signatures for archives that want them, put on just before a file is read and never stored.

Planetary Computer gives one token per storage container, valid for less than an hour. A process keeps its tokens
until shortly before they expire.
"""

import json
import threading
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from urllib.parse import parse_qsl, urlsplit, urlunsplit

import urllib3

from mapper.access.rules import SigningRule
from mapper.errors import AssetError, TransientAssetError

_SIGNATURES = frozenset({"sig", "x-amz-signature", "x-goog-signature", "signature"})
_MARGIN = timedelta(minutes=5)
"""A token is renewed this long before it expires, so that a read that has begun can end."""


@dataclass(frozen=True, kw_only=True)
class _Token:
    value: str
    expires: datetime


@dataclass(frozen=True, kw_only=True)
class Signer:
    """Signs locations as a rule says; safe to share between threads."""

    rule: SigningRule
    backoff_s: float = 0.5
    """Pause before the second retry of a busy service, doubled each time."""
    _tokens: dict[str, _Token] = field(default_factory=dict, repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)
    _pool: urllib3.PoolManager = field(default_factory=urllib3.PoolManager, repr=False)

    def sign(self, href: str) -> str:
        """A location with a valid token; anything on other hosts, or public, comes back unsigned.

        Raises:
            TransientAssetError: If the token service does not answer or is busy.
            AssetError: If it refuses.
        """
        href = unsign(href)
        parts = urlsplit(href)
        host = parts.hostname or ""
        suffix = next((end for end in self.rule.hosts if host.endswith(end)), None)
        container = parts.path.lstrip("/").split("/")[0]
        account = host.removesuffix(suffix or "")
        if suffix is None or account in self.rule.public or not container:
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
            answer = self._pool.request("GET", f"{self.rule.tokens}/{place}", retries=retries, timeout=30.0)
        except urllib3.exceptions.HTTPError as error:
            raise TransientAssetError(f"no token for {place}: {error}", href=href) from error
        if answer.status != 200:
            kind = TransientAssetError if answer.status == 429 or answer.status >= 500 else AssetError
            raise kind(f"no token for {place}: {self.rule.tokens} answered {answer.status}", href=href)
        content = json.loads(answer.data)
        return _Token(value=str(content["token"]), expires=datetime.fromisoformat(content["msft:expiry"]))


def unsign(href: str) -> str:
    """A location without the signature that was put on it, if there is one."""
    parts = urlsplit(href)
    if any(key.lower() in _SIGNATURES for key, _ in parse_qsl(parts.query)):
        return urlunsplit(parts._replace(query=""))
    return href


def sign(href: str, rule: SigningRule) -> str:
    """A location that can be read now, from the unsigned one that is kept.

    Raises:
        TransientAssetError: If the provider's token service does not answer.
        AssetError: If it refuses.
    """
    return _shared_signer(rule).sign(href) if rule.kind == "token-service" else href


@lru_cache(maxsize=8)
def _shared_signer(rule: SigningRule) -> Signer:
    """One signer per service and process: a token service limits how often it is asked."""
    return Signer(rule=rule)
