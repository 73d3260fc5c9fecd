"""Where a store lives: a directory, or ``s3://``, ``gs://``, ``az://`` bucket and prefix.

Credentials never appear in a location: they come from the environment, as every SDK of the provider reads them.
"""

import os
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import icechunk

from mapper.errors import StoreError

_SCHEMES = ("s3", "gs", "az")


@dataclass(frozen=True, kw_only=True)
class Location:
    """A parsed location; see :func:`parse_location`."""

    path: Path | None = None
    """Directory of a local store, absolute and without links, so that one store has one lock."""
    scheme: str = "file"
    bucket: str = ""
    """Bucket, or Azure container."""
    prefix: str = ""

    def __str__(self) -> str:
        return str(self.path) if self.path else f"{self.scheme}://{self.bucket}/{self.prefix}"

    def open_storage(self) -> icechunk.Storage:
        """The Icechunk storage of this location.

        Raises:
            StoreError: If the environment lacks what the provider needs.
        """
        if self.path is not None:
            # Icechunk warns on every start that local commits must not be concurrent; the lock file sees to that.
            icechunk.set_logs_filter("warn,icechunk::storage::object_store=error")
            return icechunk.local_filesystem_storage(str(self.path))
        if self.scheme == "s3":
            return _open_s3(self.bucket, self.prefix)
        if self.scheme == "gs":
            return icechunk.gcs_storage(bucket=self.bucket, prefix=self.prefix, from_env=True)
        account = os.environ.get("AZURE_STORAGE_ACCOUNT_NAME") or os.environ.get("AZURE_STORAGE_ACCOUNT")
        if not account:
            raise StoreError(f"{self}: set AZURE_STORAGE_ACCOUNT_NAME to the storage account of the container")
        return icechunk.azure_storage(account=account, container=self.bucket, prefix=self.prefix, from_env=True)


def parse_location(location: str | Path) -> Location:
    """Parse a location.

    Raises:
        StoreError: If the scheme is unknown, or bucket or prefix is missing.
    """
    text = str(location)
    if "://" not in text:
        return Location(path=Path(text).expanduser().resolve())
    parts = urlsplit(text)
    prefix = parts.path.strip("/")
    if parts.scheme not in _SCHEMES:
        raise StoreError(f"{text}: unknown scheme {parts.scheme}://, expected a directory or {', '.join(_SCHEMES)}")
    if not parts.netloc or not prefix:
        raise StoreError(f"{text}: expected {parts.scheme}://bucket/prefix")
    return Location(scheme=parts.scheme, bucket=parts.netloc, prefix=prefix)


def _open_s3(bucket: str, prefix: str) -> icechunk.Storage:
    """AWS, or what ``AWS_ENDPOINT_URL`` points to (MinIO, Ceph): those want the bucket in the path."""
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    return icechunk.s3_storage(
        bucket=bucket,
        prefix=prefix,
        region=os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION"),
        endpoint_url=endpoint,
        allow_http=bool(endpoint and endpoint.startswith("http://")),
        force_path_style=endpoint is not None,
        from_env=True,
    )
