"""Records of tiles, of those that were made and of those that failed."""

import logging
import os
import platform
import socket
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import lru_cache
from importlib import metadata
from typing import Any

import numpy as np
import numpy.typing as npt

from mapper import __version__
from mapper.access.files import Access
from mapper.access.retry import Attempts
from mapper.access.tally import Tally
from mapper.access.throttle import Throttle, process_throttle
from mapper.catalog.items import ItemDict, Items
from mapper.catalog.uses import ItemUse
from mapper.errors import InputError, StoreFullError
from mapper.plan.context import Context, Task
from mapper.redaction import redact
from mapper.store.product import Band
from mapper.store.record import BandStatistics, Record
from mapper.text import describe_error

_LIBRARIES = ("numpy", "torch", "rasterio", "bottleneck", "xarray", "zarr", "icechunk")


def describe_task(context: Context, task: Task, **known: Any) -> Record:
    """Return a record of what is known before a task has run, and the given fields."""
    digests: dict[str, Any] = replace(context.identity, items=task.items_digest).to_fields()
    return Record(
        tile=task.tile,
        task_id=task.id,
        model=context.model.name if context.model else "",
        **digests,
        code_version=__version__,
        environment=_environment(),
        guide_store=redact(str(context.stored_guide or ""), paths=True),
        **known,
    )


def failed_record(context: Context, task: Task, reason: str, **known: Any) -> Record:
    """Return the record of a tile that could not be made."""
    items = complete_uses((), task, "the tile failed")
    return describe_task(context, task, status="failed", reason=redact(reason, paths=True), items=items, **known)


def complete_uses(uses: tuple[ItemUse, ...], task: Task, reason: str) -> tuple[ItemUse, ...]:
    """Return all items of a task, those that were not reported with a reason: a later plan compares against all."""
    reported = {(use.collection, use.id) for use in uses}

    def silent(items: Items) -> list[ItemDict]:
        return [item for item in items if (item["collection"], item["id"]) not in reported]

    guide = tuple(ItemUse.of(item, role="guide", dropped=reason) for item in silent(task.guide))
    return (*uses, *guide, *(ItemUse.of(item, role="source", dropped=reason) for item in silent(task.source)))


def reading(tally: Tally) -> dict[str, Any]:
    """Return the fields of a record that say what reading a tile cost, all attempts together."""
    return {"requests": tally.requests, "bytes_read": tally.bytes_read, "retries": tuple(tally.retries)}


def statistics(arrays: Mapping[str, npt.NDArray[Any]], bands: Sequence[Band]) -> dict[str, Any]:
    """Return the fields of a record that sum up the values of a tile, in target units.

    Args:
        arrays: Pixels of the tile by name of the band.
        bands: Value bands of the map.
    """
    found = tuple(_sum_up(band.name, arrays[band.name]) for band in bands)
    first, several = found[0], found if len(found) > 1 else ()
    values = {"value_min": first.min, "value_mean": first.mean, "value_max": first.max}
    return {"valid_px": first.valid_px, **values, "statistics": several}


def _sum_up(band: str, values: npt.NDArray[np.float32]) -> BandStatistics:
    valid = values[np.isfinite(values)].astype(np.float64)
    if not valid.size:
        return BandStatistics(band=band)
    return BandStatistics(
        band=band,
        valid_px=int(valid.size),
        min=float(valid.min()),
        mean=float(valid.mean()),
        max=float(valid.max()),
    )


def worker_name() -> str:
    """Return host and process."""
    return f"{socket.gethostname()}:{os.getpid()}"


@lru_cache(maxsize=1)  # looking up versions reads files
def _environment() -> str:
    libraries = [f"{name}=={metadata.version(name)}" for name in _LIBRARIES]
    return " ".join([f"python=={platform.python_version()}", *libraries])


NOT_NEAR = "not read: it only touches the rim of what is read"
"""Reason in a record for an item that was planned with and not read."""


_logger = logging.getLogger(__name__)


def attempt_task(
    fork: Any,
    context: Context,
    task: Task,
    work: Callable[[Attempts, Access], dict[str, Any]],
    *,
    throttle: Throttle | None = None,
) -> tuple[Any, Record]:
    """Make one tile, and its record.

    Args:
        fork: Of the store's session; what is written becomes visible when it is merged and committed.
        context: What all tasks share.
        task: Which tile, from which items.
        work: Makes and writes the tile; told how often to try and how files are reached, it gives fields of the record.
        throttle: Paces requests; by default that of this process.

    Returns:
        The fork, None if nothing was written to it, and the record of the tile.

    Raises:
        InputError: If the request is wrong: no other tile can do better.
        StoreFullError: If no space is left.
    """
    attempts, started = Attempts(context.options.tile_retry), datetime.now(UTC)
    access = Access(retry=context.options.request_retry, throttle=throttle or process_throttle())
    try:
        found = work(attempts, access)
    except (InputError, StoreFullError):
        raise
    except Exception as error:  # the task boundary: a failed tile is a recorded tile
        _logger.warning("tile %s failed: %s", task.tile, describe_error(error))
        _logger.debug("tile %s failed", task.tile, exc_info=error)
        known = {"started_at": started, "attempts": attempts.count, "worker": worker_name()}
        return None, failed_record(context, task, describe_error(error), **known, **reading(access.tally))
    known = {"started_at": started, "attempts": attempts.count, "worker": worker_name()}
    record = describe_task(context, task, **known, **found, **reading(access.tally))
    return (fork if record.content_sha256 else None), record
