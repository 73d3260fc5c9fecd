"""A run that reads its guide from a store instead of the archives: checked once before it starts, read by windows.

The driver pins the version of the store and checks that every tile under every window that is due stands, and was made
from the very items the map is planned with. Workers then read that version, which never changes, and do not ask again.
"""

import logging
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt

from mapper.catalog.items import Items
from mapper.catalog.provider import Provider
from mapper.cube.composite import Guide, describe_guide
from mapper.errors import PlanError
from mapper.grid import Tile
from mapper.plan.context import Context, StoredGuide, Task
from mapper.plan.guide_context import reach_of, read_guide_context, tiles_of, tiles_under, units_of
from mapper.plan.job import Job
from mapper.plan.pending import find_pending
from mapper.plan.plan import make_plan
from mapper.plan.task_table import TaskTable
from mapper.run.records import NOT_NEAR
from mapper.spec import MapSpec
from mapper.store.encoding import Encoding
from mapper.store.errors import explain_faults
from mapper.store.ledger import Ledger
from mapper.store.ledger_arrays import read_batches
from mapper.store.map_store import MapStore
from mapper.store.tiles import read_window

_logger = logging.getLogger(__name__)

_Dropped = Mapping[tuple[str, str], str]


def attach_guide(context: Context, tasks: TaskTable, items: Items, location: str) -> Context:
    """Return the context of a map whose tasks read their guide from a store.

    Args:
        context: What the tasks share.
        tasks: Those that are due.
        items: Frozen, as the map was planned with.
        location: Of the guide.

    Returns:
        The context, with the guide at the version that its store has now.

    Raises:
        StoreMismatchError: If the store holds the guide of another map, or no guide.
        PlanError: If the model looks at no guide or farther than this one reaches, or tiles of it are missing, failed
            or made from other items.
    """
    if not context.reads("guide"):
        raise PlanError(f"model {context.spec.model.name} looks at the source alone: run it without --guide")
    guide = read_guide_context(context, location)
    ledger = MapStore.open(location).ledger
    if tasks:
        _check_reach(context, guide, tasks, location)
        _check_tiles(guide, ledger, tiles_under(context, guide, tasks), items, location)
    stored = StoredGuide(location=location, snapshot=ledger.session.snapshot_id, pad=guide.pad)
    return replace(context, stored_guide=stored)


def read_stored_guide(context: Context, stored: StoredGuide, task: Task) -> Guide:
    """Read the guide of one window of a map: the channels of its model, in their order. Called in workers.

    Args:
        context: What all tasks share.
        stored: The guide.
        task: Which tile, from which items.
    """
    store = _open(stored.location, stored.snapshot).session.store
    window = context.window(task.tile).shifted(stored.pad * context.grid.tile_px)
    channels = context.require_model().channels
    names = [context.spec.guide.channels[channel].name for channel in channels]
    encodings = encodings_of(context.spec, context.provider)
    values = np.empty((len(names), *window.shape), np.float32)
    with explain_faults(stored.location):
        for number, (name, channel) in enumerate(zip(names, channels, strict=True)):
            values[number] = encodings[channel].decode(read_window(store, name, window))
        n_valid, gaps = read_window(store, "n_valid", window), read_window(store, "gaps", window) != 0
        dropped = _find_dropped(stored, tiles_of(window, context.grid.tile_px))
    uses = describe_guide(task.guide, spec=context.spec, provider=context.provider, dropped=dropped)
    return Guide(values=values, n_valid=n_valid, gaps=gaps, uses=uses)


def _check_reach(context: Context, guide: Context, tasks: TaskTable, location: str) -> None:
    for tile in tasks.tiles:
        window, held = context.window(tile), context.grid.window(tile, halo_px=guide.halo_px)
        first = held.top <= window.top and held.left <= window.left
        if not (first and window.bottom <= held.bottom and window.right <= held.right):
            raise PlanError(
                f"model {context.spec.model.name} looks {reach_of(context)} px beyond a tile, the guide in {location} "
                f"holds {guide.halo_px} px: composite into another store with --halo {reach_of(context)}"
            )


