"""Buildings found in one date, in several, in a sharpened image, in fused features and in the fine image.

Chips are those of the SpaceNet-7 layout: ``NAME_rgb.png`` and ``NAME_gt.png``, a mask of buildings. Dates of twice the
pixel are simulated from the fine image, shifted by parts of a source pixel that are known, with the noise of 2 % of the
spread; the anchor is on the grid of the mask. They are sharpened by ``burst-fusion-x2``, which saw no real place. Each
input gets a network of its own, trained on the same patches, and is scored on chips that were not trained on. The
probability from which a pixel is a building is the one that the chips of training ask for, once for the overlap of
pixels and once for objects, which ask for a higher one, so that neighbours do not grow together; nothing is chosen on
what is scored.

Two chips may show the same town at two dates. A network that was trained on one of them has seen the buildings of the
other: such a fold measures how well an image is read, not how well a new town is. :func:`leave_towns_out` and
:func:`leave_half_out` do without.
"""

import math
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType

import numpy as np
import rasterio
from rasterio.errors import NotGeoreferencedWarning

from mapper.arrays import BoolArray, Float32Array
from mapper.errors import InputError
from mapper.evaluation.objects import ObjectCounts, PixelCounts, count_pixels, overlap_masks
from mapper.models.weights import load_model
from mapper.spec import ModelSpec
from mapper.synthetic.bursts import BurstOptions, simulate_burst
from mapper.training.bursts import dates_of_burst, lay_side_by_side, sample_of_burst
from mapper.training.sample import Dates
from mapper.training.segmentation import DateFusion, EncoderFactory, Pair, SegmentationSettings, train_segmenter
from mapper.training.trainer import predict_sample

_SHARPENER = "burst-fusion-x2"
_SCALE = 2
_FARTHEST_PX = 0.5
"""Longest shift of a date along an axis in source pixels."""
_NOISE = 0.02
"""Standard deviation of the noise in units of the spread of a band."""
_STACKED = 4
_THRESHOLDS = (0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5, 0.55, 0.6)
"""Probabilities from which a pixel may be a building."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Chip:
    """A fine image and the mask of its buildings, or some rows of them."""

    name: str
    town: str
    """Chips of one town show the same buildings."""
    image: Float32Array
    """(band, y, x), DN."""
    mask: BoolArray
    """(y, x)."""

    def cut(self, rows: slice) -> "Chip":
        """Return some rows of the chip."""
        return replace(self, image=self.image[:, rows], mask=self.mask[rows])


@dataclass(frozen=True, kw_only=True, eq=False)
class Seen:
    """Dates of a chip, what is made of them, and the mask of its buildings."""

    dates: Dates
    """Simulated dates, without clouds."""
    fine: Float32Array
    """(band, y, x) what they were made from, which only the last input of the table looks at."""
    sharp: Float32Array
    """(band, y, x) made of all dates."""
    mask: BoolArray
    """(y, x)."""


Prepare = Callable[[Seen], Float32Array]
"""Makes the image (channel, y, x) that a network is given."""


@dataclass(frozen=True, kw_only=True)
class BuildingMethod:
    """An input of the segmentation."""

    name: str
    prepare: Prepare
    encoder: EncoderFactory | None = None
    """Encoder that is trained together with the segmentation; none for channels as they are."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Fold:
    """Chips that are trained on and chips that are scored."""

    name: str
    train: tuple[Chip, ...]
    test: tuple[Chip, ...]


@dataclass(frozen=True, kw_only=True)
class BuildingScore:
    """One training: what was found on the scored chips together."""

    method: str
    fold: str
    seed: int
    thresholds: tuple[float, float]
    """Probability from which a pixel is a building: for pixels, for objects."""
    pixels: PixelCounts
    quarter: ObjectCounts
    """Objects that overlap by at least a quarter of their union."""
    half: ObjectCounts
    """Objects that overlap by at least half of their union."""


@dataclass(frozen=True, kw_only=True)
class BuildingSettings:
    """Settings of the comparison."""

    seeds: tuple[int, ...] = (0, 1, 2)
    dates: int = 8
    bursts: int = 2
    """Simulated bursts of each chip that are trained on."""
    training: SegmentationSettings = field(default_factory=SegmentationSettings)


