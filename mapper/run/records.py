"""What is put on record for one tile, whether it went well or not."""

import os
import platform
import socket
from functools import lru_cache
from importlib import metadata
from typing import Any

import numpy as np
import numpy.typing as npt

from mapper import __version__
from mapper.access.tally import Tally
from mapper.catalog.items import ItemDict, Items
from mapper.catalog.uses import ItemUse
from mapper.run.context import Context, Task
from mapper.store.record import Record

_LIBRARIES = ("numpy", "torch", "rasterio", "odc-loader", "bottleneck", "xarray", "zarr", "icechunk")


def describe_task(context: Context, task: Task, **facts: Any) -> Record:
    """A record of what is known before a task has run, and the given facts."""
    return Record(
        tile=task.tile,
        task_id=task.id,
        model=context.model_name,
        model_digest=context.model_digest,
        spec_digest=context.spec_digest,
        grid_digest=context.grid.digest,
        items_digest=task.items_digest,
        code_version=__version__,
        environment=_environment(),
        guide_store=context.guide_name,
        **facts,
    )


def failed_record(context: Context, task: Task, reason: str, **facts: Any) -> Record:
    """The record of a tile that could not be made."""
    items = complete_uses((), task, "the tile failed")
    return describe_task(context, task, status="failed", reason=reason, items=items, **facts)


def complete_uses(uses: tuple[ItemUse, ...], task: Task, reason: str) -> tuple[ItemUse, ...]:
    """All items of a task, those that nobody reported with a reason: a later plan compares against all."""
    reported = {(use.collection, use.id) for use in uses}

    def silent(items: Items) -> list[ItemDict]:
        return [item for item in items if (item["collection"], item["id"]) not in reported]

    guide = tuple(ItemUse.of(item, role="guide", dropped=reason) for item in silent(task.guide))
    return (*uses, *guide, *(ItemUse.of(item, role="source", dropped=reason) for item in silent(task.source)))


def reading(tally: Tally) -> dict[str, Any]:
    """Fields of a record that say what reading a tile cost, all attempts together."""
    return {"requests": tally.requests, "bytes_read": tally.bytes_read, "retries": tuple(tally.retries)}


def statistics(value: npt.NDArray[np.float32]) -> dict[str, Any]:
    """Fields of a record that sum up the values of a tile, in target units."""
    valid = value[np.isfinite(value)].astype(np.float64)
    if not valid.size:
        return {"valid_px": 0}
    return {
        "valid_px": int(valid.size),
        "value_min": float(valid.min()),
        "value_mean": float(valid.mean()),
        "value_max": float(valid.max()),
    }


def describe_error(error: BaseException) -> str:
    """An error as one line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}".rstrip(": ")


def worker_name() -> str:
    """Host and process."""
    return f"{socket.gethostname()}:{os.getpid()}"


@lru_cache(maxsize=1)  # looking up versions reads files
def _environment() -> str:
    libraries = [f"{name}=={metadata.version(name)}" for name in _LIBRARIES]
    return " ".join([f"python=={platform.python_version()}", *libraries])
