"""Files that went wrong on the way or mean harm: bytes changed at random, and what breaks readers on purpose."""

import json
import struct


def mutate(content, rng):
    """The same bytes with one to four random changes."""
    data = bytearray(content)
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(len(data) + 1) if data else 0
        kind = rng.choice(("flip", "delete", "insert", "cut", "repeat", "number", "quote"))
        if kind == "flip" and data:
            data[at % len(data)] ^= 1 << rng.randrange(8)
        elif kind == "delete":
            del data[at : at + rng.randint(1, 40)]
        elif kind == "insert":
            data[at:at] = rng.randbytes(rng.randint(1, 12))
        elif kind == "cut":
            del data[at:]
        elif kind == "repeat":
            data[at:at] = data[at : at + rng.randint(1, 200)] * rng.randint(1, 20)
        elif kind == "number":
            data[at:at] = rng.choice((b"1e999", b"-1", b"9" * 400, b".inf", b".nan", b"0", b"1/0", b"1e-999999999"))
        else:
            data[at:at] = rng.choice((b"'", b'"', b"[", b"{", b"&a ", b"*a", b"!!python/name:os.system ", b"\t", b": "))
    return bytes(data)


def change_value(document, rng, values):
    """A copy of a document in which one random value is another."""
    copy = json.loads(json.dumps(document))
    part = copy
    while True:
        keys = list(part) if isinstance(part, dict) else range(len(part))
        key = rng.choice(list(keys))
        inside = part[key]
        if isinstance(inside, dict | list) and inside and rng.random() < 0.85:
            part = inside
            continue
        part[key] = rng.choice(values)
        return copy


HOSTILE_VALUES = (
    None, True, -1, 0, 10**9, 10**30, 10**400, 1e308, float("nan"), float("inf"), "", "x" * 5000, "../../etc/passwd",
    "a\x00b", [], {}, [[]], {"a": {"a": {"a": {}}}}, ["x"] * 1000, "1e99999999",
)  # fmt: skip
"""Values that stand where others are expected."""


def alias_bomb(levels=12, width=10):
    """YAML of a few hundred bytes that stands for WIDTH ** LEVELS values."""
    lines = [f"a0: &a0 [{', '.join('x' * width)}]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * width)}]" for n in range(1, levels)]
    return "\n".join(lines)


def hostile_safetensors():
    """Files that begin as safetensors do, by name."""

    def with_header(header, data=b"", size=None):
        text = header if isinstance(header, bytes) else json.dumps(header).encode()
        return struct.pack("<Q", len(text) if size is None else size) + text + data

    tensor = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}
    return {
        "empty": b"",
        "short": b"\x01\x02",
        "gigabytes": with_header({}, size=2**33),
        "all of 64 bits": with_header({}, size=2**64 - 1),
        "deep": with_header(b"[" * 200_000),
        "no object": with_header([1, 2]),
        "seal is a list": with_header({"__metadata__": {"seal": ["x"]}, "w": tensor}, bytes(8)),
        "huge shape": with_header({"w": tensor | {"shape": [2**40, 2**40]}}, bytes(8)),
        "offsets beyond": with_header({"w": tensor | {"data_offsets": [0, 2**40]}}, bytes(8)),
        "negative offsets": with_header({"w": tensor | {"data_offsets": [-8, 8]}}, bytes(8)),
        "overlap": with_header({"w": tensor, "v": tensor}, bytes(8)),
        "huge numbers": with_header(
            b'{"w": {"dtype": "F32", "shape": [' + b"9" * 5000 + b'], "data_offsets": [0, 8]}}'
        ),
        "odd type": with_header({"w": tensor | {"dtype": "F9000"}}, bytes(8)),
        "a path for a name": with_header({"../../w": tensor}, bytes(8)),
    }
