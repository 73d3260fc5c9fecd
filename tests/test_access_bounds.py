"""Bounds: a header asks for no more memory than the file's rule gives, and what is asked for is known from it."""

import io
import math
import struct

import numpy as np
import pytest
import rasterio
from rasterio.io import MemoryFile

from mapper.access.bounds import ExcessError, name_drivers, require_bounds, require_jp2_bounds
from mapper.access.files import Access
from mapper.access.rules import AccessRule, FileRule
from mapper.access.tally import AssetName
from mapper.errors import CorruptAssetError

RULE = FileRule()
SIZ, COD, SOT = 0xFF51, 0xFF52, 0xFF90


def make_tiff(path, *, size, tile, count=1, bits=8, planes="together"):
    """A GeoTIFF of tiles that are stored nowhere: all of it is its header (TIFF 6.0, sections 2 and 15)."""
    tiles = math.ceil(size[0] / tile[0]) * math.ceil(size[1] / tile[1]) * (1 if planes == "together" else count)
    values = {
        256: (4, [size[0]]), 257: (4, [size[1]]), 258: (3, [bits] * count), 259: (3, [8]), 262: (3, [1]),
        277: (3, [count]), 284: (3, [1 if planes == "together" else 2]), 322: (4, [tile[0]]), 323: (4, [tile[1]]),
        324: (4, [0] * tiles), 325: (4, [0] * tiles), 338: (3, [0] * (count - 1)), 339: (3, [1] * count),
    }  # fmt: skip
    values = {tag: value for tag, value in values.items() if value[1]}
    entries, data, at = b"", b"", 8 + 2 + 12 * len(values) + 4
    for tag, (kind, numbers) in values.items():
        body = struct.pack(f"<{len(numbers)}{'HI'[kind == 4]}", *numbers)
        held = body.ljust(4, b"\0") if len(body) <= 4 else struct.pack("<I", at + len(data))
        entries += struct.pack("<HHI", tag, kind, len(numbers)) + held
        data += body if len(body) > 4 else b""
    path.write_bytes(struct.pack("<2sHIH", b"II", 42, 8, len(values)) + entries + bytes(4) + data)
    return path


def read(path, **rule):
    name = AssetName(item="a", asset="B02", href=str(path))
    return Access().read(name, AccessRule(files=FileRule(**rule)), lambda file: file.read(1))


def make_codestream(*, size, tile, components=1, block=(4, 4), precincts=()):
    """The main header of a JPEG 2000 codestream (ISO/IEC 15444-1, A.5.1 and A.6.1)."""
    siz = struct.pack(">H8IH", 0, *size, 0, 0, *tile, 0, 0, components) + bytes([15, 1, 1]) * min(components, 3)
    cod = bytes([1 if precincts else 0, 0, 0, 1, 0, 5, *block, 0, 1, *precincts])
    segments = b"".join(struct.pack(">HH", kind, len(body) + 2) + body for kind, body in ((SIZ, siz), (COD, cod)))
    return b"\xffO" + segments + struct.pack(">H", SOT)


def peek_into(content):
    return lambda start, count: content[start : start + count]


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
@pytest.mark.parametrize(
    ("shape", "said"),
    [
        ({"size": (20000, 20000), "tile": (20000, 20000)}, "decoding one block takes 381.5 MiB"),
        ({"size": (600, 600), "tile": (608, 608), "count": 900}, "takes 317.3 MiB"),
        ({"size": (9000, 9000), "tile": (8192, 8192), "bits": 64}, "takes 512.0 MiB"),
        ({"size": (8, 8), "tile": (16, 16), "count": 5000}, "5000 bands, at most 4096"),
    ],
)
def test_a_header_that_asks_for_too_much_is_refused_before_a_pixel_is_read(tmp_path, shape, said):
    path = make_tiff(tmp_path / "a.tif", **shape)
    with pytest.raises(CorruptAssetError, match=said) as caught:
        read(path)
    assert caught.value.item == "a"
    assert path.stat().st_size < 100_000


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_a_provider_gives_what_its_files_need(tmp_path):
    path = make_tiff(tmp_path / "a.tif", size=(1000, 1500), tile=(1024, 1536), bits=16)
    with pytest.raises(CorruptAssetError, match=r"takes 3\.0 MiB, at most 3 MB"):
        read(path, block_mb=3)
    assert read(path, block_mb=4).shape == (1500, 1000)
    apart = make_tiff(tmp_path / "b.tif", size=(64, 64), tile=(1024, 1024), count=100, planes="apart")
    assert read(apart, block_mb=2).shape == (64, 64), "bands that lie apart are decoded apart"


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_blocks_that_the_file_has_no_room_for_are_not_believed():
    with MemoryFile() as memory:
        with memory.open(driver="GTiff", width=512, height=512, count=1, dtype="uint8", tiled=True) as file:
            file.write(np.ones((1, 512, 512), np.uint8))
        with memory.open() as file:
            require_bounds(file, RULE, size=len(memory.getbuffer()))
            with pytest.raises(ExcessError, match="it has 4 blocks, in 3 B"):
                require_bounds(file, RULE, size=3)


