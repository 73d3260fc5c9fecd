"""What every task will cost, from metadata alone: memory, reads, seconds of work, bytes to store.

Memory is what decides whether a plan can run at all; it is estimated from above. The model behind the numbers: all
dates of one band and season are read, decoded and reduced at once, while the finished channels wait; then patches go
through the network while the window waits.

Seconds are those a worker is busy with a stage, not the wall time of a run. Their defaults were measured once, on one
machine, with one map: they tell hours from months, and a pilot tells the rest, see :mod:`mapper.run.forecast`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType
from typing import Literal

import numpy as np

from mapper.catalog.items import Items, enters, item_datetime
from mapper.catalog.uses import Role
from mapper.run.context import Context, Task
from mapper.run.extent import areas_km2
from mapper.run.reads import BoolArray, FloatArray, IntArray, Pairs, ReadCounts, count_reads
from mapper.run.tasks import TaskTable, places_of
from mapper.run.windows import bounds_at, shapes_at
from mapper.spec import LayerSpec

Device = Literal["cpu", "cuda"]

_FLOAT = 4
_CHUNK_TASKS = 8192
_BATCH = 4
"""Patches at once where the device decides, at most."""
_COPIES_READ = 3
"""Copies of one band of all dates that exist at once while it is decoded, masked and reduced."""
_PLANES_FINISH = 12
"""Float planes of a window besides the guide: prediction, consistency in float64, flags, masks."""
_ACTIVATIONS = MappingProxyType({True: 256, False: 16})
"""Floats held for each target pixel of a batch, by networks with a guide and by interpolations.

Measured with 31 items, 9 channels and a window of 700 x 700 px: 0.59 GiB for MSG of width 16, 1.00 for width 32, where
1.05 is estimated.
"""

READ_SECONDS = 2.5e-8
"""For each decoded byte of the blocks under a window: decoding, resampling, calibrating, reducing.

Measured with the demo map (1024 px, 16 tiles of 256 px, 125 local files a tile), one task after the other on two busy
cores: 61.8 s for 2.17 GB, less the next. Where files are remote, waiting for them comes on top.
"""
LOCATE_SECONDS = 1.2e-6
"""For each pixel of a window, to find its place in the files; measured with bicubic, which reads two small files."""
PREDICT_SECONDS = MappingProxyType(
    {("cpu", True): 1.6e-5, ("cpu", False): 1.5e-7, ("cuda", True): 4.5e-7, ("cuda", False): 1.5e-7}
)
"""For each target pixel of a window, by device, and whether the network has a guide.

