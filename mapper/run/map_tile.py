"""One tile from its items to its shard: read, predict, honour the source, flag, write.

The pixels of a tile do not depend on how the map is tiled: everything is computed on a window of whole source pixels
that reaches beyond the tile by the receptive field, and cropped at the end. Where the source is missing or the area
ends, nothing but that is said about a pixel, so that skipping a tile without pixels changes nothing else.
"""

import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import date
from functools import lru_cache, partial
from typing import Any

import numpy as np
import numpy.typing as npt

from mapper.access.files import Access
from mapper.access.retry import Attempts
from mapper.access.throttle import Throttle
from mapper.catalog.uses import ItemUse
from mapper.cube.composite import Guide, read_guide
from mapper.cube.source import read_source
from mapper.cube.stack import Shown, read_stack
from mapper.errors import WeightsError
from mapper.grid import Tile, coarsen
from mapper.models.weights import load_model
from mapper.plan.context import Context, RunOptions, Task
from mapper.predict.operators import expand
from mapper.predict.postprocess import Postprocessor, blank_bands
from mapper.predict.predictor import Predictor
from mapper.predict.sampler import Sampler
from mapper.run.records import attempt_task, complete_uses, statistics
from mapper.run.stored_guide import quantise_guide, read_stored_guide
from mapper.run.window_inputs import WindowInputs, describe_source, describe_stack
from mapper.spec import ModelSpec
from mapper.store.record import DateShift, Record
from mapper.store.writer import write_tile

_loading = threading.Lock()  # lru_cache would let threads that come together load a model each


@dataclass(frozen=True, kw_only=True)
class Computed:
    """The pixels of one tile and what is known of them, before anything is written."""

    arrays: Mapping[str, npt.NDArray[Any]]
    """Pixels by name of the band: values in their units, NaN where missing."""
    uses: tuple[ItemUse, ...] = ()
    device: str = ""
    device_s: float = 0.0
    """Seconds that the device was held."""
    device_slots: int = 0
    """Tiles that the device takes at once."""
    empty: str = ""
    """Reason why there is no pixel; empty if there is one."""
    residuals: Mapping[str, float | None] = field(default_factory=dict)
    """Largest difference to the source that is left under the tile, in target units, by name of the value band."""
    seconds: dict[str, float] = field(default_factory=dict)
    dates: tuple[date, ...] = ()
    """Days of a stack, in UTC, that pixels are made from."""
    anchor: str = ""
    """Moment of a stack that is shown, and the part of the tile that shows each day."""
    shifts: tuple[DateShift, ...] = ()
    """Shifts of those days, where the model registers them."""


class _Clock:
    """Seconds by stage."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        start = time.monotonic()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.monotonic() - start

    def set_apart(self, name: str, seconds: float, *, of: str) -> None:
        """Count seconds of one stage as another's."""
        self.seconds[name] = self.seconds.get(name, 0.0) + seconds
        self.seconds[of] -= seconds


def compute_tile(
    context: Context, task: Task, *, attempts: Attempts | None = None, access: Access | None = None
) -> Computed:
    """Compute the pixels of one tile; touches no store.

    Args:
        context: What all tasks share.
        task: Which tile, from which items.
        attempts: Counts attempts at reading; by default a new one, as the context's options say.
        access: How files are reached, and who counts; by default as the context's options say.

    Raises:
        AssetError: If something cannot be read, after all attempts.
        WeightsError: If the model on this machine is not the planned one.
    """
    attempts = attempts or Attempts(context.options.tile_retry)
    access = access or Access(retry=context.options.request_retry)
    clock, grid = _Clock(), context.grid
    core, window = grid.window(task.tile), context.window(task.tile)
    inside = grid.inside_area(core)
    if not inside.any():
        return Computed(arrays=blank_bands(context.spec, inside, "outside_area"), empty="no pixel lies in the area")
    with clock.stage("read"):
        source = attempts.call(partial(_read_source, context, task, access))
    known = expand(np.logical_or.reduce(np.isfinite(source.reference.image)), grid.scale)[core.inside(window)]
    if not (known & inside).any():
        arrays = blank_bands(context.spec, inside, "source_missing")
        return Computed(arrays=arrays, uses=source.uses, empty="the source has no value here", seconds=clock.seconds)
    with clock.stage("read"):
        read = source.join(attempts.call(partial(_read_guide, context, task, access, source.shown)))
    with clock.stage("predict"):
        found, waited_s = predict_tile(context, task.tile, read)
    clock.set_apart("wait", waited_s, of="predict")
    return replace(
        found, uses=read.uses, seconds=clock.seconds, dates=read.dates, anchor=read.anchor, shifts=read.shifts
    )


def read_inputs(context: Context, task: Task, *, access: Access | None = None) -> WindowInputs:
    """Return all inputs of the window of a tile, as its model takes them.

    Raises:
        AssetError: If something cannot be read.
    """
    access = access or Access(retry=context.options.request_retry)
    source = _read_source(context, task, access)
    return source.join(_read_guide(context, task, access, source.shown))


