"""Bounds of what a file may ask of the memory of its reader, looked at before a pixel of it is decoded.

A header of a few bytes can ask for any amount: one strip of a whole globe, a block of thousands of bands, a code
block for every few pixels. What a format needs to decode one block is known from its header alone.
"""

import math
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import rasterio

from mapper.access.rules import FileRule
from mapper.text import describe_bytes

Peek = Callable[[int, int], bytes]
"""Reads bytes of a file: from where, how many; fewer at its end."""

TIFF_MARKS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
JP2_MARKS = (b"\0\0\0\x0cjP  \r\n\x87\n", b"\xffO\xffQ")
_MOST_BANDS = 4096
_MOST_BOXES = 64
_SEGMENTS = 4096
"""Bytes after the start of a codestream that are looked at: the sizes come first, the coding style soon after."""
_SIZ, _COD, _SOT, _SOC = 0xFF51, 0xFF52, 0xFF90, b"\xffO\xffQ"
_TILE_BYTES, _CELL_BYTES = 2048, 256
"""Memory in bytes of a decoder for one component of a tile, and for one code block or precinct."""


class ExcessError(Exception):
    """File that asks for more than its bounds allow."""


def name_drivers(head: bytes, rule: FileRule) -> list[str]:
    """Return the drivers that a file is opened with, by its first bytes, in the order of the rule; none fits others."""
    if head.startswith(TIFF_MARKS):
        return [name for name in rule.drivers if name == "GTiff"]
    if head.startswith(JP2_MARKS):
        return [name for name in rule.drivers if name.startswith("JP2")]
    return [name for name in rule.drivers if name != "GTiff" and not name.startswith("JP2")]


def require_bounds(dataset: rasterio.DatasetReader, rule: FileRule, *, size: int) -> None:
    """Check what an open file asks for, before a pixel of it is read.

    Args:
        dataset: The file.
        rule: Bounds.
        size: Bytes of the file.

    Raises:
        ExcessError: If it asks for more, or names another file.
    """
    if dataset.count > _MOST_BANDS:
        raise ExcessError(f"it has {dataset.count} bands, at most {_MOST_BANDS} are read")
    if "OVERVIEW_FILE" in dataset.tags(ns="OVERVIEWS"):
        raise ExcessError("it names another file for its overviews")
    needed, blocks = _size_blocks(dataset)
    _require_budget(needed, rule)
    if dataset.driver == "GTiff" and blocks > size:  # each block has a place in the file, if only of a byte
        raise ExcessError(f"it says that it has {blocks} blocks, in {describe_bytes(size)}")


def require_jp2_bounds(peek: Peek, rule: FileRule) -> None:
    """Check what decoding a JPEG 2000 file asks for, before it is opened.

    A decoder prepares for every tile of an image when it opens it, and for every code block and precinct of a tile
    when it decodes that (ISO/IEC 15444-1, A.5.1, A.6.1 and B).

    Raises:
        ExcessError: If it asks for more than its bounds, or does not say what for.
    """
    at = _find_codestream(peek)
    frame = None if at is None else _read_frame(peek(at, _SEGMENTS))
    if frame is None:
        raise ExcessError("it is truncated or broken: it has no codestream that states its sizes")
    _require_budget(frame.needed, rule)


def _require_budget(needed: int, rule: FileRule) -> None:
    if needed > rule.block_mb * 1_000_000:
        raise ExcessError(
            f"decoding one block takes {describe_bytes(needed)}, at most {rule.block_mb} MB are given "
            "(access: {files: {block_mb: N}})"
        )


def _size_blocks(dataset: rasterio.DatasetReader) -> tuple[int, int]:
    """Return the bytes that decoding one block takes, and the number of blocks of all bands."""
    height, width = dataset.block_shapes[0]
    interleaved = dataset.driver != "GTiff" or "PIXEL" in str(dataset.interleaving).upper()
    depth = max(np.dtype(_plain_type(dtype)).itemsize for dtype in dataset.dtypes)
    needed = height * width * depth * (dataset.count if interleaved else 1)
    blocks = math.ceil(dataset.height / height) * math.ceil(dataset.width / width)
    return needed, blocks * (1 if interleaved else dataset.count)


def _plain_type(dtype: str) -> str:
    return "int32" if dtype == "complex_int16" else dtype


@dataclass(frozen=True, kw_only=True)
class _Frame:
    """Sizes of a codestream."""

    tiles: int
    tile_px: int
    components: int
    cell_px: int
    """Pixels of the smallest code block or precinct."""

    @property
    def needed(self) -> int:
        cells = 2 * self.components * self.tile_px // self.cell_px
        return self.tiles * self.components * _TILE_BYTES + cells * _CELL_BYTES


def _find_codestream(peek: Peek) -> int | None:
    """Return where the codestream of a file begins; None if no box leads to it."""
    at = 0
    if peek(0, 4) == _SOC:
        return at
    for _ in range(_MOST_BOXES):
        head = peek(at, 16)
        if len(head) < 16:
            return None
        length, kind, extended = struct.unpack(">I4sQ", head)
        if kind == b"jp2c":
            return at + (16 if length == 1 else 8)
        step = extended if length == 1 else length
        if step < 8:
            return None
        at += step
    return None


def _read_frame(start: bytes) -> _Frame | None:
    """Return the sizes that the main header of a codestream states; None if it has none."""
    if len(start) < 42 or not start.startswith(_SOC):
        return None
    width, height, left, top, tile_w, tile_h, tile_x, tile_y = struct.unpack(">8I", start[8:40])
    (components,) = struct.unpack(">H", start[40:42])
    if not (tile_w and tile_h and width > left and height > top and width > tile_x and height > tile_y):
        return None
    tiles = math.ceil((width - tile_x) / tile_w) * math.ceil((height - tile_y) / tile_h)
    tile_px = min(tile_w, width - left) * min(tile_h, height - top)
    cells = [_smallest_cell(body) for kind, body in _segments(start) if kind == _COD and len(body) >= 10]
    return _Frame(tiles=tiles, tile_px=tile_px, components=max(components, 1), cell_px=min(cells, default=4096))


def _segments(start: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield kind and content of the segments of a main header, up to the first tile or the end of what is known."""
    at = 2
    while at + 4 <= len(start):
        kind, length = struct.unpack(">HH", start[at : at + 4])
        if kind == _SOT or length < 2:
            return
        yield kind, start[at + 4 : at + 2 + length]
        at += 2 + length


def _smallest_cell(coding: bytes) -> int:
    """Return the pixels of the smallest code block or precinct of a coding style."""
    block: int = 1 << ((coding[6] & 15) + 2 + (coding[7] & 15) + 2)
    precincts = [1 << ((size & 15) + (size >> 4)) for size in coding[10:]] if coding[0] & 1 else []
    return max(min([block, *precincts[1:]]), 1)
