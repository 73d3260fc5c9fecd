"""Dask worker plugin that holds the task function of one run and prepares it once per worker.

The function travels once to each worker, as a plugin of the cluster, and is prepared there before the first tile: the
model is read, checked and moved to the device, and a worker that cannot do that says so. Workers that come later, or
come back, get it from the scheduler before their first tile. A scheduler that was lost comes back without it: then
tiles find no plugin, which is no fault of theirs.

A tile travels as compressed bytes that only the worker opens. As an object it was unpickled and pickled again by the
scheduler, and unpickled in the worker's event loop: half of all that the cluster computed.
"""

import asyncio
import hashlib
import threading
import zlib
from collections.abc import Callable
from typing import Any

from distributed import Worker, WorkerPlugin, get_worker
from distributed.protocol import pickle

from mapper.errors import InputError
from mapper.execute.memory_budget import process_budget, share_of
from mapper.execute.outcome import prepare


class UnpreparedError(Exception):
    """This worker has no plugin for the tile, or could not prepare it; another may."""


class RunPlugin(WorkerPlugin):
    """Dask worker plugin that holds the task function of one run and prepares it once per worker.

    Args:
        packed: From :func:`pack`.
    """

    idempotent = True

    def __init__(self, packed: bytes) -> None:
        self.packed = packed
        self.name = f"mapper-{hashlib.sha256(packed).hexdigest()[:24]}"
        self._opening = threading.Lock()
        self._function: Callable[[Any], Any] | None = None

    async def setup(self, worker: Worker) -> None:
        """Prepare the function beside the event loop, which has to answer the scheduler meanwhile.

        Raises:
            InputError: If the request is wrong.
            UnpreparedError: If this worker cannot do its part.
        """
        await asyncio.to_thread(self.open)
        limit = worker.memory_manager.memory_limit
        if limit:
            process_budget().resize(share_of(limit))

    def open(self) -> Callable[[Any], Any]:
        """Return the function, prepared by the first caller."""
        with self._opening:
            if self._function is None:
                self._function = _open(self.packed)
            return self._function

    def __reduce__(self) -> tuple[type["RunPlugin"], tuple[bytes]]:
        """Return what it is made of, as which it travels."""
        return RunPlugin, (self.packed,)


def pack(value: object) -> bytes:
    """Return any object as the bytes that travel."""
    return zlib.compress(pickle.dumps(value), 1)


def unpack(packed: bytes) -> Any:
    """Return the object that was packed."""
    return pickle.loads(zlib.decompress(packed))


def call_plugin(name: str, packed: bytes) -> Any:
    """Call the function of a plugin on a packed input and return its result. Called in workers.

    Raises:
        UnpreparedError: If this worker has no such plugin.
    """
    plugin = get_worker().plugins.get(name)
    if not isinstance(plugin, RunPlugin):
        raise UnpreparedError(f"worker {get_worker().address} has no plugin {name}")
    return plugin.open()(unpack(packed))


def _open(packed: bytes) -> Callable[[Any], Any]:
    try:
        function: Callable[[Any], Any] = unpack(packed)
        prepare(function)
    except InputError:
        raise
    except Exception as error:  # whatever else this machine lacks, others may have
        raise UnpreparedError(f"a worker could not be made ready: {type(error).__name__}: {error}") from error
    return function
