"""Rasters whose bytes were changed, and what a reader makes of them."""

import random
import resource
import struct
from functools import lru_cache
from pathlib import Path

import numpy as np
from headers import PLAIN, item_of, write_file
from odc.geo.geobox import GeoBox
from rasterio import Affine

from mapper.catalog.items import freeze_items
from mapper.catalog.provider import Provider
from mapper.cube.read import read_block
from mapper.cube.source import read_source
from mapper.errors import AssetError, TransientAssetError
from mapper.spec import parse_spec

PLACE = GeoBox((96, 96), Affine(10, 0, 300000, 0, -10, 5700000), "EPSG:32633")
COARSE = GeoBox((24, 24), Affine(40, 0, 300000, 0, -40, 5700000), "EPSG:32633")
PROVIDER = Provider(name="test", title="", kind="static", licence="", attribution="", collections={"maps": PLAIN})
SPEC = parse_spec(
    {
        "name": "test",
        "area": {"bbox": [11, 51, 12, 52]},
        "period": {"start": "2020-01-01", "end": "2020-12-31"},
        "grid": {"crs": "EPSG:32633", "resolution": 10},
        "catalog": {"provider": "demo"},
        "guide": {"layers": [{"collection": "maps", "bands": ["agb"]}], "seasons": {"summer": [6]}},
        "source": {"collection": "maps", "variable": "agb", "resolution": 40, "year": 2020},
        "model": {"name": "bicubic"},
        "store": "map.icechunk",
    },
    base=Path(),
)
_TAGS = (
    256,
    257,
    258,
    259,
    262,
    273,
    277,
    278,
    279,
    284,
    317,
    322,
    323,
    324,
    325,
    338,
    339,
    33550,
    33922,
    34735,
    42113,
)
"""Size, bits, compression, places, bands, predictor, tiles, alpha, type, georeference and no data of a TIFF."""
_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 12: 8, 16: 8}
"""Bytes of a value by its type."""


def write_seeds(folder):
    """Write good files of several kinds; returns their paths by kind."""
    rng = np.random.default_rng(0)
    whole = rng.integers(1, 4000, PLACE.shape).astype(np.uint16)
    whole[:20] = 0
    fine = np.where(whole == 0, np.nan, whole / 7).astype(np.float32)
    pair = np.stack([whole % 256, np.where(whole == 0, 0, 255)]).astype(np.uint8)
    mask = np.where(whole == 0, 0, 255).astype(np.uint8)
    folder.mkdir(parents=True, exist_ok=True)
    tiled = {"tiled": True, "blockxsize": 32, "blockysize": 32}
    made = {
        "plain strips": write_file(folder / "plain.tif", whole, PLACE, nodata=0),
        "deflate tiles": write_file(
            folder / "deflate.tif", whole, PLACE, nodata=0, compress="deflate", predictor=2, **tiled
        ),
        "fractions, LZW": write_file(folder / "lzw.tif", fine, PLACE, nodata=np.nan, compress="lzw", **tiled),
        "masked big TIFF": write_file(folder / "mask.tif", whole, PLACE, mask=mask, BIGTIFF="YES", compress="deflate"),
        "alpha": write_file(folder / "alpha.tif", pair, PLACE, alpha="yes", photometric="minisblack"),
        "JPEG 2000": write_file(folder / "a.jp2", whole, PLACE, driver="JP2OpenJPEG", REVERSIBLE="YES", QUALITY="100"),
    }
    made["scaled"] = write_file(folder / "scaled.tif", whole, PLACE, nodata=0, scales=(0.5,), offsets=(1.0,), **tiled)
    return made


def mutate(content, rng):
    """Return changed bytes, and what was done to them."""
    content = bytearray(content)
    ways = [_flip, _flip_head, _cut, _blank, _repeat, _set_field, _set_field, _set_field]
    way = rng.choice(ways)
    told = way(content, rng)
    return bytes(content), told


def _flip(content, rng):
    at = rng.randrange(len(content))
    content[at] ^= 1 << rng.randrange(8)
    return f"bit of byte {at}"


def _flip_head(content, rng):
    for _ in range(rng.randint(1, 6)):
        content[rng.randrange(min(700, len(content)))] = rng.randrange(256)
    return "head"


def _cut(content, rng):
    del content[rng.randrange(len(content)) :]
    return "cut"


