"""Images of a scene that are no method, or no fair one: beside them it shows what a score is worth.

The truth itself shows the best that a score can be. An unsharp mask knows nothing and wins where only the truth's own
detail is looked at. Detail that is invented has all the energy of the true one, in the wrong place. Back-projection in
as many rounds as suit the truth is the most that can be had without knowing what images look like.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
from scipy.ndimage import gaussian_filter

from mapper.arrays import Float32Array
from mapper.benchmark.sensor_view import interpolate, tie_by_rounds, tie_to_source
from mapper.evaluation.fidelity import rmse
from mapper.models.card import BACK_PROJECTION_ROUNDS
from mapper.predict.predictor import Estimate
from mapper.training.sample import Sample

_MASK_SD = 0.5
"""Standard deviation of the mask in source pixels."""
_MASK_AMOUNT = 1.5


@dataclass(frozen=True, kw_only=True)
class Yardstick:
    """A way to an image of a scene."""

    make: Callable[[Sample], Float32Array]
    sees_truth: bool
    """True for one that a method could not be."""

    def __call__(self, sample: Sample, others: Sequence[Sample]) -> Estimate:
        """Return the image of a site; other sites do not matter."""
        del others
        return Estimate(mean=self.make(sample))


def show_truth(sample: Sample) -> Float32Array:
    """Return the truth of a scene, (band, y, x)."""
    return sample.truth


def sharpen_blindly(sample: Sample) -> Float32Array:
    """Return an unsharp mask of the interpolated source, (band, y, x): its contrasts of some width, exaggerated."""
    image = interpolate(sample)
    width = _MASK_SD * sample.scale
    blurred = np.stack([gaussian_filter(band, width, mode="nearest") for band in image])
    return np.asarray(image + np.float32(_MASK_AMOUNT) * (image - blurred))


def invent_detail(sample: Sample) -> Float32Array:
    """Return back-projection with the detail that it lacks, turned: right in every statistic, and invented.

    It is turned by a quarter where the scene is square, and else by half.
    """
    image = project_back(sample)
    lacking = np.nan_to_num(sample.truth - image)
    rows, cols = lacking.shape[1:]
    return np.asarray(image + np.rot90(lacking, 1 if rows == cols else 2, axes=(1, 2)))


def project_back(sample: Sample) -> Float32Array:
    """Return the usual number of rounds of back-projection, (band, y, x)."""
    return tie_to_source(interpolate(sample), sample, rounds=BACK_PROJECTION_ROUNDS)


def project_back_at_best(sample: Sample) -> Float32Array:
    """Return back-projection in the number of rounds that is nearest to the truth, up to the usual one."""
    rounds = islice(tie_by_rounds(interpolate(sample), sample), BACK_PROJECTION_ROUNDS + 1)
    return min(rounds, key=lambda image: rmse(image, sample.truth))


YARDSTICKS: Mapping[str, Yardstick] = {
    "truth": Yardstick(make=show_truth, sees_truth=True),
    "unsharp-mask": Yardstick(make=sharpen_blindly, sees_truth=False),
    "invention": Yardstick(make=invent_detail, sees_truth=True),
    "back-projection-best": Yardstick(make=project_back_at_best, sees_truth=True),
}
"""Yardsticks by name."""