Measured in the same runs: 70.1 s for 4.4 million pixels with MTG, the slowest of the networks that ship; 0.3 s for 2.1
million with bicubic, nearly all of it for what follows a network. A GPU was not measured: it is taken to be fifty times
quicker with a network and no quicker with the rest.
"""
WRITE_SECONDS = 4e-7
"""For each pixel of a tile: encoding, compressing, writing to a local disk. Measured in the same run: 0.42 s."""


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """What each task will cost; arrays over tasks, in the order of the plan."""

    scenes: IntArray
    """Items, source included."""
    distinct_scenes: int
    reads: ReadCounts
    window_px: FloatArray
    tile_px: FloatArray
    """Pixels that are predicted, and of those the ones that are kept."""
    area_km2: FloatArray
    """Of the part of each tile that lies in the area."""
    memory_bytes: FloatArray
    """Peak, without the libraries themselves."""
    reads_guide: bool

    @cached_property
    def read_s(self) -> FloatArray:
        """Seconds of reading, not calibrated."""
        return self.reads.block_bytes * READ_SECONDS + self.window_px * LOCATE_SECONDS

    @cached_property
    def write_s(self) -> FloatArray:
        """Seconds of writing, not calibrated."""
        return self.tile_px * WRITE_SECONDS

    def predict_s(self, device: Device) -> FloatArray:
        """Seconds of prediction on a kind of device, not calibrated."""
        return self.window_px * PREDICT_SECONDS[device, self.reads_guide]


def estimate_tasks(context: Context, tasks: Sequence[Task]) -> Estimate:
    """What each task will cost: a hundred thousand tasks take seconds, not minutes."""
    pairs = {"guide": _pair(tasks, "guide"), "source": _pair(tasks, "source")}
    places = places_of(tasks)
    areas = areas_km2(context.grid, bounds_at(context, places, halo=False))
    rows, cols = shapes_at(context, places).T
    return Estimate(
        scenes=np.bincount(np.concatenate([found.task for found in pairs.values()]), minlength=len(tasks)),
        distinct_scenes=sum(found.distinct for found in pairs.values()),
        reads=count_reads(context, tasks, pairs),
        window_px=rows * cols,
        tile_px=np.full(len(tasks), float(context.grid.tile_px**2)),
        area_km2=areas,
        memory_bytes=_memory(context, rows, cols, _most_dates(context, tasks)),
        reads_guide=context.reads_guide,
    )


def memory_bytes(context: Context, tasks: Sequence[Task]) -> FloatArray:
    """Peak memory of each task, in bytes, without the libraries themselves."""
    rows, cols = shapes_at(context, places_of(tasks)).T
    return _memory(context, rows, cols, _most_dates(context, tasks))


def tile_bytes(context: Context) -> int:
    """Bytes of one stored tile before compression, all arrays of pixels."""
    return context.grid.tile_px**2 * sum(np.dtype(band.dtype).itemsize for band in context.product.bands)


def _pair(tasks: Sequence[Task], role: Role) -> Pairs:
    if isinstance(tasks, TaskTable):
        return Pairs.of_members(tasks.items, tasks.guide if role == "guide" else tasks.source)
    return Pairs.of([task.guide if role == "guide" else task.source for task in tasks])


def _memory(context: Context, rows: FloatArray, cols: FloatArray, dates: IntArray) -> FloatArray:
    plane = rows * cols * _FLOAT
    channels = len(context.spec.guide.channels) if context.reads_guide else 0
    patch = np.minimum(context.options.patch_px, rows) * np.minimum(context.options.patch_px, cols)
    network = _ACTIVATIONS[context.reads_guide] * patch * (context.options.batch or _BATCH) * _FLOAT
    network *= bool(context.model_digest)
    reading = _COPIES_READ * dates * plane
    finishing = (channels + _PLANES_FINISH) * plane + network
    needed: FloatArray = channels * plane + np.maximum(reading, finishing)
    return needed


def _most_dates(context: Context, tasks: Sequence[Task]) -> IntArray:
    """Images of the season and layer that has most, for each task; at least 1."""
    if not context.reads_guide:
        return np.ones(len(tasks), np.int64)
    composites = context.spec.guide.composites
    if not isinstance(tasks, TaskTable):
        pairs = _pair(tasks, "guide")
        return _count_dates(pairs, *_find_images(pairs.items, composites), len(tasks))
    found = _find_images(tasks.items, composites)
    starts = range(0, len(tasks), _CHUNK_TASKS)  # a map of a continent has millions of pairs
    parts = [tasks[first : first + _CHUNK_TASKS] for first in starts]
    counts = [_count_dates(_pair(part, "guide"), *found, len(part)) for part in parts]
    return np.concatenate([np.zeros(0, np.int64), *counts])


def _count_dates(pairs: Pairs, images: IntArray, entered: BoolArray, tasks: int) -> IntArray:
    """For each task the distinct images of the composite that has most, at least 1."""
    most = np.ones(tasks, np.int64)
    for enters_this in entered:
        chosen = enters_this[pairs.item]
        seen = np.unique(pairs.task[chosen] * np.int64(len(images)) + images[pairs.item[chosen]])
        most = np.maximum(most, np.bincount(seen // max(len(images), 1), minlength=tasks))
    return most


def _find_images(
    items: Items, composites: Sequence[tuple[str, tuple[int, ...], LayerSpec]]
) -> tuple[IntArray, BoolArray]:
    """A number for each item, the same for items that are mosaicked (one image a day and platform); what each enters.

    Returns:
        (item,); and whether an item enters a composite, (composite, item).
    """
    numbers: dict[tuple[object, object], int] = {}
    images, entered = np.zeros(len(items), np.int64), np.zeros((len(composites), len(items)), bool)
    for number, item in enumerate(items):
        key = item_datetime(item).date(), item["properties"].get("platform")
        images[number] = numbers.setdefault(key, len(numbers))
        entered[:, number] = [enters(item, layer, months) for _, months, layer in composites]
    return images, entered
