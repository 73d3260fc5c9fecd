"""A window through a model on a device: patches in batches, cores stitched.

The output does not depend on patch size or batch size, beyond the rounding of float32, nor on the number of threads.
Threads of one process take turns on a GPU: what they overlap is reading and writing, not arithmetic.
"""

import copy
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from mapper.arrays import Float32Array
from mapper.grid import Window, coarsen
from mapper.models.contract import Contract
from mapper.models.gradients import follow_gradients
from mapper.models.model import Model, Tensors, TrainedModel
from mapper.predict.patches import Patch, cut, find_margin, keep_core

Precision = Literal["auto", "fp32", "tf32", "bf16", "fp16"]

_AUTOCAST = {"bf16": torch.bfloat16, "fp16": torch.float16}
_logger = logging.getLogger(__name__)


Arrays = Mapping[str, npt.NDArray[Any]]
"""Inputs of a window by name, as :class:`~mapper.models.model.Model` takes them, without the batch."""
Draw = Callable[[Window], Arrays]
"""Returns further inputs for a window that counts from the origin of the CRS."""


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """Outputs of a model for one window."""

    outputs: Mapping[str, Float32Array]
    """(y, x) of each output, in its units."""
    device_s: float = 0.0
    """Seconds that the device was held."""
    waited_s: float = 0.0
    """Seconds of waiting for a device that others held."""


