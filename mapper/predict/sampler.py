"""Samples of a stochastic model: their mean, and their standard deviation.

A sample differs from another by its noise alone, and noise is a function of (seed, sample, step, band, row, column),
rows and columns counted from the origin of the CRS. So a map of samples is as free of seams as any other, and the same
on any machine and for any tiling.
"""

from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch

from mapper.arrays import Float32Array, Float64Array
from mapper.grid import Window
from mapper.models.contract import Contract, Output
from mapper.noise import derive_key, node_normal
from mapper.predict.predictor import Arrays, Prediction, Predictor


@dataclass(frozen=True, kw_only=True)
class Sampler:
    """Draws samples of a model window by window; takes the part of a :class:`Predictor`."""

    predictor: Predictor
    samples: int
    steps: int
    """Steps in which a sample is drawn; each has its own noise."""
    seed: int = 0

    def __post_init__(self) -> None:
        if self.samples < 1 or self.steps < 1:
            raise ValueError(f"samples and steps must be positive, got {self.samples} and {self.steps}")
        if not self.model_contract.noise_bands:
            raise ValueError(f"model {self.model_contract.model} takes no noise: there is nothing to sample")

    @property
    def model_contract(self) -> Contract:
        """Contract of the model, whose outputs are samples."""
        return self.predictor.contract

    @property
    def contract(self) -> Contract:
        """Contract of what comes out: a mean for each sample and, from two samples on, its standard deviation."""
        return replace(self.model_contract, outputs=_describe(self.model_contract.outputs, self.samples))

    @property
    def device(self) -> torch.device:
        """Device of the model."""
        return self.predictor.device

    @property
    def slots(self) -> int:
        """Windows that the device takes at once."""
        return self.predictor.slots

    def predict(self, inputs: Arrays, *, position: tuple[int, int] = (0, 0), scale: int | None = None) -> Prediction:
        """Draw all samples of one window; see :meth:`Predictor.predict`."""
        moments: dict[str, _Moments] = {}
        held = waited = 0.0
        for sample in range(self.samples):
            drawn = self.predictor.predict(inputs, position=position, scale=scale, draw=partial(self._draw, sample))
            for name, values in drawn.outputs.items():
                moments.setdefault(name, _Moments(values.shape)).add(values)
            held, waited = held + drawn.device_s, waited + drawn.waited_s
        outputs: dict[str, Float32Array] = {}
        for output in self.model_contract.outputs:
            outputs[output.name] = moments[output.name].mean.astype(np.float32)
            if output.kind == "sample" and self.samples > 1:
                outputs[_name_sd(output)] = moments[output.name].sd
        return Prediction(outputs=outputs, device_s=held, waited_s=waited)

    def _draw(self, sample: int, window: Window) -> Arrays:
        """Return the number and the noise of one sample in a window that counts from the origin of the CRS."""
        noise = [
            [self._draw_band(sample, step, band, window) for band in range(self.model_contract.noise_bands)]
            for step in range(self.steps)
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


def _describe(outputs: tuple[Output, ...], samples: int) -> tuple[Output, ...]:
    """Return the outputs that samples are reduced to."""
    described: list[Output] = []
    for output in outputs:
        if output.kind != "sample":
            described.append(output)
            continue
        described.append(replace(output, kind="mean"))
        if samples > 1:
            described.append(Output(name=_name_sd(output), units=output.units, kind="sd", of=output.name))
    return tuple(described)


def _name_sd(output: Output) -> str:
    return f"{output.name}_sd"
