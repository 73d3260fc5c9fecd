"""Scores of opensr-test: is the result true to its source, and is its detail that of the truth?

S. Donike and others: opensr-test: a comprehensive benchmark for real-world Sentinel-2 imagery super-resolution. IEEE
Geoscience and Remote Sensing Letters 21 (2024). Definitions are those of its version 1.3.3; as it is published with
:data:`PUBLISHED`, and by default without what leaks the truth into a result, see
:mod:`~mapper.evaluation.harmonisation`. Images are (band, y, x) in one unit, reflectance 0 to 1 in the published
figures, NaN where missing.

Improvement, omission and hallucination add up to 1. As published the truth itself has an improvement of 1 / (1 + 2
exp(-4)) = .9647, and its source enlarged an omission near it; neither is 1. Rescaled, what every class gets for nothing
is taken off each pixel, so that the truth has 1, 0, 0, and what is like neither 0, 0, 1.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import sparse

from mapper.arrays import BoolArray, Float64Array, FloatArray
from mapper.evaluation.distances import choose_distance, map_distance
from mapper.evaluation.harmonisation import find_displacement, harmonise

BORDER_PX = 16
"""Target pixels that are left out on each side, less where the scale does not divide them."""

_LAMBDA = 0.05
_TEMPERATURE = 0.25
FLOOR = math.exp(-1 / _TEMPERATURE) / (1 + 2 * math.exp(-1 / _TEMPERATURE))
"""Share that the truth itself has of omission and of hallucination, .0177, for a distance that is 0 between equals."""


@dataclass(frozen=True, kw_only=True)
class OpenSrOptions:
    """Options of a comparison; distances by name, see :data:`~mapper.evaluation.distances.DISTANCES`."""

    border_px: int = BORDER_PX
    """Target pixels that are left out on each side."""
    harmonise: bool = False
    """True gives the result the truth's histograms and place before its detail is judged: it leaks the truth."""
    patch_px: int | None = None
    """Edge of the patches that have one distance each, in pixels of what is compared; None takes each pixel."""
    padding: float = math.nan
    """Value of what patches hold beyond an image; NaN does not count."""
    reflectance: str = "l1"
    spectral: str = "sad"
    synthesis: str = "l1"
    correctness: str = "nd"
    """Distance that tells improvement, omission and hallucination apart."""
    judged_from: float = 0.75
    """Share of the pixels that have too little detail to be judged, 0 to 1 without the ends."""

    def __post_init__(self) -> None:
        if self.border_px < 0 or (self.patch_px is not None and self.patch_px < 1) or not 0 < self.judged_from < 1:
            raise ValueError(
                f"expected a border of 0 px or more, patches of 1 px or more and a share between 0 and 1, got "
                f"{self.border_px}, {self.patch_px} and {self.judged_from}"
            )


