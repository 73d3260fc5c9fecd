"""What a provider says about reaching its files: signatures, object storage, limits."""

from typing import Literal, Self

from pydantic import Field, model_validator

from mapper.description import Part


class SigningRule(Part):
    """Short-lived signatures that are put on a location just before it is read."""

    kind: Literal["none", "token-service"] = "none"
    """``token-service``: ``GET {tokens}/{account}/{container}`` answers a query string and when it expires."""
    tokens: str | None = None
    """Address of the token service."""
    hosts: tuple[str, ...] = ()
    """Ends of the names of the hosts whose files are signed; what is before it names the account."""
    public: tuple[str, ...] = ()
    """Accounts whose files need no signature."""

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if self.kind == "token-service" and not (self.tokens and self.hosts):
            raise ValueError("signing by a token service needs tokens (its address) and hosts")
        return self


class StorageRule(Part):
    """How ``s3://bucket/key`` becomes an address."""

    endpoint: str | None = None
    """Address of the object store; None for Amazon's own."""
    region: str = "us-east-1"
    path_style: bool = False
    """The bucket is the first part of the path, not of the host."""
    anonymous: bool = False
    """Files are public: locations are not signed."""
    key_env: str = "AWS_ACCESS_KEY_ID"
    """Environment variable that holds the access key."""
    secret_env: str = "AWS_SECRET_ACCESS_KEY"  # noqa: S105 - the name of a variable
    """Environment variable that holds the secret key."""
    token_env: str | None = None
    """Environment variable that holds the token of temporary keys; None: ``AWS_SESSION_TOKEN`` goes with its keys."""


class Limits(Part):
    """How fast an archive may be asked; counted over all workers of a run."""

    requests_per_second: float | None = Field(default=None, gt=0)
    """Of one host; None for no limit."""
    burst: int = Field(default=10, ge=1)
    """Requests that may go out at once after a pause."""
    page: int = Field(default=200, ge=1)
    """Items asked for in one page of a search."""


class AccessRule(Part):
    """How the files of one collection are reached."""

    signing: SigningRule = SigningRule()
    storage: StorageRule = StorageRule()
    limits: Limits = Limits()
