"""Conditions of requests: what a client says it has already (RFC 9110, 13)."""

import re

from starlette.datastructures import Headers

_TAG = re.compile(r'(?:W/)?("[\x21\x23-\x7e\x80-\xff]*")')
"""An entity tag, weak or strong (RFC 9110, 8.8.3); the group is what a weak comparison looks at."""


def is_known(headers: Headers, etag: str) -> bool:
    """Return True if a client has what an entity tag stands for, as ``If-None-Match`` says (RFC 9110, 13.1.2).

    Args:
        headers: Headers of the request.
        etag: Tag of what would be sent; empty if it has none, which only ``*`` matches.
    """
    asked = headers.getlist("if-none-match")
    if not asked:
        return False
    joined = ", ".join(asked)
    return joined.strip() == "*" or (etag.removeprefix("W/") in _TAG.findall(joined) if etag else False)
