"""Which tiles to run: a small language for ``--only``.

Terms, separated by spaces or semicolons; a tile is taken if any term takes it::

    3,7          the tile in row 3, column 7
    2-4,0-9      rows 2 to 4, columns 0 to 9, both ends included
    ::10         every tenth tile of the plan; 100:200 the second hundred (Python slices)
    failed       tiles whose last record is failed; likewise ok and empty
    new          tiles without a record
"""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Literal

import numpy as np

from mapper.arrays import IntArray
from mapper.errors import PlanError
from mapper.grid import Tile
from mapper.plan.task_table import TaskTable

Order = Literal["blocks", "rows", "spread"]


_BITS = 31
"""Of a row or column number."""


def order_tasks(tasks: TaskTable, order: Order) -> TaskTable:
    """Return tasks in the order in which they are to be submitted."""
    return tasks.take(order_tiles(tasks.indices, order))


def order_tiles(indices: IntArray, order: Order) -> IntArray:
    """For each turn, the index of its tile.

    Args:
        indices: (tile, 2): rows and columns of distinct tiles, in any order.
        order: One of ``blocks``, ``rows``, ``spread``.

    Raises:
        ValueError: If there is no such order.
    """
    if order == "rows":
        return np.lexsort((indices[:, 1], indices[:, 0]))
    along = np.argsort(_interleave(indices), kind="stable")
    if order == "blocks":
        return along
    if order == "spread":
        return along[_reverse_bits(len(indices))]
    raise ValueError(f"unknown order {order!r}: expected blocks, rows or spread")


def _interleave(indices: IntArray) -> IntArray:
    """Distance along the Z-curve: the bits of row and column in turns."""
    distance = np.zeros(len(indices), np.int64)
    for bit in range(_BITS):
        distance |= (indices[:, 0] >> bit & 1) << (2 * bit + 1) | (indices[:, 1] >> bit & 1) << (2 * bit)
    return distance


def _reverse_bits(count: int) -> IntArray:
    """The numbers below ``count`` in the order of their bits read backwards (van der Corput)."""
    bits = max(count - 1, 0).bit_length()
    numbers = np.arange(1 << bits, dtype=np.int64)
    backwards = np.zeros_like(numbers)
    for bit in range(bits):
        backwards |= (numbers >> bit & 1) << (bits - 1 - bit)
    return backwards[backwards < count]


_TILE = re.compile(r"(\d+)(?:-(\d+))?,(\d+)(?:-(\d+))?")


_SLICE = re.compile(r"(-?\d+)?:(-?\d+)?(?::(\d+)?)?")


_STATUSES = ("failed", "ok", "empty", "new")


def select_tiles(tiles: Sequence[Tile], only: str, *, status: Mapping[Tile, str]) -> list[Tile]:
    """Tiles that a selection names, in their own order.

    Args:
        tiles: All tiles of the plan, in order.
        only: The selection.
        status: Last recorded status by tile; tiles without a record are absent.

    Raises:
        PlanError: If a term cannot be read, or nothing is selected.
    """
    terms = only.replace(";", " ").split()
    chosen: set[Tile] = set()
    for term in terms:
        chosen.update(_select(tiles, term, status))
    if not chosen:
        raise PlanError(f"--only {only!r} selects none of {len(tiles)} tiles")
    return [tile for tile in tiles if tile in chosen]


def _select(tiles: Sequence[Tile], term: str, status: Mapping[Tile, str]) -> Sequence[Tile]:
    if term in _STATUSES:
        return [tile for tile in tiles if status.get(tile, "new") == term]
    if match := _TILE.fullmatch(term):
        inside = _rectangle(match)
        return [tile for tile in tiles if inside(tile)]
    if match := _SLICE.fullmatch(term):
        start, stop, step = (int(part) if part else None for part in match.groups())
        if step != 0:
            return tiles[start:stop:step]
    raise PlanError(
        f"--only {term!r} is not understood: expected ROW,COL, ROW-ROW,COL-COL, START:STOP:STEP or one of "
        f"{', '.join(_STATUSES)}"
    )


def _rectangle(match: re.Match[str]) -> Callable[[Tile], bool]:
    top, bottom, left, right = (int(part) if part else None for part in match.groups())
    rows = range(int(top or 0), (top if bottom is None else bottom or 0) + 1)  # type: ignore[operator]
    cols = range(int(left or 0), (left if right is None else right or 0) + 1)  # type: ignore[operator]
    return lambda tile: tile.row in rows and tile.col in cols
