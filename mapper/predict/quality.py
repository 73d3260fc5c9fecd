"""The QA band: what a reader should know about a pixel, as bits with CF flag meanings."""

from enum import IntFlag
from typing import Any

import numpy as np
import numpy.typing as npt

from mapper.arrays import BoolArray
from mapper.catalog.coverage import FEW_OBSERVATIONS
from mapper.predict.consistency import spread


class Quality(IntFlag):
    """One bit each; 0 is a pixel with nothing to remark."""

    GUIDE_GAP = 1
    """A guide channel had no valid observation."""
    SOURCE_MISSING = 2
    """The source has no value here."""
    SOURCE_DISAGREES = 4
    """The network's block mean was farther from the source than the source's standard deviation."""
    OUTSIDE_AREA = 8
    """Not part of the map."""
    ITEM_DROPPED = 16
    """An item of this tile could not be read and was left out."""
    FEW_OBSERVATIONS = 32
    """Few valid observations entered the guide."""


def cf_attributes() -> dict[str, Any]:
    """CF attributes of the band: ``flag_masks`` and ``flag_meanings`` in the same order."""
    return {
        "long_name": "quality flags",
        "flag_masks": [int(flag) for flag in Quality],
        "flag_meanings": " ".join(str(flag.name).lower() for flag in Quality),
        "valid_range": [0, int(sum(Quality))],
    }


def flag_pixels(
    *,
    gaps: BoolArray,
    n_valid: npt.NDArray[np.uint16],
    source: npt.NDArray[np.float32],
    source_sd: npt.NDArray[np.float32],
    block_means: npt.NDArray[np.floating],
    inside: BoolArray,
    item_dropped: bool,
) -> npt.NDArray[np.uint16]:
    """Flags of one window.

    Args:
        gaps: (y, x), True where a guide channel is missing.
        n_valid: (y, x) valid observations.
        source: (y / scale, x / scale), NaN where missing.
        source_sd: Like ``source``; where unknown, disagreement is not judged.
        block_means: Like ``source``: block means of what the network gave, before consistency.
        inside: (y, x), True inside the area of the map.
        item_dropped: Whether an item was left out of this tile.

    Returns:
        (y, x) uint16 of :class:`Quality` bits.
    """
    scale = gaps.shape[0] // source.shape[0]
    disagrees = np.abs(block_means - source) > source_sd
    bits: dict[Quality, BoolArray | np.bool_] = {
        Quality.GUIDE_GAP: gaps,
        Quality.SOURCE_MISSING: spread(np.isnan(source), scale),
        Quality.SOURCE_DISAGREES: spread(disagrees, scale),
        Quality.OUTSIDE_AREA: ~inside,
        Quality.ITEM_DROPPED: np.bool_(item_dropped),
        Quality.FEW_OBSERVATIONS: n_valid < FEW_OBSERVATIONS,
    }
    flags = np.zeros(gaps.shape, np.uint16)
    for flag, where in bits.items():
        flags |= np.where(where, np.uint16(flag), np.uint16(0))
    return flags
