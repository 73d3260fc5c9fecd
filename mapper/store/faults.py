"""What can go wrong in a store, told in one line: Icechunk's and the system's errors become ours."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager

import icechunk

from mapper.errors import StoreError, StoreFullError, StoreLockedError

_FULL = ("No space left on device", "Disk quota exceeded", "os error 28", "os error 122")
"""How a full disk reads in Icechunk's messages, which carry no errno."""


@contextmanager
def explain_faults(location: str) -> Iterator[None]:
    """Turn storage errors into :class:`StoreError` and its kinds.

    Raises:
        StoreFullError: If the disk or quota is full.
        StoreLockedError: If another writer committed to the same branch meanwhile.
        StoreError: For every other fault of the storage.
    """
    try:
        yield
    except icechunk.ConflictError as error:
        raise StoreLockedError(
            f"{location}: another run committed meanwhile; stop one of the two, then run again"
        ) from error
    except (icechunk.IcechunkError, OSError) as error:
        if _is_full(error):
            raise StoreFullError(
                f"{location}: no space left; what was committed is safe: free some space and run again"
            ) from error
        raise StoreError(f"{location}: {_first_line(error)}") from error


def _is_full(error: Exception) -> bool:
    if isinstance(error, OSError):
        return error.errno in (errno.ENOSPC, errno.EDQUOT)
    return any(sign in str(error) for sign in _FULL)


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0].strip().removeprefix("x ").strip()
