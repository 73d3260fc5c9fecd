"""In which order tiles are run; the map is the same whatever it is.

``blocks``
    Along a Z-curve: whatever is cut out of it lies close together, so that tiles read the same scenes while these are
    cached, and a commit rewrites few manifests, which are squares of 64 x 64 tiles.
``rows``
    Row by row, as the plan lists them.
``spread``
    The Z-curve in bit-reversed order: tiles in flight together lie as far apart as they can, so that no part of an
    archive has to serve all of them, and what is done after an hour is a sample of the whole map.
"""

from collections.abc import Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt

from mapper.run.context import Task
from mapper.run.tasks import places_of, take_tasks

Order = Literal["blocks", "rows", "spread"]
IntArray = npt.NDArray[np.int64]

_BITS = 31
"""Of a row or column number."""


def order_tasks(tasks: Sequence[Task], order: Order) -> Sequence[Task]:
    """Tasks in the order in which they are to be handed out."""
    return take_tasks(tasks, order_places(places_of(tasks), order))


def order_places(places: IntArray, order: Order) -> IntArray:
    """For each turn, the index of its tile.

    Args:
        places: (tile, 2): rows and columns of distinct tiles, in any order.
        order: One of ``blocks``, ``rows``, ``spread``.

    Raises:
        ValueError: If there is no such order.
    """
    if order == "rows":
        return np.lexsort((places[:, 1], places[:, 0]))
    along = np.argsort(_interleave(places), kind="stable")
    if order == "blocks":
        return along
    if order == "spread":
        return along[_reverse_bits(len(places))]
    raise ValueError(f"unknown order {order!r}: expected blocks, rows or spread")


def _interleave(places: IntArray) -> IntArray:
    """Distance along the Z-curve: the bits of row and column in turns."""
    distance = np.zeros(len(places), np.int64)
    for bit in range(_BITS):
        distance |= (places[:, 0] >> bit & 1) << (2 * bit + 1) | (places[:, 1] >> bit & 1) << (2 * bit)
    return distance


def _reverse_bits(count: int) -> IntArray:
    """The numbers below ``count`` in the order of their bits read backwards (van der Corput)."""
    bits = max(count - 1, 0).bit_length()
    numbers = np.arange(1 << bits, dtype=np.int64)
    backwards = np.zeros_like(numbers)
    for bit in range(bits):
        backwards |= (numbers >> bit & 1) << (bits - 1 - bit)
    return backwards[backwards < count]
