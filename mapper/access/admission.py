"""Admission of locations: the one rule of what a catalogue may name, and the reason why anything else is not read.

A catalogue is written by others, and workers stand where others do not: beside files, on private networks, with keys.
An archive names files of its own or of other archives. A file of this machine is named by a person, by a catalogue
on this machine, or where the provider says so; an address on a private network likewise, or by a catalogue that was
reached on one. GDAL's own file systems, inline documents and addresses of the machine's host are named by nobody.

The rule is a function of the location, the document that it came from and the provider's rule: it is asked where items
are read, and again where a file is opened. Names of hosts are judged by what they resolve to when a connection is made
(:mod:`mapper.access.connections`).
"""

import re
import socket
import unicodedata
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from urllib.parse import unquote, urlsplit

from mapper.access.rules import AccessRule

_SCHEME = re.compile(r"([A-Za-z][\w+.-]*):")
_WEB = frozenset({"http", "https"})
_BUCKETS = frozenset({"s3", "gs"})
_ADVISED = frozenset({"az", "abfs", "abfss", "adl"})
"""Kinds of locations that :func:`mapper.access.storage.to_url` refuses with advice."""
_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,254}")
_ODD = re.compile(r"[\x00-\x1f\x7f-\x9f<>\"\\]|^\s*[{\[]|(?:^|/)vsi[a-z0-9_]+(?=[/?]|$)", re.IGNORECASE)
_MOST_ENCODED = 4
"""Times that a location may be percent-encoded: what is still encoded then is refused."""
_PRIVATE_NAME = re.compile(
    r"[^.]*|.*\.(?:localhost|localdomain|local|internal|intranet|corp|home|lan|home\.arpa|svc)", re.IGNORECASE
)
"""Names that no public name server knows: of one part (RFC 6761, 6762, 8375), or of private networks by custom."""
_NEVER = tuple(
    map(
        ip_network,
        (
            *("169.254.0.0/16", "fe80::/10", "224.0.0.0/4", "ff00::/8", "255.255.255.255/32"),
            # hosts and metadata of clouds outside the link-local range
            *("168.63.129.16/32", "100.100.100.200/32", "192.0.0.192/32", "fd00:ec2::254/128", "fd20:ce::254/128"),
        ),
    )
)
"""Addresses that no rule opens: of the link, of many, and of a machine's host, which knows its keys."""
_NAT64, _COMPATIBLE = ip_network("64:ff9b::/96"), ip_network("::/96")


@dataclass(frozen=True, kw_only=True)
class Document:
    """Document that names a file: the catalogue, as it was reached."""

    location: str = ""
    """Path or address of the catalogue; empty where a person names the file."""
    private: bool = False
    """True where every connection to the catalogue led to a private network."""

    @property
    def is_local(self) -> bool:
        """True for a document of this machine, or no document at all."""
        return not is_remote(self.location)


PERSON = Document()
"""Document of a file that a person names."""


def is_remote(href: str) -> bool:
    """Return True for a location elsewhere; paths of this machine and of GDAL's own file systems are not."""
    return "://" in href and href[:5].lower() != "file:"


def find_refusal(href: str, document: Document, rule: AccessRule) -> str:
    """Return the reason why a location is not read; empty if it is.

    Args:
        href: Absolute location, as an item or a redirect gives it.
        document: Document that names it.
        rule: Rule of the provider.
    """
    plain = _decode(href)
    if plain is None:
        return "it is encoded over and over"
    if document.is_local and href.startswith("/"):
        plain = href = href.replace("\\", "/")  # a letter like others in names of files of this machine
    odd = _ODD.search(plain) or (None if plain == href else _ODD.search(href))
    if odd:
        return _name_oddity(odd[0].strip())
    scheme = _SCHEME.match(href)
    kind = scheme[1].lower() if scheme else ""
    if kind in _WEB:
        return _refuse_host(href, private=allows_private(document, rule))
    if kind in _BUCKETS:
        return _refuse_object(plain)
    if kind in _ADVISED and "://" in href:
        return ""
    return _refuse_path(href, kind, may_be_local=document.is_local or rule.files.local)


def allows_private(document: Document, rule: AccessRule) -> bool:
    """Return True where a document may name addresses on private networks."""
    if rule.files.private or document.private or document.is_local:
        return True
    host = _host_of(document.location) if document.location[:4].lower() == "http" else ""
    return bool(host) and bool(refuse_name(host, private=False)) and not refuse_name(host, private=True)


