"""Short-lived signatures for archives that want them, put on just before a file is read and never stored.

Planetary Computer gives one token per storage container, valid for less than an hour. A process keeps its tokens
until shortly before they expire.
"""

import json
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from urllib.parse import parse_qsl, urlsplit, urlunsplit

import urllib3

from mapper.access.connections import pool_for
from mapper.access.rules import SigningRule
from mapper.errors import AssetError, TransientAssetError

_SIGNATURES = frozenset({"sig", "x-amz-signature", "x-goog-signature", "signature"})
_MARGIN = timedelta(minutes=5)
_MARGIN_SHARE = 0.2
"""A token is renewed so long before it expires, or this share of its life if that is less: a read that has begun can
end, and a token that lives for seconds is used at all."""


@dataclass(frozen=True, kw_only=True)
class _Token:
    value: str
    renewed_from: datetime


def _now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True, kw_only=True)
class Signer:
    """Signer of locations by one rule; safe to share between threads."""

    rule: SigningRule
    backoff_s: float = 0.5
    """Pause in seconds before the second retry of a service that is overloaded, doubled each time."""
    clock: Callable[[], datetime] = field(default=_now, repr=False)
    _tokens: dict[str, _Token] = field(default_factory=dict, repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def sign(self, href: str) -> str:
        """Return a location with a valid token; one on another host, or public, comes back unsigned.

        Raises:
            TransientAssetError: If the token service does not answer or is overloaded.
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

    def forget(self, href: str) -> None:
        """Discard the token of a signed location, since it was refused; a newer one stays in use."""
        value = urlsplit(href).query
        with self._lock:
            for container in [container for container, token in self._tokens.items() if token.value == value]:
                del self._tokens[container]

    def _token(self, container: str, href: str) -> str:
        with self._lock:
            token = self._tokens.get(container)
            if token is None or token.renewed_from <= self.clock():
                token = self._tokens[container] = self._fetch(container, href)
            return token.value

    def _fetch(self, container: str, href: str) -> _Token:
        address = f"{self.rule.tokens}/{container}"
        retries = urllib3.Retry(
            total=4,
            connect=2,
            backoff_factor=self.backoff_s,
            status_forcelist=(429, 500, 502, 503, 504),
            raise_on_status=False,
        )
        try:
            answer = pool_for(address).request("GET", address, retries=retries, timeout=30.0)
        except urllib3.exceptions.HTTPError as error:
            raise TransientAssetError(f"no token for {container}: {error}", href=href) from error
        if answer.status != 200:
            kind = TransientAssetError if answer.status == 429 or answer.status >= 500 else AssetError
            raise kind(f"no token for {container}: {self.rule.tokens} answered {answer.status}", href=href)
        try:
            content = json.loads(answer.data)
            value, expires = str(content["token"]), datetime.fromisoformat(content["msft:expiry"])
        except (ValueError, KeyError, TypeError) as error:
            raise AssetError(f"no token for {container}: {self.rule.tokens} answered no token", href=href) from error
        margin = min(_MARGIN, _MARGIN_SHARE * (expires - self.clock()))
        return _Token(value=value, renewed_from=expires - margin)


def unsign(href: str) -> str:
    """Return a location without the signature that was put on it, if there is one."""
    parts = urlsplit(href)
    if any(key.lower() in _SIGNATURES for key, _ in parse_qsl(parts.query)):
        return urlunsplit(parts._replace(query=""))
    return href


def sign(href: str, rule: SigningRule) -> str:
    """Return a location that can be read now, from its unsigned form.

    Raises:
        TransientAssetError: If the provider's token service does not answer.
        AssetError: If it refuses.
    """
    return shared_signer(rule).sign(href) if rule.kind == "token-service" else href


@lru_cache(maxsize=8)
def shared_signer(rule: SigningRule) -> Signer:
    """Return the one signer of a service in this process: a token service limits the requests to it."""
    return Signer(rule=rule)
