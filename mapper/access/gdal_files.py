"""Remote files for GDAL, which reads them through Python and never sees the network.

GDAL's own readers of remote files remember failures across opens, retry by rules of their own, and show a throttled
read and a truncated file alike. Behind this bridge there is nothing to remember: every open has a name of its own.

The bridge is registered once for each process. rasterio would register an opener for each file, which changes a table
that other threads of GDAL look into without a lock. rasterio finds openers through the context of a thread, so files
are opened, read and closed in copies of the context that the bridge was registered in.
"""

import atexit
import contextvars
import itertools
import posixpath
import threading
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any, Self, TypeVar
from urllib.parse import urlsplit

import rasterio
from affine import Affine
from rasterio.abc import MultiByteRangeResourceContainer
from rasterio.io import MemoryFile

from mapper.access.bounds import ExcessError, require_bounds
from mapper.access.remote import RemoteFile
from mapper.access.rules import FileRule

T = TypeVar("T")
ReadRanges = Callable[[list[tuple[int, int]]], list[bytes]]
_ANCHOR = "anchor.tif"
_LARGEST_HEADER = 64 * 1024 * 1024
"""Bytes that GDAL may read of a file to open it."""
_building = threading.Lock()


def read_remote(remote: RemoteFile, driver: str, rule: FileRule, read: Callable[[rasterio.DatasetReader], T]) -> T:
    """Open a remote file with GDAL, read from it, close it; returns what ``read`` returns.

    Args:
        remote: The file, its head read.
        driver: Name of the one driver that opens it.
        rule: Bounds of what it may ask for.
        read: What to do with the open file; runs in a context of its own.

    Raises:
        AssetError: What kept the bytes of the file from being read.
        ExcessError: If it asks for more memory than its bounds allow.
        RasterioError: What GDAL does not like about them.
    """
    return _bridge().read_file(remote, driver, rule, read)


class _Handle:
    """A file object for GDAL.

    GDAL calls it from C++, where an exception would end the process: the first error is kept, zeros take the place of
    what could not be read, and the network is left alone.
    """

    def __init__(self, source: "_Source") -> None:
        self._source = source
        self._at = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = 0) -> int:
        self._at = offset + (0, self._at, self._source.size)[whence]
        return self._at

    def read(self, count: int = -1) -> bytes:
        left = max(self._source.size - self._at, 0)
        count = left if count < 0 else min(count, left)
        (part,) = self._source.parts([(self._at, count)]) if count else (b"",)
        self._at += count
        return part

    def get_byte_ranges(self, offsets: list[int], sizes: list[int]) -> list[bytes]:
        return self._source.parts(list(zip(offsets, sizes, strict=True)))

    def close(self) -> None:
        pass


class _Source:
    """A remote file that several handles of GDAL read, and the first error that any of them met."""

    def __init__(self, read_ranges: ReadRanges, size: int) -> None:
        self.size = size
        self.error: BaseException | None = None
        self.budget: int | None = None
        """Bytes that may still be read; None for no limit."""
        self._read_ranges = read_ranges

    def parts(self, ranges: list[tuple[int, int]]) -> list[bytes]:
        if self.error is None:
            try:
                self._spend(sum(count for _, count in ranges))
                return self._read_ranges(ranges)
            except BaseException as error:  # noqa: BLE001 - raised again when GDAL has returned
                self.error = error
        return [bytes(count) for _, count in ranges]

    def _spend(self, count: int) -> None:
        if self.budget is not None:
            self.budget -= count
            if self.budget < 0:
                raise ExcessError(f"opening it reads more than {_LARGEST_HEADER} bytes")


class _Bridge(MultiByteRangeResourceContainer):  # type: ignore[misc]
    """The files that this process has open, as a file system for GDAL: a folder for each."""

    def __init__(self) -> None:
        self._numbers = itertools.count()
        self._context = contextvars.Context()
        tiny = _tiny_raster()
        self._sources = {_ANCHOR: _Source(lambda ranges: [tiny[at : at + count] for at, count in ranges], len(tiny))}
        # rasterio keeps the registration for as long as the dataset is open that was opened with it
        self._anchor = self._context.run(rasterio.open, _ANCHOR, opener=self, sharing=False)
        self._root = self._anchor.name.removesuffix(_ANCHOR)
        atexit.register(self._context.run, self._anchor.close)

    def read_file(
        self, remote: RemoteFile, driver: str, rule: FileRule, read: Callable[[rasterio.DatasetReader], T]
    ) -> T:
        source = _Source(remote.read_ranges, remote.size)
        source.budget = _LARGEST_HEADER

        def read_bounded(dataset: rasterio.DatasetReader) -> T:
            require_bounds(dataset, rule, size=source.size)
            source.budget = None
            return read(dataset)

        path = f"{next(self._numbers)}/{posixpath.basename(urlsplit(remote.name.href).path) or remote.name.asset}"
        self._sources[path] = source
        try:
            result = self._context.copy().run(open_and_read, f"{self._root}{path}", driver, read_bounded)
        except Exception:
            if source.error is not None:
                raise source.error from None
            raise
        finally:
            del self._sources[path]
        if source.error is not None:  # what GDAL made of zeros
            raise source.error
        return result

    def open(self, path: str, mode: str = "r", **_: Any) -> _Handle:
        if path not in self._sources or mode[0] != "r":
            raise FileNotFoundError(path)
        return _Handle(self._sources[path])

    def isfile(self, path: str) -> bool:
        return path in self._sources

    def isdir(self, path: str) -> bool:
        del path
        return False

    def ls(self, path: str) -> list[str]:
        del path
        return []

    def mtime(self, path: str) -> int:
        del path
        return 0

    def rm(self, path: str) -> None:
        raise FileNotFoundError(path)

    def size(self, path: str) -> int:
        # rasterio asks for a file named "test" to see whether the method is there
        return self._sources[path].size if path in self._sources else 0


def open_and_read(path: str | Path, driver: str, read: Callable[[rasterio.DatasetReader], T]) -> T:
    """Open a file of GDAL's file systems with one driver, read from it, close it; returns what ``read`` returns."""
    with rasterio.open(path, driver=driver, sharing=False) as dataset:
        return read(dataset)


def _tiny_raster() -> bytes:
    with MemoryFile() as memory:
        georeference = {"crs": "EPSG:4326", "transform": Affine.identity() * Affine.scale(0.5)}
        with memory.open(driver="GTiff", width=1, height=1, count=1, dtype="uint8", **georeference):
            pass
        return bytes(memory.getbuffer())


@lru_cache(maxsize=1)
def _shared_bridge() -> _Bridge:
    return _Bridge()


def _bridge() -> _Bridge:
    with _building:  # lru_cache would let threads that come together build one each
        return _shared_bridge()
