"""The ground under a surface: what heights may be held to, and a correction that shows no source pixels.

The ground is nowhere above the surface that the source saw, but for a tolerance. Where the surface is even and a model
took next to nothing off it, there is no object to take off, and the ground is the surface. Both are rules of the means
of source pixels; all weights between them are ramps, so that a model that changes a little never changes the map a lot.
"""

from functools import lru_cache

import numpy as np

from mapper.arrays import BoolArray, Float64Array

_LEAST_NEIGHBOURS = 6
"""Valid pixels of 3 x 3, without which nothing is known of evenness: a straight edge of the source leaves so many."""


def find_ground(means: Float64Array, surface: Float64Array, tolerance: Float64Array | np.float64) -> Float64Array:
    """Return the mean height of the ground of each source pixel; NaN where the surface is missing.

    It is the mean of the model, at most the surface and the tolerance. It is that of the surface where the surface is
    within the tolerance of a plane and the model lowered it by less than the tolerance, or not at all; from there to
    twice the tolerance the surface counts less and less.

    Args:
        means: (y, x) means that the model gives.
        surface: (y, x) heights of the source, NaN where missing.
        tolerance: (y, x), or one for all, in the same units.
    """
    capped = np.minimum(means, surface + tolerance)
    share = _ramp_down(measure_unevenness(surface), tolerance) * _ramp_down(surface - means, tolerance)
    ground: Float64Array = capped + share * (surface - capped)
    return ground


def measure_unevenness(surface: Float64Array) -> Float64Array:
    """Return the largest distance of the 3 x 3 pixels around each from the plane that fits them best.

    A missing neighbour is taken to continue the slope of the one across. Infinite where fewer than six are valid.

    Args:
        surface: (y, x) heights, NaN where missing.
    """
    rows, cols = surface.shape
    padded = np.pad(surface, 1, constant_values=np.nan)
    places = [(row, col) for row in (-1, 0, 1) for col in (-1, 0, 1)]
    # against the pixel itself: rounding then hangs neither on the height nor on where a window begins
    steps = {(row, col): padded[1 + row :, 1 + col :][:rows, :cols] - surface for row, col in places}
    valid = sum(np.isfinite(step).astype(np.int64) for step in steps.values())
    across = {at: -steps[-at[0], -at[1]] for at in places}
    filled = {at: np.nan_to_num(np.where(np.isnan(steps[at]), across[at], steps[at]), nan=0.0) for at in places}
    down, right, level = np.zeros_like(surface), np.zeros_like(surface), np.zeros_like(surface)
    for (row, col), step in filled.items():
        down, right, level = down + row * step, right + col * step, level + step
    uneven = np.zeros_like(surface)
    for (row, col), step in filled.items():
        uneven = np.maximum(uneven, np.abs(step - level / 9 - down / 6 * row - right / 6 * col))
    return np.where(valid >= _LEAST_NEIGHBOURS, uneven, np.inf)


def spread_means(coarse: Float64Array, scale: int) -> Float64Array:
    """Return a field that is continuous over the edges of source pixels and has given means of them.

    Along each axis it is a parabola in each source pixel, whose integral is what is asked for (a histospline). Its ends
    weigh the four source pixels around them by -1/6, 2/3, 2/3, -1/6, which leaves hardly a bend there, so a pixel hangs
    on source pixels up to two away. Where one of the outer two is missing the inner two are averaged, and where one of
    these is the mean itself is taken. Target pixels hold averages of the parabola.

    Args:
        coarse: (y, x), NaN where nothing is asked for.
        scale: Source pixel / target pixel.

    Returns:
        (y * scale, x * scale), 0 where nothing is asked for.
    """
    valid = np.isfinite(coarse)
    fine = np.where(valid, coarse, 0.0)
    for axis in (0, 1):
        fine = _spread_along(fine, valid, scale, axis)
        valid = valid.repeat(scale, axis)
    spread: Float64Array = np.where(valid, fine, 0.0)
    return spread


def _ramp_down(value: Float64Array, width: Float64Array | np.float64) -> Float64Array:
    """Return 1 up to a width, 0 from twice the width on, and a straight line between them."""
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        ramp = np.clip(2 - value / width, 0.0, 1.0)
    share: Float64Array = np.where(width > 0, ramp, value <= 0)
    return share


def _spread_along(value: Float64Array, valid: BoolArray, scale: int, axis: int) -> Float64Array:
    value, valid = np.moveaxis(value, axis, 0), np.moveaxis(valid, axis, 0)
    rim = [(2, 2), (0, 0)]
    padded, known, number = np.pad(value, rim), np.pad(valid, rim), len(value) + 1
    far, before, after, beyond = (padded[first:][:number] for first in range(4))
    both = known[1:][:number] & known[2:][:number]
    all_four = both & known[:number] & known[3:][:number]
    edges = (before + after) / 2
    edges = np.where(all_four, edges + ((before + after) - (far + beyond)) / 6, edges)
    weights = _parabola_weights(scale)
    start, end = np.where(both[:-1], edges[:-1], value), np.where(both[1:], edges[1:], value)
    fine = np.stack([start * first + end * last + value * own for first, last, own in weights], axis=1)
    return np.moveaxis(fine.reshape(-1, *value.shape[1:]), 0, axis)


@lru_cache(maxsize=16)
def _parabola_weights(scale: int) -> tuple[tuple[float, float, float], ...]:
    """Return the weights of both ends and of the mean in each target pixel of a source pixel.

    The parabola with ends a, b and mean m is a (1 - u) + b u + 6 (m - (a + b) / 2) u (1 - u), u from 0 to 1.
    """
    edges = np.arange(scale + 1) / scale
    line = np.diff(edges**2 / 2) * scale
    bend = np.diff(edges**2 / 2 - edges**3 / 3) * scale
    return tuple(zip((1 - line - 3 * bend).tolist(), (line - 3 * bend).tolist(), (6 * bend).tolist(), strict=True))
