"""What every task will cost, from metadata alone: memory, reads, seconds of work, bytes to store.

Memory is what decides whether a plan can run at all; it is estimated from above. The model behind the numbers: all
dates of one band and season are read, decoded and reduced at once, while the finished channels wait; then patches go
through the network while the window waits.

Seconds are those a worker is busy with a stage, not the wall time of a run. Their defaults were measured once, on one
machine, with one map: they tell hours from months, and a pilot tells the rest, see :mod:`mapper.cost.forecast`.
"""

from dataclasses import asdict, dataclass
from functools import cached_property
from types import MappingProxyType
from typing import Any, Literal

import numpy as np

from mapper.arrays import Float64Array, IntArray
from mapper.cost.areas import areas_km2
from mapper.cost.reads import ReadCounts, count_reads
from mapper.errors import PlanError
from mapper.plan.context import Context
from mapper.plan.memory import Pairs, memory_bytes, tile_bytes
from mapper.plan.plan import Plan
from mapper.plan.task_table import TaskTable
from mapper.plan.windows import bounds_at, shapes_at
from mapper.text import describe_bytes

Device = Literal["cpu", "cuda"]


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
    window_px: Float64Array
    tile_px: Float64Array
    """Pixels that are predicted, and of those the ones that are kept."""
    area_km2: Float64Array
    """Of the part of each tile that lies in the area."""
    memory_bytes: Float64Array
    """Peak, without the libraries themselves."""
    reads_guide: bool

    @cached_property
    def read_s(self) -> Float64Array:
        """Seconds of reading, not calibrated."""
        return self.reads.block_bytes * READ_SECONDS + self.window_px * LOCATE_SECONDS

    @cached_property
    def write_s(self) -> Float64Array:
        """Seconds of writing, not calibrated."""
        return self.tile_px * WRITE_SECONDS

    def predict_s(self, device: Device) -> Float64Array:
        """Seconds of prediction on a kind of device, not calibrated."""
        return self.window_px * PREDICT_SECONDS[device, self.reads_guide]


def estimate_tasks(context: Context, tasks: TaskTable) -> Estimate:
    """What each task will cost: a hundred thousand tasks take seconds, not minutes."""
    pairs = {"guide": Pairs.of(tasks, "guide"), "source": Pairs.of(tasks, "source")}
    areas = areas_km2(context.grid, bounds_at(context, tasks.indices, halo=False))
    return Estimate(
        scenes=np.bincount(np.concatenate([found.task for found in pairs.values()]), minlength=len(tasks)),
        distinct_scenes=sum(found.distinct for found in pairs.values()),
        reads=count_reads(context, tasks, pairs),
        window_px=shapes_at(context, tasks.indices).prod(axis=1),
        tile_px=np.full(len(tasks), float(context.grid.tile_px**2)),
        area_km2=areas,
        memory_bytes=memory_bytes(context, tasks),
        reads_guide=context.reads_guide,
    )


@dataclass(frozen=True, kw_only=True)
class PlanSummary:
    """What a plan will cost, before anything of it is calibrated."""

    tiles: int
    tile_px: int
    window_px: tuple[int, int]
    """Rows and columns that are read for one tile."""
    area_km2: float
    """Of the parts of the tiles that lie in the area."""
    items: int
    """Items that any task touches."""
    items_per_tile: tuple[int, float, int]
    """Fewest, mean, most."""
    files: int
    """To be opened; one that several tiles need counts for each of them."""
    requests: int
    """For remote files."""
    bytes_read: int
    """Of remote files, compressed, as they travel."""
    read_bytes: int
    """Decoded, of the pixels under the windows."""
    memory_bytes: int
    """Of the largest task."""
    store_bytes: int
    """Before compression."""

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)

    def summary(self) -> str:
        """For people."""
        fewest, mean, most = self.items_per_tile
        rows, cols = self.window_px
        return "\n".join(
            (
                f"tiles         {self.tiles:,} of {self.tile_px} px, read with context as {rows} x {cols} px",
                f"area          {self.area_km2:,.1f} km2",
                f"scenes        {self.items:,} items, per tile {fewest} to {most}, mean {mean:.1f}",
                f"files         {self.files:,} to open, {self.files / self.tiles:.1f} a tile",
                f"to read       {describe_bytes(self.read_bytes)} decoded",
                f"memory        {describe_bytes(self.memory_bytes)} for the largest task",
                f"store         {describe_bytes(self.store_bytes)} before compression",
            )
        )


def explain_plan(plan: Plan, context: Context, *, estimate: Estimate | None = None) -> PlanSummary:
    """What a plan will cost.

    Args:
        plan: All tasks.
        context: What they share.
        estimate: Of the tasks; made here if absent.

    Raises:
        PlanError: If the plan has no task.
    """
    if not plan.tasks:
        raise PlanError("the plan has no task: no tile touches the area")
    found = estimate or estimate_tasks(context, plan.tasks)
    scenes, reads = found.scenes, found.reads
    return PlanSummary(
        tiles=len(plan.tasks),
        tile_px=context.grid.tile_px,
        window_px=context.window(plan.tasks[0].tile).shape,
        area_km2=float(found.area_km2.sum()),
        items=found.distinct_scenes,
        items_per_tile=(int(scenes.min()), float(scenes.mean()), int(scenes.max())),
        files=round(reads.files.sum()),
        requests=round(reads.requests.sum()),
        bytes_read=round(reads.bytes_read.sum()),
        read_bytes=round(reads.window_bytes.sum()),
        memory_bytes=round(found.memory_bytes.max()),
        store_bytes=len(plan.tasks) * tile_bytes(context),
    )
