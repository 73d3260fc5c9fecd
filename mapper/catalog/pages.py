"""Pages of a STAC API's search, read one after the other until there is no next one; or an error, never for ever.

A page may be empty and still have a next one, where a server filters after it has paged; items may come twice. What
leads back to a page that was read, or on and on without anything new, is no search that ends.
"""

import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self
from urllib.parse import urljoin, urlsplit

from pystac import Link
from pystac.link import HREF
from pystac_client.exceptions import APIError
from pystac_client.stac_api_io import StacApiIO
from requests import RequestException, Response
from urllib3 import BaseHTTPResponse, Retry
from urllib3.connectionpool import ConnectionPool
from urllib3.exceptions import HTTPError, MaxRetryError, ReadTimeoutError

from mapper.access.admission import Document, find_refusal, is_remote
from mapper.access.connections import Reach, guard
from mapper.access.retry import RetryPolicy
from mapper.access.rules import AccessRule
from mapper.errors import SearchError

JsonDict = dict[str, Any]

_MOST_PAGES = 50_000
"""Number of pages of one search: millions of items."""
_MOST_EMPTY = 1_000
"""Number of empty pages after each other."""
_MOST_REPEATS = 20
"""Number of pages after each other that hold nothing but items that came before."""
_MOST_BYTES = 256 * 1024 * 1024
"""Size of one answer in bytes."""
_PIECE = 64 * 1024


class _BoundedRetry(Retry):
    """Retries by urllib3, with pauses no longer than our policy allows, whatever a server asks for."""

    longest_s = RetryPolicy.max_retry_after_s
    most_timeouts = 2
    """A server that was silent so often and once more will not answer."""

    def increment(
        self,
        method: str | None = None,
        url: str | None = None,
        response: BaseHTTPResponse | None = None,
        error: Exception | None = None,
        _pool: ConnectionPool | None = None,
        _stacktrace: TracebackType | None = None,
    ) -> Self:
        silent = sum(isinstance(past.error, ReadTimeoutError) for past in self.history)
        if isinstance(error, ReadTimeoutError) and _pool is not None and silent >= self.most_timeouts:
            raise MaxRetryError(_pool, url or "", error)
        return super().increment(method, url, response, error, _pool, _stacktrace)

    def get_retry_after(self, response: BaseHTTPResponse) -> float | None:
        asked = super().get_retry_after(response)
        return None if asked is None else min(asked, self.longest_s)


class SearchChannel(StacApiIO):
    """A connection to a STAC API whose answers are bounded in size and time.

    What the catalogue links to is held against the same rule as its files.

    Args:
        policy: Attempts, pauses and timeouts of one request.
        endpoint: Address of the API; empty where a person names what is asked.
        rule: Rule of its provider; None for the default.
    """

    def __init__(self, policy: RetryPolicy, *, endpoint: str = "", rule: AccessRule | None = None) -> None:
        retries = _BoundedRetry(
            total=policy.attempts - 1,
            connect=min(2, policy.attempts - 1),
            backoff_factor=policy.initial_backoff_s,
            backoff_jitter=policy.initial_backoff_s,
            status_forcelist=(429, 500, 502, 503, 504),
            allowed_methods=None,  # a search by POST changes nothing
        )
        super().__init__(max_retries=retries, timeout=(policy.connect_timeout_s, policy.read_timeout_s))
        self.answered_at = ""
        """Address that gave the last answer, after redirects."""
        self._policy, self._endpoint, self._rule = policy, endpoint, rule or AccessRule()
        self.reach = Reach(endpoint, private=self._rule.files.private)
        for adapter in self.session.adapters.values():
            guard(adapter.poolmanager, self.reach)  # type: ignore[attr-defined]

    def _require(self, href: str) -> None:
        """Refuse what the catalogue may not link to."""
        document = Document(location=self._endpoint, private=self.reach.private)
        # what is asked stands in the query, in whatever words
        place = href.partition("?")[0]
        refusal = find_refusal(place, document, self._rule) or ("" if is_remote(href) else "it is no address")
        if refusal:
            raise SearchError(f"{self._endpoint} links to {href}, which is not read: {refusal}")

    def request(
        self,
        href: str,
        method: str | None = None,
        headers: dict[str, str] | None = None,
        parameters: dict[str, Any] | None = None,
    ) -> str:
        """Send a request and return the text of the answer.

        Raises:
            APIError: If the server gives none, an error, or one that is too large or takes too long.
            SearchError: If the catalogue may not link there.
        """
        self._require(href)
        method = (method or "GET").upper()
        body, query = (parameters or {}, None) if method == "POST" else (None, parameters)
        timeout = (self._policy.connect_timeout_s, self._policy.read_timeout_s)
        try:
            with self.session.request(
                method, href, headers=headers, params=query, json=body, timeout=timeout, stream=True
            ) as response:
                text = self._receive(response).decode("utf-8")
        except (RequestException, HTTPError, OSError, ValueError) as error:
            raise APIError(str(error)) from error
        if response.request.method != method:
            raise APIError(f"{href} answers a search with a redirect to {response.url}: give that address instead")
        if not response.ok:
            fault = APIError(f"HTTP {response.status_code}: {text}")
            fault.status_code = response.status_code
            raise fault
        self.answered_at = response.url
        return text

    def read_text(self, source: HREF, *args: Any, **kwargs: Any) -> str:
        """Return what an address answers; pystac would open a path as a file of this machine."""
        return super().read_text(source, *args, **kwargs) if isinstance(source, Link) else self.request(str(source))

    def _receive(self, response: Response) -> bytes:
        deadline = time.monotonic() + self._policy.total_timeout_s
        body = bytearray()
        while piece := response.raw.read1(_PIECE, decode_content=True):
            body += piece
            if len(body) > _MOST_BYTES:
                raise ValueError(f"an answer is larger than {_MOST_BYTES} bytes")
            if time.monotonic() > deadline:
                raise ValueError(f"an answer takes more than {self._policy.total_timeout_s:g} s")
        return bytes(body)


