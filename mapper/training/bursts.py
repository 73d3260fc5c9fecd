"""Stacks of dates as samples: simulated ones of fine images, and scenes of published layouts."""

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from scipy.ndimage import gaussian_filter

from mapper.arrays import BoolArray, Float32Array, Float64Array
from mapper.cube.shifts import estimate_shifts
from mapper.errors import InputError
from mapper.models.views import register as register_date
from mapper.synthetic.bursts import Burst, simulate_burst
from mapper.synthetic.imagery import make_image
from mapper.training.sample import Dates, Sample, cut_rim
from mapper.training.scene import Scene
from mapper.training.scene_config import BurstData, BurstSettings
from mapper.training.scene_files import read_image

_MOST_UNLIKE = 0.2
_IMAGES = (".tif", ".tiff", ".png", ".jp2")


def read_bursts(data: BurstData) -> list[Sample]:
    """Simulate a stack for each seed, of an image of no place or of one of a folder, in the order of the seeds.

    Raises:
        InputError: If the folder has no image, or one cannot be read.
    """
    paths = _find_images(data.images) if data.images else []
    return [_simulate(data, seed, paths) for seed in data.seeds]


def sample_of_scene(scene: Scene, *, dates: int | None = None, register: bool = True) -> Sample:
    """Return a scene as a sample: its anchor as the source, the dates that are most like it beside.

    A date that leaves more than a fifth of the anchor's variance unexplained shows something else, and is left out.

    Args:
        scene: With a truth, and an anchor.
        dates: Most dates, the anchor's own among them; None takes all.
        register: True estimates shifts where the scene does not know them.

    Raises:
        InputError: If it has no truth, or nobody says which date it shows.
    """
    if scene.truth is None or scene.anchor is None:
        lacks = "a truth" if scene.truth is None else "an anchor: say in anchors.json which date the truth shows"
        raise InputError(f"scene {scene.name} lacks {lacks}")
    shown = np.where(scene.clear[:, None], scene.dates, np.float32(np.nan))
    order = rank_dates(shown, scene.anchor)[:dates]
    values, clear, anchor = shown[order], scene.clear[order], scene.dates[scene.anchor]
    if scene.shift is not None:
        shift = _spread((scene.shift[order] - scene.shift[scene.anchor]).astype(np.float32), anchor)
    elif register:
        shift = estimate_shifts(values, clear, anchor, row=0, col=0).shift
    else:
        shift = np.zeros((len(order), 2, *anchor.shape[1:]), np.float32)
    return _sample_of_stack(
        anchor,
        scene.truth,
        Dates(values=values, clear=clear, shift=shift, days=np.arange(len(order), dtype=np.float32)),
        source_units=scene.units,
        target=",".join(scene.bands),
        name=scene.name,
        degradation="as taken",
        digest=_digest(values, clear, scene.truth),
        place=scene.place,
        value_range=scene.value_range,
    )


def sample_of_burst(burst: Burst, *, name: str, shift: Float32Array | None = None) -> Sample:
    """Return a simulated stack as a sample: its anchor as the source, all its dates beside.

    Args:
        burst: The stack.
        name: Of the sample.
        shift: (date, 2) or (date, 2, y, x) source pixels, as somebody knows them; the true ones by default.
    """
    return _sample_of_stack(
        burst.values[burst.anchor],
        burst.truth,
        dates_of_burst(burst, shift=shift),
        source_units="1",
        target=",".join(f"band_{at}" for at in range(len(burst.truth))),
        name=name,
        degradation="simulated dates: shifted, blurred, with noise, changes and clouds",
        digest=_digest(burst.values, burst.clear, burst.truth),
        place=name,
    )


def _sample_of_stack(anchor: Float32Array, truth: Float32Array, stack: Dates, **about: Any) -> Sample:
    """Return a sample without a guide, of an image that other dates stand beside."""
    return Sample(
        guide=np.empty((0, *truth.shape[1:]), np.float32),
        source=anchor,
        source_sd=np.full_like(anchor, np.nan),
        truth=truth,
        bands=(),
        stack=stack,
        **about,
    )


def _find_images(folder: Path) -> list[Path]:
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in _IMAGES)
    if not paths:
        raise InputError(f"{folder} has no image to simulate dates of: expected one of {', '.join(_IMAGES)}")
    return paths


def dates_of_burst(burst: Burst, *, shift: Float32Array | None = None) -> Dates:
    """Return the dates of a simulated stack, NaN under clouds; see :func:`sample_of_burst`."""
    shift = burst.shift if shift is None else shift
    shift = shift - shift[burst.anchor]
    return Dates(
        values=np.where(burst.clear[:, None], burst.values, np.float32(np.nan)),
        clear=burst.clear,
        shift=shift if shift.ndim == 4 else _spread(shift, burst.values[burst.anchor]),
        days=(np.arange(len(burst.values)) - burst.anchor).astype(np.float32),
        true_shift=burst.shift,
    )


def lay_side_by_side(dates: Dates, number: int, *, scale: int, register: bool) -> Float32Array:
    """Return dates interpolated bicubically, the anchor first, (number * band, y * scale, x * scale).

    Args:
        dates: Without gaps.
        number: Most dates that are taken.
        scale: Source pixel / target pixel.
        register: True moves each to where the anchor shows the ground.
    """
    chosen = dates.take(np.argsort(np.abs(dates.days), kind="stable")[:number])
    shift = torch.from_numpy(chosen.shift)
    moved = register_date(torch.from_numpy(chosen.values), shift if register else torch.zeros_like(shift), scale=scale)
    laid: Float32Array = moved.flatten(0, 1).numpy()
    return laid


