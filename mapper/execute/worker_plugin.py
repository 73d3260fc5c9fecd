"""What a Dask worker holds for one run: the function of all tiles, with the map that they share, made ready once.

The function travels once to each worker, as a plugin of the cluster, and is prepared there before the first tile: the
model is read, checked and moved to the device, and a worker that cannot do that says so. Workers that come later, or
come back, get it from the scheduler before their first tile. A scheduler that was lost comes back without it: then
tiles find no workshop, which is no fault of theirs.

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
    """This worker has no workshop for the tile, or could not make it ready; another may."""


class Workshop(WorkerPlugin):
    """The function of one run in one worker.

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
        """Make ready, beside the event loop, which has to answer the scheduler meanwhile.

        Raises:
            InputError: If the request is wrong.
            UnpreparedError: If this worker cannot do its part.
        """
        await asyncio.to_thread(self.open)
        limit = worker.memory_manager.memory_limit
        if limit:
            process_budget().resize(share_of(limit))

    def open(self) -> Callable[[Any], Any]:
        """The function, prepared; prepared by the first who asks."""
        with self._opening:
            if self._function is None:
                self._function = _open(self.packed)
            return self._function

    def __reduce__(self) -> tuple[type["Workshop"], tuple[bytes]]:
        """Travels as what it was made of."""
        return Workshop, (self.packed,)


def pack(value: object) -> bytes:
    """Any object, as what travels."""
    return zlib.compress(pickle.dumps(value), 1)


def unpack(packed: bytes) -> Any:
    """The object again."""
    return pickle.loads(zlib.decompress(packed))


def work(name: str, packed: bytes) -> Any:
    """Call the function of a workshop on a packed input. Called in workers.

    Raises:
        UnpreparedError: If this worker has no such workshop.
    """
    workshop = get_worker().plugins.get(name)
    if not isinstance(workshop, Workshop):
        raise UnpreparedError(f"worker {get_worker().address} has no workshop {name}")
    return workshop.open()(unpack(packed))


def _open(packed: bytes) -> Callable[[Any], Any]:
    try:
        function: Callable[[Any], Any] = unpack(packed)
        prepare(function)
    except InputError:
        raise
    except Exception as error:  # whatever else this machine lacks, others may have
        raise UnpreparedError(f"a worker could not be made ready: {type(error).__name__}: {error}") from error
    return function