def read_chips(folder: Path, towns: Mapping[str, str] | None = None) -> tuple[Chip, ...]:
    """Return the chips of a folder, by name.

    Args:
        folder: With ``NAME_rgb.png`` and ``NAME_gt.png``.
        towns: Town of a chip, by its name; every other chip is a town of its own.

    Raises:
        InputError: If there are none, or an image has no mask of its size.
    """
    paths = sorted(folder.glob("*_rgb.png"))
    if not paths:
        raise InputError(f"{folder} has no chips: expected NAME_rgb.png and NAME_gt.png")
    return tuple(_read_chip(path, towns or {}) for path in paths)


def _read_chip(path: Path, towns: Mapping[str, str]) -> Chip:
    name = path.name.removesuffix("_rgb.png")
    image, truth = _read_pixels(path)[:3], _read_pixels(path.with_name(f"{name}_gt.png"))[0]
    if image.shape[1:] != truth.shape:
        raise InputError(f"mask of chip {name} has {truth.shape} px, its image {image.shape[1:]}")
    return Chip(name=name, town=towns.get(name, name), image=image.astype(np.float32), mask=truth > 127)


def _read_pixels(path: Path) -> "np.ndarray[tuple[int, int, int], np.dtype[np.uint8]]":
    if not path.is_file():
        raise InputError(f"{path} is missing")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)  # chips are pictures, which lie nowhere
        with rasterio.open(path) as file:
            pixels: np.ndarray[tuple[int, int, int], np.dtype[np.uint8]] = file.read()
    return pixels


def leave_chips_out(chips: Sequence[Chip]) -> list[Fold]:
    """Return a fold for each chip, trained on all others, those of its own town too."""
    return [
        Fold(name=f"chip {chip.name}", train=tuple(other for other in chips if other is not chip), test=(chip,))
        for chip in chips
    ]


def leave_towns_out(chips: Sequence[Chip]) -> list[Fold]:
    """Return a fold for each town, trained on the chips of all others."""
    return [
        Fold(
            name=f"town {town}",
            train=tuple(chip for chip in chips if chip.town != town),
            test=tuple(chip for chip in chips if chip.town == town),
        )
        for town in dict.fromkeys(chip.town for chip in chips)
    ]


def leave_half_out(chips: Sequence[Chip]) -> Fold:
    """Return the fold that is trained on the upper halves of all chips and scored on their lower halves."""
    middle = chips[0].mask.shape[0] // 8 * 4
    return Fold(
        name="lower half",
        train=tuple(chip.cut(slice(0, middle)) for chip in chips),
        test=tuple(chip.cut(slice(middle, None)) for chip in chips),
    )


def gather_dates(seen: Seen) -> Float32Array:
    """Return all dates sharpened together, then each moved to the anchor: the input of a fusion of features."""
    return np.concatenate([seen.sharp, _lay(seen, len(seen.dates.values), register=True)])


def _lay(seen: Seen, number: int, *, register: bool) -> Float32Array:
    """Return the anchor and the dates nearest to it side by side, (number * band, y, x)."""
    return lay_side_by_side(seen.dates, number, scale=_SCALE, register=register)


METHODS: Mapping[str, BuildingMethod] = MappingProxyType(
    {
        each.name: each
        for each in (
            BuildingMethod(name="bicubic", prepare=lambda seen: _lay(seen, 1, register=False)),
            BuildingMethod(name="stacked", prepare=lambda seen: _lay(seen, _STACKED, register=False)),
            BuildingMethod(name="registered", prepare=lambda seen: _lay(seen, _STACKED, register=True)),
            BuildingMethod(name="super-resolved", prepare=lambda seen: seen.sharp),
            BuildingMethod(name="fused", prepare=gather_dates, encoder=DateFusion),
            BuildingMethod(name="fine", prepare=lambda seen: seen.fine),
        )
    }
)
"""Inputs by name, in the order of the table."""


def compare_inputs(
    folds: Iterable[Fold],
    settings: BuildingSettings,
    *,
    methods: Sequence[BuildingMethod] = tuple(METHODS.values()),
    report: Callable[[BuildingScore], None] | None = None,
) -> list[BuildingScore]:
    """Train and score a network for each input, fold and seed.

    Args:
        folds: Chips to train on and to score.
        settings: Of the comparison.
        methods: Inputs to compare.
        report: Told of each score as it comes.
    """
    scores = []
    for fold in folds:
        for seed in settings.seeds:
            trained = _simulate(fold.train, settings.bursts, dates=settings.dates, seed=10_000 + 100 * seed)
            tested = _simulate(fold.test, 1, dates=settings.dates, seed=20_000 + 100 * seed)
            for method in methods:
                scores.append(_score(method, fold, (trained, tested), settings=settings, seed=seed))
                if report:
                    report(scores[-1])
    return scores


