"""The boundary of a task: whatever goes wrong with a tile becomes its record, and only a wrong request ends a run."""

import logging
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from mapper.access.files import Access
from mapper.access.throttle import Throttle, process_throttle
from mapper.errors import InputError, StoreFullError
from mapper.run.context import Context, Task
from mapper.run.records import describe_error, describe_task, failed_record, reading, worker_name
from mapper.run.retries import Attempts
from mapper.store.record import Record

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
    attempts, started = Attempts(context.options.backoff), datetime.now(UTC)
    access = Access(patience=context.options.patience, throttle=throttle or process_throttle())
    try:
        found = work(attempts, access)
    except (InputError, StoreFullError):
        raise
    except Exception as error:  # the task boundary: a failed tile is a recorded tile
        _logger.warning("tile %s failed: %s", task.tile, describe_error(error))
        _logger.debug("tile %s failed", task.tile, exc_info=error)
        facts = {"started_at": started, "attempts": attempts.count, "worker": worker_name()}
        return None, failed_record(context, task, describe_error(error), **facts, **reading(access.tally))
    facts = {"started_at": started, "attempts": attempts.count, "worker": worker_name()}
    record = describe_task(context, task, **facts, **found, **reading(access.tally))
    return (fork if record.content_sha256 else None), record