@lru_cache(maxsize=1024)
def refuse_name(host: str, *, private: bool) -> str:
    """Return the reason why a host is not asked, by its name or numbers alone; empty if it may be resolved.

    Args:
        host: Name, or an address in any form that a resolver takes (RFC 6943, 3.1.1), as ``2852039166``.
        private: True where private networks may be reached.
    """
    name = unicodedata.normalize("NFKC", host).rstrip(".").lower()
    address = _parse_address(name)
    if address:
        return refuse_address(address, private=private)
    if "%" in name or not name:
        return f"{host!r} is no name of a host"
    if name == "metadata.google.internal" or (not private and _PRIVATE_NAME.fullmatch(name)):
        return f"{host} is a name on a private network"
    return ""


@lru_cache(maxsize=1024)
def refuse_address(address: str, *, private: bool) -> str:
    """Return the reason why no connection is made to a numerical address; empty if one is.

    Args:
        address: IPv4 or IPv6 in standard notation, as a resolver returns it.
        private: True where private networks may be reached.
    """
    number = _unwrap(ip_address(address.partition("%")[0]))
    if any(number in network for network in _NEVER if network.version == number.version):
        return f"{address} is an address of the link or of the machine's host"
    if private or number.is_global:
        return ""
    return f"{address} is an address on a private network"


def _decode(href: str) -> str | None:
    """Return a location with nothing encoded; None if that has no end."""
    for _ in range(_MOST_ENCODED):
        if "%" not in href:
            return href
        plain = unquote(href)
        if plain == href:
            return href
        href = plain
    return None


def _name_oddity(found: str) -> str:
    if "vsi" in found.lower():
        return f"{found.strip('/')} is a file system of GDAL"
    if found and found in "<>{[":
        return "it is a document, not the location of one"
    return "it has control characters, quotes or backslashes"


def _refuse_host(address: str, *, private: bool) -> str:
    host = _host_of(address)
    return refuse_name(host, private=private) if host else "it names no host"


def _refuse_object(href: str) -> str:
    bucket, _, key = href.partition("://")[2].partition("/")
    if not _BUCKET.fullmatch(bucket):
        return f"{bucket!r} is no name of a bucket"
    return "its key leads out of its bucket" if {".", ".."} & set(key.split("/")) else ""


def _refuse_path(href: str, kind: str, *, may_be_local: bool) -> str:
    if kind not in ("", "file"):
        return f"locations of the kind {kind}: are not read"
    if not may_be_local:
        return "a remote catalogue names a file of this machine (a provider can allow that: access.files.local)"
    authority = re.match(r"(?:file:)?//([^/]*)", href, re.IGNORECASE)
    if authority and authority[1].lower() not in (("", "localhost") if kind else ()):
        return "it names a host without saying how to reach it"
    return ""


def _host_of(address: str) -> str:
    """Return the name of the host of an address; empty where there is none, or the address is none."""
    try:
        parts = urlsplit(address)
        host = "" if parts.port == 0 else parts.hostname
    except ValueError:
        return ""
    return host or ""


def _parse_address(name: str) -> str:
    """Return the address that a name is, in standard notation; empty if it is a name."""
    try:
        return str(ip_address(name.partition("%")[0]))
    except ValueError:
        pass
    if not re.fullmatch(r"(?:0x[0-9a-f]*|[0-9]+)(?:\.(?:0x[0-9a-f]*|[0-9]+)){0,3}", name):
        return ""
    try:
        return str(IPv4Address(socket.inet_aton(name)))  # the forms of BSD: one to four numbers, octal, hexadecimal
    except OSError:
        return ""


def _unwrap(address: IPv4Address | IPv6Address) -> IPv4Address | IPv6Address:
    """Return the IPv4 address that an IPv6 address carries (RFC 4291, 3056, 4380, 6052), else the address."""
    if isinstance(address, IPv4Address):
        return address
    if address.ipv4_mapped or address.sixtofour:
        return address.ipv4_mapped or address.sixtofour or address
    if address.teredo:
        return address.teredo[1]
    if address in _NAT64 or (address in _COMPATIBLE and int(address) > 1):
        return IPv4Address(int(address) & 0xFFFFFFFF)
    return address
