"""The tasks of a plan as arrays: a task is put together when it is asked for, and dropped with its user.

A hundred thousand tasks are 20 MB of arrays; as objects with their items they were 200 MB.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import overload
from uuid import UUID

import numpy as np
import numpy.typing as npt

from mapper.arrays import ByteArray, IntArray
from mapper.catalog.items import Items
from mapper.grid import Tile
from mapper.plan.context import Task


@dataclass(frozen=True, kw_only=True, eq=False)
class Members:
    """Which items tasks have in one role. Tasks with the same items share them: tiles of one scene are many."""

    first: npt.NDArray[np.int32]
    """(task,): where in ``item`` those of a task begin."""
    counts: npt.NDArray[np.int32]
    """(task,): how many they are."""
    item: npt.NDArray[np.int32]
    """Numbers of items, ascending for each task."""

    @classmethod
    def of_pairs(cls, task: IntArray, item: IntArray, *, tasks: int) -> "Members":
        """Put pairs of a task and an item in order."""
        order = np.lexsort((item, task))
        return cls.of_lists(item[order], np.bincount(task, minlength=tasks))

    @classmethod
    def of_lists(cls, item: IntArray | npt.NDArray[np.int32], counts: IntArray) -> "Members":
        """From the items of one task after the other, and how many each has."""
        flat, ends = item.astype(np.int32), np.cumsum(counts)
        shared = _Shared()
        first = [shared.place(flat[end - count : end]) for end, count in zip(ends, counts, strict=True)]
        return cls(first=np.array(first, np.int32), counts=counts.astype(np.int32), item=shared.items())

    @classmethod
    def join(cls, parts: Sequence["Members"]) -> "Members":
        """Those of tasks that follow each other."""
        starts = np.cumsum([0, *(len(part.item) for part in parts)])
        none = np.zeros(0, np.int32)
        first = [part.first + np.int32(start) for part, start in zip(parts, starts[:-1], strict=True)]
        return cls(
            first=np.concatenate([none, *first]),
            counts=np.concatenate([none, *(part.counts for part in parts)]),
            item=np.concatenate([none, *(part.item for part in parts)]),
        )

    def of(self, task: int) -> npt.NDArray[np.int32]:
        """Numbers of the items of one task, ascending."""
        return self.item[self.first[task] : self.first[task] + self.counts[task]]

    def take(self, tasks: IntArray) -> "Members":
        """Those of some tasks, in the order in which they are named."""
        return Members(first=self.first[tasks], counts=self.counts[tasks], item=self.item)

    def unfold(self) -> tuple[IntArray, IntArray]:
        """All pairs of a task and an item, task after task: number of the task, number of the item."""
        counts = self.counts.astype(np.int64)
        ends = np.cumsum(counts)
        task = np.repeat(np.arange(len(counts)), counts)
        within = np.arange(len(task)) - (ends - counts)[task]
        return task, self.item[self.first[task] + within].astype(np.int64)


class _Shared:
    """Lists of items laid end to end, each once."""

    def __init__(self) -> None:
        self._places: dict[bytes, int] = {}
        self._end = 0

    def place(self, items: npt.NDArray[np.int32]) -> int:
        """Where a list begins."""
        first = self._places.setdefault(items.tobytes(), self._end)
        if first == self._end:
            self._end += len(items)
        return first

    def items(self) -> npt.NDArray[np.int32]:
        """All of them."""
        return np.frombuffer(b"".join(self._places), np.int32)


@dataclass(frozen=True, kw_only=True, eq=False)
class TaskTable(Sequence[Task]):
    """Tasks as arrays, in the order of the plan."""

    places: IntArray
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
        return len(self.places)

    @overload
    def __getitem__(self, index: int) -> Task: ...
    @overload
    def __getitem__(self, index: slice) -> "TaskTable": ...
    def __getitem__(self, index: int | slice) -> "Task | TaskTable":
        if isinstance(index, slice):
            return self.take(np.arange(len(self))[index])
        number = range(len(self))[index]
        row, col = self.places[number].tolist()
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
        """Of all tasks, without putting a task together."""
        return [Tile(row, col) for row, col in self.places.tolist()]

    @classmethod
    def join(cls, parts: Sequence["TaskTable"]) -> "TaskTable":
        """Tables that follow each other, at least one, of the same items."""
        return cls(
            places=np.concatenate([part.places for part in parts]),
            ids=np.concatenate([part.ids for part in parts]),
            digests=np.concatenate([part.digests for part in parts]),
            guide=Members.join([part.guide for part in parts]),
            source=Members.join([part.source for part in parts]),
            items=parts[0].items,
        )

    def take(self, tasks: IntArray) -> "TaskTable":
        """Some tasks, by number, in the order in which they are named."""
        return TaskTable(
            places=self.places[tasks],
            ids=self.ids[tasks],
            digests=self.digests[tasks],
            guide=self.guide.take(tasks),
            source=self.source.take(tasks),
            items=self.items,
        )


def tiles_of(tasks: Sequence[Task]) -> list[Tile]:
    """The tile of each task."""
    return tasks.tiles if isinstance(tasks, TaskTable) else [task.tile for task in tasks]


def places_of(tasks: Sequence[Task]) -> IntArray:
    """Row and column of the tile of each task, (task, 2)."""
    return tasks.places if isinstance(tasks, TaskTable) else to_places(task.tile for task in tasks)


def to_places(tiles: Iterable[Tile]) -> IntArray:
    """Row and column of each tile, (tile, 2)."""
    return np.array([(tile.row, tile.col) for tile in tiles], np.int64).reshape(-1, 2)


def ids_of(tasks: Sequence[Task]) -> ByteArray:
    """The id of each task as bytes, (task, 16)."""
    if isinstance(tasks, TaskTable):
        return tasks.ids
    return np.frombuffer(b"".join(UUID(task.id).bytes for task in tasks), np.uint8).reshape(-1, 16)


def names_of(tasks: Sequence[Task]) -> list[str]:
    """The id of each task as it is written."""
    return [str(UUID(bytes=each.tobytes())) for each in ids_of(tasks)]


def take_tasks(tasks: Sequence[Task], chosen: IntArray) -> Sequence[Task]:
    """Some of the tasks, by number, in the order in which they are named; arrays if they are arrays."""
    return tasks.take(chosen) if isinstance(tasks, TaskTable) else tuple(tasks[k] for k in chosen.tolist())
