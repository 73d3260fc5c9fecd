"""The tasks of a plan as arrays: a task is assembled when it is asked for, and dropped with its user.

A hundred thousand tasks are 20 MB of arrays; as objects with their items they were 200 MB.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import overload
from uuid import UUID

import numpy as np
import numpy.typing as npt

from mapper.arrays import ByteArray, IntArray
from mapper.catalog.items import Items, freeze_items
from mapper.grid import Tile
from mapper.plan.context import Task


@dataclass(frozen=True, kw_only=True, eq=False)
class Members:
    """The items of each task in one role. Tasks with the same items share them: tiles of one scene are many."""

    first: npt.NDArray[np.int32]
    """(task,): index into ``item`` at which the items of a task begin."""
    counts: npt.NDArray[np.int32]
    """(task,): number of items."""
    item: npt.NDArray[np.int32]
    """Numbers of items, ascending for each task."""

    @classmethod
    def of_pairs(cls, task: IntArray, item: IntArray, *, tasks: int) -> "Members":
        """Return the members of pairs of a task and an item, given in any order."""
        order = np.lexsort((item, task))
        return cls.of_lists(item[order], np.bincount(task, minlength=tasks))

    @classmethod
    def of_lists(cls, item: IntArray | npt.NDArray[np.int32], counts: IntArray) -> "Members":
        """Return the members of tasks whose items follow each other, with the number of items of each."""
        flat, ends = item.astype(np.int32), np.cumsum(counts)
        shared = _SharedLists()
        first = [shared.add(flat[end - count : end]) for end, count in zip(ends, counts, strict=True)]
        return cls(first=np.array(first, np.int32), counts=counts.astype(np.int32), item=shared.items())

    @classmethod
    def join(cls, parts: Sequence["Members"]) -> "Members":
        """Return the members of tasks that follow each other."""
        starts = np.cumsum([0, *(len(part.item) for part in parts)])
        none = np.zeros(0, np.int32)
        first = [part.first + np.int32(start) for part, start in zip(parts, starts[:-1], strict=True)]
        return cls(
            first=np.concatenate([none, *first]),
            counts=np.concatenate([none, *(part.counts for part in parts)]),
            item=np.concatenate([none, *(part.item for part in parts)]),
        )

    def of(self, task: int) -> npt.NDArray[np.int32]:
        """Return the numbers of the items of one task, ascending."""
        return self.item[self.first[task] : self.first[task] + self.counts[task]]

    def take(self, tasks: IntArray) -> "Members":
        """Return the members of some tasks, in the order in which they are named."""
        return Members(first=self.first[tasks], counts=self.counts[tasks], item=self.item)

    def unfold(self) -> tuple[IntArray, IntArray]:
        """Return all pairs of a task and an item, task after task: numbers of tasks, numbers of items."""
        counts = self.counts.astype(np.int64)
        ends = np.cumsum(counts)
        task = np.repeat(np.arange(len(counts)), counts)
        within = np.arange(len(task)) - (ends - counts)[task]
        return task, self.item[self.first[task] + within].astype(np.int64)


class _SharedLists:
    """Distinct lists of items, laid end to end."""

    def __init__(self) -> None:
        self._starts: dict[bytes, int] = {}
        self._end = 0

    def add(self, items: npt.NDArray[np.int32]) -> int:
        """Add a list unless it is there, and return the index at which it begins."""
        first = self._starts.setdefault(items.tobytes(), self._end)
        if first == self._end:
            self._end += len(items)
        return first

    def items(self) -> npt.NDArray[np.int32]:
        """Return all lists end to end."""
        return np.frombuffer(b"".join(self._starts), np.int32)


@dataclass(frozen=True, kw_only=True, eq=False)
class TaskTable(Sequence[Task]):
    """Tasks as arrays, in the order of the plan."""

    indices: IntArray
    """(task, 2): row and column of the tile."""
    ids: ByteArray
    """(task, 16): a UUID."""
    digests: ByteArray
    """(task, 32): over the digests of guide and source items."""
    guide: Members
    source: Members
    items: Items
    """All that the numbers of the members refer to."""

    def __len__(self) -> int:
        return len(self.indices)

    @overload
    def __getitem__(self, index: int) -> Task: ...
    @overload
    def __getitem__(self, index: slice) -> "TaskTable": ...
    def __getitem__(self, index: int | slice) -> "Task | TaskTable":
        if isinstance(index, slice):
            return self.take(np.arange(len(self))[index])
        number = range(len(self))[index]
        row, col = self.indices[number].tolist()
        return Task(
            tile=Tile(row, col),
            id=str(UUID(bytes=self.ids[number].tobytes())),
            items_digest=self.digests[number].tobytes().hex(),
            guide=self.items.pick(self.guide.of(number).tolist()),
            source=self.items.pick(self.source.of(number).tolist()),
        )

    def __iter__(self) -> Iterator[Task]:
        return map(self.__getitem__, range(len(self)))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sequence) or len(self) != len(other):
            return False
        return all(mine == theirs for mine, theirs in zip(self, other, strict=True))

    __hash__ = None  # type: ignore[assignment]

    @property
    def tiles(self) -> list[Tile]:
        """Tile of each task."""
        return [Tile(row, col) for row, col in self.indices.tolist()]

    @property
    def names(self) -> list[str]:
        """Id of each task as text."""
        return [str(UUID(bytes=each.tobytes())) for each in self.ids]

    @classmethod
    def of(cls, tasks: Sequence[Task]) -> "TaskTable":
        """Return the table of some tasks, whose items were found by one query."""
        query = tasks[0].guide.query if tasks else {}
        items = freeze_items((item for task in tasks for item in (*task.guide, *task.source)), query=query)
        numbers = {(item["collection"], item["id"]): number for number, item in enumerate(items)}

        def members(found: Sequence[Items]) -> Members:
            item = [numbers[each["collection"], each["id"]] for members in found for each in members]
            return Members.of_lists(np.array(item, np.int64), np.array([len(members) for members in found], np.int64))

        return cls(
            indices=to_indices(task.tile for task in tasks),
            ids=_to_bytes([UUID(task.id).bytes for task in tasks], 16),
            digests=_to_bytes([bytes.fromhex(task.items_digest) for task in tasks], 32),
            guide=members([task.guide for task in tasks]),
            source=members([task.source for task in tasks]),
            items=items,
        )

    @classmethod
    def join(cls, parts: Sequence["TaskTable"]) -> "TaskTable":
        """Return one table of tables that follow each other, at least one, of the same items."""
        return cls(
            indices=np.concatenate([part.indices for part in parts]),
            ids=np.concatenate([part.ids for part in parts]),
            digests=np.concatenate([part.digests for part in parts]),
            guide=Members.join([part.guide for part in parts]),
            source=Members.join([part.source for part in parts]),
            items=parts[0].items,
        )

    def take(self, tasks: IntArray) -> "TaskTable":
        """Return some tasks, by number, in the order in which they are named."""
        return TaskTable(
            indices=self.indices[tasks],
            ids=self.ids[tasks],
            digests=self.digests[tasks],
            guide=self.guide.take(tasks),
            source=self.source.take(tasks),
            items=self.items,
        )


def to_indices(tiles: Iterable[Tile]) -> IntArray:
    """Return row and column of each tile, (tile, 2)."""
    return np.array([(tile.row, tile.col) for tile in tiles], np.int64).reshape(-1, 2)


def _to_bytes(rows: Sequence[bytes], width: int) -> ByteArray:
    return np.frombuffer(b"".join(rows), np.uint8).reshape(-1, width)
