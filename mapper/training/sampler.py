"""Patches drawn from samples: where the network can take them, rotated, flipped and varied.

What a patch shows is decided by the seed, the step, its index in the batch and the member of an ensemble, and by
nothing that was drawn before. So a training goes on after an interruption as if there had been none, and shows the
network the same patches on any number of devices; there is no state to keep.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from mapper.arrays import BoolArray, Float32Array
from mapper.errors import InputError
from mapper.models.contract import BandNorm
from mapper.training.augment import vary_guide, vary_source
from mapper.training.config import AugmentConfig
from mapper.training.sample import Dates, Sample


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Patches of one shape; (patch, channel, y, x)."""

    guide: Float32Array
    source: Float32Array
    source_sd: Float32Array
    truth: Float32Array
    values: Float32Array
    """(patch, date, band, y, x) of a stack; no date where samples have one image."""
    clear: BoolArray
    """(patch, date, y, x)."""
    shift: Float32Array
    """(patch, date, 2, y, x)."""


def check_alike(samples: Sequence[Sample]) -> None:
    """Check that samples can be trained on together.

    Raises:
        InputError: If the samples differ in their channels, scale, units, targets or vertical datum.
    """
    for what in ("bands", "dates", "scale", "source_units", "targets"):
        found = {getattr(sample, what) for sample in samples}
        if len(found) != 1:
            raise InputError(f"samples have different {what.replace('bands', 'guide channels').replace('_', ' ')}")
    datums = sorted({sample.vertical_datum for sample in samples} - {""})
    if len(datums) > 1:
        raise InputError(
            f"samples have heights in different vertical datums, {', '.join(datums)}: give their maps one "
            "target.vertical_datum, with the datum_shift of source and truth"
        )


def measure_bands(samples: Sequence[Sample]) -> tuple[BandNorm, ...]:
    """Return mean and standard deviation of each guide channel over all samples, which are alike."""
    bands = []
    for index, (name, units) in enumerate(samples[0].bands):
        mean, sd = measure([sample.guide[index] for sample in samples])
        bands.append(BandNorm(name=name, units=units, mean=mean, sd=sd))
    return tuple(bands)


def measure(arrays: Sequence[Float32Array]) -> tuple[float, float]:
    """Return mean and standard deviation over the valid values of all arrays; 0 and 0 where there is none."""
    number = sum(int(np.isfinite(array).sum()) for array in arrays)
    if not number:
        return 0.0, 0.0
    mean = sum(float(np.nansum(array, dtype=np.float64)) for array in arrays) / number
    square = sum(float(np.nansum(np.square(array.astype(np.float64) - mean))) for array in arrays)
    return mean, float(np.sqrt(square / number))