PUBLISHED = OpenSrOptions(harmonise=True, padding=0.0)
"""opensr-test as it comes: harmonised by the truth; zeros beyond the image, where there are patches."""


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
    """Distance of source and result seen coarsely, by default mean |difference| in units of the image."""
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
    rescaled: Shares
    """As ``shares``, each pixel less what every class gets for nothing: 0 to 1."""
    rescaled_of_detail: Shares
    """The same of ``shares_of_detail``."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Likeness:
    """Classes of the pixels of one result, on its whole grid."""

    classes: Float64Array
    """(class, y, x) likeness to truth, to enlarged source, to neither: improvement, omission, hallucination. They add
    up to 1; NaN in the border and where something is missing."""
    judged: BoolArray
    """(y, x) with enough detail in truth or result to be judged."""
    detail: BoolArray
    """(y, x) with enough detail in the truth: the same for all results."""

    def rescale(self) -> Float64Array:
        """Return the classes less what each gets for nothing, 0 to 1 with the sum 1; (class, y, x)."""
        beyond = np.maximum(self.classes - FLOOR, 0)
        return np.asarray(beyond / beyond.sum(0), np.float64)


def score_opensr(
    value: FloatArray,
    truth: FloatArray,
    source: FloatArray,
    *,
    rgb: Sequence[int] = (0, 1, 2),
    options: OpenSrOptions | None = None,
) -> OpenSrScore:
    """Return all scores of one result.

    Args:
        value: (band, y, x), the result.
        truth: The same shape and units.
        source: (band, y / scale, x / scale), same units.
        rgb: Bands whose mean is aligned; of fewer than three bands the first is.
        options: None harmonises nothing and looks at pixels.

    Raises:
        ValueError: If the images do not nest, or leave nothing within the border.
        InputError: If a distance is unknown, not installed, or of patches only where there are none.
    """
    options = options or OpenSrOptions()
    images = _Images.of(value, truth, source, options)
    chosen = list(rgb) if len(source) >= 3 else [0]
    seen = resize(images.value, *images.source.shape[1:])
    likeness = _find_likeness(images)
    classes, rescaled = likeness.classes, likeness.rescale()
    return OpenSrScore(
        reflectance=_mean(images.compare(options.reflectance, images.source, seen)),
        spectral=_mean(images.compare(options.spectral, images.source, seen)) if len(source) > 1 else math.nan,
        spatial=find_displacement(seen[chosen].mean(0), images.source[chosen].mean(0, dtype=np.float64)),
        synthesis=_mean(images.compare(options.synthesis, images.enlarged, images.harmonised)),
        shares=_share(classes, likeness.judged),
        shares_of_detail=_share(classes, likeness.detail),
        rescaled=_share(rescaled, likeness.judged),
        rescaled_of_detail=_share(rescaled, likeness.detail),
    )


def map_likeness(
    value: FloatArray, truth: FloatArray, source: FloatArray, *, options: OpenSrOptions | None = None
) -> Likeness:
    """Return what each pixel of a result is like; the arguments are those of :func:`score_opensr`."""
    options = options or OpenSrOptions()
    images = _Images.of(value, truth, source, options)
    inner = _find_likeness(images)
    border = (value.shape[1] - images.value.shape[1]) // 2
    rim = (border, border), (border, border)
    return Likeness(
        classes=np.pad(inner.classes, ((0, 0), *rim), constant_values=np.nan),
        judged=np.pad(inner.judged, rim),
        detail=np.pad(inner.detail, rim),
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


@dataclass(frozen=True, kw_only=True, eq=False)
class _Images:
    """Images within the border, as they are compared."""

    value: FloatArray
    truth: FloatArray
    source: FloatArray
    enlarged: Float64Array
    """The source on the target's grid."""
    harmonised: FloatArray
    """The result that is judged."""
    scale: int
    options: OpenSrOptions

    @classmethod
    def of(cls, value: FloatArray, truth: FloatArray, source: FloatArray, options: OpenSrOptions) -> "_Images":
        scale = _find_scale(value, truth, source)
        border = options.border_px // scale
        value, truth = (_crop(image, border * scale) for image in (value, truth))
        source = _crop(source, border)
        return cls(
            value=value,
            truth=truth,
            source=source,
            enlarged=resize(source, *value.shape[1:]),
            harmonised=harmonise(value, truth) if options.harmonise else value,
            scale=scale,
            options=options,
        )

    def compare(self, name: str, one: FloatArray, other: FloatArray) -> Float64Array:
        """Return a distance by name at each pixel, (y, x)."""
        options, distance = self.options, choose_distance(name)
        return map_distance(distance, one, other, scale=self.scale, patch_px=options.patch_px, padding=options.padding)


def _find_likeness(images: _Images) -> Likeness:
    """Return the classes of all pixels within the border, and which of them are judged."""
    pairs = (
        (images.enlarged, images.truth),
        (images.harmonised, images.truth),
        (images.harmonised, images.enlarged),
    )
    name = images.options.correctness
    reference, to_truth, to_source = (images.compare(name, one, other) for one, other in pairs)
    known = np.isfinite(images.truth).all(0) & ~np.isnan(reference + to_truth + to_source)
    least = _find_least(reference[known], images.options.judged_from)
    least = max(least, choose_distance(name).noise(images.truth.astype(np.float64)))
    detail = known & (reference > least)
    return Likeness(
        classes=np.where(known, _classify(reference, to_truth, to_source), np.nan),
        judged=detail | (known & ((to_truth > least) | (to_source > least))),
        detail=detail,
    )


def _classify(reference: Float64Array, to_truth: Float64Array, to_source: Float64Array) -> Float64Array:
    """Return likeness (class, ...) by distances: enlarged source to truth, result to truth, result to it.

    Where source and truth agree to the bit, what the result adds is far from both.
    """
    a, b = (np.minimum(distance / np.maximum(reference, 1e-99), 1e99) for distance in (to_truth, to_source))
    kept = -np.expm1(-_LAMBDA * (a + b - 1))
    unlikeness = np.stack([a + b * kept, b + a * kept, np.exp(-_LAMBDA * a * b)]) / _TEMPERATURE
    likeness = np.exp(unlikeness.min(0) - unlikeness)
    return np.asarray(likeness / likeness.sum(0), np.float64)


def _find_least(reference: Float64Array, share: float) -> float:
    """Return the distance of source and truth that a share of the pixels does not exceed; infinite for too few."""
    rank = int(share * reference.size)
    return float(np.partition(reference, rank - 1)[rank - 1]) if rank else math.inf


def _share(classes: Float64Array, of: BoolArray) -> Shares:
    """Return the shares of some pixels."""
    pixels = int(of.sum())
    means = classes[:, of].mean(1).tolist() if pixels else (math.nan,) * 3
    return Shares(improvement=means[0], omission=means[1], hallucination=means[2], pixels=pixels)


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
