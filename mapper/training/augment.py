"""Variations from patch to patch, so that a network meets in training what it will meet at work.

The guide of another year has other dates and another atmosphere, and a channel or a date may be missing; a coarse map
errs by more than rounding, and its neighbouring pixels err together.
"""

import numpy as np
import numpy.typing as npt
from scipy.ndimage import gaussian_filter

from mapper.arrays import Float32Array
from mapper.training.config import AugmentConfig

_SMOOTH_SIGMA = 1.5
"""Sigma of the error that neighbouring source pixels share, in source pixels: pixels 2 apart share most of it."""
_SMOOTH_REACH = 6


def vary_guide(
    guide: Float32Array,
    augment: AugmentConfig,
    *,
    mean: Float32Array,
    sd: Float32Array,
    dates: int,
    random: np.random.Generator,
) -> Float32Array:
    """Shift and stretch channels of a guide, drop channels and dates, and return it.

    Args:
        guide: (channel, y, x), ``dates`` times the same bands, by date; NaN where missing.
        augment: Amounts of each variation.
        mean: (channel, 1, 1) mean of each channel in training.
        sd: (channel, 1, 1) standard deviation of each channel in training.
        dates: Number of dates of the guide.
        random: Source of all draws.
    """
    shape = (len(guide), 1, 1)
    if augment.guide_jitter:
        shift, stretch = random.normal(0, augment.guide_jitter, (2, *shape)).astype(np.float32)
        guide = (guide - mean) * (1 + stretch) + mean + shift * sd
    lost = np.zeros(shape, bool)
    if augment.guide_dropout:
        lost |= random.random(shape) < augment.guide_dropout
    if augment.date_dropout and dates > 1:
        lost |= _drop_dates(dates, augment.date_dropout, random).repeat(len(guide) // dates)[:, None, None]
    return np.where(lost, np.float32(np.nan), guide) if lost.any() else guide


def vary_source(
    source: Float32Array,
    source_sd: Float32Array,
    augment: AugmentConfig,
    *,
    spread: float,
    random: np.random.Generator,
) -> Float32Array:
    """Return the source with errors as a coarse map has them.

    Args:
        source: (y, x), NaN where missing.
        source_sd: Its standard deviation, NaN where unknown.
        augment: Amounts of each variation.
        spread: Standard deviation of the source over all of training; what noise is measured in where nothing better
            is known.
        random: Source of all draws.
    """
    if augment.source_bias:
        source = source * np.float32(1 + random.normal(0, augment.source_bias))
    if augment.source_noise:
        size = np.where(np.isfinite(source_sd), source_sd, np.float32(spread)) * np.float32(augment.source_noise)
        source = source + size * _draw_noise(source.shape, augment.source_correlation, random)
    return source


def _drop_dates(dates: int, share: float, random: np.random.Generator) -> npt.NDArray[np.bool_]:
    lost = random.random(dates) < share
    stays = int(random.integers(dates))  # drawn in any case: what follows must not depend on what was lost
    if lost.all():
        lost[stays] = False
    return lost


def _draw_noise(shape: tuple[int, ...], common: float, random: np.random.Generator) -> Float32Array:
    """Return noise of variance 1, of which neighbours have a share in common."""
    own = random.normal(0, 1, shape)
    if not common:
        return own.astype(np.float32)
    wide = random.normal(0, 1, tuple(edge + 2 * _SMOOTH_REACH for edge in shape))
    inner = tuple(slice(_SMOOTH_REACH, -_SMOOTH_REACH) for _ in shape)
    smooth = _filter(wide)[inner] / _smooth_norm()
    noise: Float32Array = (np.sqrt(1 - common) * own + np.sqrt(common) * smooth).astype(np.float32)
    return noise


def _filter(field: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return np.asarray(gaussian_filter(field, _SMOOTH_SIGMA, radius=_SMOOTH_REACH), np.float64)


def _smooth_norm() -> float:
    """Return the standard deviation that white noise of variance 1 keeps when it is smoothed."""
    impulse = np.zeros((2 * _SMOOTH_REACH + 1,) * 2)
    impulse[_SMOOTH_REACH, _SMOOTH_REACH] = 1
    return float(np.sqrt(np.square(_filter(impulse)).sum()))
