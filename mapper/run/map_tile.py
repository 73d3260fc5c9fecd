"""One tile from its items to its shard: read, predict, honour the source, flag, write.

The pixels of a tile do not depend on how the map is tiled: everything is computed on a window of whole source pixels
that reaches beyond the tile by the receptive field, and cropped at the end. Where the source is missing or the area
ends, nothing but that is said about a pixel, so that skipping a tile without pixels changes nothing else.
"""

import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache, partial
from typing import Any

import numpy as np
import numpy.typing as npt

from mapper.access.files import Access
from mapper.access.retry import Attempts
from mapper.access.throttle import Throttle
from mapper.catalog.uses import ItemUse
from mapper.cube.composite import Guide, read_guide
from mapper.cube.source import Source, read_source
from mapper.errors import WeightsError
from mapper.models.weights import load_model
from mapper.plan.context import MapContext, RunOptions, Task
from mapper.predict.consistency import spread
from mapper.predict.postprocess import Postprocessor, blank_arrays
from mapper.predict.predictor import Estimate, Predictor
from mapper.predict.quality import Quality
from mapper.run.records import attempt_task, complete_uses, statistics
from mapper.run.stored_guide import quantise_guide, read_stored_guide
from mapper.spec import ModelSpec
from mapper.store.product import Product
from mapper.store.record import Record
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
    """Why there is no pixel; empty if there is one."""
    residual: float | None = None
    """Largest |block mean - source| of the source pixels under the tile, in target units."""
    seconds: dict[str, float] = field(default_factory=dict)


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
    context: MapContext, task: Task, *, attempts: Attempts | None = None, access: Access | None = None
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
    attempts = attempts or Attempts(context.options.backoff)
    access = access or Access(patience=context.options.patience)
    clock = _Clock()
    core = context.grid.window(task.tile)
    inside = context.grid.inside_area(core)
    if not inside.any():
        return Computed(
            arrays=_name_bands(context.product, blank_arrays(inside, Quality.OUTSIDE_AREA)),
            empty="no pixel lies in the area",
        )
    with clock.stage("read"):
        source = attempts.call(partial(_read_source, context, task, access))
    window = context.window(task.tile)
    known = spread(np.isfinite(source.mean), context.grid.scale)[core.inside(window)]
    if not (known & inside).any():
        arrays = _name_bands(context.product, blank_arrays(inside, Quality.SOURCE_MISSING))
        return Computed(arrays=arrays, uses=source.uses, empty="the source has no value here", seconds=clock.seconds)
    with clock.stage("read"):
        guide = attempts.call(partial(_read_guide, context, task, access))
    with clock.stage("predict"):
        predictor = load_predictor(context)
        prediction = predictor.predict(
            {"guide": guide.values[None], "source": source.mean[None, None], "source.sd": source.sd[None, None]}
        )
        finish = Postprocessor(
            spec=context.spec,
            contract=context.contract,
            scale=context.grid.scale,
            core=core,
            window=window,
            inside=context.grid.inside_area(window),
        ).finish
        (name,) = context.contract.name_means([context.spec.target.name])
        bands, residual = finish(Estimate.of(prediction, context.contract, name), guide, source)
    clock.set_apart("wait", prediction.waited_s, of="predict")
    return Computed(
        arrays=_name_bands(context.product, bands),
        uses=(*guide.uses, *source.uses),
        device=str(predictor.device),
        device_s=prediction.device_s,
        device_slots=predictor.slots,
        residual=residual,
        seconds=clock.seconds,
    )


def run_task(fork: Any, context: MapContext, task: Task, *, throttle: Throttle | None = None) -> tuple[Any, Record]:
    """Compute one tile and write it; see :func:`mapper.run.records.attempt_task`."""
    return attempt_task(fork, context, task, partial(_make_tile, fork, context, task), throttle=throttle)


def _make_tile(fork: Any, context: MapContext, task: Task, attempts: Attempts, access: Access) -> dict[str, Any]:
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
        "consistency_residual": computed.residual,
        "content_sha256": checksum,
        **statistics(computed.arrays, context.product.values),
    }


def _name_bands(product: Product, arrays: Mapping[str, npt.NDArray[Any]]) -> dict[str, npt.NDArray[Any]]:
    """Return the arrays of a tile by name of the band instead of what they are."""
    names = {"value": "value", "sd": "sd", "quality": "qa", "count": "n_valid"}
    return {band.name: arrays[names[band.role]] for band in product.bands}


def _write(fork: Any, context: MapContext, task: Task, arrays: Mapping[str, npt.NDArray[Any]]) -> str:
    return write_tile(fork, product=context.product, tile=task.tile, arrays=arrays)


def _read_source(context: MapContext, task: Task, access: Access) -> Source:
    geobox = context.grid.source_geobox_of(context.window(task.tile))
    return read_source(task.source, geobox, spec=context.spec, provider=context.provider, access=access)


def _read_guide(context: MapContext, task: Task, access: Access) -> Guide:
    """The channels of the model, in its order: from a store, or as they would come back from one."""
    window = context.window(task.tile)
    if not context.reads_guide:
        return Guide(
            values=np.zeros((0, *window.shape), np.float32),
            n_valid=np.zeros(window.shape, np.uint16),
            gaps=np.zeros(window.shape, bool),
            uses=(),
        )
    if context.stored_guide:
        return read_stored_guide(context, context.stored_guide, task)
    guide = read_guide(
        task.guide,
        context.grid.geobox_of(window),
        spec=context.spec,
        provider=context.provider,
        access=access,
        threads=context.options.read_threads,
    )
    return quantise_guide(guide, context)


def load_predictor(context: MapContext) -> Predictor:
    """The model of a map on the device of this process; read, checked and moved there once.

    Raises:
        WeightsError: If the model on this machine is not the planned one.
    """
    with _loading:
        return _predictor(context.spec.model, context.model_digest, context.options)


@lru_cache(maxsize=2)  # a process serves thousands of tiles: weights are read, checked and moved to the device once
def _predictor(model: ModelSpec, digest: str, options: RunOptions) -> Predictor:
    loaded = load_model(model)
    if loaded.digest != digest:
        raise WeightsError(
            f"model {model.name} has digest {loaded.digest[:12]} here, the plan was made for {digest[:12]}"
        )
    return Predictor(
        loaded,
        device=options.device,
        precision=options.precision,
        patch_px=options.patch_px,
        batch=options.batch,
    )
