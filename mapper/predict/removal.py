"""Inputs of a window without their detail: blurred, or shuffled in space; all of them, or one date, band or season.

Pixels of a date that the anchor shows are the anchor's own: they are changed with it, so that a model that knows a date
by its likeness to the anchor finds it there still. Whether a pixel is clear, where a date lies and how far a source may
be off is never changed.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, reduce
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.ndimage import gaussian_filter

from mapper.arrays import BoolArray, Float32Array, FloatArray
from mapper.predict.predictor import Arrays

SOURCE, ANCHOR, GUIDE = "source", "source.anchor", "guide"
_END = 3.0
"""Standard deviations at which a blur ends."""


@dataclass(frozen=True, kw_only=True)
class Part:
    """A part of the inputs that is looked at by itself."""

    kind: str
    """``source``, ``anchor``, ``date`` and ``guide``, which do not overlap; ``dates``, ``bands``, ``season`` and
    ``guides`` join some of these."""
    name: str
    where: Mapping[str, BoolArray]
    """By input, as far as it belongs to the part; dims that broadcast to (date, band, y, x)."""

    @property
    def is_single(self) -> bool:
        """True for a part that does not overlap with others of such kinds."""
        return self.kind in ("source", "anchor", "date", "guide")


@dataclass(frozen=True, kw_only=True)
class Names:
    """Names of what the inputs hold."""

    dates: Sequence[str] = ()
    """Of the dates of a stack, in order."""
    bands: Sequence[str] = ()
    """Of the bands of the source, in order."""
    channels: Sequence[str] = ()
    """Of the channels of the guide, in order."""
    seasons: Sequence[str] = ()
    """Season of each channel; empty for one that has none."""


@dataclass(frozen=True, kw_only=True)
class Removal:
    """Takes the detail out of the inputs of one window."""

    inputs: Arrays
    """As a model takes them, without the batch."""
    scale: int
    """Source pixel / target pixel."""

    @cached_property
    def images(self) -> dict[str, Float32Array]:
        """Inputs that are changed, (date, band, y, x): source, anchor and guide, as far as they are there."""
        return {name: self.inputs[name] for name in (SOURCE, ANCHOR, GUIDE) if self._is_there(name)}

    @cached_property
    def own(self) -> BoolArray:
        """Pixels of a date that the anchor shows, (date, 1, y, x); none without an anchor."""
        source = self.inputs[SOURCE]
        if ANCHOR not in self.images:
            return np.zeros((len(source), 1, *source.shape[-2:]), bool)
        same: BoolArray = (source == self.inputs[ANCHOR]).all(axis=1, keepdims=True)
        return same & self._clear

    @cached_property
    def valid(self) -> dict[str, BoolArray]:
        """Values of each input that count, (date, band, y, x)."""
        known = {name: np.isfinite(image) for name, image in self.images.items()}
        known[SOURCE] = known[SOURCE] & self._clear
        return known

    def blur(self, sigma: float) -> dict[str, Float32Array]:
        """Return all images under a Gaussian; what is missing has no weight, and stays.

        Args:
            sigma: Standard deviation in source pixels, of the guide too: the same on the ground.
        """
        return self._tie(
            {
                name: _blur(image, self.valid[name], sigma * (self.scale if name == GUIDE else 1))
                for name, image in self.images.items()
            }
        )

    def shuffle(self, seed: Sequence[int]) -> dict[str, Float32Array]:
        """Return all images with their pixels elsewhere in the window, those of all bands and dates by one draw."""
        draws = {
            shape: np.random.default_rng(seed).random(shape) for shape in {i.shape[-2:] for i in self.images.values()}
        }
        return self._tie(
            {name: _shuffle(image, self.valid[name], draws[image.shape[-2:]]) for name, image in self.images.items()}
        )

    def replace(self, part: Part, images: Mapping[str, Float32Array]) -> dict[str, Float32Array]:
        """Return the images as they are, a part of them replaced by that of others."""
        return {
            name: np.where(part.where[name], images[name], self.images[name]) for name in part.where.keys() & images
        }

    def find_parts(self, names: Names) -> list[Part]:
        """Return the parts that a window has, those that do not overlap first; a date without a pixel is none."""
        single = [*self._find_source(names), *self._find_channels(names)]
        return [*single, *_join(single, names), *self._find_bands(names)]

    def _find_source(self, names: Names) -> Iterator[Part]:
        if ANCHOR not in self.images:
            yield Part(kind="source", name="source", where={SOURCE: np.ones((1, 1, 1, 1), bool)})
            return
        yield Part(kind="anchor", name="anchor", where={ANCHOR: np.ones((1, 1, 1, 1), bool), SOURCE: self.own})
        others = self.valid[SOURCE].any(axis=1, keepdims=True) & ~self.own
        for number, name in enumerate(names.dates):
            where = np.zeros_like(others)
            where[number] = others[number]
            if where.any():
                yield Part(kind="date", name=name, where={SOURCE: where})

    def _find_channels(self, names: Names) -> Iterator[Part]:
        for number, name in enumerate(names.channels if GUIDE in self.images else ()):
            yield Part(kind="guide", name=name, where={GUIDE: _pick(number, len(names.channels))})

    def _find_bands(self, names: Names) -> Iterator[Part]:
        """Yield each band of a source of several, on all dates."""
        for number, name in enumerate(names.bands if len(names.bands) > 1 else ()):
            where = _pick(number, len(names.bands))
            yield Part(kind="bands", name=name, where=dict.fromkeys(self.images.keys() - {GUIDE}, where))

    @cached_property
    def _clear(self) -> BoolArray:
        source = self.inputs[SOURCE]
        clear = self.inputs.get("source.clear")
        given = np.ones((len(source), *source.shape[-2:]), bool) if clear is None else clear
        return np.asarray(given[:, None], bool)

    def _is_there(self, name: str) -> bool:
        return name in self.inputs and self.inputs[name].shape[1] > 0

    def _tie(self, images: dict[str, Float32Array]) -> dict[str, Float32Array]:
        """Return images in which a date is still the anchor where the anchor shows it."""
        if ANCHOR in images:
            images[SOURCE] = np.where(self.own, images[ANCHOR], images[SOURCE])
        return images


def _join(single: Sequence[Part], names: Names) -> Iterator[Part]:
    """Yield parts together: all dates but the anchor, channels of a season, the whole guide."""
    dates = [part for part in single if part.kind == "date"]
    guide = [part for part in single if part.kind == "guide"]
    if len(dates) > 1:
        yield _unite("dates", "other dates", dates)
    seasons = list(dict.fromkeys(filter(None, names.seasons)))
    for season in seasons if len(seasons) > 1 else ():
        chosen = [part for part, own in zip(guide, names.seasons, strict=True) if own == season]
        yield _unite("season", season, chosen)
    if len(guide) > 1:
        yield _unite("guides", "whole guide", guide)


def _unite(kind: str, name: str, parts: Sequence[Part]) -> Part:
    inputs = {each for part in parts for each in part.where}
    where = {each: reduce(np.logical_or, [p.where[each] for p in parts if each in p.where]) for each in sorted(inputs)}
    return Part(kind=kind, name=name, where=where)


def _pick(number: int, bands: int) -> BoolArray:
    where = np.zeros((1, bands, 1, 1), bool)
    where[:, number] = True
    return where


def _blur(image: FloatArray, valid: BoolArray, sigma: float) -> Float32Array:
    """Return an image under a Gaussian over what is valid; what is not stays as it is."""

    def smooth(values: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
        wide = values.astype(np.float64)
        return np.asarray(gaussian_filter(wide, sigma, mode="constant", truncate=_END, axes=(-2, -1)), np.float64)

    share = np.where(valid, smooth(valid), 1.0)
    blurred: Float32Array = np.where(valid, smooth(np.where(valid, image, 0.0)) / share, image).astype(np.float32)
    return blurred


def _shuffle(image: Float32Array, valid: BoolArray, draw: npt.NDArray[np.float64]) -> Float32Array:
    """Return an image whose valid pixels change places, in the order of what was drawn: alike where masks are alike."""
    moved = image.copy()
    for index in np.ndindex(image.shape[:2]):
        known = np.asarray(valid[index], bool)
        moved[index][known] = image[index][known][np.argsort(draw[known])]
    return moved
