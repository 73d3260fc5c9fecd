"""A window through a model on a device: patches in batches, cores stitched.

The output does not depend on patch size or batch size, beyond the rounding of float32, nor on the number of threads.
Threads of one process take turns on a GPU: what they overlap is reading and writing, not arithmetic.
"""

import logging
import os
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Literal

import numpy as np
import torch
from torch import nn

from mapper.arrays import Float32Array
from mapper.grid import coarsen
from mapper.models.model import Model
from mapper.predict.patches import Patch, cut

Precision = Literal["auto", "fp32", "tf32", "bf16", "fp16"]

_AUTOCAST = {"bf16": torch.bfloat16, "fp16": torch.float16}
_logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """What a model says of one window, (y, x) in target units."""

    mean: Float32Array
    sd: Float32Array | None
    """Standard deviation; None for a model that gives none."""
    device_s: float = 0.0
    """Seconds that the device was held."""
    waited_s: float = 0.0
    """Seconds of waiting for a device that others held."""

    def total_sd(self, source_sd: Float32Array, *, sees_source_sd: bool) -> Float32Array | None:
        """Standard deviation of a map: the model's, which has the source's in it or gets it added in quadrature.

        Args:
            source_sd: (y, x), the source's by target pixel, NaN where unknown.
            sees_source_sd: Whether the model's has it in it; see the contract.
        """
        if self.sd is None or sees_source_sd:
            return self.sd
        total: Float32Array = np.hypot(self.sd, np.nan_to_num(source_sd, nan=0.0))
        return total


