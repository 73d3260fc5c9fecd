"""Memory that a tile is estimated to need, in bytes."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from pyproj import CRS

from mapper.arrays import BoolArray, Float64Array, IntArray
from mapper.catalog.items import ItemDict, Items, enters, item_datetime
from mapper.catalog.provider import CollectionRule
from mapper.catalog.uses import Role
from mapper.cube.pixel_positions import FRAME_PX
from mapper.cube.projection import declared_grid
from mapper.cube.witness import KEPT_BYTES
from mapper.errors import PlanError
from mapper.models.card import WEIGHTLESS
from mapper.plan.context import Context
from mapper.plan.task_table import TaskTable
from mapper.plan.windows import shapes_at
from mapper.predict.patches import find_edge
from mapper.predict.quality import APPRAISED
from mapper.spec import LayerSpec
from mapper.text import describe_bytes

_FLOAT = 4
_CHUNK_TASKS = 8192
_BATCH = 4
"""Patches at once where the device decides, at most."""
_COPIES_READ = 3
"""Copies of one band of all dates that exist at once while it is decoded, masked and reduced."""
_SMALL, _SMALL_COPIES = 2, 2
"""Bytes of a stored number up to which it is kept as it is, and how often: as read, and in the frame of a window."""
_EARTH_M = 6_371_000
_PLANES_FINISH = 12
"""Float planes of a window besides the guide: prediction, consistency in float64, flags, masks."""
_PLANES_DRAWN = 8
"""Float planes of a window for each band of which samples are drawn: sums in float64, and one sample."""
_PLANES_APPRAISED = 24, 8
"""Float planes of a window where detail and risk are asked for: energies and features in float64, and for each band."""
_ACTIVATIONS = MappingProxyType({True: 256, False: 16})
"""Floats held for each target pixel of a batch, by networks with a guide and by interpolations.

Measured with 31 items, 9 channels and a window of 700 x 700 px: 0.59 GiB for MSG of width 16, 1.00 for width 32, where
1.05 is estimated.
"""
_STACK_START = 64 << 20
"""Bytes that reading a stack takes once."""
_STACK_READ = MappingProxyType({True: (200, 170), False: (50, 40)})
"""Bytes for each source pixel of the window, and for each band of it, where dates are registered and where not."""
_STACK_DATE, _STACK_VALUE = 12, 16
"""Bytes for each source pixel and date, and for each value: as read, stacked, and as the model takes it.

