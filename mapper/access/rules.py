"""Rules of a provider for access to its files: what they may be, signatures, object storage, limits."""

from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from mapper.description import Part


class SigningRule(Part):
    """Short-lived signatures that are put on a location just before it is read."""

    kind: Literal["none", "token-service"] = "none"
    """``token-service``: ``GET {tokens}/{account}/{container}`` answers a query string and when it expires."""
    tokens: str | None = None
    """Address of the token service."""
    hosts: tuple[str, ...] = ()
    """Suffixes of the names of the hosts whose files are signed; the rest of a host's name is the account."""
    public: tuple[str, ...] = ()
    """Names of the accounts whose files need no signature."""

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if self.kind == "token-service" and not (self.tokens and self.hosts):
            raise ValueError("signing by a token service needs tokens (its address) and hosts")
        return self


class StorageRule(Part):
    """Rule that turns ``s3://bucket/key`` into an address."""

    endpoint: str | None = None
    """Address of the object store; None for Amazon's own."""
    region: str = "us-east-1"
    path_style: bool = False
    """True where the bucket is the first part of the path, not of the host."""
    anonymous: bool = False
    """True where files are public and locations are not signed."""
    key_env: str = "AWS_ACCESS_KEY_ID"
    """Name of the environment variable that holds the access key."""
    secret_env: str = "AWS_SECRET_ACCESS_KEY"  # noqa: S105 - the name of a variable
    """Name of the environment variable that holds the secret key."""
    token_env: str | None = None
    """Name of the variable with the token of temporary keys; None: ``AWS_SESSION_TOKEN`` goes with its keys."""


class Limits(Part):
    """Limits of the requests to an archive, counted over all workers of a run."""

    requests_per_second: float | None = Field(default=None, gt=0)
    """Requests per second to one host; None for no limit."""
    burst: int = Field(default=10, ge=1)
    """Requests that may be sent at once after a pause."""
    page: int = Field(default=200, ge=1)
    """Items in one page of a search."""


_OPENING = frozenset(
    {
        *("VRT", "GTI", "STACIT", "STACTA", "DERIVED", "WMS", "WMTS", "WCS", "OGCAPI", "MRF", "PLMOSAIC", "PLSCENES"),
        *("EEDA", "EEDAI", "HTTP", "DAAS", "NGW", "RDA", "GEORASTER", "POSTGISRASTER", "RASTERLITE", "TILEDB", "ZARR"),
        *("SAFE", "SENTINEL2", "RCM", "RS2", "CALS", "ISCE", "ENVI", "DIMAP", "PDS4", "GSC"),
    }
)
"""Drivers of GDAL whose files are lists of other files or addresses, or lie in several files."""


class FileRule(Part):
    """Rule of what the files of an archive may be, and what may name them."""

    drivers: tuple[str, ...] = Field(default=("GTiff", "JP2OpenJPEG"), min_length=1)
    """Drivers of GDAL that open the files; none that opens further files (VRT and its like)."""
    local: bool = False
    """True where the items of a remote catalogue may name files of the machine that reads them."""
    private: bool = False
    """True where the items of a public catalogue may name addresses on private networks."""
    query: tuple[str, ...] = ()
    """Keys of the query of an address that are no secret and that the archive needs; all others are dropped."""
    block_mb: int = Field(default=256, ge=1)
    """Megabytes that one block of a file may take when it is decoded: a tile or strip, with all bands that it holds."""

    @field_validator("drivers")
    @classmethod
    def _opens_one_file(cls, drivers: tuple[str, ...]) -> tuple[str, ...]:
        opening = [name for name in drivers if name.upper() in _OPENING]
        if opening:
            raise ValueError(
                f"drivers: {', '.join(opening)} opens further files or addresses; name the driver of the files"
            )
        return drivers


class AccessRule(Part):
    """Rule of access to the files of one collection."""

    files: FileRule = FileRule()
    signing: SigningRule = SigningRule()
    storage: StorageRule = StorageRule()
    limits: Limits = Limits()
