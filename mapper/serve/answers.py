"""Text of a store in answers: whatever it is, the document stays valid.

Units and names are free text of whoever made a map: quotes, line ends, control characters, halves of surrogate pairs.
"""

import json
import re
from typing import Any
from urllib.parse import quote

from fastapi.responses import JSONResponse

_PLAIN = re.compile(r"[!-~](?:[ -~]*[!-~])?")
"""Printable ASCII without blanks around it: what every client reads in a header as it was sent."""
_NO_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""Characters that no XML 1.0 document may hold, however they are written (2.2)."""
_MOST_HEADER = 1024


class JsonAnswer(JSONResponse):
    """Answer in JSON; halves of surrogate pairs, which UTF-8 has no bytes for, become question marks."""

    def render(self, content: Any) -> bytes:
        """Return a document as bytes."""
        text = json.dumps(content, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        return text.encode("utf-8", "replace")


def write_header(text: str) -> str | None:
    """Return text as the value of a header; None if it is too long for one.

    Other text than printable ASCII is an ``ext-value`` of RFC 8187 without a language: ``UTF-8''%C2%B5g``.
    """
    value = text if _PLAIN.fullmatch(text) else f"UTF-8''{quote(text, safe='', errors='replace')}"
    return value if len(value) <= _MOST_HEADER else None


def write_xml(text: str) -> str:
    """Return text as XML can hold it: other characters become U+FFFD."""
    return _NO_XML.sub("\ufffd", text)