Measured on tiles of 128 and 256 px with burst-fusion of 1 to 4 bands and 2 to 6 dates, 0.94 to 1.54 GiB, and with burst
of 1 to 4 bands and 2 to 6 dates, 0.66 to 1.1: the same tile takes up to a quarter more or less from process to process,
as memory that was given back comes to be reused, and no less than the most that was seen is estimated.
"""
_STACK_NETWORK = 1800, 200
"""Bytes for each target pixel of a patch, and for each band of it, in networks that register dates, in double."""
_BURST = 75, 115, 8, 145
"""Bytes for each target pixel of a patch of back-projection, for each band, each value, and each view that is kept."""
_MOST_VIEWS = 4


@dataclass(frozen=True, kw_only=True)
class Pairs:
    """Pairs of a task and an item that enters it, in one role."""

    items: Items
    """Distinct; any number of them enters no task."""
    task: IntArray
    """(pair,): number of the task, ascending."""
    item: IntArray
    """(pair,): number of the item."""

    @property
    def distinct(self) -> int:
        """Items that enter some task."""
        return int(np.count_nonzero(np.bincount(self.item)))

    @classmethod
    def of(cls, tasks: TaskTable, role: Role) -> "Pairs":
        """Return the pairs of a table of tasks."""
        task, item = (tasks.guide if role == "guide" else tasks.source).unfold()
        return cls(items=tasks.items, task=task, item=item)


def memory_bytes(context: Context, tasks: TaskTable) -> Float64Array:
    """Return the peak memory of each task in bytes, without the libraries themselves."""
    rows, cols = shapes_at(context, tasks.indices).T
    plane = rows * cols * _FLOAT
    channels = len(context.spec.guide.channels) if context.reads("guide") else 0
    patch = np.minimum(context.options.patch_px, rows) * np.minimum(context.options.patch_px, cols)
    network = _ACTIVATIONS[context.reads("guide")] * patch * (context.options.batch or _BATCH) * _FLOAT
    network *= context.model is not None and not context.contract.source.cells_px
    drawn = len(context.spec.targets) if context.model is not None and context.contract.noise_bands else 0
    network *= max(drawn, 1)  # each band goes through alone, as one more patch
    dates = _most_dates(context, tasks)
    reading = _COPIES_READ * dates * plane + _frame_bytes(context, tasks.items, rows * cols)
    finishing = (channels + _PLANES_FINISH + _PLANES_DRAWN * drawn + _count_appraised(context)) * plane + network
    kept = np.minimum((_most_shared(context) - 1) * dates * plane, KEPT_BYTES)
    needed: Float64Array = channels * plane + np.maximum(reading, finishing) + kept
    return needed + _stack_bytes(context, tasks, rows * cols) if context.spec.source.dates > 1 else needed


def _count_appraised(context: Context) -> int:
    """Return the float planes of a window that it takes to look at all bands of the target together."""
    if APPRAISED.isdisjoint(context.spec.target.quality):
        return 0
    fixed, of_band = _PLANES_APPRAISED
    return fixed + of_band * len(context.spec.targets)


def _stack_bytes(context: Context, tasks: TaskTable, target_px: Float64Array) -> Float64Array:
    """Return what several dates of the source take beside all else, for each task."""
    if context.model is None or not tasks:
        return np.zeros(len(tasks))
    source, grid = context.spec.source, context.grid
    bands, dates = len(source.band_names), source.dates
    registers = context.contract.source.cells_px > 0
    each, of_band = _STACK_READ[registers]
    read = each + of_band * bands + dates * (_STACK_DATE + _STACK_VALUE * bands)
    reading: Float64Array = _STACK_START + read * target_px / grid.scale**2
    if not registers:
        return reading
    window, halo = context.needed(tasks[0].tile).shape, context.contract.halo(grid.scale)
    edges = (find_edge(length, patch_px=context.options.patch_px, halo_px=halo, scale=grid.scale) for length in window)
    patches = math.prod(edges) * (context.options.batch or 1)
    if context.contract.model not in WEIGHTLESS:
        return reading + (_STACK_NETWORK[0] + _STACK_NETWORK[1] * bands) * patches
    once, of_band, of_value, of_view = _BURST
    used = once + of_band * bands + of_value * bands * dates + of_view * min(dates + 1, _MOST_VIEWS)
    return np.maximum(reading, used * patches)


def _most_shared(context: Context) -> int:
    """Return the number of bands that are decoded together, since they are read from one asset; at least 1."""
    layers = context.spec.guide.layers if context.reads("guide") else ()
    read = [context.provider.rule(layer.collection).bands[band] for layer in layers for band in layer.bands]
    counts = Counter((each.asset, each.items) for each in read)
    return max(counts.values(), default=1)


def _frame_bytes(context: Context, items: Items, target_px: Float64Array) -> Float64Array:
    """Return what source pixels take beyond the target's, for each task: those of the files that are read at a time."""
    most = np.maximum(FRAME_PX, 2 * target_px)
    extra = np.zeros(len(target_px))
    for density, file_px, pixel_bytes in _list_densities(context, items):
        frame = np.minimum(np.minimum(target_px * density, file_px), most)
        extra = np.maximum(extra, np.maximum(frame - target_px, 0) * pixel_bytes)
    return extra


def _list_densities(context: Context, items: Items) -> set[tuple[float, float, int]]:
    """List the files that are read: source pixels for each target pixel, pixels in all, and bytes of one in memory.

    A file that declares no grid may have any. Files that are read at a time count together.
    """
    target = _measure_pixel(CRS.from_user_input(context.grid.crs), float(context.grid.resolution))
    found: dict[str, tuple[float, float, int]] = {}
    wanted = _list_reads(context)
    for item in items:
        for collection, band, rule, at_once in wanted:
            asset = rule.asset(item, band) if item["collection"] == collection else None
            if asset is None or (stated := f"{at_once} {_quote_place(item, asset)}") in found:
                continue
            grid, size = declared_grid(item, asset), np.dtype(rule.dtype).itemsize
            pixel_bytes = at_once * (_SMALL_COPIES * size if size <= _SMALL else size + 2 * _FLOAT)
            if grid is None:
                found[stated] = np.inf, np.inf, pixel_bytes
                continue
            fine = [_measure_pixel(grid.crs, abs(step)) for step in (grid.transform.a, grid.transform.e)]
            found[stated] = round(target**2 / (fine[0] * fine[1]), 2), grid.shape[0] * grid.shape[1], pixel_bytes
    return set(found.values())


