"""Secrets from files: a file becomes the environment variable that it is called by, in this process and what it starts.

The keys of a Secret stand in no manifest, in no environment that a container engine shows, and in none that other
processes of the pod can read under ``/proc``. A process of mapper reads them when it starts; a worker of Dask, which
starts as ``dask worker``, by this module as its preload.
"""

import os
import re
from pathlib import Path

from mapper.errors import InputError

FOLDERS = "MAPPER_SECRETS"
"""Environment variable with the folders, separated as in PATH."""
PRELOAD = "mapper.cluster.secret_files"
"""Name of this module, for ``distributed.worker.preload``."""
_VARIABLE = re.compile(r"[A-Z_][A-Z0-9_]*")
_LONGEST = 2**16


def load_secrets() -> list[str]:
    """Set an environment variable for each file in the folders that ``MAPPER_SECRETS`` names, if it has such a name.

    Variables that are set already stay as they are. Other files are left for what names their path, as
    ``GOOGLE_APPLICATION_CREDENTIALS`` does.

    Returns:
        Names of the variables that were set.

    Raises:
        InputError: If a folder or a file cannot be read, or is too long for a secret.
    """
    loaded: list[str] = []
    for folder in filter(None, os.environ.get(FOLDERS, "").split(os.pathsep)):
        try:
            paths = sorted(path for path in Path(folder).iterdir() if _VARIABLE.fullmatch(path.name))
            secrets = {path.name: _read(path) for path in paths if path.name not in os.environ}
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"secrets in {folder} ({FOLDERS}) cannot be read: {type(error).__name__}") from error
        os.environ.update(secrets)
        loaded += secrets
    return loaded


def dask_setup(_worker: object) -> None:
    """Set the variables in a worker of Dask that has this module as its preload, before its first task."""
    load_secrets()


def _read(path: Path) -> str:
    with path.open("rb") as stream:
        content = stream.read(_LONGEST + 1)
    if len(content) > _LONGEST or b"\0" in content:
        raise InputError(f"{path} is no secret: longer than {_LONGEST} bytes, or no text")
    return content.decode().rstrip("\r\n")
