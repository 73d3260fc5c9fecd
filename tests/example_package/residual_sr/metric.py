"""A metric: how many pixels are nearly right."""

import numpy as np

from mapper.arrays import Float64Array, FloatArray
from mapper.evaluation.metric import Metric


class Within20(Metric):
    """Share of pixels whose value is within 20 % of the truth."""

    name, title, better = "within_20", "within 20 %", "higher"
    units = ""

    def sums(self, value: FloatArray, truth: FloatArray, source: FloatArray) -> Float64Array:
        """Return the numbers of all pixels and of those that are nearly right."""
        del source
        known = np.isfinite(value) & np.isfinite(truth)
        near = np.abs(value[known] - truth[known]) <= 0.2 * np.abs(truth[known])
        return np.array([known.sum(), near.sum()], np.float64)

    def score(self, sums: Float64Array) -> float:
        """Return the share."""
        pixels, near = sums.tolist()
        return near / pixels if pixels else float("nan")