def _list_reads(context: Context) -> list[tuple[str, str, CollectionRule, int]]:
    """List the bands that are read: collection, band, how it is read, and files at a time."""
    source, threads = context.spec.source, context.options.read_threads
    reads: list[tuple[str, tuple[str, ...], int]] = []
    if "guide" in context.roles:
        reads += [(layer.collection, layer.bands, threads) for layer in context.spec.guide.layers]
    if "source" in context.roles:
        bands = tuple(filter(None, (*source.band_names, source.sd)))
        reads.append((source.collection, bands, threads if source.is_stack else 1))
    return [
        (name, band, context.provider.rule(name), at_once)
        for name, bands, at_once in dict.fromkeys(reads)
        for band in bands
    ]


def _quote_place(item: ItemDict, asset: str) -> str:
    """Return what an item says of the grid of an asset, as text: equal texts say the same."""
    content, properties = item["assets"][asset], item["properties"]
    names = ("proj:shape", "proj:transform", "proj:bbox", "proj:epsg", "proj:code")
    return repr([item["collection"], *map(content.get, names), *map(properties.get, names)])


def _measure_pixel(crs: CRS, step: float) -> float:
    """Return the edge of a pixel in metres, along a meridian where it is in degrees."""
    unit = float(crs.axis_info[0].unit_conversion_factor) if crs.axis_info else 1.0
    return step * unit * (_EARTH_M if crs.is_geographic else 1.0)


def tile_bytes(context: Context) -> int:
    """Return the bytes of one stored tile before compression, all arrays of pixels."""
    return context.grid.tile_px**2 * context.product.pixel_bytes


def _most_dates(context: Context, tasks: TaskTable) -> IntArray:
    """Return the images of the season and layer that has most, for each task; at least 1."""
    if not context.reads("guide"):
        return np.ones(len(tasks), np.int64)
    composites = [each for each in context.spec.guide.composites if each[2].items == "own"]
    found = _find_images(tasks.items, composites)
    starts = range(0, len(tasks), _CHUNK_TASKS)  # a map of a continent has millions of pairs
    parts = [tasks[first : first + _CHUNK_TASKS] for first in starts]
    counts = [_count_dates(Pairs.of(part, "guide"), *found, len(part)) for part in parts]
    return np.concatenate([np.zeros(0, np.int64), *counts])


def _count_dates(pairs: Pairs, images: IntArray, entered: BoolArray, tasks: int) -> IntArray:
    """Count for each task the distinct images of the composite that has most; at least 1."""
    most = np.ones(tasks, np.int64)
    for enters_this in entered:
        chosen = enters_this[pairs.item]
        seen = np.unique(pairs.task[chosen] * np.int64(len(images)) + images[pairs.item[chosen]])
        most = np.maximum(most, np.bincount(seen // max(len(images), 1), minlength=tasks))
    return most


def _find_images(
    items: Items, composites: Sequence[tuple[str, tuple[int, ...], LayerSpec]]
) -> tuple[IntArray, BoolArray]:
    """Number the images that items belong to, and find the composites that each item enters.

    Items of one day and platform are mosaicked: they are one image.

    Returns:
        Number of the image, (item,); and whether an item enters a composite, (composite, item).
    """
    numbers: dict[tuple[object, object], int] = {}
    images, entered = np.zeros(len(items), np.int64), np.zeros((len(composites), len(items)), bool)
    for number, item in enumerate(items):
        key = item_datetime(item).date(), item["properties"].get("platform")
        images[number] = numbers.setdefault(key, len(numbers))
        entered[:, number] = [enters(item, layer, months) for _, months, layer in composites]
    return images, entered


def check_memory(context: Context, tasks: TaskTable, limit: int) -> None:
    """Check that every task fits its worker.

    Args:
        context: What all tasks share.
        tasks: Any number.
        limit: Bytes that one task may use.

    Raises:
        PlanError: Naming the largest task and what it needs.
    """
    if not tasks:
        return
    needs = memory_bytes(context, tasks)
    largest = int(needs.argmax())
    if needs[largest] > limit:
        tile = tasks[largest].tile
        rows, cols = context.window(tile).shape
        need = describe_bytes(needs[largest])
        raise PlanError(
            f"tile {tile} needs about {need} for its window of {rows} x {cols} px, a task may "
            f"use {describe_bytes(limit)}: take smaller tiles, fewer bands or shorter seasons, or larger workers"
        )
