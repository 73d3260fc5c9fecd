"""Remote files read by byte ranges over HTTP: checked, and requested again when the network or the archive fails.

The meaning of an answer decides what follows. Throttling, an overloaded server, a broken or silent connection and a
body that is too short are tried again. A refused signature is made anew. A file that does not exist or
ends too early is corrupt, and dropped by its readers. A denial that a new signature does not cure is neither: wrong
keys must not quietly thin out a map.
"""

import logging
import re
import ssl
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from http.client import IncompleteRead
from urllib.parse import urlsplit

import urllib3
from urllib3.exceptions import HTTPError, MaxRetryError, NewConnectionError
from urllib3.exceptions import TimeoutError as HTTPTimeoutError

from mapper.access.admission import allows_private
from mapper.access.connections import RefusedAddressError, open_url
from mapper.access.retry import RetryPolicy
from mapper.access.rules import AccessRule
from mapper.access.sign import shared_signer, sign
from mapper.access.storage import to_url
from mapper.access.tally import AssetName, Tally
from mapper.access.throttle import Throttle
from mapper.errors import AssetError, CorruptAssetError, TransientAssetError
from mapper.events import ReadRetry
from mapper.redaction import redact_href

_HEAD = 32 * 1024
"""Bytes of the first request: they hold the header of most files; small reads are rounded up to as many."""
_WHOLE = 64 * 1024 * 1024
"""Size in bytes of the largest file that is taken whole from a server that ignores ranges."""
_GAP = 16 * 1024
"""Gap in bytes that two ranges of one request may have: less than a round trip is worth."""
_MERGED = 16 * 1024 * 1024
"""Size in bytes of the largest request that is put together from several ranges."""
_AT_ONCE = 32
_PIECE = 1024 * 1024
_MOST_SHOWN = 500
"""Characters of a location that a message shows."""
_DRAINED = 64 * 1024
_BUSY = frozenset({408, 425, 429})
_LARGEST_READ = 1024 * 1024 * 1024
"""Bytes that a file may have read at once; more than any block that may be decoded has when it is compressed."""
_CONTENT_RANGE = re.compile(r"bytes (\d{1,15})-(\d{1,15})/(\d{1,15})$")
_WORDS = (
    (NewConnectionError, "no connection"),
    ((HTTPTimeoutError, TimeoutError), "timed out"),
    (IncompleteRead, "short body"),
    (ConnectionError, "connection reset"),
    (ssl.SSLError, "TLS error"),
)
_logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class _Failure:
    """The reason for another attempt at a request."""

    reason: str
    retry_after: float = 0.0
    refused: bool = False
    """True where the server rejected the signature."""


