"""Samples of a stochastic model: their mean, and their standard deviation.

A sample differs from another by its noise alone, and noise is a function of (seed, sample, step, band, row, column),
rows and columns counted from the origin of the CRS. So a map of samples is as free of seams as any other, and the same
on any machine and for any tiling.

A model that gives samples alone is asked for independent ones, whose spread is the standard deviation of the map. One
that gives with each sample how far the truth is expected from it is asked for pairs of opposite noise, whose mean is
nearer to that of all; by the law of total variance what is expected of the truth around the mean of samples is the mean
of the squares that come with them, less the variance of the samples. Its one step is the mean itself.
"""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch

from mapper.arrays import Float32Array, Float64Array
from mapper.grid import Window
from mapper.models.contract import Contract, Output
from mapper.models.model import Tensors
from mapper.noise import derive_key, node_normal
from mapper.predict.predictor import Arrays, Prediction, Predictor, Trace
from mapper.spec.target import name_sample


@dataclass(frozen=True, kw_only=True)
class Sampler:
    """Draws samples of a model window by window; takes the part of a :class:`Predictor`."""

    predictor: Predictor
    samples: int
    steps: int
    """Steps in which a sample is drawn; each has its own noise."""
    seed: int = 0
    kept: int = 0
    """Samples that are given beside the mean, each as ``<output>_s00`` and on."""

    def __post_init__(self) -> None:
        if self.samples < 1 or self.steps < 1:
            raise ValueError(f"samples and steps must be positive, got {self.samples} and {self.steps}")
        if not self.model_contract.noise_bands:
            raise ValueError(f"model {self.model_contract.model} takes no noise: there is nothing to sample")
        if self.kept and self._gives_mean:
            raise ValueError(f"one step of {self.model_contract.model} is its mean, no sample: take more steps")
        if not 0 <= self.kept <= self.samples:
            raise ValueError(f"{self.kept} samples are to be kept, of {self.samples} that are drawn")

    @property
    def model_contract(self) -> Contract:
        """Contract of the model, whose outputs are samples."""
        return self.predictor.contract

    @property
    def contract(self) -> Contract:
        """Contract of what comes out: a mean for each sample and, from two samples on, its standard deviation."""
        if self.model_contract.gives_sd:
            return self.model_contract
        outputs = _describe(self.model_contract.outputs, self.samples)
        return replace(self.model_contract, outputs=outputs, band_sd=not outputs and self.samples > 1)

    @property
    def device(self) -> torch.device:
        """Device of the model."""
        return self.predictor.device

    @property
    def slots(self) -> int:
        """Windows that the device takes at once."""
        return self.predictor.slots

    def predict(
        self,
        inputs: Arrays,
        *,
        position: tuple[int, int] = (0, 0),
        scale: int | None = None,
        core: Window | None = None,
    ) -> Prediction:
        """Draw all samples of one window; see :meth:`Predictor.predict`."""
        moments: dict[str, _Moments] = {}
        squares: dict[str, Float64Array] = {}
        outputs: dict[str, Float32Array] = {}
        held = waited = 0.0
        bands = inputs["source"].shape[1]
        for sample in range(self._number):
            draw = None if self._gives_mean else partial(self._draw, sample, bands)
            drawn = self.predictor.predict(inputs, position=position, scale=scale, draw=draw, core=core)
            deviations = {self.model_contract.sd_of(name) for name in drawn.outputs}
            for name, values in drawn.outputs.items():
                if name in deviations:
                    squares[name] = squares.get(name, 0.0) + np.square(values, dtype=np.float64)
                    continue
                moments.setdefault(name, _Moments(values.shape)).add(values)
                if sample < self.kept:
                    outputs[name_sample(name, sample)] = values
            held, waited = held + drawn.device_s, waited + drawn.waited_s
        outputs |= self._sum_up(moments, squares)
        return Prediction(outputs=outputs, device_s=held, waited_s=waited)

    @contextmanager
    def follow(
        self, inputs: Arrays, *, position: tuple[int, int] = (0, 0), scale: int | None = None
    ) -> Iterator[Trace]:
        """Open one window for gradients of the mean, see :meth:`Predictor.follow`; noise is held as it is drawn.

        The mean of a model that gives standard deviations is its own, of any other that of the samples.
        """
        open_window = partial(self.predictor.follow, inputs, position=position, scale=scale)
        if self.model_contract.gives_sd:
            with open_window() as trace:
                yield trace
            return
        bands = inputs["source"].shape[1]
        with ExitStack() as stack:
            traces = [
                stack.enter_context(open_window(draw=partial(self._draw, sample, bands)))
                for sample in range(self.samples)
            ]
            drawn = [{name: trace.given[name] for name in ("noise", "sample")} for trace in traces]

            def average(tensors: Tensors) -> Tensors:
                each = [traces[0].run({**tensors, **noise}) for noise in drawn]
                return {name: torch.stack([outputs[name] for outputs in each]).mean(0) for name in each[0]}

            yield Trace(run=average, given=traces[0].given)

    @property
    def _gives_mean(self) -> bool:
        """True where nothing is drawn: the one step of a model that gives a standard deviation is its mean."""
        return self.steps == 1 and self.model_contract.gives_sd

    @property
    def _number(self) -> int:
        return 1 if self._gives_mean else self.samples

    def _sum_up(
        self, moments: Mapping[str, "_Moments"], squares: Mapping[str, Float64Array]
    ) -> dict[str, Float32Array]:
        """Return means of samples, and their standard deviations.

        Args:
            moments: Of samples, by output.
            squares: Sums of the squares of deviations that came with samples.
        """
        found = {name: each.mean.astype(np.float32) for name, each in moments.items()}
        for name, each in moments.items():
            deviation = self.model_contract.sd_of(name)
            if deviation is not None:
                found[deviation] = np.sqrt(squares[deviation] / each.number - each.variance).astype(np.float32)
        if self.samples > 1 and not self.model_contract.gives_sd:
            kinds = {output.name: output.kind for output in self.model_contract.outputs}
            drawn = [name for name in moments if kinds.get(name, "sample") == "sample"]  # of any bands all are
            found |= {_name_sd(name): moments[name].sd for name in drawn}
        return found

    def _draw(self, sample: int, bands: int, window: Window) -> Arrays:
        """Return the number and the noise of one sample in a window that counts from the origin of the CRS."""
        number = self.model_contract.noise_bands * (1 if self.model_contract.outputs else bands)
        sign = np.float32(-1 if self.model_contract.gives_sd and sample % 2 else 1)
        which = sample - sample % 2 if self.model_contract.gives_sd else sample
        noise = [
            [sign * self._draw_band(which, step, band, window) for band in range(number)] for step in range(self.steps)
        ]
        return {"sample": np.array(sample, np.int64), "noise": np.array(noise, np.float32)}

    def _draw_band(self, sample: int, step: int, band: int, window: Window) -> Float32Array:
        key = derive_key(self.seed, "sample", sample, "step", step, "band", band)
        return node_normal(key, np.arange(window.top, window.bottom), np.arange(window.left, window.right))


class _Moments:
    """Running mean and variance of samples, by Welford's method."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.number = 0
        self.mean: Float64Array = np.zeros(shape)
        self._squares: Float64Array = np.zeros(shape)

    def add(self, values: Float32Array) -> None:
        self.number += 1
        difference = values - self.mean
        self.mean += difference / self.number
        self._squares += difference * (values - self.mean)

    @property
    def sd(self) -> Float32Array:
        """Standard deviation of the samples, without bias in its square."""
        sd: Float32Array = np.sqrt(self._squares / (self.number - 1)).astype(np.float32)
        return sd

    @property
    def variance(self) -> Float64Array:
        """Mean square of the distances of the samples from their mean."""
        return self._squares / self.number


def _describe(outputs: tuple[Output, ...], samples: int) -> tuple[Output, ...]:
    """Return the outputs that samples are reduced to."""
    described: list[Output] = []
    for output in outputs:
        if output.kind != "sample":
            described.append(output)
            continue
        described.append(replace(output, kind="mean"))
        if samples > 1:
            described.append(Output(name=_name_sd(output.name), units=output.units, kind="sd", of=output.name))
    return tuple(described)


def _name_sd(output: str) -> str:
    return f"{output}_sd"