def pad_sample(sample: Sample, step: int) -> tuple[Float32Array, Float32Array, Float32Array, Float32Array]:
    """Return guide, source, its deviation and truth, continued by NaN to multiples of ``step`` target pixels.

    Args:
        sample: Of any size.
        step: A multiple of the sample's scale.
    """
    rows, cols = (-edge % step for edge in sample.truth.shape[-2:])
    fine, coarse = (rows, cols), (rows // sample.scale, cols // sample.scale)
    return (
        _pad(sample.guide, fine),
        _pad(sample.source, coarse),
        _pad(sample.source_sd, coarse),
        _pad(sample.truth, fine),
    )


def pad_stack(sample: Sample, step: int) -> Dates:
    """Return the dates of a sample, like :func:`pad_sample`; no date where it has one image."""
    rows, cols = (-edge % step // sample.scale for edge in sample.truth.shape[-2:])
    stack = sample.stack or _without_dates(sample)
    return Dates(
        values=_pad(stack.values, (rows, cols)),
        clear=np.pad(stack.clear, [(0, 0), (0, rows), (0, cols)]),
        shift=np.pad(stack.shift, [(0, 0), (0, 0), (0, rows), (0, cols)], mode="edge"),
        days=stack.days,
    )


def _without_dates(sample: Sample) -> Dates:
    shape, bands = sample.source.shape[-2:], len(sample.targets)
    return Dates(
        values=np.empty((0, bands, *shape), np.float32),
        clear=np.empty((0, *shape), bool),
        shift=np.empty((0, 2, *shape), np.float32),
        days=np.empty(0, np.float32),
    )


class PatchSampler:
    """Draws random patches on multiples of what the network demands, where some truth is known.

    Args:
        samples: Of one scale and one set of channels; large ones are drawn from more often.
        patch_px: Longest edge of a patch in target pixels; cut down to whole steps and to the smallest sample.
        step: What the edges of a patch are multiples of, in target pixels; itself one of the scale.
        augment: What is varied.
        bands: Constants of normalisation, the unit of what is varied in the guide.
        source_sd: Likewise for the source.
        seed: Same seed, same patches.

    Raises:
        InputError: If a patch is smaller than a step, or no truth is known anywhere.
    """

    def __init__(
        self,
        samples: Sequence[Sample],
        *,
        patch_px: int,
        step: int,
        augment: AugmentConfig,
        bands: Sequence[BandNorm],
        source_sd: float,
        seed: int,
    ) -> None:
        if patch_px < step:
            raise InputError(f"a patch of {patch_px} px is smaller than a step of {step} px, which the network demands")
        self.augment = augment
        self.seed = seed
        self.step = step
        self.scale = samples[0].scale
        self.dates = samples[0].dates
        self._arrays = [pad_sample(sample, step) for sample in samples]
        self._stacks = [pad_stack(sample, step) for sample in samples]
        most = min(len(stack.days) for stack in self._stacks)
        self._least, self._most = (min(number, most) for number in augment.dates or (most, most))
        steps = min(patch_px // step, *(edge // step for *_, truth in self._arrays for edge in truth.shape[-2:]))
        self.patch_px = steps * step
        self._origins = _find_origins([truth for *_, truth in self._arrays], step=step, steps=steps)
        if not len(self._origins):
            raise InputError("no truth is known in any sample")
        self._guide_mean = np.array([band.mean for band in bands], np.float32)[:, None, None]
        self._guide_sd = np.array([band.sd for band in bands], np.float32)[:, None, None]
        self._source_sd = source_sd

    def draw(self, step: int, slots: Sequence[int], *, member: int = 0) -> Batch:
        """Draw the patches of one step of the training.

        Args:
            step: Counts from 0.
            slots: Indices in the whole batch; each has its own patch.
            member: Of an ensemble; each has its own patches.
        """
        number = self._least
        if self._most > self._least:  # one number in a step: patches of a batch have one shape
            number = int(np.random.default_rng([self.seed, step]).integers(self._least, self._most + 1))
        patches = [self._draw_one(np.random.default_rng([self.seed, member, step, slot]), number) for slot in slots]
        guide, source, source_sd, truth, values, clear, shift = map(np.stack, zip(*patches, strict=True))
        images = (image if image.ndim > 3 else image[:, None] for image in (source, source_sd, truth))
        source, source_sd, truth = images
        return Batch(
            guide=guide, source=source, source_sd=source_sd, truth=truth, values=values, clear=clear, shift=shift
        )

    def _draw_one(self, random: np.random.Generator, dates: int) -> tuple[npt.NDArray[Any], ...]:
        index, *corner = self._origins[int(random.integers(len(self._origins)))]
        guide, source, source_sd, truth = self._arrays[index]
        fine = tuple(slice(at, at + self.patch_px) for at in corner)
        coarse = tuple(slice(part.start // self.scale, part.stop // self.scale) for part in fine)
        turns, flip = int(random.integers(4)), bool(random.integers(2))
        varied = vary_guide(
            guide[:, *fine],
            self.augment,
            mean=self._guide_mean,
            sd=self._guide_sd,
            dates=self.dates,
            random=random,
        )
        near_sd = source_sd[..., *coarse]
        noisy = vary_source(source[..., *coarse], near_sd, self.augment, spread=self._source_sd, random=random)
        shown = self._stacks[index].take(_choose_dates(self._stacks[index], dates, random))
        moved = shown.shift[..., *coarse]
        images = varied, noisy, near_sd, truth[..., *fine], shown.values[..., *coarse], shown.clear[..., *coarse], moved
        turned = [_turn(array, turns, flip=flip) for array in images]
        return (*turned[:-1], _turn_vectors(turned[-1], turns, flip=flip))


def _find_origins(truths: Sequence[Float32Array], *, step: int, steps: int) -> npt.NDArray[np.intp]:
    """Return sample, row and column of the corner of every patch that holds known truth."""
    found = []
    for index, truth in enumerate(truths):
        rows, cols = (edge // step for edge in truth.shape[-2:])
        known = np.isfinite(truth).reshape(-1, rows, step, cols, step).any((0, 2, 4))
        windows = np.lib.stride_tricks.sliding_window_view(known, (steps, steps)).any((2, 3))
        corners = np.argwhere(windows) * step
        found.append(np.column_stack([np.full(len(corners), index), corners]))
    return np.concatenate(found)


def _pad(array: Float32Array, rest: tuple[int, int]) -> Float32Array:
    if not any(rest):
        return array
    widths = [(0, 0)] * (array.ndim - 2) + [(0, edge) for edge in rest]
    return np.pad(array, widths, constant_values=np.float32(np.nan))


def _choose_dates(stack: Dates, number: int, random: np.random.Generator) -> npt.NDArray[np.intp]:
    """Return the numbers of some dates in any order, the anchor's own among them."""
    if not number:
        return np.empty(0, np.intp)
    others = np.delete(np.arange(len(stack.days)), stack.own)
    return random.permutation(np.append(random.permutation(others)[: number - 1], stack.own))


def _turn_vectors(shift: Float32Array, turns: int, *, flip: bool) -> Float32Array:
    """Return displacements (date, 2, y, x), down and right, of images that were turned."""
    down, right = shift[:, 0], shift[:, 1]
    for _ in range(turns):
        down, right = -right, down
    return np.stack([down, -right if flip else right], 1)


def _turn(array: npt.NDArray[Any], turns: int, *, flip: bool) -> npt.NDArray[Any]:
    turned = np.rot90(array, turns, axes=(-2, -1))
    return np.ascontiguousarray(turned[..., ::-1] if flip else turned)
