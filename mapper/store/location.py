"""Location of a store: a directory, or ``s3://``, ``gs://``, ``az://`` bucket and prefix.

Credentials never appear in a location: they come from the environment, or from the machine or pod itself where the
provider gives it a role. Profiles in files are not read, since the lease of a store does not know them.
"""

import os
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import icechunk
from obstore.store import AzureStore, GCSStore, S3Store

from mapper.errors import StoreError

if TYPE_CHECKING:
    from obstore.store import S3Config

Bucket = AzureStore | GCSStore | S3Store

_SCHEMES = ("s3", "gs", "az")
_REQUEST_TIMEOUT = timedelta(seconds=15)
"""Longest time for one request to the bucket and its repetitions; much less than the term of a lease."""


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
        """Return the Icechunk storage of this location.

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
        return icechunk.azure_storage(account=self._account, container=self.bucket, prefix=self.prefix, from_env=True)

    def open_bucket(self) -> Bucket:
        """Return the bucket itself, for what lies beside the repository.

        Raises:
            StoreError: If the environment lacks what the provider needs.
            ValueError: If this is a directory.
        """
        if self.scheme == "s3":
            config: S3Config = {"virtual_hosted_style_request": not _endpoint()}
            if endpoint := _endpoint():
                config["endpoint"] = endpoint
            return S3Store(
                self.bucket,
                config=config,
                client_options={"allow_http": True, "timeout": _REQUEST_TIMEOUT},
                retry_config={"max_retries": 3, "retry_timeout": _REQUEST_TIMEOUT},
            )
        if self.scheme == "gs":
            return GCSStore(self.bucket, client_options={"timeout": _REQUEST_TIMEOUT})
        if self.scheme == "az":
            return AzureStore(self.bucket, account_name=self._account, client_options={"timeout": _REQUEST_TIMEOUT})
        raise ValueError(f"{self} is a directory")

    @property
    def _account(self) -> str:
        account = os.environ.get("AZURE_STORAGE_ACCOUNT_NAME") or os.environ.get("AZURE_STORAGE_ACCOUNT")
        if not account:
            raise StoreError(f"{self}: set AZURE_STORAGE_ACCOUNT_NAME to the storage account of the container")
        return account


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
    if "@" in parts.netloc:
        raise StoreError(f"{text}: keys do not belong in a location, they come from the environment")
    if not parts.netloc or not prefix:
        raise StoreError(f"{text}: expected {parts.scheme}://bucket/prefix")
    return Location(scheme=parts.scheme, bucket=parts.netloc, prefix=prefix)


def _open_s3(bucket: str, prefix: str) -> icechunk.Storage:
    """Open storage of AWS, or of ``AWS_ENDPOINT_URL`` (MinIO, Ceph), which wants the bucket in the path."""
    endpoint = _endpoint()
    return icechunk.s3_storage(
        bucket=bucket,
        prefix=prefix,
        region=os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION"),
        endpoint_url=endpoint,
        allow_http=bool(endpoint and endpoint.startswith("http://")),
        force_path_style=endpoint is not None,
        from_env=True,
    )


def _endpoint() -> str | None:
    return os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
