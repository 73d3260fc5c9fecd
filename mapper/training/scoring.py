"""What predictions of whole places are worth, and how wide their intervals have to be.

Pixels without a source value do not count: a map has none there.
"""

from collections.abc import Sequence
from functools import reduce
from operator import add
from typing import Any

import numpy as np

from mapper.arrays import Float32Array
from mapper.evaluation.metric import choose_metrics
from mapper.evaluation.score import Score, rounded
from mapper.evaluation.uncertainty import Coverage, calibrate_scale, gaussian_quantile
from mapper.predict.operators import spread
from mapper.predict.predictor import Estimate
from mapper.spec.target import BandSpec
from mapper.training.sample import Sample

_LEVEL = 0.9
"""Share of the errors that intervals are made to hold."""
_LEAST_SCALE = 0.01
"""A deviation stays above 0, even where the source's own explains all errors."""


def score(prediction: Estimate, sample: Sample) -> Score:
    """Return RMSE and bias of a prediction."""
    metrics = choose_metrics(BandSpec(units=sample.source_units), ("rmse", "bias"))
    return Score.of(prediction.mean, sample.known_truth, metrics=metrics)


def calibrate(predictions: Sequence[Estimate], samples: Sequence[Sample], *, holds_source_sd: bool) -> float | None:
    """Factor of a model's standard deviation that makes intervals of a map hold 90 % of the errors.

    A map adds the source's deviation in quadrature where the model has not seen it. What is to be explained by the
    model's part is then what the source's leaves: with z the normal quantile, an interval holds an error where the
    scaled deviation reaches sqrt((error / z)^2 - source_sd^2).

    Args:
        predictions: Of an uncalibrated model.
        samples: The places, not trained on.
        holds_source_sd: Whether the model's deviation has the source's in it.

    Returns:
        The factor; None where too few pixels are known to tell.
    """
    errors, deviations = [], []
    for prediction, sample in zip(predictions, samples, strict=True):
        error, sd = _error(prediction, sample), prediction.sd
        if sd is None:
            return None
        if not holds_source_sd:
            explained = gaussian_quantile(_LEVEL) * _spread_sd(sample)
            error = np.sqrt(np.maximum(np.square(error) - np.square(explained), 0))
        errors.append(error.ravel())
        deviations.append(sd.ravel())
    error, sd = np.concatenate(errors), np.concatenate(deviations)
    if int((np.isfinite(error) & np.isfinite(sd)).sum()) < 1 / (1 - _LEVEL):
        return None
    return max(calibrate_scale(error, sd, level=_LEVEL), _LEAST_SCALE)


def cover(prediction: Estimate, sample: Sample, *, scale: float, holds_source_sd: bool) -> Coverage:
    """How many errors lie within the intervals that a map would store.

    Args:
        prediction: Of an uncalibrated model.
        sample: The place.
        scale: What the model's deviation is multiplied by.
        holds_source_sd: Whether the model's deviation has the source's in it.
    """
    if prediction.sd is None:
        return Coverage()
    sd = prediction.sd * np.float32(scale)
    return Coverage.of(_error(prediction, sample), sd if holds_source_sd else np.hypot(sd, _spread_sd(sample)))


def describe_coverage(
    predictions: Sequence[Estimate], samples: Sequence[Sample], *, scale: float, holds_source_sd: bool
) -> dict[str, Any]:
    """Coverage for a card: of each place by the scale that all other places give, where there are others."""
    scales = [scale] * len(samples)
    if len(samples) > 1:
        for index in range(len(samples)):
            others = [place for place in range(len(samples)) if place != index]
            found = calibrate(
                [predictions[place] for place in others],
                [samples[place] for place in others],
                holds_source_sd=holds_source_sd,
            )
            scales[index] = scale if found is None else found
    parts = [
        cover(prediction, sample, scale=own, holds_source_sd=holds_source_sd)
        for prediction, sample, own in zip(predictions, samples, scales, strict=True)
    ]
    return {
        "scale": rounded(scale),
        "by": "each place by the scale of the others" if len(samples) > 1 else "the place it was calibrated on",
        **reduce(add, parts, Coverage()).to_dict(),
    }


def _error(prediction: Estimate, sample: Sample) -> Float32Array:
    """Return prediction minus truth (y, x), NaN where source or truth is unknown."""
    return np.asarray(prediction.mean - sample.known_truth, np.float32)


def _spread_sd(sample: Sample) -> Float32Array:
    """The source's deviation by target pixel, 0 where unknown, as a map counts it."""
    known: Float32Array = np.nan_to_num(sample.source_sd, nan=0.0)
    return np.asarray(spread(known, sample.scale), np.float32)
