"""Preloaded into Dask workers of tests (``dask worker --preload slow_tiles.py``): tiles are slow, one may be poison.

Half of the time passes before a tile is written and half of it after: processes that are killed at random then die
with tiles that they have not written, and with tiles that they wrote and nobody heard of. While a file ``poison`` lies
in the folder of the workers, the tile that it names (``row,col``) takes memory until its worker is killed, as the
kernel kills what is in a container that reaches its limit.
"""

import os
import signal
import time
from functools import partial
from pathlib import Path

import psutil

from mapper.run import map_tile as task

SECONDS = float(os.environ.get("SLOW_TILES_SECONDS", "0.3"))
LIMIT = 2**30
"""Bytes of a worker."""


def dask_setup(worker):
    """Called by Dask when the worker starts."""
    poison = Path(worker.local_directory).parents[1] / "poison"
    task.write_tile = partial(_write_slowly, task.write_tile, poison)


def _write_slowly(write, poison, fork, **options):
    if poison.exists() and poison.read_text() == str(options["tile"]):
        _eat()
    time.sleep(SECONDS / 2)
    checksum = write(fork, **options)
    time.sleep(SECONDS / 2)
    return checksum


def _eat():
    eaten = []
    while psutil.Process().memory_info().rss < LIMIT:
        eaten.append(b"x" * 2**25)
    os.kill(os.getpid(), signal.SIGKILL)
