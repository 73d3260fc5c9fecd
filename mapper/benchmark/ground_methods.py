"""Methods for heights of the ground that are no networks: constants by land cover, a separation, and a floor.

None has parameters of its own; what it needs of other sites is computed from them each time.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from mapper.arrays import BoolArray, Float32Array
from mapper.benchmark.separation import separate
from mapper.cube.source import average_blocks
from mapper.errors import InputError
from mapper.models.weights import load_model
from mapper.predict.predictor import Estimate
from mapper.spec import ModelSpec
from mapper.training.sample import Sample
from mapper.training.trainer import predict_sample

Solve = Callable[[Sample, Sequence[Sample]], Estimate]
"""Returns an estimate for a site, given other sites with their truth."""

_OBJECTS = ("building", "tree", "water")


@dataclass(frozen=True, kw_only=True)
class Solver:
    """A method with the sites that it may learn from, to be called where a model would be."""

    solve: Solve
    others: tuple[Sample, ...]

    def __call__(self, sample: Sample) -> Estimate:
        """Return the estimate for a site."""
        return self.solve(sample, self.others)


def interpolate_means(site: Sample, others: Sequence[Sample]) -> Estimate:
    """Return the bicubic interpolation of the block mean of the truth itself: what resolution alone costs."""
    del others
    truth = site.truth if site.ground is None or site.ground.heights is None else site.ground.heights
    return _interpolate(site, average_blocks(truth, site.scale))


def subtract_medians(site: Sample, others: Sequence[Sample]) -> Estimate:
    """Return bicubic minus the median error that it has on each land cover of other sites.

    Raises:
        InputError: If no other site knows its land cover.
    """
    errors: dict[int, list[Float32Array]] = {}
    places = {other.place or other.name: other for other in reversed(others)}  # of variants of a place the first
    for other in places.values():
        error = _interpolate(other, other.source).mean - other.truth
        for code, where in _split(other):
            errors.setdefault(code, []).append(error[where & np.isfinite(error)])
    medians = {code: np.median(np.concatenate(parts)) for code, parts in errors.items() if sum(map(len, parts))}
    if not medians:
        raise InputError(f"no other site than {site.name} knows its land cover: there are no medians to subtract")
    value = _interpolate(site, site.source).mean
    for code, where in _split(site):
        # a class that no other site has is left as it is
        value = np.where(where, value - np.float32(medians.get(code, 0.0)), value)
    return Estimate(mean=value)


def separate_objects(site: Sample, others: Sequence[Sample]) -> Estimate:
    """Return bare earth separated from what stands on it; see :mod:`mapper.benchmark.separation`."""
    del others
    names = [name for name, _ in site.bands]
    shares = site.guide[[names.index(name) for name in _OBJECTS if name in names]]
    known = [share for share in shares if np.isfinite(share).any()]
    return Estimate(mean=separate(site.source, np.stack(known), scale=site.scale).ground)


def knows_cover(sample: Sample) -> bool:
    """Return whether the guide of a site has a channel of land cover that is known somewhere."""
    channels = (channel for channel, (name, _) in zip(sample.guide, sample.bands, strict=True) if name in _OBJECTS)
    return any(np.isfinite(channel).any() for channel in channels)


def _split(sample: Sample) -> list[tuple[int, BoolArray]]:
    """Return index and pixels of each class of the guide; 0 is ground that is known to bear none."""
    names = [name for name, _ in sample.bands]
    channels = [sample.guide[names.index(name)] for name in _OBJECTS if name in names]
    parts = [(code, channel == 1) for code, channel in enumerate(channels, 1)]
    bare = np.logical_and.reduce([channel == 0 for channel in channels])
    return [(0, bare), *parts]


def _interpolate(sample: Sample, source: Float32Array) -> Estimate:
    return predict_sample(load_model(ModelSpec(name="bicubic")), replace(sample, source=source))


GROUND_METHODS: Mapping[str, Solve] = {
    "floor": interpolate_means,
    "class-median": subtract_medians,
    "separation": separate_objects,
}
"""Methods by name."""