def _blank(content, rng):
    at = rng.randrange(len(content))
    stop = min(len(content), at + rng.randint(1, 400))
    content[at:stop] = bytes(stop - at)
    return "blank"


def _repeat(content, rng):
    at = rng.randrange(len(content))
    content[at:at] = content[at : at + rng.randint(1, 64)]
    return "repeat"


def _set_field(content, rng):
    """Give one field of a header a hostile number."""
    number = rng.choice([0, 1, 2, 3, 7, 16, 255, 4097, 65535, 2**31 - 1, 2**31, 2**32 - 1, rng.randrange(2**32)])
    fields = list(_find_fields(content))
    if not fields:
        return _flip_head(content, rng)
    name, at, size = rng.choice(fields)
    content[at : at + size] = (number % 256**size).to_bytes(size, "little" if content[:2] == b"II" else "big")
    return f"{name} = {number}"


def _find_fields(content):
    """Yield name, place and size of values in the directories of a TIFF, or in the image size of a JPEG 2000."""
    if content[:2] != b"II":
        at = content.find(b"\xff\x51")
        yield from ((f"SIZ {k}", at + 6 + 4 * k, 4) for k in range(8) if 0 < at < len(content) - 60)
        yield from (("SIZ bands", at + 38, 2), ("SIZ bits", at + 40, 1)) if 0 < at < len(content) - 60 else ()
        return
    big = content[2] == 43
    start = struct.unpack_from("<Q" if big else "<I", content, 8 if big else 4)[0]
    if start + 8 > len(content):
        return
    entries, head, step = (
        struct.unpack_from("<Q" if big else "<H", content, start)[0],
        8 if big else 2,
        20 if big else 12,
    )
    for k in range(min(entries, 40)):
        entry = start + head + k * step
        if entry + step > len(content):
            return
        tag, kind = struct.unpack_from("<HH", content, entry)
        count = struct.unpack_from("<Q" if big else "<I", content, entry + 4)[0]
        value, size = entry + (12 if big else 8), _SIZES.get(kind, 1)
        yield f"type of {tag}", entry + 2, 2
        if tag in _TAGS and size * count > (8 if big else 4):
            value = struct.unpack_from("<Q" if big else "<I", content, value)[0]
        if tag in _TAGS and value + size <= len(content):
            yield f"tag {tag}", value, size


def read_block_of(path):
    """Return what the block reader makes of a file, (y, x)."""
    return read_block(freeze_items([item_of(path, geobox=PLACE)]), PLACE, bands=["agb"], rule=PLAIN)["agb"].values[0]


def read_source_of(path):
    """Return what the reader of source maps makes of a file."""
    return read_source(freeze_items([item_of(path, geobox=PLACE)]), COARSE, spec=SPEC, provider=PROVIDER)


def judge(path, good):
    """Return what became of a mutated file by both readers, worst last: same, refused, fewer, other, fault.

    Args:
        path: The mutated file.
        good: The file as it was.
    """
    return max(
        (_judge_block(path, good), _judge_source(path, good)), key=lambda told: OUTCOMES.index(told.split(":")[0])
    )


OUTCOMES = ("same", "refused", "fewer", "other", "fault")


def _judge_block(path, good):
    try:
        found = read_block_of(path)
    except AssetError as error:
        return "refused" if "the-item" in str(error) and "\n" not in str(error) else f"fault: no line: {error}"
    except Exception as error:  # noqa: BLE001 - what must not be
        return f"fault: block {type(error).__name__}: {error}"
    return _compare(found, _good_block(good))


def _judge_source(path, good):
    try:
        found = read_source_of(path)
    except TransientAssetError:
        return "refused"
    except Exception as error:  # noqa: BLE001 - a broken file never ends a run
        return f"fault: source {type(error).__name__}: {error}"
    return "refused" if found.uses[0].dropped else _compare(found.mean, _good_source(good))


@lru_cache
def _good_block(path):
    return read_block_of(path)


@lru_cache
def _good_source(path):
    return read_source_of(path).mean


def _compare(found, expected):
    if np.array_equal(found, expected, equal_nan=True):
        return "same"
    known = np.isfinite(found)
    return "fewer" if np.array_equal(found[known], expected[known]) else "other"


def limit_memory(more_bytes):
    """Limit the address space of this process to what it has and some more."""
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + more_bytes, used + more_bytes))


def rng_of(seed, number):
    return random.Random(f"{seed} {number}")
