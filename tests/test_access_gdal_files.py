"""The bridge to GDAL: whatever happens behind it, GDAL is never shown an exception, and nobody a made-up pixel."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import rasterio
from rasterio.errors import RasterioIOError
from rasterio.io import MemoryFile

from mapper.access import gdal_files
from mapper.access.bounds import ExcessError
from mapper.access.rules import FileRule
from mapper.access.tally import AssetName

PLACE = {"crs": "EPSG:32633", "transform": rasterio.Affine(10, 0, 3e5, 0, -10, 57e5)}


class Fake:
    """A remote file in memory, which raises an error from one request on."""

    def __init__(self, content, *, error=None, after=0):
        self.name = AssetName(item="i", asset="B04", href="https://archive.test/a/b.tif?v=1")
        self.content, self.size = content, len(content)
        self.error, self.left, self.asked = error, after, 0

    def read_ranges(self, ranges):
        self.asked += 1
        if self.error is not None:
            self.left -= 1
            if self.left < 0:
                raise self.error
        return [self.content[start : start + count] for start, count in ranges]


def read_fake(remote, read):
    return gdal_files.read_remote(remote, "GTiff", FileRule(), read)


@pytest.fixture(scope="module")
def pixels():
    return np.arange(96 * 80, dtype=np.uint16).reshape(96, 80)


@pytest.fixture(scope="module", params=[None, "deflate"])
def content(request, pixels):
    """Uncompressed, zeros would be pixels."""
    with MemoryFile() as memory:
        options = {"compress": request.param} if request.param else {}
        shape = {"width": 80, "height": 96, "count": 1, "dtype": "uint16", "blockysize": 16}
        with memory.open(driver="GTiff", **shape, **PLACE, **options) as dataset:
            dataset.write(pixels, 1)
        return bytes(memory.getbuffer())


def read_all(dataset):
    return dataset.read(1)


def test_pixels_come_through_in_any_thread(content, pixels):
    with ThreadPoolExecutor(6) as pool:
        for got in pool.map(lambda _: read_fake(Fake(content), read_all), range(60)):
            np.testing.assert_array_equal(got, pixels)


@pytest.mark.parametrize("error", [OSError("gone"), ValueError("odd"), KeyboardInterrupt(), SystemExit(3)])
def test_an_error_behind_the_bridge_comes_out_as_it_is_wherever_it_happens(content, error):
    whole = Fake(content)
    read_fake(whole, read_all)
    for after in range(whole.asked):
        broken = Fake(content, error=error, after=after)
        with pytest.raises(type(error)) as caught:
            read_fake(broken, read_all)
        assert caught.value is error
        assert broken.asked == after + 1, "nothing is asked after an error"


def test_what_is_no_raster_is_gdals_to_say():
    with pytest.raises(RasterioIOError, match=r"b\.tif"):
        read_fake(Fake(b"no raster" * 99), read_all)


def test_a_process_that_used_the_bridge_ends_quietly(tmp_path, content):
    path = tmp_path / "b.tif"
    path.write_bytes(content)
    code = f"""
import sys
sys.path.insert(0, {str(tmp_path.parent)!r})
sys.path.insert(0, {__file__.rsplit("/", 1)[0]!r})
from pathlib import Path
from test_access_gdal_files import Fake, read_all, read_fake
print(read_fake(Fake(Path({str(path)!r}).read_bytes()), read_all).sum())
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_header_that_wants_too_much_read_is_given_up(pixels, monkeypatch):
    with MemoryFile() as memory:
        with memory.open(driver="GTiff", height=96, width=80, count=1, dtype="uint16", **PLACE) as file:
            file.write(pixels, 1)
        content = bytes(memory.getbuffer())
    np.testing.assert_array_equal(read_fake(Fake(content), read_all), pixels)
    monkeypatch.setattr(gdal_files, "_LARGEST_HEADER", 64)
    with pytest.raises(ExcessError, match="opening it reads more than 64 bytes"):
        read_fake(Fake(content), read_all)
