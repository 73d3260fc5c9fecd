"""The plan: every task of a map, decided before the first one runs, and what it will cost.

A plan is made from frozen items only, so making it twice gives the same one. Nothing is started or written by planning.
"""

import hashlib
import json
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt

from mapper.arrays import ByteArray, IntArray
from mapper.catalog.items import Items
from mapper.catalog.query import searched_margin
from mapper.errors import PlanError
from mapper.grid import Tile
from mapper.markup.cards import show_tiles
from mapper.plan.context import Context, make_context
from mapper.plan.footprints import intersect_items
from mapper.plan.item_arrays import read_item_arrays
from mapper.plan.memory import check_memory
from mapper.plan.selection import select_tiles
from mapper.plan.task_table import Members, TaskTable, to_indices
from mapper.spec import MapSpec
from mapper.store.identity import Identity
from mapper.store.ledger import Ledger

_NAMESPACE = uuid.uuid5(uuid.NAMESPACE_DNS, "task.mapper")


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The frozen list of tasks."""

    identity: Identity
    """Digests of the product, and of all items it was planned with, also those that no task touches."""
    tasks: TaskTable

    @cached_property
    def digest(self) -> str:
        """Sha256 over the ids of all tasks."""
        return hashlib.sha256("".join(self.tasks.names).encode()).hexdigest()

    def __len__(self) -> int:
        return len(self.tasks)

    def _repr_html_(self) -> str:
        """Return what a notebook shows."""
        made = self.identity
        digests = {"map": made.spec, "model": made.model, "items": made.items, "plan": self.digest}
        facts = {f"digest of the {name}": digest[:12] for name, digest in digests.items()}
        return show_tiles(f"Plan of {len(self):,} tiles", facts, self.tasks.indices)


def make_plan(
    spec: MapSpec,
    items: Items,
    *,
    context: Context | None = None,
    only: str | None = None,
    tiles: Sequence[Tile] | None = None,
    ledger: Ledger | None = None,
    worker_memory: int | None = None,
) -> Plan:
    """Decide all tasks of a map.

    Args:
        spec: The map.
        items: Frozen items.
        context: What :func:`make_context` made of the map; made here if absent.
        only: Tiles to take, see :mod:`mapper.plan.selection`; None takes all.
        tiles: Instead of all that the area touches.
        ledger: For selections that ask how a tile went.
        worker_memory: Bytes that one task may use; None does not check.

    Raises:
        InputError: If map, provider, model and items do not fit each other, a selection is empty, or a task is too big.
    """
    context = context or make_context(spec)
    _check_margin(items, context)
    _check_bands(items, context)
    arrays = read_item_arrays(context, items)
    indices = context.grid.tile_indices() if tiles is None else to_indices(tiles)
    if only:
        indices = indices[select_indices(indices, only, ledger)]
    guide, source = intersect_items(context, indices, arrays.outlines, (arrays.guide, arrays.source))
    ids, digests = _identify(context, indices, (guide, source), arrays.digests)
    tasks = TaskTable(indices=indices, ids=ids, digests=digests, guide=guide, source=source, items=items)
    if worker_memory is not None:
        check_memory(context, tasks, worker_memory)
    return Plan(identity=replace(context.identity, items=arrays.digest), tasks=tasks)


def check_plan(plan: Plan, context: Context) -> None:
    """Check that a plan was made for this map and model.

    Raises:
        PlanError: Naming what differs.
    """
    changed = plan.identity.differences(replace(context.identity, items=plan.identity.items))
    if changed:
        names = [{"spec": "map"}.get(name, name) for name in changed]
        raise PlanError(f"the plan was made for another {' and '.join(names)}; plan again")


def _check_margin(items: Items, context: Context) -> None:
    """Check that items were searched as far around the area as windows reach."""
    margin_px = searched_margin(items)
    if context.halo_px > margin_px:
        raise PlanError(
            f"items were searched {margin_px} px around the area, tiles need {context.halo_px} px of context; search "
            "again, with a margin of that many pixels"
        )


def _check_bands(items: Items, context: Context) -> None:
    """Check that each band of the source is in some item: without it every tile would come out empty."""
    source = context.spec.source
    rule, held = context.provider.rule(source.collection), [i for i in items if i["collection"] == source.collection]
    missing = [band for band in source.band_names if held and not any(rule.asset(item, band) for item in held)]
    if missing:
        found = [band for band in rule.bands if any(rule.asset(item, band) for item in held)]
        raise PlanError(
            f"none of {len(held)} items of {source.collection} has {', '.join(missing)}, they have "
            f"{', '.join(found) or 'no band that the provider names'}: ask for other bands of the source, or mend what "
            "the provider says of their assets"
        )


def select_indices(indices: IntArray, only: str, ledger: Ledger | None) -> IntArray:
    """Return the numbers of the tiles that a selection names.

    Raises:
        PlanError: If a term cannot be read, or nothing is selected.
    """
    tiles = [Tile(row, col) for row, col in indices.tolist()]
    status = {tile: entry.status for tile, entry in ledger.entries.items()} if ledger else {}
    chosen = frozenset(select_tiles(tiles, only, status=status))
    return np.flatnonzero([tile in chosen for tile in tiles])


def _identify(
    context: Context, indices: IntArray, roles: Sequence[Members], digests: npt.NDArray[np.bytes_]
) -> tuple[ByteArray, ByteArray]:
    """Return the ids of tasks, (task, 16) bytes, and digests of their items, (task, 32) bytes."""
    ids, digested = bytearray(), bytearray()
    for number, (row, col) in enumerate(indices.tolist()):
        content = b"".join(digests[members.of(number)].tobytes() for members in roles)
        items_digest = hashlib.sha256(content)
        identity = [context.identity.spec, context.identity.model, items_digest.hexdigest(), f"{row},{col}"]
        ids += uuid.uuid5(_NAMESPACE, json.dumps(identity)).bytes
        digested += items_digest.digest()
    return np.frombuffer(bytes(ids), np.uint8).reshape(-1, 16), np.frombuffer(bytes(digested), np.uint8).reshape(-1, 32)