@dataclass(frozen=True, kw_only=True)
class PageRequest:
    """A request for one page."""

    href: str
    method: str
    body: Mapping[str, Any] = field(default_factory=dict)
    """Body of a POST, query of a GET beside that of the href."""
    headers: Mapping[str, str] = field(default_factory=dict)

    def send(self, channel: SearchChannel) -> JsonDict:
        """Return the page.

        Raises:
            SearchError: If the answer is no page of items.
            APIError: If there is none.
        """
        text = channel.request(self.href, self.method, dict(self.headers), dict(self.body))
        try:
            page = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise SearchError(f"{self.href} answers a search with what is no JSON: {error}") from error
        features = page.get("features") if isinstance(page, dict) else None
        if not isinstance(features, list) or not all(isinstance(item, dict) for item in features):
            raise SearchError(f"{self.href} answers a search with no list of features: {text[:80]!r}")
        answer: JsonDict = page
        return answer

    def follow(self, page: JsonDict, answered_at: str, first: "PageRequest") -> "PageRequest | None":
        """Return the request for the page after this one, as its ``next`` link says; None at the end.

        Args:
            page: The answer to this request.
            answered_at: Address that gave it.
            first: The request of the first page, into which links may want their fields merged.

        Raises:
            SearchError: If the link leads to no address.
        """
        links = [link for link in page.get("links") or () if isinstance(link, dict) and link.get("rel") == "next"]
        if not links:
            return None
        # servers that offer both ways name one link for each
        link = next((link for link in links if _method_of(link) == self.method), links[0])
        href = urljoin(answered_at, str(link.get("href") or ""))
        if urlsplit(href).scheme not in ("http", "https"):
            raise SearchError(f"{self.href} names a next page that has no address: {link.get('href')!r}")
        merge, body, headers = bool(link.get("merge")), _mapping(link, "body"), _mapping(link, "headers")
        method = _method_of(link)
        return PageRequest(
            href=href,
            method=method,
            body={} if method == "GET" else {**first.body, **body} if merge else body,
            headers={**first.headers, **headers} if merge else headers,
        )

    @property
    def key(self) -> str:
        """Return what tells this request from others."""
        return json.dumps([self.href, self.method, self.body, self.headers], sort_keys=True, default=str)


def read_pages(channel: SearchChannel, first: PageRequest) -> Iterator[tuple[JsonDict, str]]:
    """Yield every page of a search, with the address that gave it.

    Raises:
        SearchError: If the search has no end.
        APIError: If a request fails.
    """
    request: PageRequest | None = first
    read: dict[str, int] = {}
    progress = _Progress(href=first.href)
    while request is not None:
        if request.key in read:
            raise progress.error(f"leads from page {len(read)} back to page {read[request.key]}")
        read[request.key] = len(read) + 1
        page = request.send(channel)
        address = channel.answered_at
        yield page, address
        request = request.follow(page, address, first)
        if request is not None:
            progress.look_at(page["features"])


@dataclass(kw_only=True)
class _Progress:
    """Watch over a search that has to come to an end."""

    href: str
    known: set[tuple[str, str]] = field(default_factory=set)
    pages: int = 0
    empty: int = 0
    repeats: int = 0

    def look_at(self, features: list[JsonDict]) -> None:
        """Take note of a page.

        Raises:
            SearchError: If too many pages came, or too many without anything new.
        """
        new = {(str(item.get("collection")), str(item.get("id"))) for item in features} - self.known
        self.known |= new
        self.pages += 1
        self.empty = 0 if features else self.empty + 1
        self.repeats = 0 if new or not features else self.repeats + 1
        for count, limit, words in (
            (self.pages, _MOST_PAGES, "has no end after"),
            (self.empty, _MOST_EMPTY, "names a next page after"),
            (self.repeats, _MOST_REPEATS, "repeats its items on"),
        ):
            if count >= limit:
                empty = " empty" if count == self.empty else ""
                raise self.error(f"{words} {count}{empty} pages")

    def error(self, reason: str) -> SearchError:
        """Return an error that says how far the search came."""
        return SearchError(
            f"{self.href} cannot be searched to its end: it {reason}, with {len(self.known)} items so far"
        )


def count_of(page: Mapping[str, Any]) -> int | None:
    """Return the number of items that a page says the search has; None where it says none that is a number."""
    stated = page.get("numberMatched")
    if stated is None:
        stated = _mapping(page, "context").get("matched")
    try:
        return int(stated) if stated is not None and not isinstance(stated, bool) else None
    except (TypeError, ValueError, OverflowError):
        return None


def _method_of(link: Mapping[str, Any]) -> str:
    """Return the method of a link: as stated, else POST where it has a body, else GET."""
    return str(link.get("method") or ("POST" if link.get("body") else "GET")).upper()


def _mapping(content: Mapping[str, Any], key: str) -> dict[str, Any]:
    value = content.get(key)
    return dict(value) if isinstance(value, Mapping) else {}