def _simulate(chips: Sequence[Chip], number: int, *, dates: int, seed: int) -> list[Seen]:
    model = load_model(ModelSpec(name=_SHARPENER))
    options = BurstOptions(dates=dates, scale=_SCALE, shift_px=_FARTHEST_PX, noise=(_NOISE, _NOISE))
    found = []
    for at, chip in enumerate([*chips] * number):
        burst = simulate_burst(chip.image, options, seed=seed + at)
        sharp = predict_sample(model, sample_of_burst(burst, name=chip.name)).mean
        found.append(Seen(dates=dates_of_burst(burst), fine=chip.image, sharp=sharp, mask=chip.mask))
    return found


def _score(
    method: BuildingMethod,
    fold: Fold,
    seen: tuple[Sequence[Seen], Sequence[Seen]],
    *,
    settings: BuildingSettings,
    seed: int,
) -> BuildingScore:
    train, test = ([Pair(image=method.prepare(each), mask=each.mask) for each in part] for part in seen)
    bf16 = settings.training.bf16
    model = train_segmenter(train, settings.training, seed=seed, encoder=method.encoder)
    seen_again = [(model.predict(pair.image, bf16=bf16), pair.mask) for pair in train]
    thresholds = choose_threshold(seen_again, score_pixels), choose_threshold(seen_again, score_objects)
    pixels, quarter, half = PixelCounts(), ObjectCounts(), ObjectCounts()
    for pair in test:
        value = model.predict(pair.image, bf16=bf16)
        overlaps = overlap_masks(value >= thresholds[1], pair.mask)
        pixels += count_pixels(value >= thresholds[0], pair.mask)
        quarter += overlaps.match(0.25)
        half += overlaps.match(0.5)
    return BuildingScore(
        method=method.name,
        fold=fold.name,
        seed=seed,
        thresholds=thresholds,
        pixels=pixels,
        quarter=quarter,
        half=half,
    )


_Found = Sequence[tuple[BoolArray, BoolArray]]


def score_pixels(found: _Found) -> float:
    """Return the intersection over union of the pixels of predicted and true masks."""
    return sum((count_pixels(mask, true) for mask, true in found), PixelCounts()).iou


def score_objects(found: _Found) -> float:
    """Return F1 of the objects of predicted and true masks, at a quarter of overlap."""
    return sum((overlap_masks(mask, true).match(0.25) for mask, true in found), ObjectCounts()).f1


def choose_threshold(values: Sequence[tuple[Float32Array, BoolArray]], score: Callable[[_Found], float]) -> float:
    """Return the probability with the best score; the lowest of equal ones.

    Args:
        values: Probabilities and masks, (y, x) each.
        score: Of the masks that a threshold makes; NaN counts as the worst.
    """

    def judge(threshold: float) -> float:
        result = score([(value >= threshold, mask) for value, mask in values])
        return -1.0 if math.isnan(result) else result

    return max(_THRESHOLDS, key=judge)


_COLUMNS: Mapping[str, Callable[[BuildingScore], float]] = MappingProxyType(
    {
        "IoU": lambda score: score.pixels.iou,
        "mean IoU": lambda score: score.pixels.mean_iou,
        "P .25": lambda score: score.quarter.precision,
        "R .25": lambda score: score.quarter.recall,
        "F1 .25": lambda score: score.quarter.f1,
        "P .5": lambda score: score.half.precision,
        "R .5": lambda score: score.half.recall,
        "F1 .5": lambda score: score.half.f1,
    }
)


def tabulate_scores(scores: Sequence[BuildingScore]) -> str:
    """Return a Markdown table: for each fold and input the mean over seeds and its standard deviation."""
    lines = [f"| fold | input | seeds | {' | '.join(_COLUMNS)} |", f"|{'---|' * (3 + len(_COLUMNS))}"]
    for fold, method in dict.fromkeys((score.fold, score.method) for score in scores):
        own = [score for score in scores if (score.fold, score.method) == (fold, method)]
        cells = [_describe([take(score) for score in own]) for take in _COLUMNS.values()]
        lines.append(f"| {fold} | {method} | {len(own)} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _describe(values: list[float]) -> str:
    spread = f" ± {np.std(values, ddof=1):.3f}" if len(values) > 1 else ""
    return f"{np.mean(values):.3f}{spread}"
