"""Opening files: GDAL's settings in one place, and its errors told apart.

GDAL shows a throttled read and a truncated file alike ("got 0 bytes"), and remembers that a remote file could not be
opened. So remote files are not cached across opens, and a remote file that looks broken is opened and read once more:
where the network was to blame, the second opening says so; a file that opens twice and breaks twice is broken.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TypeVar

import rasterio
from rasterio.errors import RasterioError

from mapper.access.rules import AccessRule
from mapper.access.sign import sign
from mapper.access.tally import Tally
from mapper.errors import AssetError, CorruptAssetError, TransientAssetError

_REMOTE = re.compile(r"^/vsi(curl|s3|gs|az|adls|oss|swift)/|^(?!file:)[a-z0-9+]+://")
_NETWORK = re.compile(
    r"HTTP (response|error) code|CURL error|timed out|credential|access ?denied|signature|token", re.IGNORECASE
)
_EXHAUSTED = re.compile(
    r"too many open files|out of memory|cannot allocate|input/output error|stale|denied", re.IGNORECASE
)
"""Trouble of this machine or its disks, whatever the file is."""
_NOT_FOUND = re.compile(r"code ?: ?(404|410)|not ?found|does not exist|NoSuchKey", re.IGNORECASE)

_HTTP_RETRIES = 4

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class AssetName:
    """Which file is read, for messages and provenance."""

    item: str
    asset: str
    href: str
    """Unsigned location."""


@dataclass(frozen=True, kw_only=True)
class Access:
    """How files are reached, and who counts; one object for one tile, shared by its threads."""

    tally: Tally = field(default_factory=Tally)

    def read(self, name: AssetName, rule: AccessRule, read: Callable[[rasterio.DatasetReader], T]) -> T:
        """Open a file, read from it, close it.

        Args:
            name: What the file is, and where.
            rule: How the files of its collection are reached.
            read: What to do with the open file.

        Raises:
            TransientAssetError: Throttling, network or credentials: worth another attempt.
            CorruptAssetError: The file is missing, truncated or no raster.
        """
        return open_and_read(name, sign(name.href, rule.signing), read)


def gdal_environment() -> rasterio.Env:
    """The settings under which every file is read; a context manager."""
    return rasterio.Env(
        GDAL_CACHEMAX=64,  # MB; a block is decoded once for a tile, so a larger cache only costs memory
        GDAL_DISABLE_READDIR_ON_OPEN="EMPTY_DIR",
        GDAL_HTTP_MAX_RETRY=str(_HTTP_RETRIES),
        GDAL_HTTP_RETRY_DELAY="0.5",
        GDAL_HTTP_CONNECTTIMEOUT="10",
        GDAL_HTTP_TIMEOUT="60",
        CPL_VSIL_CURL_USE_HEAD="NO",
        CPL_VSIL_CURL_NON_CACHED="/vsicurl/:/vsis3/:/vsigs/:/vsiaz/",
    )


def open_and_read(name: AssetName, href: str, read: Callable[[rasterio.DatasetReader], T]) -> T:
    """Open a file, read from it, close it.

    Args:
        name: What the file is, for errors.
        href: Its location, signed where that is needed.
        read: What to do with the open file.

    Raises:
        TransientAssetError: Throttling, network or credentials: worth another attempt.
        CorruptAssetError: The file is missing, truncated or no raster.
    """
    remote = _REMOTE.match(href) is not None
    try:
        return _read_once(name, href, read)
    except CorruptAssetError:
        if not remote:
            raise
    return _read_once(name, href, read)


def _read_once(name: AssetName, href: str, read: Callable[[rasterio.DatasetReader], T]) -> T:
    try:
        with rasterio.open(href, sharing=False) as dataset:
            return read(dataset)
    except (RasterioError, OSError) as error:
        raise _translate(error, name, href) from error


def _translate(error: BaseException, name: AssetName, href: str) -> AssetError:
    causes = list(_causes(error))
    text = " ".join(causes).replace(href, "")
    network = _REMOTE.match(href) is not None and _NETWORK.search(text) and not _NOT_FOUND.search(text)
    transient = network or _EXHAUSTED.search(text)
    # a signed location holds a token, and GDAL repeats the location
    reason = causes[-1].replace(href, name.href)
    return (TransientAssetError if transient else CorruptAssetError)(
        f"asset {name.asset} of item {name.item} cannot be read ({name.href}): {reason}",
        item=name.item,
        asset=name.asset,
        href=name.href,
    )


def _causes(error: BaseException | None) -> Iterator[str]:
    while error is not None:
        yield " ".join(str(error).split())
        error = error.__cause__ or error.__context__