class Predictor:
    """Runs one model on one device.

    Args:
        model: What to run; moved to the device.
        device: ``auto`` (a GPU if there is one), ``cpu``, ``cuda``, ``cuda:1`` ...
        precision: ``auto`` is fp32: the rounding of anything shorter depends on how a window was cut, and shows in a
            float map. The others trade that for speed on a GPU.
        patch_px: Longest edge of one network input, in target pixels.
        batch: Patches at once; halved, for good, when the device runs out of memory. None is 1 on a CPU, whose caches
            more would overrun, and 4 on a GPU.

    Raises:
        ValueError: If batch or patch_px is not positive, or the precision is unknown.
    """

    def __init__(
        self,
        model: Model,
        *,
        device: str = "auto",
        precision: Precision = "auto",
        patch_px: int = 512,
        batch: int | None = None,
    ) -> None:
        if patch_px < 1 or (batch is not None and batch < 1):
            raise ValueError(f"batch and patch_px must be positive, got {batch} and {patch_px}")
        if precision not in ("auto", "fp32", "tf32", *_AUTOCAST):
            raise ValueError(f"unknown precision {precision!r}")
        self.device = torch.device(_choose_device(device))
        self.precision = "fp32" if precision == "auto" else precision
        self.patch_px = patch_px
        self.batch = batch or (1 if self.device.type == "cpu" else 4)
        self.model = model
        if isinstance(model, nn.Module):
            model.to(self.device).eval()
            model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # faster, on a CPU too

    def predict(self, guide: Float32Array, source: Float32Array, source_sd: Float32Array | None = None) -> Prediction:
        """Sharpen one window.

        Pixels nearer to the window's edge than the model's halo see the edge; callers give a window with a halo and
        keep what is inside.

        Args:
            guide: (channel, y, x) in the order and units of the contract, NaN where missing.
            source: (y / scale, x / scale), NaN where missing.
            source_sd: Like ``source``: its standard deviation, NaN where unknown.

        Raises:
            ValueError: If guide and source do not nest at the model's scale, or do not lie on its step.
        """
        scale = self._scale(guide, source)
        step = self.model.contract.step(scale)
        halo = -(-self.model.contract.halo(scale) // step) * step
        patches = cut(guide.shape[-2:], patch_px=self.patch_px, halo_px=halo, scale=step)
        sources = np.stack([source, np.full_like(source, np.nan) if source_sd is None else source_sd])
        turn = _Turn(_semaphore(str(self.device)))
        output = np.empty((1 + self.model.contract.gives_sd, *guide.shape[-2:]), np.float32)
        done = 0
        while done < len(patches):
            some = patches[done : done + self.batch]
            try:
                values = self._run(guide, sources, some, scale, turn)
            except (torch.OutOfMemoryError, RuntimeError) as error:
                if self.batch == 1 or not _is_out_of_memory(error):
                    raise
                self._halve_batch(error)
                continue
            for patch, value in zip(some, values, strict=True):
                output[:, *patch.core.slices] = value[:, *patch.core.inside(patch.read)]
            done += len(some)
        sd = output[1] if len(output) > 1 else None
        return Prediction(mean=output[0], sd=sd, device_s=turn.held_s, waited_s=turn.waited_s)

    @property
    def slots(self) -> int:
        """Windows that the device takes at once."""
        return _slots(self.device.type)

    def _scale(self, guide: Float32Array, source: Float32Array) -> int:
        scale = int(guide.shape[-2] // max(source.shape[-2], 1))
        expected = self.model.contract.scale
        if scale < 1 or guide.shape[-2:] != (source.shape[-2] * scale, source.shape[-1] * scale):
            raise ValueError(f"guide {guide.shape} and source {source.shape} do not nest")
        if expected not in (None, scale):
            raise ValueError(f"guide {guide.shape} / source {source.shape} is scale {scale}, expected {expected}")
        return scale

    def _run(
        self, guide: Float32Array, sources: Float32Array, patches: list[Patch], scale: int, turn: "_Turn"
    ) -> Float32Array:
        """Outputs (patch, 1 or 2, y, x) of whole patches; ``sources`` are the source and its standard deviation."""
        guides = np.stack([guide[:, *patch.read.slices] for patch in patches])
        mean, sd = (
            np.stack([layer[coarsen(patch.read.slices, scale)] for patch in patches])[:, None] for layer in sources
        )
        with turn.hold(), torch.inference_mode(), _arithmetic(self.device, self.precision):
            output = self.model(self._send(guides), self._send(mean), self._send(sd))
            values: Float32Array = output.float().cpu().numpy()
        return values

    def _send(self, array: Float32Array) -> torch.Tensor:
        return torch.from_numpy(array).to(self.device, memory_format=torch.channels_last)

    def _halve_batch(self, error: Exception) -> None:
        self.batch //= 2
        _logger.warning("out of memory on %s, going on with batches of %d: %s", self.device, self.batch, error)
        if self.device.type == "cuda":
            torch.cuda.empty_cache()


def _choose_device(device: str) -> str:
    if device != "auto":
        return device
    return "cuda" if torch.cuda.is_available() else "cpu"


def _is_out_of_memory(error: Exception) -> bool:
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)


@cache
def _semaphore(device: str) -> threading.Semaphore:
    return threading.Semaphore(_slots(device))


def _slots(device: str) -> int:
    """One at a time per process and device; on a CPU one for each core, since each keeps to one thread."""
    return (os.cpu_count() or 1) if device == "cpu" else 1


class _Turn:
    """The turns of one window at a device, and the seconds that went by."""

    def __init__(self, semaphore: threading.Semaphore) -> None:
        self._semaphore = semaphore
        self.held_s = 0.0
        self.waited_s = 0.0

    @contextmanager
    def hold(self) -> Iterator[None]:
        asked = time.monotonic()
        with self._semaphore:
            got = time.monotonic()
            self.waited_s += got - asked
            try:
                yield
            finally:
                self.held_s += time.monotonic() - got


@contextmanager
def _arithmetic(device: torch.device, precision: str) -> Iterator[None]:
    with ExitStack() as stack:
        if precision in _AUTOCAST:
            stack.enter_context(torch.autocast(device.type, dtype=_AUTOCAST[precision]))
        if device.type == "cuda":  # torch allows TF32 in convolutions by default: too coarse for a seamless map
            stack.enter_context(torch.backends.cudnn.flags(enabled=True, allow_tf32=precision != "fp32"))
        if device.type == "cpu":
            stack.enter_context(_one_thread())
        yield


@contextmanager
def _one_thread() -> Iterator[None]:
    """Keep this thread's arithmetic to itself.

    How a sum is split over threads changes its last bits: with a fixed number, a map is the same to the bit however
    many cores and workers made it. What that costs one window, several windows at once give back.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
