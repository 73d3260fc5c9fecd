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
import numpy.typing as npt
import shapely
from pyproj import Transformer

from mapper.catalog.items import Items, item_datetime
from mapper.run.context import MapContext, Task
from mapper.run.reads import FloatArray, IntArray, Pairs, ReadCounts, bounds_of, count_reads
from mapper.store.encoding import Encoding

Device = Literal["cpu", "cuda"]

_FLOAT = 4
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

_EQUAL_AREA = "EPSG:6933"
_KM2 = 1e-6


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


def estimate_tasks(context: MapContext, tasks: Sequence[Task]) -> Estimate:
    """What each task will cost: a hundred thousand tasks take seconds, not minutes."""
    pairs = _pair(tasks)
    areas = _areas(context, tasks)
    rows, cols = np.array([context.window(task.tile).shape for task in tasks], np.float64).reshape(-1, 2).T
    return Estimate(
        scenes=np.array([len(task.guide) + len(task.source) for task in tasks], np.int64),
        distinct_scenes=len(pairs["guide"].items) + len(pairs["source"].items),
        reads=count_reads(context, tasks, pairs),
        window_px=rows * cols,
        tile_px=np.full(len(tasks), float(context.grid.tile_px**2)),
        area_km2=areas,
        memory_bytes=_memory(context, rows, cols, _most_dates(context, pairs["guide"], len(tasks))),
        reads_guide=context.reads_guide,
    )


def memory_bytes(context: MapContext, tasks: Sequence[Task]) -> FloatArray:
    """Peak memory of each task, in bytes, without the libraries themselves."""
    rows, cols = np.array([context.window(task.tile).shape for task in tasks], np.float64).reshape(-1, 2).T
    return _memory(context, rows, cols, _most_dates(context, Pairs.of([task.guide for task in tasks]), len(tasks)))


def tile_bytes(context: MapContext) -> int:
    """Bytes of one stored tile before compression: value, standard deviation, flags, observations."""
    target = context.spec.target.encoding
    sizes = [np.dtype(encoding.dtype).itemsize for encoding in (Encoding.of_value(target), Encoding.of_sd(target))]
    return int(context.grid.tile_px**2 * (sum(sizes) + 4))


def _pair(tasks: Sequence[Task]) -> dict[str, Pairs]:
    return {"guide": Pairs.of([task.guide for task in tasks]), "source": Pairs.of([task.source for task in tasks])}


def _memory(context: MapContext, rows: FloatArray, cols: FloatArray, dates: IntArray) -> FloatArray:
    plane = rows * cols * _FLOAT
    channels = len(context.spec.guide.channels) if context.reads_guide else 0
    patch = np.minimum(context.options.patch_px, rows) * np.minimum(context.options.patch_px, cols)
    network = _ACTIVATIONS[context.reads_guide] * patch * (context.options.batch or _BATCH) * _FLOAT
    reading = _COPIES_READ * dates * plane
    finishing = (channels + _PLANES_FINISH) * plane + network
    needed: FloatArray = channels * plane + np.maximum(reading, finishing)
    return needed


def _most_dates(context: MapContext, pairs: Pairs, tasks: int) -> IntArray:
    """Images of the season and layer that has most, for each task; at least 1."""
    most = np.ones(tasks, np.int64)
    if not context.reads_guide:
        return most
    images = _image_numbers(pairs.items)
    numbers = {id(item): number for number, item in enumerate(pairs.items)}
    for _, months, layer in context.spec.guide.composites:
        enters = np.zeros(len(images), bool)
        enters[[numbers[id(item)] for item in pairs.items.for_layer(layer, months)]] = True
        chosen = enters[pairs.item]
        seen = np.unique(pairs.task[chosen] * np.int64(len(images)) + images[pairs.item[chosen]])
        np.maximum(most, np.bincount(seen // max(len(images), 1), minlength=tasks), out=most)
    return most


def _image_numbers(items: Items) -> IntArray:
    """A number for each item, the same for items that are mosaicked: one image a day and platform."""
    numbers: dict[tuple[object, object], int] = {}
    keys = [(item_datetime(item).date(), item["properties"].get("platform")) for item in items]
    return np.array([numbers.setdefault(key, len(numbers)) for key in keys], np.int64)


def _areas(context: MapContext, tasks: Sequence[Task]) -> FloatArray:
    """Square kilometres of each tile that lie in the area, on any grid."""
    area = context.grid.area.geom
    shapely.prepare(area)
    parts: npt.NDArray[np.object_] = np.asarray(
        shapely.box(*bounds_of(context, [task.tile for task in tasks], halo=False).T), object
    )
    cut = ~shapely.contains_properly(area, parts)
    parts[cut] = shapely.intersection(parts[cut], area)
    project = Transformer.from_crs(context.grid.crs, _EQUAL_AREA, always_xy=True)

    def flatten(points: FloatArray) -> FloatArray:
        return np.stack(project.transform(*points.T), axis=1)

    return np.asarray(shapely.area(shapely.transform(parts, flatten)) * _KM2)
