"""Samples, and the patches drawn from them: on source pixel edges, rotated, flipped and varied."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from mapper.models.contract import GuideBand
from mapper.training.config import AugmentConfig

FloatArray = npt.NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One map with its truth; physical units, NaN where missing."""

    guide: FloatArray
    """(channel, y, x)."""
    source: FloatArray
    """(y / scale, x / scale)."""
    truth: FloatArray
    """(y, x)."""
    bands: tuple[tuple[str, str], ...]
    """Name and units of each guide channel."""
    source_units: str
    digest: str = ""
    """Of the items it was read from."""

    @property
    def scale(self) -> int:
        """Source pixel / target pixel."""
        return int(self.truth.shape[0] // self.source.shape[0])

    def cut_truth(self, limit: float) -> "Sample":
        """This sample with truth above a limit set to the limit."""
        return replace(self, truth=np.minimum(self.truth, np.float32(limit)))


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Patches of one shape; (patch, channel, y, x)."""

    guide: FloatArray
    source: FloatArray
    truth: FloatArray


def measure_bands(samples: Sequence[Sample]) -> tuple[GuideBand, ...]:
    """Mean and standard deviation of each guide channel over all samples.

    Raises:
        ValueError: If the samples differ in their channels.
    """
    if len({sample.bands for sample in samples}) != 1:
        raise ValueError("samples have different guide channels")
    bands = []
    for index, (name, units) in enumerate(samples[0].bands):
        mean, sd = measure([sample.guide[index] for sample in samples])
        bands.append(GuideBand(name=name, units=units, mean=mean, sd=sd))
    return tuple(bands)


def measure(arrays: Sequence[FloatArray]) -> tuple[float, float]:
    """Mean and standard deviation over the valid values of all arrays; 0 and 0 where there is none."""
    values = np.concatenate([array[np.isfinite(array)].ravel() for array in arrays]).astype(np.float64)
    if not values.size:
        return 0.0, 0.0
    return float(values.mean()), float(values.std())


class PatchSampler:
    """Draws random patches, rotated and flipped, on source pixel edges.

    Args:
        samples: Of one scale and one set of channels; large ones are drawn from more often.
        patch_px: Patch edge in target pixels; cut down to whole source pixels and to the smallest sample.
        augment: What else is varied.
        bands: Constants of normalisation, the unit of what is varied in the guide.
        source_sd: Likewise for the source.
        seed: Same seed, same patches.
    """

    def __init__(
        self,
        samples: Sequence[Sample],
        *,
        patch_px: int,
        augment: AugmentConfig,
        bands: Sequence[GuideBand],
        source_sd: float,
        seed: int,
    ) -> None:
        self.samples = samples
        self.augment = augment
        self.scale = samples[0].scale
        self.size = min(patch_px // self.scale, *(edge for s in samples for edge in s.source.shape))
        if self.size < 1:
            raise ValueError(f"a patch of {patch_px} px holds no source pixel of {self.scale} px")
        self._shares = np.array([sample.truth.size for sample in samples]) / sum(s.truth.size for s in samples)
        self._guide_mean = np.array([band.mean for band in bands], np.float32)[:, None, None]
        self._guide_sd = np.array([band.sd for band in bands], np.float32)[:, None, None]
        self._source_sd = source_sd
        self._random = np.random.default_rng(seed)

    def draw(self, number: int) -> Batch:
        """Draw a batch of ``number`` patches."""
        patches = [self._draw_one() for _ in range(number)]
        guide, source, truth = (np.stack(arrays) for arrays in zip(*patches, strict=True))
        return Batch(guide=guide, source=source[:, None], truth=truth[:, None])

    def _draw_one(self) -> tuple[FloatArray, FloatArray, FloatArray]:
        sample = self.samples[self._random.choice(len(self.samples), p=self._shares)]
        row, col = (int(self._random.integers(0, edge - self.size + 1)) for edge in sample.source.shape)
        coarse = slice(row, row + self.size), slice(col, col + self.size)
        fine = tuple(slice(part.start * self.scale, part.stop * self.scale) for part in coarse)
        guide = self._vary_guide(sample.guide[:, *fine])
        source = self._vary_source(sample.source[coarse])
        turns, flip = int(self._random.integers(4)), bool(self._random.integers(2))
        return (
            _turn(guide, turns, flip=flip),
            _turn(source, turns, flip=flip),
            _turn(sample.truth[fine], turns, flip=flip),
        )

    def _vary_guide(self, guide: FloatArray) -> FloatArray:
        shape = (len(guide), 1, 1)
        if self.augment.guide_jitter:
            shift, stretch = self._random.normal(0, self.augment.guide_jitter, (2, *shape)).astype(np.float32)
            centred = (guide - self._guide_mean) * (1 + stretch)
            guide = centred + self._guide_mean + shift * self._guide_sd
        if self.augment.guide_dropout:
            lost = self._random.random(shape) < self.augment.guide_dropout
            guide = np.where(lost, np.float32(np.nan), guide)
        return guide

    def _vary_source(self, source: FloatArray) -> FloatArray:
        if self.augment.source_bias:
            source = source * np.float32(1 + self._random.normal(0, self.augment.source_bias))
        if self.augment.source_noise:
            spread = self.augment.source_noise * self._source_sd
            source = source + self._random.normal(0, spread, source.shape).astype(np.float32)
        return source


def _turn(array: FloatArray, turns: int, *, flip: bool) -> FloatArray:
    turned = np.rot90(array, turns, axes=(-2, -1))
    return np.ascontiguousarray(turned[..., ::-1] if flip else turned)
