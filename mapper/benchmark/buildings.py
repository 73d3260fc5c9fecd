"""Buildings found in one date, in several, in a sharpened image, in fused features and in the fine image.

Chips are those of the SpaceNet-7 layout: ``NAME_rgb.png`` and ``NAME_gt.png``, a mask of buildings. Dates are simulated
from the fine image: a Gaussian of 0.514 source pixels, 2 x 2 means, shifts of parts of a source pixel that are known,
noise of 1 DN; the first date is the anchor, on the grid of the mask. Each input gets a network of its own, trained on
the same patches, and is scored on chips that were not trained on. Nothing is chosen on what is scored: the threshold is
one half.

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
from scipy import sparse

from mapper.arrays import BoolArray, Float32Array, Float64Array
from mapper.errors import InputError
from mapper.evaluation.objects import ObjectCounts, Overlaps, PixelCounts, count_pixels, overlap_masks
from mapper.training.segmentation import DateFusion, EncoderFactory, Pair, SegmentationSettings, train_segmenter

_SCALE = 2
_SIGMA_PX = 0.514
"""Of the Gaussian, in source pixels: transfer .17 at the coarse Nyquist frequency."""
_FARTHEST_PX = 0.5
"""Largest shift of a date along either axis, in source pixels."""
_NOISE_DN = 1.0
_CUBIC = -0.75
"""Parameter of Keys' cubic convolution."""
_ROUNDS = 5
"""Rounds of back-projection: more of them amplify noise of 1 DN."""
_STACKED = 4
THRESHOLD = 0.5
"""Probability from which a pixel is a building."""


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
class Burst:
    """Simulated dates of a chip; the first is the anchor."""

    dates: Float32Array
    """(date, band, y / 2, x / 2), DN."""
    shifts: Float64Array
    """(date, 2) source pixels down and right: what the anchor shows at p the date shows at p + shift."""
    fine: Float32Array
    """(band, y, x), DN: what the dates were made from, which only the last input of a table may look at."""


Prepare = Callable[[Burst], Float32Array]
"""Makes the image (channel, y, x) that a network is given from the dates."""


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


def simulate_burst(fine: Float32Array, *, dates: int, seed: int, noise: float = _NOISE_DN) -> Burst:
    """Return dates of a fine image (band, y, x), its edges even; the first is on its own grid."""
    rng = np.random.default_rng(seed)
    shifts = rng.uniform(-_FARTHEST_PX, _FARTHEST_PX, (dates, 2))
    shifts[0] = 0
    seen = np.stack([degrade(fine, shift) for shift in shifts])
    noisy = seen + rng.normal(0, noise, seen.shape)
    return Burst(dates=noisy.astype(np.float32), shifts=shifts, fine=fine)


def degrade(fine: Float32Array | Float64Array, shift: Float64Array) -> Float64Array:
    """Return what a date sees of a fine image: (band, y, x) to (band, y / 2, x / 2), shifted by source pixels."""
    return _apply(_make_optics, fine, shift)


def enlarge(coarse: Float32Array | Float64Array, shift: Float64Array) -> Float64Array:
    """Return a date on the fine grid by bicubic interpolation, moved to where the anchor shows it: twice the size."""
    return _apply(_make_cubic, coarse, shift)


def _apply(
    make: Callable[[int, float], sparse.csr_array], image: Float32Array | Float64Array, shift: Float64Array
) -> Float64Array:
    """Return an image (band, y, x) whose rows and columns are combined by a matrix each."""
    rows, cols = (make(length, by) for length, by in zip(image.shape[1:], shift.tolist(), strict=True))
    return np.stack([(cols @ (rows @ band).T).T for band in image.astype(np.float64)])


