"""Redaction: what is written, shown or served holds no secret of an address and, where it is served, no local folder.

Secrets of an address are its user information, its fragment and its query (RFC 3986, 3.2.1, 3.4, 3.5): archives put
signatures, tokens and keys there, under names that nobody knows in advance. What a provider calls harmless stays.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any, TypeVar, cast
from urllib.parse import unquote_plus

_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[^\s\"'<>`]+")
_WEB = re.compile(r"https?:", re.IGNORECASE)
_PARTS = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*://)(?:[^/?#]*@)?([^?#]*)(?:\?([^#]*))?(?:#.*)?", re.DOTALL)
_OBJECT = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*://)(?:[^/]*@)?(.*?)(?:\?([^?]*=[^?]*))?", re.DOTALL)
"""Location of an object: ``#`` is a character of its key, and so is ``?`` unless pairs of a query follow."""
_LOOSE_QUERY = re.compile(r"\?[^\s\"'<>?=]*=[^\s\"'<>]*")
"""Query of an address without a host, as connection pools name it in errors."""
_LOCAL_PATH = re.compile(r"(?<![\w.:/~-])(?:file:(?://[^/\s]*)?)?/(?:[^\s/'\"()<>:;,|]+/)+[^\s/'\"()<>:;,|]*")
_TRAILING = ".,;:)]}"
_ADDRESS_MARK, _PATH_MARK = "://", "/"

T = TypeVar("T")


def redact_href(href: str, *, harmless: Sequence[str] = ()) -> str:
    """Return a location without user information, fragment and query, but for the harmless keys of its query.

    Args:
        href: Address, location of an object, or path; a path comes back as it is.
        harmless: Keys of a query that stay.
    """
    found = (_PARTS if _WEB.match(href) else _OBJECT).fullmatch(href)
    if found is None:
        return href
    scheme, rest, query = found.groups()
    kept = [pair for pair in (query or "").split("&") if pair and key_of(pair) in harmless] if harmless else []
    return f"{scheme}{rest}{'?' if kept else ''}{'&'.join(kept)}"


def key_of(pair: str) -> str:
    """Return the key of a pair of a query, decoded."""
    return unquote_plus(pair.partition("=")[0])


def redact(text: str, *, paths: bool = False) -> str:
    """Return a text in which every address is redacted.

    Args:
        text: Any text: a message, a location, a line of a log.
        paths: True to leave the name alone of every absolute path of this machine, for what is served or stored.
    """
    if _ADDRESS_MARK in text:
        text = _ADDRESS.sub(_redact_match, text)
    if "?" in text and "=" in text:
        text = _LOOSE_QUERY.sub(_drop_query, text)
    if paths and _PATH_MARK in text:
        if text.startswith("/") and "\n" not in text and _ADDRESS_MARK not in text:
            return PurePosixPath(text).name
        text = _LOCAL_PATH.sub(lambda found: PurePosixPath(found[0]).name, text)
    return text


def redact_all(content: T, *, paths: bool = False) -> T:
    """Return plain content, such as that of JSON, with every text in it redacted as :func:`redact` does."""
    done: Any = content
    if isinstance(content, str):
        done = redact(content, paths=paths)
    elif isinstance(content, Mapping):
        done = {key: redact_all(value, paths=paths) for key, value in content.items()}
    elif isinstance(content, list | tuple):
        done = type(content)(redact_all(value, paths=paths) for value in content)
    return cast("T", done)


def _redact_match(found: re.Match[str]) -> str:
    """Return one address of a text redacted; punctuation after it belongs to the text."""
    address = found[0].rstrip(_TRAILING)
    return redact_href(address) + found[0][len(address) :]


def _drop_query(found: re.Match[str]) -> str:
    """Return what stays of a query without a host: the punctuation of the text after it."""
    bare = found[0].rstrip(_TRAILING)
    return found[0][len(bare) :]
