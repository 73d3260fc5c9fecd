"""Faults of a store, in one line each: errors of Icechunk, of object stores and of the system become ours."""

import errno
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from types import MappingProxyType
from typing import Concatenate, ParamSpec, Protocol, TypeVar

import icechunk
from obstore.exceptions import BaseError

from mapper.errors import StoreError, StoreFullError, StoreLockedError, TransientStoreError

DAMAGE = (icechunk.IcechunkError, OSError, RuntimeError, ValueError)
"""Exceptions of reading damaged bytes, in Icechunk, Arrow, Zarr and the codecs."""
BROKEN = (RuntimeError, ValueError, MemoryError)
"""Those among them that no fault of the storage raises: bytes that are not what was written, of old stores too."""
_FULL = ("No space left on device", "Disk quota exceeded", "os error 28", "os error 122")
"""Signs of a full disk in Icechunk's messages, which carry no errno."""
_NO_BUCKET = re.compile(r"NoSuchBucket|ContainerNotFound|bucket does not exist")
_NO_KEYS = re.compile(r"loading credentials|provided credentials|CredentialsNotLoaded|latest/api/token")
_DENIED = re.compile(
    r"AccessDenied|InvalidAccessKeyId|SignatureDoesNotMatch|ExpiredToken|InvalidToken|AuthorizationFailure"
    r"|AuthenticationFailed|PermissionDenied|Unauthenticated|status code: 40[13]"
)
_TRANSIENT = re.compile(
    r"SlowDown|OperationAborted|ConditionalRequestConflict|ServiceUnavailable|InternalError|ServerBusy|RequestTimeout"
    r"|Throttl\w*|TooManyRequests|dispatch failure|status code: (?:408|409|429|5\d\d)|[Tt]imed? ?out"
    r"|connection (?:closed|reset|refused)|error sending request|service error"
)
"""Signs of a fault that passes; the last is all that Icechunk reports of a failed commit."""
_KEYS = MappingProxyType(
    {
        "s3://": "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (AWS_SESSION_TOKEN too where keys are temporary)",
        "gs://": "GOOGLE_APPLICATION_CREDENTIALS to the file of a service account",
        "az://": "AZURE_STORAGE_ACCOUNT_KEY, or AZURE_CLIENT_ID, AZURE_CLIENT_SECRET and AZURE_TENANT_ID",
    }
)


class _Located(Protocol):
    @property
    def location(self) -> str: ...


_T = TypeVar("_T", bound=_Located)
_P = ParamSpec("_P")
_R = TypeVar("_R")


@contextmanager
def explain_faults(location: str) -> Iterator[None]:
    """Turn storage errors into :class:`StoreError` and its kinds.

    Raises:
        StoreFullError: If the disk or quota is full.
        StoreLockedError: If another writer committed to the same branch meanwhile.
        TransientStoreError: If an object store is throttling or out of reach, after what Icechunk tries again.
        StoreError: For every other fault of the storage.
    """
    try:
        yield
    except icechunk.ConflictError as error:
        raise StoreLockedError(
            f"{location}: another run committed meanwhile; stop one of the two, then run again"
        ) from error
    except (icechunk.IcechunkError, BaseError, OSError) as error:
        raise _explain(location, error) from error


def explains_faults(method: Callable[Concatenate[_T, _P], _R]) -> Callable[Concatenate[_T, _P], _R]:
    """Decorate a reader of an object with a location: faults of the storage, and damage of what it reads, name it."""

    @wraps(method)
    def explained(self: _T, /, *args: _P.args, **kwargs: _P.kwargs) -> _R:
        with explain_faults(self.location):
            try:
                return method(self, *args, **kwargs)
            except BROKEN as error:
                raise StoreError(f"{self.location}: its ledger is damaged: {first_line(error)}") from error

    return explained


def _explain(location: str, error: Exception) -> StoreError:
    text = str(error)
    if _is_full(error):
        return StoreFullError(f"{location}: no space left; what was committed is safe: free some space and run again")
    if _NO_BUCKET.search(text):
        return StoreError(f"{location}: there is no such bucket; make it, or correct the location")
    if _NO_KEYS.search(text):
        return StoreError(f"{location}: no credentials were found; set {_name_keys(location)}")
    if denied := _DENIED.search(text):
        return StoreError(
            f"{location}: access was denied ({denied[0]}); it needs credentials that may list, read and write there: "
            f"set {_name_keys(location)}"
        )
    if passing := _TRANSIENT.search(text):
        return TransientStoreError(
            f"{location}: the object store fails ({passing[0]}), perhaps for a while: {first_line(error)}; run again"
        )
    return StoreError(f"{location}: {first_line(error)}")


def _name_keys(location: str) -> str:
    """Return the variables that credentials come from."""
    return next((names for scheme, names in _KEYS.items() if location.startswith(scheme)), "those of its provider")


def _is_full(error: Exception) -> bool:
    if isinstance(error, OSError):
        return error.errno in (errno.ENOSPC, errno.EDQUOT)
    return any(sign in str(error) for sign in _FULL)


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message, or its kind where it has none."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0].strip().removeprefix("x ").strip()
