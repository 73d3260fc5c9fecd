"""Wald's protocol: learn one scale coarser, where the source itself is the truth.

Where no fine truth is known, everything is made coarser by the scale: the guide is averaged to source pixels, the
source to pixels as many times larger again, and what a network then has to restore is the source as it was (L. Wald,
T. Ranchin, M. Mangolini, 1997: Fusion of satellite images of different spatial resolutions, Photogrammetric
Engineering and Remote Sensing 63, 691-699). It rests on the assumption that what relates guide and target there holds
one scale finer too; texture that only the fine guide has is never learnt, and neither is what the source gets wrong.
"""

import hashlib
from dataclasses import replace

import bottleneck as bn
import numpy as np

from mapper.arrays import Float32Array
from mapper.cube.calibrate import to_decibel, to_power
from mapper.cube.source import average_blocks
from mapper.errors import InputError
from mapper.training.sample import Sample


def degrade(sample: Sample) -> Sample:
    """Return a site one scale coarser, its source as the truth; the truth of the sample itself is not read.

    The guide is averaged over source pixels, over what is valid there; decibels in linear power. The source is averaged
    where at least half of a coarser pixel is valid. Its standard deviation is averaged as such, as if the errors of
    neighbours were one: the cautious choice, and that of a map whose source is made coarser. A remainder of source
    pixels at the lower and the right edge stays as an incomplete coarser pixel where it makes up at least half of
    one, else dropped.

    Args:
        sample: A site at its own scale; nothing but its inputs is used.

    Returns:
        A site of the same scale and channels.

    Raises:
        InputError: If the site does not hold a coarser pixel with a value.
    """
    scale = sample.scale
    rows, cols = ((edge + scale // 2) // scale for edge in sample.source.shape)
    shape = rows * scale, cols * scale
    truth, sd = (_fit(array, shape) for array in (sample.source, sample.source_sd))
    source = average_blocks(truth, scale)
    if not np.isfinite(source).any():
        raise InputError(
            f"{sample.name} has {sample.source.shape[0]} x {sample.source.shape[1]} source pixels, too few or too many "
            f"of them missing for Wald's protocol: one pixel of it takes {scale} x {scale}"
        )
    guide = [
        _fit(average_guide(channel, scale, units), shape)
        for channel, (_, units) in zip(sample.guide, sample.bands, strict=True)
    ]
    return replace(
        sample,
        guide=np.stack(guide) if guide else np.empty((0, *shape), np.float32),
        source=source,
        source_sd=np.where(np.isfinite(source), average_blocks(sd, scale), np.float32(np.nan)),
        truth=truth,
        ground=None,
        name=f"{sample.name}, {scale} times coarser",
        degradation=f"Wald's protocol: block mean of the source, {scale} x {scale} ({sample.degradation})",
        digest=hashlib.sha256(f"wald {sample.digest}".encode()).hexdigest(),
    )


def average_guide(channel: Float32Array, scale: int, units: str) -> Float32Array:
    """Return the mean of ``scale`` x ``scale`` blocks over what is valid; NaN where nothing is.

    A channel of nothing but 0 and 1 indicates classes, which are never averaged: 1 where at least half of a block is.

    Args:
        channel: (y, x), in whole blocks.
        scale: Edge of a block.
        units: Units of the channel; ``dB`` is averaged in linear power.

    Returns:
        (y / scale, x / scale), in the units of the channel.
    """
    rows, cols = channel.shape[0] // scale, channel.shape[1] // scale
    blocks = channel.reshape(rows, scale, cols, scale).transpose(0, 2, 1, 3).reshape(rows, cols, scale * scale)
    mean: Float32Array = bn.nanmean((to_power(blocks) if units == "dB" else blocks).astype(np.float64), axis=-1)
    if units == "1" and np.isin(channel[np.isfinite(channel)], (0, 1)).all():
        mean = np.where(np.isnan(mean), mean, mean >= 0.5)
    mean = mean.astype(np.float32)
    return to_decibel(mean) if units == "dB" else mean


def _fit(array: Float32Array, shape: tuple[int, int]) -> Float32Array:
    """Return an array cut, or filled up with NaN, at its lower and right edge."""
    fitted = np.full(shape, np.nan, np.float32)
    rows, cols = (min(pair) for pair in zip(array.shape, shape, strict=True))
    fitted[:rows, :cols] = array[:rows, :cols]
    return fitted
