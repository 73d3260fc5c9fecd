"""Files that appear whole or not at all under their name."""

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from mapper.errors import InputError

Progress = Callable[[int, int], None]
"""Callback with the number of parts done, and of all parts."""


def ignore_progress(done: int, whole: int) -> None:
    """Ignore progress."""


def check_free(out: Path) -> None:
    """Check that nothing has the name of an output, and that it can be made.

    Raises:
        InputError: If something is there, or its folder cannot be made.
    """
    if "://" in str(out) or str(out).startswith(("s3:/", "gs:/", "az:/")):
        raise InputError(f"{out}: exports are written to local disk; copy the file from there")
    if out.exists():
        raise InputError(f"{out} exists already: remove it, or choose another name")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"folder {out.parent} cannot be made: {error.strerror}") from error


@contextmanager
def appear_whole(out: Path) -> Iterator[Path]:
    """Yield a name in a folder of its own beside the output; it takes the final name if all goes well.

    Raises:
        InputError: As :func:`check_free`.
    """
    check_free(out)
    with tempfile.TemporaryDirectory(prefix=f".{out.name}.", dir=out.parent) as folder:
        draft = Path(folder) / out.name
        yield draft
        draft.replace(out)
