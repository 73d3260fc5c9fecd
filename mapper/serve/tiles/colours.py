"""Colours of tiles: colour maps for what is measured or counted, one colour for each quality flag.

A tile is an image of indices: 0 is transparent, the others are places of a palette. The tables in ``colours.txt`` are
Matplotlib's, 256 colours each; a value picks one of 255.
"""

import io
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from types import MappingProxyType
from typing import Literal

import numpy as np
import numpy.typing as npt
from PIL import Image

from mapper.arrays import ByteArray

Colormap = Literal["viridis", "plasma", "inferno", "magma", "cividis", "gray", "ylgn", "rdylgn"]
"""The first five look the same to all eyes and in print."""

_COLOURS = 255
"""Of a palette, beside the transparent one."""
_CLEAR = bytes(1)
_FAST = 1
"""Compression: tiles are sent once and are small."""


@dataclass(frozen=True, kw_only=True)
class FlagColour:
    """How pixels with a flag look."""

    flag: str
    red: int
    green: int
    blue: int

    @property
    def hex(self) -> str:
        """As CSS writes it."""
        return f"#{self.red:02x}{self.green:02x}{self.blue:02x}"


UNFLAGGED = FlagColour(flag="", red=0xB8, green=0xD8, blue=0xBE)
"""A pixel with nothing to remark."""
_FLAGS: Mapping[str, tuple[int, int, int]] = MappingProxyType(
    {
        "source_missing": (0x33, 0x22, 0x88),
        "guide_gap": (0xCC, 0x66, 0x77),
        "item_dropped": (0xAA, 0x44, 0x99),
        "source_disagrees": (0xDD, 0xAA, 0x33),
        "few_observations": (0x88, 0xCC, 0xEE),
        "outside_area": (0xBB, 0xBB, 0xBB),
    }
)
"""The gravest first: a pixel with several flags has the colour of the first."""
_OTHER = (0x44, 0x44, 0x44)


def flag_colours(names: list[str]) -> list[FlagColour]:
    """The colours of flags, the gravest first; flags that are not known here come last."""
    known = [name for name in _FLAGS if name in names] + [name for name in names if name not in _FLAGS]
    return [
        FlagColour(flag=name, red=red, green=green, blue=blue)
        for name in known
        for red, green, blue in (_FLAGS.get(name, _OTHER),)
    ]


@cache
def palette_of(colormap: Colormap) -> bytes:
    """Red, green, blue of 256 places; the first is the transparent one."""
    lines = (files("mapper.serve.tiles") / "colours.txt").read_text("ascii").splitlines()
    table = np.frombuffer(bytes.fromhex(dict(line.split() for line in lines)[colormap]), np.uint8).reshape(256, 3)
    places = np.rint(np.arange(_COLOURS) * 255 / (_COLOURS - 1)).astype(np.int64)
    return b"\0\0\0" + table[places].tobytes()


def flag_palette(colours: list[FlagColour]) -> bytes:
    """Transparent, the colour of pixels without a flag, and the colours of flags."""
    places = [(0, 0, 0), *((colour.red, colour.green, colour.blue) for colour in (UNFLAGGED, *colours))]
    return bytes(part for place in places for part in place)


def place_values(values: npt.NDArray[np.float32], low: float, high: float) -> ByteArray:
    """Places of values in a palette: 1 for ``low`` and what is below, 255 for ``high`` and above, 0 for NaN."""
    places = values - np.float32(low)
    places *= np.float32((_COLOURS - 1) / (high - low))
    places += np.float32(1.5)
    np.clip(places, 1, _COLOURS, out=places)
    np.copyto(places, 0, where=np.isnan(places))
    return places.astype(np.uint8)


def place_flags(flags: npt.NDArray[np.uint16], masks: list[int], written: npt.NDArray[np.bool_]) -> ByteArray:
    """Places of flags in a palette; ``masks`` are bits, the gravest first."""
    places = np.ones(flags.shape, np.uint8)
    for number, mask in reversed(list(enumerate(masks))):
        places[flags & mask != 0] = number + 2
    places[~written] = 0
    return places


def encode_png(places: ByteArray, palette: bytes) -> bytes:
    """An image of palette indices as PNG; place 0 is transparent."""
    image = Image.fromarray(places, "P")
    image.putpalette(palette)
    buffer = io.BytesIO()
    image.save(buffer, format="PNG", transparency=_CLEAR, compress_level=_FAST)
    return buffer.getvalue()
