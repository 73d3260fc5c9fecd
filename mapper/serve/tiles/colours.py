"""Colours of tiles: colour maps for what is measured or counted, one colour for each quality flag.

A tile is an image of indices into a palette; 0 is transparent. The tables in ``colours.txt`` are
Matplotlib's, 256 colours each; a value picks one of 255.
"""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from types import MappingProxyType
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from PIL import Image

from mapper.arrays import ByteArray

Colormap = Literal["viridis", "plasma", "inferno", "magma", "cividis", "gray", "ylgn", "rdylgn"]
"""Colour maps; the first five can be told apart by all eyes and in print."""

_COLOURS = 255
"""Colours of a palette, beside the transparent one."""
_CLEAR = bytes(1)
_FAST = 1
"""Level of compression: tiles are sent once and are small."""


@dataclass(frozen=True, kw_only=True)
class FlagColour:
    """Colour of pixels with a flag."""

    flag: str
    red: int
    green: int
    blue: int

    @property
    def hex(self) -> str:
        """Return the colour as CSS writes it."""
        return f"#{self.red:02x}{self.green:02x}{self.blue:02x}"


UNFLAGGED = FlagColour(flag="", red=0xB8, green=0xD8, blue=0xBE)
"""Colour of pixels without a flag."""
_FLAGS: Mapping[str, tuple[int, int, int]] = MappingProxyType(
    {
        "source_missing": (0x33, 0x22, 0x88),
        "guide_gap": (0xCC, 0x66, 0x77),
        "item_dropped": (0xAA, 0x44, 0x99),
        "source_disagrees": (0xDD, 0xAA, 0x33),
        "few_observations": (0x88, 0xCC, 0xEE),
        "few_dates": (0x44, 0xAA, 0x99),
        "out_of_domain": (0x88, 0x22, 0x55),
        "fallback": (0x66, 0x11, 0x00),
        "cloud_shadow": (0x66, 0x99, 0xCC),
        "changed": (0xEE, 0x77, 0x33),
        "misregistered": (0x99, 0x77, 0x00),
        "consistency_moved": (0xEE, 0xCC, 0x66),
        "saturated": (0xFF, 0xAA, 0xBB),
        "confidence_low": (0x99, 0x99, 0x33),
        "confidence_medium": (0xDD, 0xDD, 0x99),
        "confidence_unknown": (0x77, 0x77, 0x77),
        "few_clear": (0x11, 0x77, 0x33),
        "outside_area": (0xBB, 0xBB, 0xBB),
    }
)
"""Colours of flags, the gravest first: a pixel with several has the colour of the first."""
_OTHER = (0x44, 0x44, 0x44)


def list_flag_colours(names: list[str]) -> list[FlagColour]:
    """Return the colours of flags, the gravest first; flags that are not known here come last."""
    known = [name for name in _FLAGS if name in names] + [name for name in names if name not in _FLAGS]
    return [
        FlagColour(flag=name, red=red, green=green, blue=blue)
        for name in known
        for red, green, blue in (_FLAGS.get(name, _OTHER),)
    ]


@cache
def find_palette(colormap: Colormap) -> bytes:
    """Return red, green and blue of 256 colours; the first is the transparent one."""
    rows = (files("mapper.serve.tiles") / "colours.txt").read_text("ascii").splitlines()
    table = np.frombuffer(bytes.fromhex(dict(row.split() for row in rows)[colormap]), np.uint8).reshape(256, 3)
    indices = np.rint(np.arange(_COLOURS) * 255 / (_COLOURS - 1)).astype(np.int64)
    return b"\0\0\0" + table[indices].tobytes()


def make_flag_palette(colours: list[FlagColour]) -> bytes:
    """Return a palette: transparent, the colour of pixels without a flag, and the colours of flags."""
    triples = [(0, 0, 0), *((colour.red, colour.green, colour.blue) for colour in (UNFLAGGED, *colours))]
    return bytes(part for triple in triples for part in triple)


def index_values(values: npt.NDArray[np.float32], low: float, high: float) -> ByteArray:
    """Return the indices of values in a palette: 1 up to ``low``, 255 from ``high``, 0 for NaN."""
    scaled = values - np.float32(low)
    scaled *= np.float32((_COLOURS - 1) / (high - low))
    scaled += np.float32(1.5)
    np.clip(scaled, 1, _COLOURS, out=scaled)
    np.copyto(scaled, 0, where=np.isnan(scaled))
    return scaled.astype(np.uint8)


def index_flags(
    flags: npt.NDArray[Any], chosen: Sequence[tuple[int, int]], written: npt.NDArray[np.bool_]
) -> ByteArray:
    """Return the indices of flags in a palette; ``chosen`` are masks and values of bits, the gravest first."""
    indices = np.ones(flags.shape, np.uint8)
    for number, (mask, value) in reversed(list(enumerate(chosen))):
        indices[flags & mask == value] = number + 2
    indices[~written] = 0
    return indices


def encode_png(indices: ByteArray, palette: bytes) -> bytes:
    """Return an image of palette indices as PNG; index 0 is transparent."""
    image = Image.fromarray(indices, "P")
    image.putpalette(palette)
    buffer = io.BytesIO()
    image.save(buffer, format="PNG", transparency=_CLEAR, compress_level=_FAST)
    return buffer.getvalue()