@dataclass(frozen=True, kw_only=True)
class Trace:
    """A model on one window whose gradients are followed to the inputs; called with inputs in place of those given."""

    run: Callable[[Tensors], Tensors]
    given: Tensors
    """Inputs of the window by name, with a batch of 1."""

    def __call__(self, changed: Tensors) -> Tensors:
        """Return the outputs (1, 1, y, x) for inputs some of which are changed."""
        return self.run({**self.given, **changed})

    def send(self, images: Mapping[str, Float32Array]) -> dict[str, torch.Tensor]:
        """Return inputs (date, band, y, x) for the model on its device; what it does not take is left out."""
        return {
            name: torch.from_numpy(np.ascontiguousarray(image))[None].to(self.given[name].device)
            for name, image in images.items()
            if name in self.given
        }

    def show(self, images: Mapping[str, Float32Array], output: str) -> Float32Array:
        """Return one output (y, x) for inputs (date, band, y, x) in place of those given."""
        with torch.no_grad():
            shown: Float32Array = self(self.send(images))[output][0, 0].float().cpu().numpy()
        return shown


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """One band of the target as a model gives it, (y, x) in target units."""

    mean: Float32Array
    sd: Float32Array | None = None
    """Standard deviation; None for a model that gives none."""

    @classmethod
    def of(cls, prediction: Prediction, contract: Contract, name: str) -> "Estimate":
        """Return the mean of a name, and the standard deviation that belongs to it."""
        sd = contract.sd_of(name)
        return cls(mean=prediction.outputs[name], sd=None if sd is None else prediction.outputs[sd])

    def total_sd(self, source_sd: Float32Array, *, sees_source_sd: bool) -> Float32Array | None:
        """Return the standard deviation of a map: the model's, with the source's in it or added in quadrature.

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
        model: The model to run; moved to the device.
        device: ``auto`` (a GPU if there is one), ``cpu``, ``cuda``, ``cuda:1`` ...
        precision: ``auto`` is fp32, or double where a network asks for it: the rounding of anything shorter depends on
            how a window was cut, and shows in a float map. The others trade that for speed on a GPU.
        patch_px: Longest edge of one network input, in target pixels; a model that is not tile-exact gets the window
            in one piece.
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
        if isinstance(model, TrainedModel) and model.network.in_double and self.precision == "fp32":
            model = copy.deepcopy(model)  # one that is being trained stays as it is
            model.network.double()
        self.model = model
        if isinstance(model, nn.Module):
            model.to(self.device).eval()
            model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # faster, on a CPU too

    @property
    def contract(self) -> Contract:
        """Contract of the model."""
        return self.model.contract

    def sharpen(self, guide: Float32Array, source: Float32Array, source_sd: Float32Array | None = None) -> Estimate:
        """Predict one band from one coarse image; see :meth:`predict`.

        Args:
            guide: (channel, y, x) in the order and units of the contract, NaN where missing.
            source: (y / scale, x / scale), NaN where missing.
            source_sd: Like ``source``: its standard deviation, NaN where unknown.
        """
        inputs = {"guide": guide[None], "source": source[None, None]}
        inputs |= {} if source_sd is None else {"source.sd": source_sd[None, None]}
        (name,) = self.contract.name_means(["target"])
        return Estimate.of(self.predict(inputs), self.contract, name)

    def predict(
        self,
        inputs: Arrays,
        *,
        position: tuple[int, int] = (0, 0),
        scale: int | None = None,
        draw: Draw | None = None,
        core: Window | None = None,
    ) -> Prediction:
        """Predict one window.

        Pixels nearer to the window's edge than the model's halo see the edge; callers give a window with a halo and
        name the core inside.

        Args:
            inputs: By role (date, band, y, x) in the order and units of the contract, NaN where missing; beside a role
                ``<role>.sd`` and ``<role>.anchor`` like it, ``<role>.clear`` (date, y, x), ``<role>.days`` (date,).
            position: Row and column of the window's upper-left target pixel, counted from the origin of the CRS.
            scale: Source pixel / target pixel; needed for a model of any scale where there is no guide.
            draw: Gives what a stochastic model needs beside.
            core: Part of the window, in its target pixels, that is wanted: outputs are of its shape; None for all.

        Raises:
            ValueError: If guide and source do not nest at the model's scale, or do not lie on its step.
        """
        shape, scale = self._measure(inputs, scale)
        step = self.contract.step(scale)
        halo = -(-self.contract.halo(scale) // step) * step
        patch_px = self.patch_px if self.contract.tile_exact else max(shape)
        core = core or Window(top=0, left=0, bottom=shape[0], right=shape[1])
        patches = keep_core(cut(shape, patch_px=patch_px, halo_px=halo, scale=step), core)
        window = _Inputs(arrays=self._select(inputs, shape), position=position, scale=scale, draw=draw)
        turn = _Turn(_semaphore(str(self.device)))
        outputs: dict[str, Float32Array] = {}
        done = 0
        while done < len(patches):
            some = patches[done : done + self.batch]
            try:
                values = self._run(window, some, turn)
            except (torch.OutOfMemoryError, RuntimeError) as error:
                if self.batch == 1 or not _is_out_of_memory(error):
                    raise
                self._halve_batch(error)
                continue
            for name, batch in values.items():
                output = outputs.setdefault(name, np.empty(core.shape, np.float32))
                for patch, value in zip(some, batch, strict=True):
                    output[patch.core.inside(core)] = value[0]
            done += len(some)
        return Prediction(outputs=outputs, device_s=turn.held_s, waited_s=turn.waited_s)

    @contextmanager
    def follow(
        self,
        inputs: Arrays,
        *,
        position: tuple[int, int] = (0, 0),
        scale: int | None = None,
        draw: Draw | None = None,
    ) -> Iterator[Trace]:
        """Open one window, in one piece, for gradients of outputs with respect to inputs; see :meth:`predict`."""
        shape, scale = self._measure(inputs, scale)
        window = _Inputs(arrays=self._select(inputs, shape), position=position, scale=scale, draw=draw)
        whole = Window(top=0, left=0, bottom=shape[0], right=shape[1])
        batch = window.cut([Patch(read=whole, core=whole)], self.contract)
        given = {name: self._send(array) for name, array in batch.items()}
        with follow_gradients(), _arithmetic(self.device, self.precision):
            yield Trace(run=self.model, given=given)

    @property
    def slots(self) -> int:
        """Windows that the device takes at once."""
        return _slots(self.device.type)

    def _measure(self, inputs: Arrays, scale: int | None) -> tuple[tuple[int, int], int]:
        """Return rows and columns of the target, and the scale."""
        rows, cols = inputs["source"].shape[-2:]
        scale, expected = scale or self.contract.scale, self.contract.scale
        if "guide" in inputs:
            guide = inputs["guide"].shape[-2:]
            scale = int(guide[0] // max(rows, 1))
            if scale < 1 or guide != (rows * scale, cols * scale):
                raise ValueError(f"guide {guide} and source {rows, cols} do not nest")
        if scale is None:
            raise ValueError(f"{self.contract.model} works at any scale: without a guide it has to be given")
        if expected not in (None, scale):
            raise ValueError(f"source {rows, cols} is to be sharpened at scale {scale}, expected {expected}")
        return (rows * scale, cols * scale), scale

    def _select(self, inputs: Arrays, shape: tuple[int, int]) -> dict[str, npt.NDArray[Any]]:
        """Return the inputs that the model takes, and a guide without a band where it takes none."""
        roles = {entry.role for entry in self.contract.inputs}
        chosen = {name: array for name, array in inputs.items() if name.partition(".")[0] in roles}
        if not self.contract.sees_source_sd:
            chosen.pop("source.sd", None)
        return {"guide": np.empty((1, 0, *shape), np.float32)} | chosen

    def _run(self, window: "_Inputs", patches: list[Patch], turn: "_Turn") -> dict[str, list[Float32Array]]:
        """Return the outputs (1, y, x) of the core of each patch."""
        batch, margin = window.cut(patches, self.contract), find_margin(patches, window.scale)
        if trims := getattr(self.model, "trims", False):
            batch["margin"] = np.array(margin, np.int64)
        top, _, left, _ = (each * window.scale for each in margin) if trims else (0, 0, 0, 0)
        inside = [patch.core.shifted(-top, -left).inside(patch.read) for patch in patches]
        with turn.hold(), torch.inference_mode(), _arithmetic(self.device, self.precision):
            outputs = self.model({name: self._send(array) for name, array in batch.items()})
            values = {name: output.float().cpu().numpy() for name, output in outputs.items()}
        return {
            name: [value[:, *part] for value, part in zip(each, inside, strict=True)] for name, each in values.items()
        }

    def _send(self, array: npt.NDArray[Any]) -> torch.Tensor:
        tensor = torch.from_numpy(array)
        if tensor.ndim != 5:
            return tensor.to(self.device)
        images = tensor.flatten(1, 2).to(self.device, memory_format=torch.channels_last)  # what networks work on
        return images.view(tensor.shape)

    def _halve_batch(self, error: Exception) -> None:
        self.batch //= 2
        _logger.warning("out of memory on %s, going on with batches of %d: %s", self.device, self.batch, error)
        if self.device.type == "cuda":
            torch.cuda.empty_cache()


@dataclass(frozen=True, kw_only=True)
class _Inputs:
    """Inputs of one window, to be cut into patches."""

    arrays: Arrays
    position: tuple[int, int]
    scale: int
    draw: Draw | None

    def cut(self, patches: Sequence[Patch], contract: Contract) -> dict[str, npt.NDArray[Any]]:
        """Return the inputs of some patches, with the dimension of a batch."""
        parts = [self._cut_one(patch.read, contract) for patch in patches]
        return {name: np.stack([part[name] for part in parts]) for name in parts[0]}

    def _cut_one(self, read: Window, contract: Contract) -> dict[str, npt.NDArray[Any]]:
        top, left = self.position[0] + read.top, self.position[1] + read.left
        part: dict[str, npt.NDArray[Any]] = {"position": np.array([top, left], np.int64)}
        for name, array in self.arrays.items():
            entry = contract.find_input(name.partition(".")[0])
            px = 1 if entry is None else entry.px or self.scale
            part[name] = array if name.endswith(".days") else array[..., *coarsen(read.slices, px)]
        if self.draw:
            part |= self.draw(Window(top=top, left=left, bottom=top + read.shape[0], right=left + read.shape[1]))
        return part


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
    """Return the number of windows that share a device: 1 on a GPU, on a CPU one for each core and thread."""
    return (os.cpu_count() or 1) if device == "cpu" else 1


class _Turn:
    """Turns of one window at a device, and the seconds that went by."""

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
    """Compute in one thread until the end.

    How a sum is split over threads changes its last bits: with a fixed number, a map is the same to the bit however
    many cores and workers made it. What that costs one window, several windows at once give back.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