def predict_tile(context: Context, tile: Tile, read: WindowInputs) -> tuple[Computed, float]:
    """Predict a tile from the inputs of its window; returns its pixels, and seconds of waiting for the device.

    Raises:
        WeightsError: If the model on this machine is not the planned one.
    """
    grid, window, core = context.grid, context.needed(tile), context.finished(tile)
    read = read.cut(window.inside(context.window(tile)), grid.scale)
    predictor = load_predictor(context)
    prediction = predictor.predict(
        read.inputs,
        position=grid.position_of(window),
        scale=grid.scale,
        core=core.shifted(-window.top, -window.left),
    )
    read = read.cut(core.inside(window), grid.scale)
    finish = Postprocessor(
        spec=context.spec,
        contract=predictor.contract,
        scale=grid.scale,
        core=grid.window(tile),
        window=core,
        inside=grid.inside_area(core),
        limits=tuple(band.limits for band in context.product.values),
        risk=context.require_model().risk,
    ).finish
    arrays, residuals = finish(
        prediction, read.reference, n_valid=read.n_valid, flags=read.flags, ancillary=read.ancillary
    )
    found = Computed(
        arrays=arrays,
        device=str(predictor.device),
        device_s=prediction.device_s,
        device_slots=predictor.slots,
        residuals=residuals,
    )
    return found, prediction.waited_s


def run_task(fork: Any, context: Context, task: Task, *, throttle: Throttle | None = None) -> tuple[Any, Record]:
    """Compute one tile and write it; see :func:`mapper.run.records.attempt_task`."""
    return attempt_task(fork, context, task, partial(_make_tile, fork, context, task), throttle=throttle)


def _make_tile(fork: Any, context: Context, task: Task, attempts: Attempts, access: Access) -> dict[str, Any]:
    """Compute and write one tile; what its record says of it."""
    clock = _Clock()
    computed = compute_tile(context, task, attempts=attempts, access=access)
    with clock.stage("write"):
        checksum = "" if computed.empty else attempts.call(partial(_write, fork, context, task, computed.arrays))
    return {
        "status": "empty" if computed.empty else "ok",
        "reason": computed.empty,
        "items": complete_uses(computed.uses, task, f"not read: {computed.empty}"),
        "device": computed.device,
        "device_s": computed.device_s,
        "device_slots": computed.device_slots,
        "seconds": computed.seconds | clock.seconds,
        "consistency_residual": max((left for left in computed.residuals.values() if left is not None), default=None),
        "content_sha256": checksum,
        "dates": computed.dates,
        "anchor": computed.anchor,
        "shifts": computed.shifts,
        **statistics(computed.arrays, context.product.values),
    }


def _write(fork: Any, context: Context, task: Task, arrays: Mapping[str, npt.NDArray[Any]]) -> str:
    return write_tile(fork, product=context.product, tile=task.tile, arrays=arrays)


def _read_source(context: Context, task: Task, access: Access) -> WindowInputs:
    window = context.window(task.tile)
    grid, options = context.grid, context.options
    geobox = grid.source_geobox_of(window)
    if context.spec.source.is_stack:
        return describe_stack(
            read_stack(
                task.source,
                geobox,
                spec=context.spec,
                provider=context.provider,
                access=access,
                threads=options.read_threads,
            ),
            context,
            corner=(window.top // grid.scale, window.left // grid.scale),
            tile=coarsen(grid.window(task.tile).grown(0, grid.scale).inside(window), grid.scale),
        )
    source = read_source(task.source, geobox, spec=context.spec, provider=context.provider, access=access)
    return describe_source(source, context, window.shape)


def _read_guide(context: Context, task: Task, access: Access, shown: Shown | None) -> Guide | None:
    """Return the channels of the model, in its order: from a store, or as they would come back from one.

    None for a model that looks at the source alone.
    """
    if not context.reads("guide"):
        return None
    if context.stored_guide:
        return read_stored_guide(context, context.stored_guide, task)
    guide = read_guide(
        task.guide,
        context.grid.geobox_of(context.window(task.tile)),
        spec=context.spec,
        provider=context.provider,
        access=access,
        threads=context.options.read_threads,
        shown=shown,
    )
    return quantise_guide(guide, context)


def load_predictor(context: Context) -> Predictor | Sampler:
    """Return the model of a map on the device of this process; read, checked and moved there once.

    Raises:
        WeightsError: If the model on this machine is not the planned one.
    """
    with _loading:
        kept = max(band.samples for band in context.spec.targets)
        return _load_predictor(context.spec.model, context.require_model().digest, context.options, kept)


@lru_cache(maxsize=2)  # a process serves thousands of tiles: weights are read, checked and moved to the device once
def _load_predictor(model: ModelSpec, digest: str, options: RunOptions, kept: int) -> Predictor | Sampler:
    loaded = load_model(model)
    if loaded.digest != digest:
        raise WeightsError(
            f"model {model.name} has digest {loaded.digest[:12]} here, the plan was made for {digest[:12]}"
        )
    loaded.contract = loaded.contract.take_steps(model.steps)
    predictor = Predictor(
        loaded,
        device=options.device,
        precision=options.precision,
        patch_px=options.patch_px,
        batch=options.batch,
    )
    contract = loaded.contract
    if not contract.noise_bands:
        return predictor
    return Sampler(
        predictor=predictor,
        samples=model.samples or contract.samples,
        steps=contract.steps,
        seed=model.seed,
        kept=kept,
    )
