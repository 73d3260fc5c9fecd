"""Blocks of a site that are held back for validation.

Pixels next to each other are much alike: held out at random, they would be learnt by their neighbours. So whole blocks
are held out, with a rim around them that is neither learnt nor scored.
"""

from dataclasses import replace

import numpy as np
from scipy.ndimage import binary_dilation

from mapper.arrays import BoolArray
from mapper.errors import InputError
from mapper.training.config import HoldOutConfig
from mapper.training.sample import Sample


def hold_out(sample: Sample, config: HoldOutConfig, seed: int) -> tuple[Sample, Sample]:
    """Split a site into what is learnt and what is validated; guide and source stay whole in both.

    Args:
        sample: The site.
        config: How large blocks are and how many.
        seed: Same seed, same blocks.

    Returns:
        The site with the truth to learn, and with that to validate on; NaN elsewhere.

    Raises:
        InputError: If fewer than two blocks hold truth, or nothing is left to learn.
    """
    rows, cols = sample.source.shape[-2:]
    cells = -1, rows, sample.scale, cols, sample.scale
    coarse: BoolArray = np.asarray(np.isfinite(sample.truth).reshape(cells).any((0, 2, 4)), bool)
    held = _choose_blocks(coarse, config, seed, sample.name)
    near = _grow(held, config.gap_source_px)
    learnt, scored = (_mask(sample, where) for where in (~near, held))
    if not np.isfinite(learnt.truth).any():
        raise InputError(f"site {sample.name}: holding out {config.share:.0%} in blocks leaves no truth to learn")
    return learnt, scored


def _choose_blocks(known: BoolArray, config: HoldOutConfig, seed: int, name: str) -> BoolArray:
    edge = config.block_source_px
    rows, cols = (-(-length // edge) for length in known.shape)
    padded = np.zeros((rows * edge, cols * edge), bool)
    padded[: known.shape[0], : known.shape[1]] = known
    blocks = np.argwhere(padded.reshape(rows, edge, cols, edge).any((1, 3)))
    if len(blocks) < 2:
        raise InputError(f"site {name} has no two blocks of {edge} x {edge} source pixels with truth to hold one out")
    number = min(max(1, round(config.share * len(blocks))), len(blocks) - 1)
    chosen = np.random.default_rng(seed).permutation(len(blocks))[:number]
    held = np.zeros((rows, cols), bool)
    held[tuple(blocks[chosen].T)] = True
    return held.repeat(edge, 0).repeat(edge, 1)[: known.shape[0], : known.shape[1]]


def _grow(where: BoolArray, pixels: int) -> BoolArray:
    if not pixels:
        return where
    return np.asarray(binary_dilation(where, np.ones((3, 3), bool), iterations=pixels), bool)


def _mask(sample: Sample, where: BoolArray) -> Sample:
    fine = where.repeat(sample.scale, 0).repeat(sample.scale, 1)
    return replace(sample, truth=np.where(fine, sample.truth, np.float32(np.nan)))
