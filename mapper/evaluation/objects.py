"""Scores of objects: predicted and true ones matched one to one, and the pixels of a class.

Predictions are matched greedily: the best first, each with the free truth that it overlaps most, which counts if
intersection over union reaches a threshold. It is the rule of SpaceNet (A. Van Etten, D. Lindenbaum, T. M. Bacastow:
SpaceNet: a remote sensing dataset and challenge series. arXiv 1807.01232, 2018). Best is the highest confidence or,
without confidences, the largest overlap. What is counted adds up over images, scores do not.

Objects of a mask are its components under 4 neighbours: pixels that touch at a corner alone are of two objects.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import shapely
from scipy import ndimage
from shapely.geometry.base import BaseGeometry

from mapper.arrays import BoolArray, Float64Array, IntArray
from mapper.errors import InputError


@dataclass(frozen=True, kw_only=True)
class ObjectCounts:
    """Objects that were found, invented and missed at one threshold."""

    found: int = 0
    """True positives: predictions that match a truth, one to one."""
    invented: int = 0
    """False positives: predictions without a truth."""
    missed: int = 0
    """False negatives: truths without a prediction."""

    def __add__(self, other: "ObjectCounts") -> "ObjectCounts":
        """Return the counts of two images together."""
        return ObjectCounts(
            found=self.found + other.found,
            invented=self.invented + other.invented,
            missed=self.missed + other.missed,
        )

    @property
    def precision(self) -> float:
        """Return the share of predictions that are found; NaN without predictions."""
        return _divide(self.found, self.found + self.invented)

    @property
    def recall(self) -> float:
        """Return the share of truths that are found; NaN without truths."""
        return _divide(self.found, self.found + self.missed)

    @property
    def f1(self) -> float:
        """Return the harmonic mean of precision and recall; NaN where there is nothing to find and nothing found."""
        return _divide(2 * self.found, 2 * self.found + self.invented + self.missed)


@dataclass(frozen=True, kw_only=True)
class PixelCounts:
    """Pixels of a class and of everything else, predicted and true; pixels that either lacks do not count."""

    both: int = 0
    """In the class in prediction and truth."""
    predicted: int = 0
    """In the class in the prediction alone."""
    true: int = 0
    """In the class in the truth alone."""
    neither: int = 0

    def __add__(self, other: "PixelCounts") -> "PixelCounts":
        """Return the counts of two images together."""
        return PixelCounts(
            both=self.both + other.both,
            predicted=self.predicted + other.predicted,
            true=self.true + other.true,
            neither=self.neither + other.neither,
        )

    @property
    def iou(self) -> float:
        """Return the intersection over union of the class; NaN where it is nowhere."""
        return _divide(self.both, self.both + self.predicted + self.true)

    @property
    def mean_iou(self) -> float:
        """Return the mean of the intersection over union of the class and of everything else; NaN if one is nowhere."""
        return (self.iou + _divide(self.neither, self.neither + self.predicted + self.true)) / 2


def count_pixels(predicted: BoolArray, true: BoolArray, *, known: BoolArray | None = None) -> PixelCounts:
    """Return the pixels of a class, of two masks of the same shape.

    Args:
        predicted: True where the class was predicted, (y, x).
        true: True where it is.
        known: True where the truth is known; everywhere by default.

    Raises:
        InputError: If the masks differ in shape.
    """
    _check_alike(predicted, true)
    inside = np.ones(true.shape, bool) if known is None else known
    return PixelCounts(
        both=int((predicted & true & inside).sum()),
        predicted=int((predicted & ~true & inside).sum()),
        true=int((~predicted & true & inside).sum()),
        neither=int((~predicted & ~true & inside).sum()),
    )


def label_objects(mask: BoolArray) -> tuple[IntArray, int]:
    """Return the number of its object for each pixel of a mask, (y, x), 0 outside of any; and the number of objects."""
    labels, number = ndimage.label(mask)  # 4 neighbours is its default
    return np.asarray(labels, np.int64), int(number)


@dataclass(frozen=True, kw_only=True, eq=False)
class Overlaps:
    """Intersection over union of the predictions and truths of one image that touch, and how many there are."""

    predictions: int
    truths: int
    prediction: IntArray
    """Index of the prediction of each pair, (pair,)."""
    truth: IntArray
    """Index of the truth of each pair, (pair,)."""
    iou: Float64Array
    """(pair,), above 0."""

    def match(self, threshold: float, *, confidence: Sequence[float] | None = None) -> ObjectCounts:
        """Match predictions and truths one to one.

        Args:
            threshold: Least intersection over union of a match, above 0 and at most 1.
            confidence: One number for each prediction: higher ones choose first, equal ones by their overlap.

        Raises:
            InputError: If the threshold is out of range, or there is another number of confidences.
        """
        if not 0 < threshold <= 1:
            raise InputError(f"threshold {threshold:g} of intersection over union: expected more than 0 and at most 1")
        ranks = np.zeros(self.predictions) if confidence is None else np.asarray(confidence, np.float64)
        if ranks.shape != (self.predictions,):
            raise InputError(f"{ranks.size} confidences for {self.predictions} predictions")
        order = np.lexsort((self.truth, self.prediction, -self.iou, -ranks[self.prediction]))
        chosen: set[int] = set()
        taken: set[int] = set()
        for pair in order[self.iou[order] >= threshold].tolist():
            prediction, truth = int(self.prediction[pair]), int(self.truth[pair])
            if prediction not in chosen and truth not in taken:
                chosen.add(prediction)
                taken.add(truth)
        found = len(taken)
        return ObjectCounts(found=found, invented=self.predictions - found, missed=self.truths - found)


def overlap_masks(predicted: BoolArray, true: BoolArray) -> Overlaps:
    """Return the overlaps of the objects of two masks of the same shape, (y, x).

    Raises:
        InputError: If the masks differ in shape.
    """
    _check_alike(predicted, true)
    (ours, number), (theirs, other) = label_objects(predicted), label_objects(true)
    areas, true_areas = (
        np.bincount(ours.ravel(), minlength=number + 1),
        np.bincount(theirs.ravel(), minlength=other + 1),
    )
    both = (ours > 0) & (theirs > 0)
    pairs, shared = np.unique(ours[both] * (other + 1) + theirs[both], return_counts=True)
    one, two = np.divmod(pairs, other + 1)
    iou = shared / (areas[one] + true_areas[two] - shared)
    return Overlaps(predictions=number, truths=other, prediction=one - 1, truth=two - 1, iou=iou.astype(np.float64))


def overlap_polygons(predicted: Iterable[BaseGeometry], true: Iterable[BaseGeometry]) -> Overlaps:
    """Return the overlaps of polygons in the same plane; empty ones are no objects.

    An outline that crosses itself stands for all that lies inside of it: a buffer of 0 would lose half a bow tie.
    """
    ours, theirs = _mend(predicted), _mend(true)
    one, two = shapely.STRtree(theirs).query(ours, predicate="intersects")
    shared = shapely.area(shapely.intersection(ours[one], theirs[two]))
    iou = shared / (shapely.area(ours[one]) + shapely.area(theirs[two]) - shared)
    some = iou > 0
    return Overlaps(
        predictions=len(ours),
        truths=len(theirs),
        prediction=one[some].astype(np.int64),
        truth=two[some].astype(np.int64),
        iou=iou[some].astype(np.float64),
    )


def _mend(polygons: Iterable[BaseGeometry]) -> "np.ndarray[tuple[int], np.dtype[np.object_]]":
    mended = shapely.make_valid(np.array(list(polygons), object), method="structure", keep_collapsed=False)
    return np.asarray(mended[~shapely.is_empty(mended)])


def _check_alike(predicted: BoolArray, true: BoolArray) -> None:
    if predicted.shape != true.shape or predicted.dtype != bool or true.dtype != bool:
        raise InputError(
            f"masks are bool arrays of one shape, got {predicted.dtype} {predicted.shape} and {true.dtype} {true.shape}"
        )


def _divide(part: float, whole: float) -> float:
    return part / whole if whole else math.nan