def rank_dates(values: Float32Array, anchor: int) -> npt.NDArray[np.intp]:
    """Return the numbers of the dates that are like the anchor, that itself first, then the likest.

    Each date gets gain and offset of each band by least squares first; one that still leaves more than
    :data:`_MOST_UNLIKE` of the anchor's variance unexplained is not among them.

    Args:
        values: (date, band, y, x), NaN where not clear.
        anchor: Number of the date that is shown.
    """
    unlike = np.array([_measure_unlikeness(date, values[anchor]) for date in values])
    unlike[anchor] = -1
    order = np.argsort(unlike, kind="stable")
    return order[unlike[order] <= _MOST_UNLIKE]


def _measure_unlikeness(date: Float32Array, anchor: Float32Array) -> float:
    """Return the part of the anchor's variance that a date does not explain, mean of the bands."""
    rests = []
    for one, other in zip(date, anchor, strict=True):
        known = np.isfinite(one) & np.isfinite(other)
        if known.sum() < 2 or not other[known].std() or not one[known].std():
            return np.inf
        rests.append(1 - np.corrcoef(one[known].astype(np.float64), other[known].astype(np.float64))[0, 1] ** 2)
    covered = np.isfinite(date).mean()
    return float(np.mean(rests)) / max(float(covered), 1e-6)


def sample_of_image(
    image: Float32Array, settings: BurstSettings, *, seed: int, name: str, random: np.random.Generator | None = None
) -> Sample:
    """Return dates simulated from a fine image, as a sample: all but its bands, units and range of values.

    Args:
        image: (band, y, x) without NaN; both edges multiples of the scale.
        settings: Of the simulation.
        seed: Of all that a date is.
        name: Of sample and place.
        random: Draws the error of registration.
    """
    burst = simulate_burst(image, settings, seed=seed)
    shift = _register(burst, settings, random or np.random.default_rng([seed, 13]))
    return replace(sample_of_burst(burst, name=name, shift=shift), psf=settings.psf)


def _simulate(data: BurstData, seed: int, paths: list[Path]) -> Sample:
    random = np.random.default_rng([seed, 13])
    size_px = data.size_px // data.scale * data.scale
    if paths:
        image = _cut_image(paths[seed % len(paths)], size_px, data.scale, random)
        name = f"burst {seed} of {paths[seed % len(paths)].stem}"
    else:
        image, name = make_image(seed, size_px=size_px, bands=data.bands), f"burst {seed}"
    if (blur := random.uniform(*data.blur_px)) > 0:
        image = gaussian_filter(image, (0, blur, blur), mode="reflect")
    if any(data.grain) and (grain := random.uniform(*data.grain)) > 0:
        image = image + np.float32(grain * image.std()) * random.standard_normal(image.shape, np.float32)
    image = image * np.float32(data.contrast) + np.float32(data.level)
    sample = sample_of_image(image, data, seed=seed, name=name, random=random)
    return replace(sample, truth=cut_rim(sample.truth, data.border_px), value_range=data.value_range)


def _register(burst: Burst, settings: BurstSettings, random: np.random.Generator) -> Float32Array:
    """Return shifts as the dates themselves tell, (date, 2, y, x), or as they are with an error, (date, 2)."""
    if settings.register_dates:
        shown = np.where(burst.clear[:, None], burst.values, np.float32(np.nan))
        return estimate_shifts(shown, burst.clear, burst.values[burst.anchor], row=0, col=0).shift
    error = random.normal(0, settings.shift_error_px, burst.shift.shape) if settings.shift_error_px else np.zeros(2)
    return np.asarray(burst.shift + error, np.float32)


def _spread(shift: Float32Array, anchor: Float32Array) -> Float32Array:
    """Return shifts (date, 2) at every pixel of an image, (date, 2, y, x)."""
    return np.broadcast_to(shift[:, :, None, None], (*shift.shape, *anchor.shape[1:])).copy()


def _cut_image(path: Path, size_px: int, scale: int, random: np.random.Generator) -> Float32Array:
    """Return a part of an image without gaps, each band with mean 0 and the image with standard deviation 1.

    Raises:
        InputError: If every part that was tried has gaps.
    """
    values = read_image(path).values
    rows, cols = (min(edge, size_px) // scale * scale for edge in values.shape[1:])
    for _ in range(20):
        top, left = (
            int(random.integers(most - edge + 1)) for most, edge in zip(values.shape[1:], (rows, cols), strict=True)
        )
        part = values[:, top : top + rows, left : left + cols].astype(np.float32)
        if np.isfinite(part).all() and float(part.std()) > 0:
            part = part - part.mean((1, 2), keepdims=True)
            return np.asarray(part / part.std(), np.float32)
    raise InputError(f"{path} has gaps in every part of {rows} x {cols} px that was tried: give images without")


def _digest(*arrays: Float32Array | BoolArray | Float64Array) -> str:
    return hashlib.sha256(b"".join(np.ascontiguousarray(array).tobytes() for array in arrays)).hexdigest()
