"""The plan: every task of a map, decided before the first one runs, and what it will cost.

A plan is made from frozen items only, so making it twice gives the same one. Nothing is started or written by planning.
"""

import hashlib
import json
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from mapper.arrays import ByteArray, IntArray
from mapper.catalog.items import Items
from mapper.errors import PlanError
from mapper.grid import Tile
from mapper.markup.cards import show_tiles
from mapper.plan.context import Context, make_context
from mapper.plan.footprints import find_touching
from mapper.plan.item_arrays import collect_facts
from mapper.plan.memory import check_memory
from mapper.plan.selection import select_tiles
from mapper.plan.task_table import Members, TaskTable, to_indices
from mapper.spec import MapSpec
from mapper.store.ledger import Ledger

_NAMESPACE = uuid.uuid5(uuid.NAMESPACE_DNS, "task.mapper")


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The frozen list of tasks."""

    spec_digest: str
    grid_digest: str
    model_digest: str
    items_digest: str
    """Of all items the map was planned with, also those that no task touches."""
    tasks: TaskTable

    @cached_property
    def digest(self) -> str:
        """Sha256 over the ids of all tasks."""
        return hashlib.sha256("".join(self.tasks.names).encode()).hexdigest()

    def __len__(self) -> int:
        return len(self.tasks)

    def _repr_html_(self) -> str:
        """What a notebook shows."""
        digests = {"map": self.spec_digest, "model": self.model_digest, "items": self.items_digest, "plan": self.digest}
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
        InputError: If map, provider and model do not fit each other, a selection is empty, or a task is too big.
    """
    context = context or make_context(spec)
    facts = collect_facts(context, items)
    indices = context.grid.tile_indices() if tiles is None else to_indices(tiles)
    if only:
        indices = indices[select_indices(indices, only, ledger)]
    guide, source = find_touching(context, indices, facts.outlines, (facts.guide, facts.source))
    ids, digests = _identify(context, indices, (guide, source), facts.digests)
    tasks = TaskTable(indices=indices, ids=ids, digests=digests, guide=guide, source=source, items=items)
    if worker_memory is not None:
        check_memory(context, tasks, worker_memory)
    return Plan(
        spec_digest=context.spec_digest,
        grid_digest=context.grid.digest,
        model_digest=context.model_digest,
        items_digest=facts.digest,
        tasks=tasks,
    )


def check_plan(plan: Plan, context: Context) -> None:
    """Check that a plan was made for this map and model.

    Raises:
        PlanError: Naming what differs.
    """
    pairs = {
        "map": (plan.spec_digest, context.spec_digest),
        "grid": (plan.grid_digest, context.grid.digest),
        "model": (plan.model_digest, context.model_digest),
    }
    changed = [name for name, (planned, present) in pairs.items() if planned != present]
    if changed:
        raise PlanError(f"the plan was made for another {' and '.join(changed)}; plan again")


def select_indices(indices: IntArray, only: str, ledger: Ledger | None) -> IntArray:
    """Numbers of the tiles that a selection names.

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
    """Ids of tasks, (task, 16) bytes, and digests of their items, (task, 32) bytes."""
    ids, digested = bytearray(), bytearray()
    for number, (row, col) in enumerate(indices.tolist()):
        content = b"".join(digests[members.of(number)].tobytes() for members in roles)
        items_digest = hashlib.sha256(content)
        identity = [context.spec_digest, context.model_digest, items_digest.hexdigest(), f"{row},{col}"]
        ids += uuid.uuid5(_NAMESPACE, json.dumps(identity)).bytes
        digested += items_digest.digest()
    return np.frombuffer(bytes(ids), np.uint8).reshape(-1, 16), np.frombuffer(bytes(digested), np.uint8).reshape(-1, 32)
