"""Opening files: all of the project's rasters are read through :meth:`Access.read`.

Local files are GDAL's own business. Remote ones come through :mod:`mapper.access.remote`, which separates network
trouble from a broken file before GDAL sees a byte; what GDAL then cannot read is broken. A file is opened by the one
driver that its first bytes ask for and the provider names: by any driver of GDAL, a text could send a worker anywhere.
"""

import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar
from urllib.parse import unquote, urlsplit

import rasterio
from rasterio.errors import RasterioError

from mapper.access.admission import find_refusal, is_remote
from mapper.access.bounds import ExcessError, Peek, name_drivers, require_bounds, require_jp2_bounds
from mapper.access.gdal_files import open_and_read, read_remote
from mapper.access.remote import RemoteFile, asset_error
from mapper.access.retry import REQUEST_RETRY, RetryPolicy
from mapper.access.rules import AccessRule, FileRule
from mapper.access.tally import AssetName, Tally
from mapper.access.throttle import Throttle, process_throttle
from mapper.errors import AssetError, CorruptAssetError, TransientAssetError
from mapper.text import describe_error

_EXHAUSTED = re.compile(
    r"too many open files|out of memory|cannot allocate|input/output error|stale|denied", re.IGNORECASE
)
"""Error numbers of this machine or its disks, not of the file that is read."""


T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Access:
    """Reader of files with one throttle and one tally; an object for one tile, shared by its threads."""

    retry: RetryPolicy = REQUEST_RETRY
    throttle: Throttle = field(default_factory=process_throttle)
    tally: Tally = field(default_factory=Tally)

    def read(self, name: AssetName, rule: AccessRule, read: Callable[[rasterio.DatasetReader], T]) -> T:
        """Open a file, read from it, close it; returns what ``read`` returns.

        Args:
            name: What the file is, and where.
            rule: How the files of its collection are reached.
            read: What to do with the open file.

        Raises:
            TransientAssetError: Throttling or network, after all attempts; or trouble of this machine.
            CorruptAssetError: The file is missing, truncated or no raster, asks for too much memory, or its document
                may not name it.
            AssetError: Access is denied, or the location cannot be understood.
        """
        refusal = find_refusal(name.href, name.document, rule)
        if refusal:
            raise asset_error(CorruptAssetError, name, f"it is not read: {refusal}")
        try:
            if not is_remote(name.href):
                return _read_local(_local_path(name.href), rule.files, read)
            remote = RemoteFile(name, rule, retry=self.retry, throttle=self.throttle, tally=self.tally)
            remote.open()
            return read_remote(remote, _choose_driver(remote.read, rule.files), rule.files, read)
        except AssetError:
            raise
        except ExcessError as error:
            raise asset_error(CorruptAssetError, name, str(error)) from None
        except Exception as error:  # whatever GDAL, PROJ or numpy make of a file
            raise _translate(error, name) from error


def gdal_environment() -> rasterio.Env:
    """Return the settings under which every file is read, as a context manager.

    There are none for HTTP: GDAL does not see the network (:mod:`mapper.access.gdal_files`), and so has no failure of
    it to remember. Retries and timeouts are those of a :class:`mapper.access.retry.RetryPolicy`.
    """
    return rasterio.Env(
        GDAL_CACHEMAX=64,  # MB; a block is decoded once for a tile, so a larger cache only costs memory
        GDAL_DISABLE_READDIR_ON_OPEN="EMPTY_DIR",  # nobody looks for files beside a file
        GDAL_PAM_ENABLED="NO",  # nor for what another file says of it
    )


def _read_local(path: Path, rule: FileRule, read: Callable[[rasterio.DatasetReader], T]) -> T:
    with path.open("rb") as file:

        def peek(start: int, count: int) -> bytes:
            file.seek(start)
            return file.read(count)

        driver, size = _choose_driver(peek, rule), os.fstat(file.fileno()).st_size

    def read_bounded(dataset: rasterio.DatasetReader) -> T:
        require_bounds(dataset, rule, size=size)
        return read(dataset)

    return open_and_read(path, driver, read_bounded)


def _local_path(href: str) -> Path:
    """Return the path that a location on this machine names, absolute: a driver takes nothing else for a path."""
    return Path(unquote(urlsplit(href).path) if href[:5].lower() == "file:" else href).absolute()


def _choose_driver(peek: Peek, rule: FileRule) -> str:
    """Return the driver that opens a file.

    Raises:
        ExcessError: If no driver that the provider names is for such a file, or it asks for too much memory.
    """
    head = peek(0, 16)
    drivers = name_drivers(head, rule)
    if not drivers:
        raise ExcessError(
            f"it is not recognized as a file of {' or '.join(rule.drivers)}, which are those that its provider lets be "
            f"opened: it begins with {head[:12]!r}"
        )
    if drivers[0].startswith("JP2"):
        require_jp2_bounds(peek, rule)
    return drivers[0]


def _is_exhaustion(error: BaseException) -> bool:
    return isinstance(error, MemoryError) or bool(_EXHAUSTED.search(" ".join(_causes(error))))


def _translate(error: BaseException, name: AssetName) -> AssetError:
    kind = TransientAssetError if _is_exhaustion(error) else CorruptAssetError
    reason = list(_causes(error))[-1]
    if not isinstance(error, (RasterioError, OSError)):
        reason = describe_error(error)
    return asset_error(kind, name, reason)


def _causes(error: BaseException | None) -> Iterator[str]:
    while error is not None:
        yield " ".join(str(error).split())
        error = error.__cause__ or error.__context__
