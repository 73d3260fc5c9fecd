"""Surface of the ground, as quantities that mix by area: averaging fine pixels gives the coarse ones.

Arrays are float32 (y, x). Cover fractions are what a satellite sees from above, they sum to one. Biomass is
above-ground woody biomass in Mg ha-1, heights and elevations are metres.
"""

from dataclasses import dataclass
from enum import IntEnum

import numpy as np

from mapper.arrays import Float32Array


class Cover(IntEnum):
    """Kinds of cover, in the order of :attr:`Surface.cover`."""

    CONIFER = 0
    BROADLEAF = 1
    GRASS = 2
    SOIL = 3
    WHEAT = 4
    RAPE = 5
    MAIZE = 6
    BUILT = 7
    ASPHALT = 8
    WATER = 9


@dataclass(frozen=True, kw_only=True)
class Surface:
    """Surface of one window."""

    cover: Float32Array
    """(kind, y, x) fractions of cover, in the order of :class:`Cover`."""
    biomass: Float32Array
    height: Float32Array
    """Height of the canopy times its cover, metres."""
    vigour: Float32Array
    """Relative brightness of the vegetation in the near infrared, against its kind; about 0 +- 0.1."""
    moisture: Float32Array
    """Moisture of soil and leaves, about 0 +- 1."""
    elevation: Float32Array


def smooth_step(values: Float32Array, low: float, high: float) -> Float32Array:
    """Return 0 below ``low``, 1 above ``high``, smooth between."""
    t = np.clip((values - np.float32(low)) / np.float32(high - low), 0, 1)
    step: Float32Array = t * t * (3 - 2 * t)
    return step


def empty_cover(shape: tuple[int, int]) -> Float32Array:
    """Return no cover at all: dims (kind, y, x)."""
    return np.zeros((len(Cover), *shape), np.float32)


def average_blocks(values: Float32Array, factor: int) -> Float32Array:
    """Return the mean over ``factor`` x ``factor`` pixels of the last two dims."""
    *front, rows, cols = values.shape
    blocks = values.reshape(*front, rows // factor, factor, cols // factor, factor)
    mean: Float32Array = blocks.mean(axis=(-3, -1), dtype=np.float32)
    return mean
