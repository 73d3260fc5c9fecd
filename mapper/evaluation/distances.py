"""Distances between two images of several bands: of each pixel, of whole patches, spread over an image.

Definitions are those of opensr-test 1.3.3, in double precision. A smaller distance is more alike; 0 is the same image,
but for ``psnr``. Images are (band, y, x) in one unit, NaN where missing. Where bands have different units, ``nd`` and
``mtf`` weigh them alike; ``l1``, ``l2``, ``psnr`` and ``sad`` are ruled by the bands of the largest numbers.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import ClassVar

import numpy as np

from mapper.arrays import Float64Array, FloatArray
from mapper.errors import InputError
from mapper.evaluation.fidelity import angle_map
from mapper.registry import Registry

_AXES = (-3, -2, -1)
"""Band, y and x of images (..., band, y, x)."""
_ROUNDING = 1e-7
"""Relative difference that single precision makes of equal numbers."""


class Distance(ABC):
    """One way to tell how far two images lie apart.

    Another package adds one as a subclass that it names as an entry point of ``mapper.distances``.
    """

    name: ClassVar[str]
    """Name in descriptions, and in the registry."""
    title: ClassVar[str]
    """Name for people, with its units."""
    of_patches_only: ClassVar[bool] = False
    """True where a single pixel has none."""

    def of_pixels(self, one: Float64Array, other: Float64Array) -> Float64Array:
        """Return the distance of each pixel of two images (band, y, x), (y, x); NaN where a band is missing.

        Raises:
            InputError: If the distance is of patches only.
        """
        del one, other
        raise InputError(f"distance {self.name} compares patches: give the edge of one in pixels, patch_px")

    @abstractmethod
    def of_images(self, one: Float64Array, other: Float64Array, scale: int) -> Float64Array:
        """Return one distance for each pair of images.

        Args:
            one: (..., band, y, x), NaN where missing.
            other: The same shape and units.
            scale: Pixel of the source / pixel of the images.

        Returns:
            (...), NaN where nothing was compared.
        """

    def noise(self, image: Float64Array) -> float:
        """Return the distance that rounding alone makes between two copies of an image in single precision."""
        return _ROUNDING * _level(image)


class _OfElements(Distance):
    """Mean over bands, or over all pixels of a patch, of something of two numbers."""

    def of_pixels(self, one: Float64Array, other: Float64Array) -> Float64Array:
        """Return the mean over bands."""
        return np.asarray(self._finish(self._judge(one, other).mean(0)), np.float64)

    def of_images(self, one: Float64Array, other: Float64Array, scale: int) -> Float64Array:
        """Return the mean over all numbers that both images have."""
        del scale
        each = self._judge(one, other)
        known = np.isfinite(each)
        number = known.sum(_AXES)
        total = np.where(known, each, 0).sum(_AXES)
        return np.asarray(self._finish(np.where(number, total / np.maximum(number, 1), np.nan)), np.float64)

    @abstractmethod
    def _judge(self, one: Float64Array, other: Float64Array) -> Float64Array: ...

    def _finish(self, mean: Float64Array) -> Float64Array:
        return mean


class L1(_OfElements):
    """Mean |one - other|, in units of the images."""

    name, title = "l1", "mean absolute difference"

    def _judge(self, one: Float64Array, other: Float64Array) -> Float64Array:
        return np.abs(one - other)


class L2(_OfElements):
    """Mean (one - other)^2, in squared units of the images."""

    name, title = "l2", "mean squared difference"

    def noise(self, image: Float64Array) -> float:
        """Return the square of a rounding."""
        return super().noise(image) ** 2

    def _judge(self, one: Float64Array, other: Float64Array) -> Float64Array:
        return np.square(one - other)


class NormalisedDifference(_OfElements):
    """Mean |one - other| / |one + other|, without units: 0 to 1 where nothing is negative."""

    name, title = "nd", "normalised difference"

    def noise(self, image: Float64Array) -> float:
        """Return the relative rounding."""
        del image
        return _ROUNDING

    def _judge(self, one: Float64Array, other: Float64Array) -> Float64Array:
        return np.asarray(np.abs(one - other) / np.abs(one + other + 1e-8), np.float64)


class InversePsnr(L2):
    """1 / (peak signal-to-noise ratio in dB) of values of the range 1; the ratio is at most 100 dB.

    Differences above the range have none: infinite.
    """

    name, title = "psnr", "1 / PSNR, 1/dB"
    _LEAST = 1e-10

    def noise(self, image: Float64Array) -> float:
        """Return the distance of equal images."""
        del image
        return float(self._finish(np.array(0.0)))

    def _finish(self, mean: Float64Array) -> Float64Array:
        ratio = -10 * np.log10(np.maximum(mean, self._LEAST))
        return np.where(ratio > 0, 1 / np.where(ratio > 0, ratio, 1), np.where(np.isnan(ratio), np.nan, np.inf))


class SpectralAngle(Distance):
    """Angle between two spectra, or between two patches taken as one vector each, in degrees; blind to brightness."""

    name, title = "sad", "spectral angle, degrees"

    def of_pixels(self, one: Float64Array, other: Float64Array) -> Float64Array:
        """Return the angle between spectra; NaN where one of them is 0."""
        return angle_map(one, other)

    def of_images(self, one: Float64Array, other: Float64Array, scale: int) -> Float64Array:
        """Return the angle between all numbers that both images have."""
        del scale
        known = np.isfinite(one) & np.isfinite(other)
        one, other = np.where(known, one, 0), np.where(known, other, 0)
        lengths = np.sqrt(np.square(one).sum(_AXES) * np.square(other).sum(_AXES))
        cosine = np.where(lengths > 0, (one * other).sum(_AXES) / np.where(lengths > 0, lengths, 1), np.nan)
        return np.asarray(np.degrees(np.arccos(np.clip(cosine, -1, 1))), np.float64)

    def noise(self, image: Float64Array) -> float:
        """Return the angle at which an arc cosine in double precision sees equal spectra of single precision."""
        del image
        return math.degrees(_ROUNDING)


class ModulationTransfer(Distance):
    """Mean |1 - |spectrum of one| / |spectrum of other||, at most 1, above the source's highest frequency.

    Frequencies above half a cycle a pixel, which only diagonals have, do not count.
    """

    name, title, of_patches_only = "mtf", "difference of modulation transfer", True
    LEAST_PX: ClassVar[int] = 16
    """Least edge of a patch whose spectrum says something."""

    def of_images(self, one: Float64Array, other: Float64Array, scale: int) -> Float64Array:
        """Return the mean difference; NaN for an image with a gap.

        Raises:
            InputError: If the images are too small.
        """
        rows, cols = one.shape[-2:]
        if min(rows, cols) < self.LEAST_PX:
            raise InputError(f"distance mtf needs patches of {self.LEAST_PX} px at least, got {rows} x {cols}")
        frequency = np.hypot(np.fft.fftfreq(rows)[:, None], np.fft.fftfreq(cols))
        detail = (frequency > 0.5 / scale) & (frequency < 0.5)
        got, expected = (np.abs(np.fft.fft2(image))[..., detail] for image in (one, other))
        difference = np.abs(expected - got)
        share = np.minimum(difference, expected) / np.where(expected > 0, expected, 1)
        share = np.where((expected == 0) & (got > 0), 1.0, share)
        return np.asarray(share.mean((-2, -1)), np.float64)

    def noise(self, image: Float64Array) -> float:
        """Return the relative rounding."""
        del image
        return _ROUNDING


_OWN: tuple[type[Distance], ...] = (NormalisedDifference, L1, L2, InversePsnr, SpectralAngle, ModulationTransfer)
DISTANCES: Registry[type[Distance]] = Registry(
    "mapper.distances", {each.name: each for each in _OWN}, kind=type[Distance]
)
"""Distances by name; other packages add theirs as entry points of ``mapper.distances``."""

LEARNED: Mapping[str, str] = {
    "lpips": "AlexNet's features, package lpips",
    "clip": "embeddings of SigLIP ViT-B-16-256, package open_clip_torch",
}
"""Distances of learned features by name, and what they are made of; they come with other packages only."""


def choose_distance(name: str) -> Distance:
    """Return a distance by name.

    Raises:
        InputError: If there is none, or it comes with a package that is not installed.
    """
    if name in DISTANCES:
        return DISTANCES[name]()
    if name in LEARNED:
        raise InputError(
            f"distance {name} ({LEARNED[name]}) is not installed: install a package that offers it as the entry point "
            f"{name} of mapper.distances"
        )
    raise InputError(f"no distance {name}; there are {', '.join(DISTANCES)}")


def map_distance(
    distance: Distance,
    one: FloatArray,
    other: FloatArray,
    *,
    scale: int,
    patch_px: int | None = None,
    padding: float = math.nan,
) -> Float64Array:
    """Return the distance at each pixel, (y, x), of its own or of the patch that it lies in; NaN where one is missing.

    Patches start so that what they hold beyond the image is the same on both sides. As in opensr-test each patch gets
    the same number of pixels of the map (nearest neighbour), which moves patches where they do not divide the image.

    Args:
        distance: See :func:`choose_distance`.
        one: (band, y, x), NaN where missing.
        other: The same shape and units.
        scale: Pixel of the source / pixel of the images.
        patch_px: Edge of a patch in pixels; None takes each pixel by itself.
        padding: Value beyond the image: NaN does not count; opensr-test has 0, which pulls means of patches down.

    Raises:
        InputError: If the distance is of patches only and there are none, or they are too small for it.
    """
    pair = one.astype(np.float64), other.astype(np.float64)
    if patch_px is None:
        return distance.of_pixels(*pair)
    (rows, cols), edges = one.shape[1:], []
    for size in (rows, cols):
        beyond = -size % patch_px
        edges.append((beyond // 2, beyond - beyond // 2))
    first, second = (_cut(np.pad(each, ((0, 0), *edges), constant_values=padding), patch_px) for each in pair)
    values = distance.of_images(first, second, scale)
    down, right = (np.arange(size) * number // size for size, number in zip((rows, cols), values.shape, strict=True))
    known = np.isfinite(pair[0]).all(0) & np.isfinite(pair[1]).all(0)
    return np.where(known, values[down[:, None], right], np.nan)


def _cut(image: Float64Array, patch_px: int) -> Float64Array:
    """Return an image in patches, (row, column, band, y, x)."""
    bands, rows, cols = image.shape
    cells = image.reshape(bands, rows // patch_px, patch_px, cols // patch_px, patch_px)
    return cells.transpose(1, 3, 0, 2, 4)


def _level(image: Float64Array) -> float:
    known = image[np.isfinite(image)]
    return float(np.abs(known).mean()) if known.size else 0.0
