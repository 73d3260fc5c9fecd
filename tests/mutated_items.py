"""Documents and files that went wrong: JSON with other values, and bytes that flipped, got lost or came twice."""

import copy
import json

ODD = (
    None, True, False, 0, -1, 1, 1e308, -1e308, float("nan"), float("inf"), 10**30, 10**400, "", "x", "\x00", "\ud800",
    "é" * 300, "2020-06-10T10:00:00Z", "0001-01-01T00:00:00+14:00", "file:///etc/passwd", "/etc/passwd", "http://[",
    "../" * 40, "%00", [], [[]], [None], {}, {"href": None}, [{}], {"type": "Point", "coordinates": []},
)  # fmt: skip
"""Values that may stand where another is expected."""


def places_in(content, path=()):
    """Paths to everything inside a JSON document."""
    inside = content.items() if isinstance(content, dict) else enumerate(content) if isinstance(content, list) else ()
    for key, value in inside:
        yield (*path, key)
        yield from places_in(value, (*path, key))


def mutate_json(content, draw):
    """A copy of a JSON document with one thing wrong, and the path to it."""
    content = copy.deepcopy(content)
    path = draw.choice(list(places_in(content)))
    *way, key = path
    parent = content
    for step in way:
        parent = parent[step]
    match draw.randrange(4):
        case 0:
            del parent[key]
        case 1 if isinstance(parent, list):
            parent.append(copy.deepcopy(parent[key]))
        case 2 if isinstance(parent[key], str) and parent[key]:
            letters = list(parent[key])
            letters[draw.randrange(len(letters))] = chr(draw.choice([0, 37, 35, 63, 32, 48, 122, 0x20AC]))
            parent[key] = "".join(letters)
        case _:
            parent[key] = copy.deepcopy(draw.choice(ODD))
    return content, path


def mutate_bytes(blob, draw):
    """Bytes with one thing wrong: bits flipped, a part overwritten, lost or doubled, or the end missing."""
    blob = bytearray(blob)
    at, size = draw.randrange(len(blob)), 1 + draw.randrange(64)
    match draw.randrange(6):
        case 0:
            blob[at : at + size] = bytes(min(size, len(blob) - at))
        case 1:
            del blob[at : at + size]
        case 2:
            blob[at:at] = blob[at : at + size]
        case 3:
            del blob[at:]
        case _:
            blob[at] ^= 1 << draw.randrange(8)
    return bytes(blob)


def to_text(content):
    """JSON as lenient writers write it: any number, lone surrogates escaped."""
    return json.dumps(content)
