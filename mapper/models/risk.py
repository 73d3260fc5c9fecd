"""Risk of hallucination: numbers that were fitted where a truth is known, in the card of a model. Imports no torch.

The risk of a pixel is the probability that it shows detail which is neither that of the truth nor that of the source,
as opensr-test judges it without harmonisation. It follows from a score, a weighted sum of logarithms of ratios without
units, through a curve that never falls; weights have the signs of :data:`FEATURES`, so that risk rises or falls with
each of them alone.
"""

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from mapper.arrays import BoolArray, Float64Array

FEATURES: Mapping[str, int] = {"sd": 1, "detail": 1, "detail_gain": 1, "consistency_residual": 1, "n_dates": -1}
"""Features by name, in their order, with the sign of their weight.

All are natural logarithms. ``sd``: root mean square of the bands' standard deviations, ``detail``: mean |value -
bicubic| of the bands, and ``consistency_residual``: the largest difference of what the network drew to the source; each
over the root of the local energy of the value above the source's Nyquist frequency.
"""
REGIONAL = ("sd", "detail_gain", "consistency_residual", "n_dates")
"""Features that tell what a model was fitted to; the detail of one pixel does not."""

_LEAST = 1e-3
"""Least ratio that a logarithm is taken of."""
_MOST_KNOTS = 64


@dataclass(frozen=True, kw_only=True)
class Risk:
    """Estimate of the risk of hallucination, and the box of the features that it was fitted to."""

    weights: tuple[float, ...]
    """Weight of each feature in the score."""
    scores: tuple[float, ...]
    """Scores at which the curve is known, rising."""
    risks: tuple[float, ...]
    """Risk there, 0 to 1, never falling; straight between, level beyond."""
    least: tuple[float, ...]
    """Least of each regional feature, of a box that holds 99.5 % of the pixels that were fitted to."""
    most: tuple[float, ...]
    """Greatest of each."""
    about: Mapping[str, Any] = field(default_factory=dict)
    """Sites, consistency, and reliability on sites that were not fitted to; enters no digest."""

    @property
    def digest(self) -> str:
        """Sha256 of the numbers."""
        numbers = {key: value for key, value in asdict(self).items() if key != "about"}
        return hashlib.sha256(json.dumps(numbers, sort_keys=True).encode()).hexdigest()

    def estimate(self, features: Float64Array) -> Float64Array:
        """Return the risk of pixels, 0 to 1, (...); NaN where a feature is unknown.

        Args:
            features: (feature, ...) as :func:`stack_features` returns them.
        """
        score = sum(weight * feature for weight, feature in zip(self.weights, features, strict=True))
        return np.asarray(np.interp(score, self.scores, self.risks), np.float64)

    def find_strange(self, features: Float64Array) -> BoolArray:
        """Return the pixels (...) whose regional features lie outside the box; unknown ones do not."""
        strange: BoolArray = np.zeros(features.shape[1:], bool)
        for feature, least, most in zip(features[list(REGIONAL_AT)], self.least, self.most, strict=True):
            strange |= (feature < least) | (feature > most)
        return strange

    def check(self) -> None:
        """Check numbers, signs and order.

        Raises:
            ValueError: With the first that is wrong.
        """
        lengths = {"weights": len(FEATURES), "least": len(REGIONAL), "most": len(REGIONAL), "risks": len(self.scores)}
        for name, length in (*lengths.items(), ("scores", len(self.scores))):
            numbers = getattr(self, name)
            if len(numbers) != length or not all(isinstance(each, float) and math.isfinite(each) for each in numbers):
                raise ValueError(f"{name} of the risk are {numbers!s:.60}, expected {length} numbers")
        if not 2 <= len(self.scores) <= _MOST_KNOTS:
            raise ValueError(f"the curve of the risk has {len(self.scores)} points, expected 2 to {_MOST_KNOTS}")
        wrong = [name for (name, sign), weight in zip(FEATURES.items(), self.weights, strict=True) if sign * weight < 0]
        if wrong:
            raise ValueError(f"weights of the risk have the wrong sign: {', '.join(wrong)}")
        if not (_rise(self.scores, strictly=True) and _rise(self.risks) and 0 <= self.risks[0] <= self.risks[-1] <= 1):
            raise ValueError("the curve of the risk falls, or leaves 0 to 1")


REGIONAL_AT = tuple(list(FEATURES).index(name) for name in REGIONAL)
"""Places of the regional features among all."""


def parse_risk(form: Mapping[str, Any]) -> Risk:
    """Return the risk that a card holds.

    Raises:
        ValueError: If it says what no risk can be.
        TypeError: If it has other keys.
    """
    form = dict(form)
    about = form.pop("about", {})
    risk = Risk(**{name: tuple(float(each) for each in numbers) for name, numbers in form.items()}, about=about)
    risk.check()
    return risk


def stack_features(
    *,
    sd: Float64Array,
    detail: Float64Array,
    gain: Float64Array,
    residual: Float64Array,
    n_dates: Float64Array,
    energy: Float64Array,
) -> Float64Array:
    """Return features of pixels in the order of :data:`FEATURES`, (feature, ...).

    Args:
        sd: Standard deviation, root mean square of the bands; NaN where unknown.
        detail: Mean |value - bicubic| of the bands.
        gain: Gain in detail.
        residual: Largest difference to the source, of what the network drew; NaN counts as none.
        n_dates: Dates that agree; fewer than one count as one.
        energy: Local energy above the source's Nyquist frequency, in squared units of the others.
    """
    amplitude = np.sqrt(np.maximum(energy, np.finfo(np.float64).tiny))
    ratios = (sd / amplitude, detail / amplitude, gain, np.nan_to_num(residual, nan=0.0) / amplitude)
    features = np.stack([*(np.maximum(each, _LEAST) for each in ratios), np.maximum(n_dates, 1)])
    return np.asarray(np.log(features), np.float64)


def _rise(numbers: Sequence[float], *, strictly: bool = False) -> bool:
    steps = np.diff(numbers)
    return bool((steps > 0).all() if strictly else (steps >= 0).all())