@pytest.mark.parametrize(
    "shape",
    [
        {"size": (60000, 60000), "tile": (1, 60000), "components": 64},
        {"size": (65535, 1), "tile": (1, 1), "components": 16384},
        {"size": (2**32 - 1, 2**32 - 1), "tile": (2**32 - 1, 2**32 - 1)},
        {"size": (10980, 10980), "tile": (10980, 10980), "block": (0, 0)},
        {"size": (4096, 4096), "tile": (4096, 4096), "precincts": (0xFF, 0x00)},
    ],
)
def test_a_codestream_that_asks_for_too_much_is_refused_before_it_is_opened(shape):
    with pytest.raises(ExcessError, match="at most 256 MB"):
        require_jp2_bounds(peek_into(make_codestream(**shape)), RULE)


@pytest.mark.parametrize(
    "shape",
    [
        {"size": (10980, 10980), "tile": (1024, 1024)},
        {
            "size": (10980, 10980),
            "tile": (1024, 1024),
            "components": 3,
            "precincts": (0x77, 0x88, 0x88, 0x88, 0x88, 0x88),
        },
        {"size": (20000, 20000), "tile": (20000, 20000)},
    ],
)
def test_images_as_archives_make_them_pass(shape):
    require_jp2_bounds(peek_into(make_codestream(**shape)), RULE)


def test_an_image_of_gdal_passes_and_is_read_in_either_wrapping(tmp_path):
    pixels = np.random.default_rng(1).integers(1, 4000, (1, 300, 200)).astype(np.uint16)
    for name, options in (("a.jp2", {"GMLJP2": "YES"}), ("a.j2k", {"CODEC": "J2K"})):
        profile = {"width": 200, "height": 300, "count": 1, "dtype": "uint16", "crs": "EPSG:32633"}
        profile["transform"] = rasterio.Affine(10, 0, 300000, 0, -10, 5700000)
        with rasterio.open(
            tmp_path / name, "w", driver="JP2OpenJPEG", REVERSIBLE="YES", QUALITY=100, **profile, **options
        ) as file:
            file.write(pixels)
        np.testing.assert_array_equal(read(tmp_path / name), pixels[0])
        whole = (tmp_path / name).read_bytes()
        with pytest.raises(ExcessError, match="no codestream"):
            require_jp2_bounds(peek_into(whole[:30]), RULE)


def test_the_first_bytes_choose_the_driver():
    assert name_drivers(b"II*\0....", RULE) == name_drivers(b"MM\0+....", RULE) == ["GTiff"]
    assert name_drivers(b"\0\0\0\x0cjP  \r\n\x87\n....", RULE) == name_drivers(b"\xffO\xffQ", RULE) == ["JP2OpenJPEG"]
    assert (
        name_drivers(b"\x89HDF\r\n\x1a\n", RULE) == name_drivers(b"<VRTDataset>", RULE) == name_drivers(b"", RULE) == []
    )
    assert name_drivers(b"\x89HDF\r\n\x1a\n", FileRule(drivers=("GTiff", "netCDF"))) == ["netCDF"]
    assert name_drivers(b"II*\0....", FileRule(drivers=("JP2OpenJPEG",))) == []


def test_peeking_reads_a_box_of_extended_length():
    stream = make_codestream(size=(64, 64), tile=(64, 64))
    boxes = (
        b"\0\0\0\x0cjP  \r\n\x87\n" + struct.pack(">I4sQ", 1, b"free", 20) + b"...." + struct.pack(">I4s", 0, b"jp2c")
    )
    content = io.BytesIO(boxes + stream)

    def peek(start, count):
        content.seek(start)
        return content.read(count)

    require_jp2_bounds(peek, RULE)
