"""Quicklooks of a map: from its pyramid, from all pixels of a small map, else from the means of its tiles."""

import base64
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mapper.arrays import Float32Array
from mapper.store.rasters import Raster, Rasters

RAMPS = {
    "value": ("440154", "482878", "3e4989", "31688e", "26828e", "1f9e89", "35b779", "6ece58", "b5de2b", "fde725"),
    "sd": ("000004", "180f3d", "440f76", "721f81", "9e2f7f", "cd4071", "f1605d", "fd9668", "feca8d", "fcfdbf"),
    "n_valid": ("f7fbff", "deebf7", "c6dbef", "9ecae1", "6baed6", "4292c6", "2171b5", "08519c", "08306b"),
}
"""Colours from low to high: viridis, magma, blues."""
_ALL_PX = 1 << 26
"""Most pixels of a map without a pyramid that is read as a whole."""
_TINTS = 255
_STRIP_PX = 1 << 22


@dataclass(frozen=True, kw_only=True)
class Quicklook:
    """A small picture of one band."""

    png: bytes
    shape: tuple[int, int]
    """Rows and columns of the PNG."""
    low: float
    """Value of the first colour."""
    high: float
    """Value of the last."""
    colours: tuple[str, ...]
    origin: str
    """Pixels that it was made from."""
    map_px: float
    """Pixels of the map along one of its pixels."""

    @property
    def uri(self) -> str:
        """Return the picture as a link that holds it."""
        return f"data:image/png;base64,{base64.b64encode(self.png).decode()}"


def draw_quicklook(
    rasters: Rasters, name: str, *, ramp: str, edge: int, means: Float32Array | None = None
) -> Quicklook | None:
    """Draw one band.

    Args:
        rasters: Bands of the map.
        name: Name of the band.
        ramp: One of :data:`RAMPS`.
        edge: Most pixels that it is wide and high.
        means: Means of its tiles, used where there are too many pixels; None leaves the picture out then.

    Returns:
        The picture; None if no pixel is valid, or too many would have to be read.
    """
    raster = rasters.find(name, _choose_level(rasters, edge))
    if raster.shape[0] * raster.shape[1] <= _ALL_PX:
        values, factor = _shrink(raster, rasters, edge)
        origin = f"level {raster.level} of the pyramid" if raster.level else "all pixels"
        map_px = float(factor * 2**raster.level)
    elif means is not None:
        values, origin, map_px = means, "the means of its tiles", float(rasters.grid.tile_px)
    else:
        return None
    return _colour(values, RAMPS[ramp], origin=origin, map_px=map_px)


def make_png(indices: npt.NDArray[np.uint8], colours: Sequence[str]) -> bytes:
    """Return a PNG of indices into a palette, of which 0 is transparent and 1 the first colour."""
    rows, cols = indices.shape
    palette = bytes(3) + b"".join(map(bytes.fromhex, colours))
    rows_of_bytes = np.concatenate([np.zeros((rows, 1), np.uint8), indices], axis=1).tobytes()
    parts = (
        (b"IHDR", struct.pack(">IIBBBBB", cols, rows, 8, 3, 0, 0, 0)),
        (b"PLTE", palette),
        (b"tRNS", bytes(1)),
        (b"IDAT", zlib.compress(rows_of_bytes, 9)),
        (b"IEND", b""),
    )
    chunks = (
        struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
        for kind, content in parts
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def blend(ramp: Sequence[str], count: int = _TINTS) -> list[str]:
    """Return colours between those of a ramp."""
    stops = np.array([list(bytes.fromhex(colour)) for colour in ramp], float)
    at = np.linspace(0, len(ramp) - 1, count)
    mixed = np.stack([np.interp(at, range(len(ramp)), stops[:, band]) for band in range(3)], axis=1)
    return [bytes(np.rint(colour).astype(np.uint8)).hex() for colour in mixed]


def _choose_level(rasters: Rasters, edge: int) -> int:
    """Return the coarsest level that is not coarser than the picture."""
    return rasters.choose_level(max(rasters.grid.shape) / edge)


def _shrink(raster: Raster, rasters: Rasters, edge: int) -> tuple[Float32Array, int]:
    """Return the means of blocks of valid pixels, read strip by strip, and the pixels along a block."""
    used = tuple(-(-size // 2**raster.level) for size in rasters.grid.shape)  # levels are padded to whole tiles
    rows, cols = min(used[0], raster.shape[0]), min(used[1], raster.shape[1])
    factor = max(1, -(-max(rows, cols) // edge))
    step = max(1, _STRIP_PX // cols // factor) * factor
    strips = []
    for top in range(0, rows, step):
        stored = raster.read(slice(top, min(top + step, rows)), slice(0, cols))
        values = raster.decode(stored)
        if raster.band.role == "count":
            values = np.where(values > 0, values, np.nan)
        strips.append(_mean_blocks(values, factor))
    return np.concatenate(strips), factor


def _mean_blocks(values: Float32Array, factor: int) -> Float32Array:
    if factor == 1:
        return values.astype(np.float32)
    rows, cols = (-(-size // factor) for size in values.shape)
    padded = np.full((rows * factor, cols * factor), np.nan, np.float32)
    padded[: values.shape[0], : values.shape[1]] = values
    blocks = padded.reshape(rows, factor, cols, factor)
    valid = np.isfinite(blocks)
    counts = valid.sum(axis=(1, 3))
    sums = np.where(valid, blocks, 0).sum(axis=(1, 3))
    return np.where(counts > 0, sums / np.maximum(counts, 1), np.nan).astype(np.float32)


def _colour(values: Float32Array, ramp: Sequence[str], *, origin: str, map_px: float) -> Quicklook | None:
    valid = values[np.isfinite(values)]
    if not valid.size:
        return None
    low, high = (float(value) for value in np.percentile(valid, (2, 98)))
    if high <= low:
        high = low + max(1.0, abs(low))
    share = np.clip((np.nan_to_num(values, nan=low) - low) / (high - low), 0, 1)
    indices = np.where(np.isfinite(values), 1 + np.rint(share * (_TINTS - 1)), 0).astype(np.uint8)
    return Quicklook(
        png=make_png(indices, blend(ramp)),
        shape=(indices.shape[0], indices.shape[1]),
        low=low,
        high=high,
        colours=tuple(ramp),
        origin=origin,
        map_px=map_px,
    )