def _check_tiles(guide: Context, ledger: Ledger, tiles: Sequence[Tile], items: Items, location: str) -> None:
    plan = make_plan(guide.spec, items, context=guide, tiles=tiles)
    faults: dict[Tile, str] = {}
    for task in plan.tasks:
        entry = ledger.entries.get(task.tile)
        if entry is None:
            faults[task.tile] = "missing"
        elif entry.status == "failed":
            faults[task.tile] = "failed"
        elif entry.task_id != task.id:
            faults[task.tile] = "made from other items"
    if faults:
        counts = ", ".join(f"{count} {fault}" for fault, count in Counter(faults.values()).items())
        first, fault = next(iter(faults.items()))
        raise PlanError(
            f"the guide in {location} cannot be used yet: of {len(tiles)} tiles under the windows due, {counts} "
            f"(the first: {first}, {fault}); run `mapper composite MAP.yaml` for this store, then this again"
        )


@lru_cache(maxsize=2)  # a process reads thousands of windows of one version
def _open(location: str, snapshot: str) -> Ledger:
    return MapStore.open(location, snapshot).ledger


@lru_cache(maxsize=2)
def _batches(location: str, snapshot: str) -> npt.NDArray[np.uint32]:
    """Read the number of the commit that wrote each tile."""
    return read_batches(_open(location, snapshot).session.store)


@lru_cache(maxsize=4096)  # neighbours share batches; what is kept of one is next to nothing
def _dropped_in(location: str, snapshot: str, batch: int) -> Mapping[Tile, _Dropped]:
    """Read the items that the tiles of one commit went without, and why."""
    return {
        record.tile: {
            (use.collection, use.id): use.dropped for use in record.items if use.dropped not in ("", NOT_NEAR)
        }
        for record in _open(location, snapshot).records_of(batch)
        if record.status != "failed"
    }


def _find_dropped(stored: StoredGuide, tiles: Iterator[Tile]) -> _Dropped:
    batches = _batches(stored.location, stored.snapshot)
    found: dict[tuple[str, str], str] = {}
    for tile in tiles:
        batch = int(batches[tile.row, tile.col])
        found |= _dropped_in(stored.location, stored.snapshot, batch).get(tile, {})
    return found


def encodings_of(spec: MapSpec, provider: Provider) -> tuple[Encoding, ...]:
    """Return the encoding of each channel of the guide."""
    units = units_of(spec, provider)
    return tuple(Encoding.of_units(units[channel.name]) for channel in spec.guide.channels)


def quantise_guide(guide: Guide, context: Context) -> Guide:
    """Return the channels of a model, in its order, as they would come back from a stored guide."""
    encodings = encodings_of(context.spec, context.provider)
    channels = context.require_model().channels
    values = np.empty((len(channels), *guide.n_valid.shape), np.float32)
    for number, channel in enumerate(channels):
        warn_of_clipping(context.spec, channel, encodings[channel], guide.values[channel])
        values[number] = encodings[channel].quantise(guide.values[channel])
    return replace(guide, values=values)


def warn_of_clipping(spec: MapSpec, channel: int, encoding: Encoding, values: npt.NDArray[np.float32]) -> None:
    """Log a warning where values lie beyond what can be stored."""
    clipped = encoding.count_clipped(values)
    if clipped:
        name = spec.guide.channels[channel].name
        _logger.warning("guide: %d pixels of %s lie outside %s and were clipped", clipped, name, encoding.limits)


def read_from_guide(job: Job, location: str) -> Context:
    """Return the context of a job whose tasks read their guide from a store; checked for all that is due.

    Raises:
        StoreMismatchError: If the store holds something else than the guide of this map.
        PlanError: If the guide does not reach far enough, is not complete, or was made from other items.
    """
    due = find_pending(job.plan, job.ledger, explain=False).tasks
    absolute = location if "://" in location else str(Path(location).absolute())
    return attach_guide(job.context, due, job.items, absolute)
