"""Wald's protocol: learn one scale coarser, where the source itself is the truth.

Where no fine truth is known, everything is made coarser by the scale: the guide is averaged to source pixels, the
source to pixels as many times larger again, and what a network then has to restore is the source as it was (L. Wald,
T. Ranchin, M. Mangolini, 1997: Fusion of satellite images of different spatial resolutions, Photogrammetric
Engineering and Remote Sensing 63, 691-699). It rests on the assumption that what relates guide and target there holds
one scale finer too; texture that only the fine guide has is never learnt, and neither is what the source gets wrong.

Plain means break that assumption for images: a mean of pixels is sharper, relative to its own pixels, than what an
instrument sees with pixels of that size. Where the transfers of source and guide are declared (see
:mod:`mapper.training.transfer`), everything is therefore made coarser by the filter that gives it, in its larger
pixels, the transfer that it has in its own: the guide becomes what a guide is, the source what a source is, and what is
to be restored as sharp as what is asked for at work. So they relate one scale coarser as they do at work, as in the
protocol of Aiazzi and others (2006), but with what the pixels already have of the instrument taken into account.
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
from mapper.training.transfer import Transfer, carry_over


def degrade(sample: Sample) -> Sample:
    """Return a site one scale coarser, its source as the truth; the truth of the sample itself is not read.

    The guide is averaged over source pixels, over what is valid there; decibels in linear power. The source is averaged
    where at least half of a coarser pixel is valid. Bands whose transfer is declared keep it, in pixels of the new
    size. The standard deviation is averaged as such, as if the errors of neighbours were one: the cautious choice, and
    that of a map whose source is made coarser. A remainder of source pixels at the lower and the right edge stays as an
    incomplete coarser pixel where it makes up at least half of one, else dropped.

    Args:
        sample: A site at its own scale; nothing but its inputs is used.

    Returns:
        A site of the same scale and channels.

    Raises:
        InputError: If the site does not hold a coarser pixel with a value, or has several dates.
    """
    if sample.stack is not None:
        raise InputError(f"{sample.name} has several dates, of which Wald's protocol knows none but the anchor")
    scale = sample.scale
    *bands, height, width = sample.source.shape
    rows, cols = (height + scale // 2) // scale, (width + scale // 2) // scale
    shape = rows * scale, cols * scale
    source, truth, sd = _degrade_source(sample, shape)
    if not np.isfinite(source).any():
        raise InputError(
            f"{sample.name} has {height} x {width} source pixels, too few or too many "
            f"of them missing for Wald's protocol: one pixel of it takes {scale} x {scale}"
        )
    guide = [
        _fit(_degrade_channel(channel, units, transfer, scale), shape)
        for channel, (_, units), transfer in zip(sample.guide, sample.bands, sample.guide_transfers, strict=True)
    ]
    kept = any(sample.source_transfers)
    means = "the source as an instrument of its transfer would see it" if kept else "block mean of the source"
    return replace(
        sample,
        guide=np.stack(guide) if guide else np.empty((0, *shape), np.float32),
        source=source.reshape(*bands, rows, cols),
        source_sd=sd.reshape(*bands, rows, cols),
        truth=truth.reshape(*bands, *shape),
        ground=None,
        name=f"{sample.name}, {scale} times coarser",
        degradation=f"Wald's protocol: {means}, {scale} x {scale} ({sample.degradation})",
        digest=hashlib.sha256(f"wald {sample.digest}".encode()).hexdigest(),
    )


def _degrade_source(sample: Sample, shape: tuple[int, int]) -> tuple[Float32Array, Float32Array, Float32Array]:
    """Return source, truth and deviation of the source (band, y, x), each band by its transfer.

    Args:
        sample: A site at its own scale.
        shape: Of the truth, in whole coarser pixels.
    """
    parts = []
    planes = zip(_planes(sample.source), _planes(sample.source_sd), sample.source_transfers, strict=True)
    for values, deviation, transfer in planes:
        truth, source = _fit(values, shape), None
        if transfer is not None:
            asked = transfer.finer(sample.scale)
            truth = carry_over(truth, have=transfer, want=asked, scale=1)
            source = carry_over(truth, have=asked, want=transfer, scale=sample.scale)
        source = average_blocks(truth, sample.scale) if source is None else source
        sd = average_blocks(_fit(deviation, shape), sample.scale)
        parts.append((source, truth, np.where(np.isfinite(source), sd, np.float32(np.nan))))
    source, truth, sd = (np.stack(each) for each in zip(*parts, strict=True))
    return source, truth, sd


def _degrade_channel(channel: Float32Array, units: str, transfer: Transfer | None, scale: int) -> Float32Array:
    if transfer is None:
        return average_guide(channel, scale, units)
    return carry_over(channel, have=transfer, want=transfer, scale=scale)


def _planes(values: Float32Array) -> Float32Array:
    """Return (band, y, x), also of an array of one band (y, x)."""
    return values.reshape(-1, *values.shape[-2:])


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
