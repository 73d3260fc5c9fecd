"""One tile of a stored guide: read and composed as a task of its map would, and written instead of fed to a network."""

import time
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from mapper.access.files import Access
from mapper.access.retry import Attempts
from mapper.access.throttle import Throttle
from mapper.cube.composite import Guide, read_guide
from mapper.grid import Window
from mapper.plan.context import Context, Task
from mapper.run.records import NOT_NEAR, attempt_task, complete_uses
from mapper.run.stored_guide import encodings_of, warn_of_clipping
from mapper.store.record import Record
from mapper.store.writer import write_encoded

_NOTHING = "no item has a valid pixel here"


def run_guide_task(fork: Any, context: Context, task: Task, *, throttle: Throttle | None = None) -> tuple[Any, Record]:
    """Compose one tile of the guide and write it; see :func:`mapper.run.records.attempt_task`."""
    return attempt_task(fork, context, task, partial(_make_tile, fork, context, task), throttle=throttle)


def _make_tile(fork: Any, context: Context, task: Task, attempts: Attempts, access: Access) -> dict[str, Any]:
    """Compose and write one tile; what its record says of it."""
    begun, window = time.monotonic(), context.window(task.tile)
    guide = attempts.call(partial(_compose, context, task, window, access))
    read, empty = time.monotonic(), bool(np.isnan(guide.values).all())
    checksum = "" if empty else attempts.call(partial(_write, fork, context, task, window, guide))
    return {
        "status": "empty" if empty else "ok",
        "reason": _NOTHING if empty else "",
        "items": complete_uses(guide.uses, task, NOT_NEAR),
        "device": "cpu",
        "seconds": {"read": read - begun, "write": time.monotonic() - read},
        "content_sha256": checksum,
        "valid_px": int(np.count_nonzero(~guide.gaps)),
    }


def encode_guide(context: Context, window: Window, core: Window, guide: Guide) -> dict[str, npt.NDArray[Any]]:
    """Encode the arrays of a tile as they are stored; what was not wanted of it holds the fill."""
    product, inside = context.product, window.inside(core)
    stored = {band.name: np.full(core.shape, band.fill, band.dtype) for band in product.bands}
    encodings = encodings_of(context.spec, context.provider)
    for number, (band, encoding, values) in enumerate(zip(product.channels, encodings, guide.values, strict=True)):
        warn_of_clipping(context.spec, number, encoding, values)
        stored[band.name][inside] = encoding.encode(values)
    stored[product.count.name][inside] = guide.n_valid
    stored[product.quality.name][inside] = guide.gaps
    return stored


def _compose(context: Context, task: Task, window: Window, access: Access) -> Guide:
    return read_guide(
        task.guide,
        # through the grid of the map: the same pixels as a task of the map, to the last bit of their coordinates
        context.map_grid.geobox_of(context.on_map(window)),
        spec=context.spec,
        provider=context.provider,
        access=access,
        threads=context.options.read_threads,
    )


def _write(fork: Any, context: Context, task: Task, window: Window, guide: Guide) -> str:
    bands = encode_guide(context, window, context.grid.window(task.tile), guide)
    return write_encoded(fork, grid=context.grid, tile=task.tile, bands=bands)
