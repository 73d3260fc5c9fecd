"""References of STAC documents: hrefs are URI references (RFC 3986), relative to the document that they stand in.

What they lead to is either the address of a file elsewhere, percent-encoded as it was given, or a path of this machine,
which is a name and no address: ``#``, ``?`` and ``%`` in it are letters. Documents on disk are often written without
percent-encoding: where the file that the standard names does not exist, the one of the literal name is taken.
"""

import os
import posixpath
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urljoin

from mapper.access.admission import is_remote

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:")
"""Start of an absolute URI; one letter alone is a drive."""
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_MISREAD = re.compile(r"[%#?]")
_LOCAL_HOSTS = ("", "localhost")


def resolve(href: str, base: str) -> str:
    """Return the absolute location that a reference means.

    Args:
        href: As it stands in a document.
        base: Location of the document: an address, or a path of this machine; empty where it is unknown, which leaves
            relative references as they are.

    Raises:
        ValueError: If the reference is empty, holds control characters, or names a file of another machine's disk.
    """
    if not href.strip() or _CONTROL.search(href):
        raise ValueError(f"{href!r} is no location")
    if href.startswith("/vsi") or (_SCHEME.match(href) and not is_file_uri(href)):
        return href
    if not base:
        return path_of(href)
    if is_remote(base):
        # it stays a URI: whoever opens it decides if a catalogue elsewhere may name a file of this machine
        return href if is_file_uri(href) else _join(base, href)
    return os.path.normpath(find_file(href, Path(base).absolute().parent))


def base_of(item: Mapping[str, Any], base: str) -> str:
    """Return the location that the references of an item are relative to: its ``self`` link, else its document.

    Raises:
        ValueError: As :func:`resolve`.
    """
    link = next((link["href"] for link in item.get("links") or () if link.get("rel") == "self"), None)
    if not isinstance(link, str) or not link:
        return base
    if not base:
        return path_of(link)
    here = resolve(link, base)
    # what came from elsewhere does not lie on this machine, whatever it says
    return base if is_remote(base) and not is_remote(here) else here


def find_file(href: str, folder: Path) -> Path:
    """Return the path that a reference in a document on disk means, percent-decoded; not normalised.

    Args:
        href: A ``file:`` URI, or a reference relative to the folder.
        folder: Of the document.

    Raises:
        ValueError: If the URI names another machine.
    """
    if is_file_uri(href):
        return Path(path_of(href))
    meant = folder / _decode(href.partition("#")[0].partition("?")[0])
    literal = folder / href
    # os.path: a name that is too long is not there, and no error
    return literal if literal != meant and not os.path.isfile(meant) and os.path.exists(literal) else meant  # noqa: PTH110, PTH113


def path_of(uri: str) -> str:
    """Return the path of a ``file:`` URI (RFC 8089); what is none comes back as it is.

    Raises:
        ValueError: If it names another machine.
    """
    if not is_file_uri(uri):
        return uri
    rest = uri[len("file:") :].partition("#")[0].partition("?")[0]
    host, path = "", rest
    if rest.startswith("//"):
        host, slash, tail = rest[2:].partition("/")
        path = slash + tail
    if host.lower() not in _LOCAL_HOSTS or not path.startswith("/"):
        raise ValueError(f"{uri} names no file of this machine")
    return _decode(path)


def is_file_uri(href: str) -> bool:
    """Return True for a URI of a file on this machine's disk."""
    return href[:5].lower() == "file:"


def to_reference(path: str) -> str:
    """Return a path as a reference to stand in a document: what would be read as query, fragment or code is encoded."""
    encoded = _MISREAD.sub(lambda found: f"%{ord(found[0]):02X}", path)
    return f"./{encoded}" if _SCHEME.match(encoded) else encoded


def _decode(path: str) -> str:
    decoded = unquote(path)
    if _CONTROL.search(decoded):
        raise ValueError(f"{path!r} is no location")
    return decoded


def _join(base: str, href: str) -> str:
    scheme, _, rest = base.partition("://")
    if scheme.lower() in ("http", "https"):
        return urljoin(base, href)
    if href.startswith("//"):
        return f"{scheme}:{href}"
    # keys of object stores are written as they are, and urljoin knows none of their schemes
    bucket, _, key = rest.partition("/")
    folder = "/" if href.startswith("/") else posixpath.dirname(f"/{key}")
    return f"{scheme}://{bucket}{posixpath.normpath(posixpath.join(folder, unquote(href)).replace('//', '/'))}"