def _make_optics(length: int, shift: float) -> sparse.csr_array:
    """Return the matrix (length / 2, length) of the sensor: a Gaussian around each fine pixel, means of two."""
    reach = math.ceil(4 * _SIGMA_PX * _SCALE) + 1
    offsets = np.arange(-reach, reach + 1)
    weights = np.exp(-0.5 * ((offsets + shift * _SCALE) / (_SIGMA_PX * _SCALE)) ** 2)
    period = 2 * length
    places = (np.arange(length)[:, None] + offsets) % period  # reflected, the edge repeated
    matrix = np.zeros((length, length))
    rows = np.broadcast_to(np.arange(length)[:, None], places.shape)
    np.add.at(matrix, (rows, np.minimum(places, period - 1 - places)), weights / weights.sum())
    return sparse.csr_array(matrix.reshape(length // _SCALE, _SCALE, length).mean(1))


def _make_cubic(length: int, shift: float) -> sparse.csr_array:
    """Return the matrix (2 length, length) of Keys' interpolation, edges repeated."""
    at = (np.arange(length * _SCALE) + 0.5) / _SCALE - 0.5 + shift
    first = np.floor(at).astype(int)
    matrix = np.zeros((at.size, length))
    for step in range(-1, 3):
        x = np.abs(at - first - step)
        near = ((_CUBIC + 2) * x - (_CUBIC + 3)) * x * x + 1
        far = _CUBIC * (((x - 5) * x + 8) * x - 4)
        np.add.at(matrix, (np.arange(at.size), np.clip(first + step, 0, length - 1)), np.where(x <= 1, near, far))
    return sparse.csr_array(matrix)


def interpolate_anchor(burst: Burst) -> Float32Array:
    """Return the anchor alone, by bicubic interpolation (band, y, x)."""
    return enlarge(burst.dates[0], np.zeros(2)).astype(np.float32)


def stack_dates(burst: Burst) -> Float32Array:
    """Return the first four dates by bicubic interpolation side by side, not registered (4 bands, y, x)."""
    return np.concatenate([enlarge(date, np.zeros(2)) for date in burst.dates[:_STACKED]]).astype(np.float32)


def register_dates(burst: Burst) -> Float32Array:
    """Return the first four dates side by side, each moved to the anchor by its known shift (4 bands, y, x)."""
    pairs = zip(burst.dates[:_STACKED], burst.shifts, strict=False)
    return np.concatenate([enlarge(date, shift) for date, shift in pairs]).astype(np.float32)


def project_anchor(burst: Burst) -> Float32Array:
    """Return the anchor alone, sharpened by back-projection (band, y, x)."""
    return project_back(burst.dates[:1], burst.shifts[:1])


def gather_dates(burst: Burst) -> Float32Array:
    """Return all dates sharpened together, then each moved to the anchor: the input of a fusion of features."""
    moved = [enlarge(date, shift) for date, shift in zip(burst.dates, burst.shifts, strict=True)]
    return np.concatenate([project_back(burst.dates, burst.shifts), *moved]).astype(np.float32)


def project_back(dates: Float32Array, shifts: Float64Array, *, rounds: int = _ROUNDS) -> Float32Array:
    """Return the image that all dates are seen from, by iterated back-projection of their mean residual (band, y, x).

    M. Irani, S. Peleg: Improving resolution by image registration. CVGIP: Graphical Models and Image Processing 53
    (1991), 231-239. The order of the dates does not matter but for rounding.
    """
    pairs = list(zip(dates, shifts, strict=True))
    image: Float64Array = np.mean([enlarge(date, shift) for date, shift in pairs], 0)
    for _ in range(rounds):
        image = image + np.mean([enlarge(date - degrade(image, shift), shift) for date, shift in pairs], 0)
    return image.astype(np.float32)


METHODS: Mapping[str, BuildingMethod] = MappingProxyType(
    {
        each.name: each
        for each in (
            BuildingMethod(name="bicubic", prepare=interpolate_anchor),
            BuildingMethod(name="stacked", prepare=stack_dates),
            BuildingMethod(name="registered", prepare=register_dates),
            BuildingMethod(name="super-resolved", prepare=project_anchor),
            BuildingMethod(name="fused", prepare=gather_dates, encoder=DateFusion),
            BuildingMethod(name="fine", prepare=lambda burst: burst.fine),
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


_Seen = Sequence[tuple[Burst, BoolArray]]


def _simulate(chips: Sequence[Chip], number: int, *, dates: int, seed: int) -> _Seen:
    return [
        (simulate_burst(chip.image, dates=dates, seed=seed + len(chips) * turn + at), chip.mask)
        for turn in range(number)
        for at, chip in enumerate(chips)
    ]


def _score(
    method: BuildingMethod, fold: Fold, seen: tuple[_Seen, _Seen], *, settings: BuildingSettings, seed: int
) -> BuildingScore:
    train, test = ([Pair(image=method.prepare(burst), mask=mask) for burst, mask in part] for part in seen)
    model = train_segmenter(train, settings.training, seed=seed, encoder=method.encoder)
    pixels, quarter, half = PixelCounts(), ObjectCounts(), ObjectCounts()
    for pair in test:
        found: BoolArray = model.predict(pair.image, bf16=settings.training.bf16) >= THRESHOLD
        overlaps: Overlaps = overlap_masks(found, pair.mask)
        pixels += count_pixels(found, pair.mask)
        quarter += overlaps.match(0.25)
        half += overlaps.match(0.5)
    return BuildingScore(method=method.name, fold=fold.name, seed=seed, pixels=pixels, quarter=quarter, half=half)


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
