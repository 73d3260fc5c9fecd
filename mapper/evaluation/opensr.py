"""Scores of opensr-test without harmonisation: is the result true to its source, and is its detail that of the truth?

S. Donike and others: opensr-test: a comprehensive benchmark for real-world Sentinel-2 imagery super-resolution. IEEE
Geoscience and Remote Sensing Letters 21 (2024). Definitions are those of its version 1.3.3, pixel by pixel, with both
harmonisations off: matching the histogram of a result to that of the truth hides a bias and calls plain interpolation
hallucination. Images are (band, y, x) in one unit, reflectance 0 to 1 in the published figures, NaN where missing.

Improvement, omission and hallucination add up to 1. The truth itself has an improvement of 1 / (1 + 2 exp(-4)) = .9647,
and its source enlarged an omission near it; neither is 1.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import sparse

from mapper.arrays import BoolArray, Float64Array, FloatArray
from mapper.evaluation.fidelity import angle_map

BORDER_PX = 16
"""Target pixels that are left out on each side, less where the scale does not divide them."""
FURTHEST_PX = 5.0
"""Displacement, in source pixels, beyond which an alignment has failed."""

_UPSAMPLING = 50  # the displacement is found in steps of .02 px
_JUDGED_FROM = 0.75
_LAMBDA = 0.05
_TEMPERATURE = 0.25


@dataclass(frozen=True, kw_only=True)
class Shares:
    """Shares of the pixels that are judged, by what they are like; NaN where none is."""

    improvement: float
    """Share of what is like the truth."""
    omission: float
    """Share of what is like the enlarged source."""
    hallucination: float
    """Share of what is like neither."""
    pixels: int
    """Number of pixels that are judged."""


@dataclass(frozen=True, kw_only=True)
class OpenSrScore:
    """Scores of one image; NaN where nothing was compared."""

    reflectance: float
    """Mean |source - result seen coarsely|, in units of the image."""
    spectral: float
    """Mean spectral angle between the two, degrees; NaN for a single band."""
    spatial: float
    """Displacement between the two in source pixels; NaN where the alignment failed."""
    synthesis: float
    """Mean |enlarged source - result|: how much detail there is, true or not."""
    shares: Shares
    """As published: of the quarter of the pixels where truth and source differ most, and of those where the result
    differs that much from either, so that invented detail is seen; which pixels these are depends on the result."""
    shares_of_detail: Shares
    """Of that quarter alone, the same pixels for all results; detail that is invented elsewhere is not seen."""


def score_opensr(
    value: FloatArray,
    truth: FloatArray,
    source: FloatArray,
    *,
    rgb: Sequence[int] = (0, 1, 2),
) -> OpenSrScore:
    """Return all scores of one result.

    Args:
        value: (band, y, x), the result.
        truth: The same shape and units.
        source: (band, y / scale, x / scale), same units.
        rgb: Bands whose mean is aligned; of fewer than three bands the first is.

    Raises:
        ValueError: If the images do not nest, or leave nothing within the border.
    """
    scale = _find_scale(value, truth, source)
    border = BORDER_PX // scale
    value, truth = (_crop(image, border * scale) for image in (value, truth))
    source = _crop(source, border)
    seen, enlarged = resize(value, *source.shape[1:]), resize(source, *value.shape[1:])
    chosen = list(rgb) if len(source) >= 3 else [0]
    distances = _nd(enlarged, truth), _nd(value, truth), _nd(value, enlarged)
    detail, judged = _choose_pixels(*distances)
    return OpenSrScore(
        reflectance=_mean(_l1(source, seen)),
        spectral=_mean(angle_map(source, seen)) if len(source) > 1 else math.nan,
        spatial=find_displacement(seen[chosen].mean(0), source[chosen].mean(0, dtype=np.float64)),
        synthesis=_mean(_l1(enlarged, value)),
        shares=_classify(*(distance[judged] for distance in distances)),
        shares_of_detail=_classify(*(distance[detail] for distance in distances)),
    )


def resize(image: FloatArray, rows: int, cols: int) -> Float64Array:
    """Return an image of another size, bilinear and antialiased: weights are triangles as wide as the coarser pixel.

    Args:
        image: (band, y, x); NaN where missing.
        rows: New number of rows.
        cols: New number of columns.

    Returns:
        (band, rows, cols), NaN where a pixel that counts is missing.
    """
    known = np.isfinite(image)
    values = _weigh(np.where(known, image, 0), rows, cols)
    return values if known.all() else np.where(_weigh(known, rows, cols) > 1 - 1e-9, values, np.nan)


def find_displacement(reference: FloatArray, moved: FloatArray) -> float:
    """Return how far one image lies from another, in pixels, by phase correlation to a fiftieth of a pixel.

    M. Guizar-Sicairos, S. T. Thurman, J. R. Fienup: Efficient subpixel image registration algorithms. Optics Letters
    33 (2008), 156-158, with the spectrum normalised to its phase. Gaps of either image become the mean of what both
    have.

    Args:
        reference: (y, x).
        moved: The same shape.

    Returns:
        NaN beyond :data:`FURTHEST_PX`, or where less than half of the pixels is known.
    """
    known = np.isfinite(reference) & np.isfinite(moved)
    if not known.any() or known.mean() < 0.5:
        return math.nan
    first, second = (np.where(known, image, image[known].mean()).astype(np.float64) for image in (reference, moved))
    product = np.fft.fft2(first) * np.fft.fft2(second).conj()
    product /= np.maximum(np.abs(product), 100 * np.finfo(np.float64).eps)
    sizes = np.array(first.shape)
    whole = np.array(np.unravel_index(np.abs(np.fft.ifft2(product)).argmax(), first.shape), dtype=np.float64)
    whole -= np.where(whole > sizes // 2, sizes, 0)
    width = math.ceil(1.5 * _UPSAMPLING)
    steps = whole[:, None] + (np.arange(width) - width // 2) / _UPSAMPLING  # (axis, step), pixels
    waves = [np.exp(2j * np.pi * np.outer(at, np.fft.fftfreq(size))) for at, size in zip(steps, sizes, strict=True)]
    peaks = np.abs(waves[0] @ product @ waves[1].T)
    down, right = np.unravel_index(peaks.argmax(), peaks.shape)
    distance = math.hypot(steps[0, down], steps[1, right])
    return distance if distance <= FURTHEST_PX else math.nan


def _classify(reference: Float64Array, to_truth: Float64Array, to_source: Float64Array) -> Shares:
    """Return the shares of some pixels by their distances (pixel,): source to truth, result to truth, to source."""
    if not reference.size:
        return Shares(improvement=math.nan, omission=math.nan, hallucination=math.nan, pixels=0)
    with np.errstate(divide="ignore", over="ignore"):  # where source and truth agree to the bit, the rest is invented
        a, b = to_truth / reference, to_source / reference
        kept = 1 - np.exp(-_LAMBDA * (a + b - 1))
        likeness = np.exp(-np.stack([a + b * kept, b + a * kept, np.exp(-_LAMBDA * a * b)]) / _TEMPERATURE)
    improvement, omission, hallucination = (likeness / likeness.sum(0)).mean(1).tolist()
    return Shares(improvement=improvement, omission=omission, hallucination=hallucination, pixels=reference.size)


def _choose_pixels(
    reference: Float64Array, to_truth: Float64Array, to_source: Float64Array
) -> tuple[BoolArray, BoolArray]:
    """Return the pixels where truth and source differ most, and all that are judged; both (y, x)."""
    known = np.isfinite(reference) & np.isfinite(to_truth) & np.isfinite(to_source)
    rank = int(_JUDGED_FROM * known.sum())
    if not rank:
        return np.zeros_like(known), np.zeros_like(known)
    least = np.partition(reference[known], rank - 1)[rank - 1]
    detail = known & (reference > least)
    return detail, detail | (known & ((to_truth > least) | (to_source > least)))


def _l1(one: FloatArray, other: FloatArray) -> Float64Array:
    """Return the mean absolute difference over bands, (y, x)."""
    return np.asarray(np.abs(np.subtract(one, other, dtype=np.float64)).mean(0), np.float64)


def _nd(one: FloatArray, other: FloatArray) -> Float64Array:
    """Return the normalised difference, averaged over bands, (y, x)."""
    difference = np.abs(np.subtract(one, other, dtype=np.float64))
    return np.asarray((difference / np.abs(np.add(one, other, dtype=np.float64) + 1e-8)).mean(0), np.float64)


def _weigh(image: npt.NDArray[Any], rows: int, cols: int) -> Float64Array:
    """Return the weighted sums of :func:`resize`, (band, rows, cols)."""
    for size in (rows, cols):  # the axis that is next becomes the last
        weights = _triangles(image.shape[1], size)
        flat = np.moveaxis(image, 1, 0).reshape(image.shape[1], -1).astype(np.float64)
        image = np.moveaxis((weights @ flat).reshape(size, image.shape[0], image.shape[2]), 0, 2)
    return image


def _triangles(before: int, after: int) -> sparse.csr_array:
    """Return the weights (after, before) of the pixels of an axis; what lies outside does not count."""
    ratio = before / after
    distance = np.abs((np.arange(after)[:, None] + 0.5) * ratio - (np.arange(before) + 0.5))
    weights = np.maximum(1 - distance / max(ratio, 1.0), 0)
    return sparse.csr_array(weights / weights.sum(1, keepdims=True))


def _crop(image: FloatArray, border_px: int) -> FloatArray:
    rows, cols = image.shape[1:]
    if min(rows, cols) <= 2 * border_px:
        raise ValueError(f"an image of {rows} x {cols} px holds nothing within a border of {border_px} px")
    return image[:, border_px : rows - border_px, border_px : cols - border_px]


def _find_scale(value: FloatArray, truth: FloatArray, source: FloatArray) -> int:
    scale = int(value.shape[-1] // max(source.shape[-1], 1))
    nests = value.shape == truth.shape == (source.shape[0], *(edge * scale for edge in source.shape[1:]))
    if value.ndim != 3 or scale < 1 or not nests:
        raise ValueError(f"value {value.shape}, truth {truth.shape} and source {source.shape} do not nest")
    return scale


def _mean(values: Float64Array) -> float:
    known = values[np.isfinite(values)]
    return float(known.mean()) if known.size else math.nan
