"""Sharpening of several bands without a network, and their scores: what a network of bands is held against."""

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch

from mapper.arrays import Float32Array, Float64Array
from mapper.cube.source import average_blocks
from mapper.models.interpolation import upsample
from mapper.predict.operators import BlockMean
from mapper.training.sample import Sample
from mapper.training.wald import degrade


def interpolate_bands(sample: Sample, *, method: Literal["nearest", "bilinear", "bicubic"] = "bicubic") -> Float32Array:
    """Return the source interpolated to target pixels, (band, y, x)."""
    return _upsample(sample.source, sample.scale, method)


def inject_detail(sample: Sample) -> Float32Array:
    """Return the interpolated source and, of each band, a sum of the detail of the guide, (band, y, x).

    Detail is what an image has beyond the interpolation of its own block means. Its weights are those that restore the
    source from its block means, by least squares over all pixels, one scale coarser.
    """
    coarser = degrade(replace(sample, transfer={}))
    missing = coarser.truth - interpolate_bands(coarser)
    detail = find_detail(coarser.guide, coarser.scale)
    known = np.isfinite(missing).all(0) & np.isfinite(detail).all(0)
    weights: Float64Array = np.linalg.lstsq(
        detail[:, known].T.astype(np.float64), missing[:, known].T.astype(np.float64), rcond=None
    )[0]
    added = np.tensordot(weights.T, find_detail(sample.guide, sample.scale), axes=1)
    return (interpolate_bands(sample) + added).astype(np.float32)


def keep_block_means(values: Float32Array, sample: Sample) -> Float32Array:
    """Return bands (band, y, x) whose means over source pixels are the source."""
    operator, free = BlockMean(sample.scale), np.full(sample.source.shape[-2:], np.nan, np.float32)
    pairs = zip(values, sample.source, strict=True)
    return np.stack([operator.enforce(band, source, free, mode="hard") for band, source in pairs])


def find_detail(images: Float32Array, scale: int) -> Float32Array:
    """Return what images (channel, y, x) have beyond the interpolation of their means over ``scale`` x ``scale``."""
    means = np.stack([average_blocks(image, scale) for image in images])
    return images - _upsample(means, scale, "bicubic")


@dataclass(frozen=True, kw_only=True)
class BandScore:
    """Root mean square errors of several bands where the truth is known, in units of the target."""

    names: tuple[str, ...]
    rmse: tuple[float, ...]

    @property
    def mean(self) -> float:
        """Mean over the bands."""
        return sum(self.rmse) / len(self.rmse)


def score_bands(values: Float32Array, sample: Sample) -> BandScore:
    """Return the errors of bands (band, y, x)."""
    squares = np.nanmean(np.square(values.astype(np.float64) - sample.known_truth), axis=(1, 2))
    return BandScore(names=sample.targets, rmse=tuple(np.sqrt(squares).tolist()))


def _upsample(images: Float32Array, scale: int, method: str) -> Float32Array:
    found: Float32Array = upsample(torch.from_numpy(np.ascontiguousarray(images))[None], scale, method)[0].numpy()
    return found