class RemoteFile:
    """The bytes of one file elsewhere, for one thread that reads it.

    Args:
        name: What the file is, for errors and notes.
        rule: How it is reached.
        retry: Attempts, pauses and timeouts of requests.
        throttle: Paces requests.
        tally: Counts them.
        sleep: Waits; replaced in tests.
    """

    def __init__(
        self,
        name: AssetName,
        rule: AccessRule,
        *,
        retry: RetryPolicy,
        throttle: Throttle,
        tally: Tally,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.name = name
        self.size = 0
        """Size in bytes; known after the first request."""
        self._rule = rule
        # the address of an object store is the provider's word, not the catalogue's
        self._private = allows_private(name.document, rule) or (
            rule.storage.endpoint is not None and not name.href.startswith("http")
        )
        self._retry = retry
        self._throttle = throttle
        self._tally = tally
        self._sleep = sleep
        self._marks: set[str] = set()
        self._cached = [(0, b""), (0, b"")]  # the head, and what was read last; each (start, bytes)

    def open(self) -> None:
        """Read the head of the file and its size.

        Raises:
            TransientAssetError: If the file cannot be reached, after all attempts.
            CorruptAssetError: If it does not exist.
            AssetError: If access is denied.
        """
        head = self._fetch(0, _HEAD)
        if not self._cached[0][1]:  # else the server gave all of it
            self._cached[0] = (0, head)

    def read(self, start: int, count: int) -> bytes:
        """Return bytes of the file; fewer at its end. Raises as :meth:`open`."""
        count = min(count, self.size - start)
        if count <= 0:
            return b""
        known = self._find(start, count)
        if known is None and count < _HEAD:
            ahead = self._fetch(start, min(_HEAD, self.size - start))
            self._cached[1] = (start, ahead)
            return ahead[:count]
        return self._fetch(start, count) if known is None else known

    def read_ranges(self, ranges: list[tuple[int, int]]) -> list[bytes]:
        """Return several parts, each given as (start, count); near ones take one request, far ones go out together.

        Raises:
            CorruptAssetError: If the file ends before them. Else as :meth:`open`.
        """
        needed = max((start + count for start, count in ranges), default=0)
        if needed > self.size:
            raise self._error(
                CorruptAssetError, f"it is truncated: byte {needed} is needed, the file has {self.size} bytes"
            )
        largest = max((count for _, count in ranges), default=0)
        if largest > _LARGEST_READ:
            raise self._error(CorruptAssetError, f"it wants {largest} bytes read at once, at most {_LARGEST_READ} are")
        groups = list(_neighbours(sorted(set(ranges))))
        read = _threads().map if len(groups) > 1 else map
        parts = {part: block for group in read(self._read_group, groups) for part, block in group.items()}
        return [parts[part] for part in ranges]

    def _read_group(self, group: list[tuple[int, int]]) -> dict[tuple[int, int], bytes]:
        first = group[0][0]
        block = self.read(first, max(start + count for start, count in group) - first)
        return {(start, count): block[start - first : start - first + count] for start, count in group}

    def _error(self, kind: type[AssetError], reason: str) -> AssetError:
        return asset_error(kind, self.name, reason)

    def _find(self, start: int, count: int) -> bytes | None:
        for first, held in self._cached:
            if first <= start and start + count <= first + len(held):
                return held[start - first : start - first + count]
        return None

    def _fetch(self, start: int, count: int) -> bytes:
        """Return one range, however many attempts that takes."""
        attempt = failed = refused = 0
        while True:
            attempt += 1
            url = self._address()
            answer = url if isinstance(url, _Failure) else self._ask(url, start, count)
            if isinstance(answer, bytes):
                return answer
            if answer.refused:
                refused += 1
                self._renew(str(url), refused, answer)
                self._wait(url, f"{answer.reason}, signed anew", attempt, 0.0)
                continue
            failed, refused = failed + 1, 0
            if answer.retry_after and isinstance(url, str):
                self._throttle.pause(_host(url), answer.retry_after)
            if failed >= self._retry.attempts:
                raise self._error(TransientAssetError, f"{answer.reason}, {failed} attempts")
            self._wait(url, answer.reason, attempt, max(self._retry.delay(failed), answer.retry_after))

    def _renew(self, url: str, refused: int, answer: _Failure) -> None:
        if self._rule.signing.kind == "none" or refused > self._retry.max_resigns:
            raise self._error(AssetError, f"access is denied ({answer.reason})")
        shared_signer(self._rule.signing).forget(url)

    def _wait(self, url: str | _Failure, reason: str, attempt: int, seconds: float) -> None:
        host = _host(url if isinstance(url, str) else self.name.href)
        name = self.name
        _logger.info(
            "asset %s of item %s: %s, attempt %d, next in %.1f s", name.asset, name.item, reason, attempt, seconds
        )
        self._tally.note(
            ReadRetry(host=host, item=name.item, asset=name.asset, reason=reason, attempt=attempt, wait_s=seconds)
        )
        if seconds > 0:
            self._sleep(seconds)

    def _address(self) -> str | _Failure:
        """Return the address to read from now, after the throttle: a signature could expire during the wait."""
        try:
            url = to_url(self.name.href, self._rule.storage)
            self._throttle.take(_host(url), self._rule.limits)
            return sign(url, self._rule.signing)
        except TransientAssetError:
            return _Failure(reason="no token")
        except AssetError as error:
            raise self._error(AssetError, str(error)) from error

    def _ask(self, url: str, start: int, count: int) -> bytes | _Failure:
        """Send one request; returns the bytes, or the reason for another attempt."""
        try:
            response = open_url(
                url,
                private=self._private,
                headers={"Range": f"bytes={start}-{start + count - 1}", "Accept-Encoding": "identity"},
                timeout=urllib3.Timeout(connect=self._retry.connect_timeout_s, read=self._retry.read_timeout_s),
            )
        except RefusedAddressError as error:
            self._tally.count()
            raise self._error(CorruptAssetError, f"it is not read: {error}") from None
        except HTTPError as error:
            self._tally.count()
            # the error itself is not passed on: its text holds the signed location
            return _Failure(reason=_describe(error))
        finished = False
        try:
            answer = self._receive(response, start, count)
            finished = True
        except HTTPError as error:
            answer = _Failure(reason=_describe(error))
        finally:
            if not finished:
                response.close()
            response.release_conn()
        return answer

    def _receive(self, response: urllib3.BaseHTTPResponse, start: int, count: int) -> bytes | _Failure:
        status = response.status
        encoding = response.headers.get("Content-Encoding", "identity")
        if status in (200, 206) and encoding != "identity":  # nobody knows how much comes out
            self._tally.count()
            raise self._error(AssetError, f"the server sends it encoded ({encoding}), which was not asked for")
        if status == 206:
            return self._take_part(response, start, count)
        if status == 200:
            return self._take_whole(response, start, count)
        self._tally.count()
        _drain(response)
        if status in (404, 410):
            raise self._error(CorruptAssetError, f"it does not exist (HTTP {status})")
        if status == 416:
            raise self._error(CorruptAssetError, f"it is truncated: it ends before byte {start} (HTTP 416)")
        if status in (401, 403):
            return _Failure(reason=f"HTTP {status}", refused=True)
        if status in _BUSY or status >= 500:
            pause = self._retry.retry_after(response.headers.get("Retry-After"))
            return _Failure(reason=f"HTTP {status}", retry_after=pause)
        raise self._error(AssetError, f"the server answers HTTP {status}")

    def _take_part(self, response: urllib3.BaseHTTPResponse, start: int, count: int) -> bytes | _Failure:
        stated = _CONTENT_RANGE.match(response.headers.get("Content-Range", ""))
        body = self._body(response, count)
        if stated is None or int(stated[1]) != start:
            return _Failure(reason="wrong range")
        self._check_same(response, int(stated[3]))
        if len(body) < min(count, self.size - start):
            return _Failure(reason="short body")
        return body

    def _take_whole(self, response: urllib3.BaseHTTPResponse, start: int, count: int) -> bytes | _Failure:
        """Take the range from the answer of a server that ignored it and sends the whole file."""
        if response.headers.get("Content-Type", "").startswith("text/html"):
            self._tally.count()
            raise self._error(AssetError, "the server answers with a web page, as archives do that want a login")
        stated = _length_of(response)
        if stated is None or stated > _WHOLE:
            self._tally.count()
            raise self._error(AssetError, "the server does not give parts of files, and this one is large")
        body = self._body(response, _WHOLE)
        if len(body) < stated:
            return _Failure(reason="short body")
        self._check_same(response, len(body))
        self._cached[0] = (0, body)
        return body[start : start + count]

    def _check_same(self, response: urllib3.BaseHTTPResponse, size: int) -> None:
        # copies of a file on several servers may differ in one of the two, a new file differs in both
        marks = {mark for name in ("ETag", "Last-Modified") if (mark := response.headers.get(name))}
        if self.size and (size != self.size or (marks and self._marks and not marks & self._marks)):
            raise self._error(TransientAssetError, "it changed while it was read")
        self.size, self._marks = size, marks

    def _body(self, response: urllib3.BaseHTTPResponse, limit: int) -> bytes:
        """Return the body, at most so many bytes; counted also where it breaks off."""
        deadline = time.monotonic() + self._retry.total_timeout_s
        body = bytearray()
        try:
            while len(body) < limit and (piece := response.read1(min(_PIECE, limit - len(body)), decode_content=False)):
                body += piece
                if time.monotonic() > deadline:
                    raise HTTPTimeoutError
        finally:
            self._tally.count(bytes_read=len(body))
        return bytes(body)


def asset_error(kind: type[AssetError], name: AssetName, reason: str) -> AssetError:
    """Return an error that names a file by its unsigned location."""
    href = redact_href(name.href)
    if not href.isprintable() or len(href) > _MOST_SHOWN:
        href = repr(href[:_MOST_SHOWN])
    text = f"asset {name.asset} of item {name.item} cannot be read ({href}): {reason}"
    return kind(text, item=name.item, asset=name.asset, href=href)


def _neighbours(ranges: list[tuple[int, int]]) -> Iterator[list[tuple[int, int]]]:
    """Yield groups of sorted ranges that are near each other."""
    group: list[tuple[int, int]] = []
    end = 0
    for start, count in ranges:
        if group and (start > end + _GAP or start + count - group[0][0] > _MERGED):
            yield group
            group = []
        end = max(end, start + count) if group else start + count
        group.append((start, count))
    if group:
        yield group


def _describe(error: BaseException | None) -> str:
    """Describe in a few words the fault of a connection."""
    if isinstance(error, MaxRetryError):
        return _describe(error.reason)
    for kinds, words in _WORDS:
        if isinstance(error, kinds):
            return words
    inner = next((argument for argument in getattr(error, "args", ()) if isinstance(argument, BaseException)), None)
    return type(error).__name__ if inner is None else _describe(inner)


def _drain(response: urllib3.BaseHTTPResponse) -> None:
    """Read a short answer to its end, so that the connection can be used again."""
    length = _length_of(response)
    if length is not None and length < _DRAINED:
        response.drain_conn()
    else:
        response.close()


def _length_of(response: urllib3.BaseHTTPResponse) -> int | None:
    """Return the length of a body as it is stated; None where it is not, or not in digits."""
    stated = response.headers.get("Content-Length", "")
    return int(stated) if re.fullmatch(r"[0-9]{1,15}", stated) else None


@lru_cache(maxsize=1)
def _threads() -> ThreadPoolExecutor:
    """Return the threads for requests of one file that go out at the same time; the throttle paces them."""
    return ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="request")


def _host(url: str) -> str:
    return urlsplit(url).netloc.rpartition("@")[2]
