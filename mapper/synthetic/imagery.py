"""Images of no place: overlapping objects of all sizes with texture, to learn fine detail from without anyone's data.

Opaque shapes with sizes of a power law, each hiding what lies below, have the statistics of natural scenes: edges of
all lengths, no scale of their own (A. B. Lee, D. Mumford, J. Huang: Occlusion models for natural images, International
Journal of Computer Vision 41, 2001; used to train restoration by R. Achddou, Y. Gousseau, S. Ladjal, 2021). Here shapes
are discs, polygons of few corners, long strips and rows of rectangles, as woods, fields, roads and roofs are; fields
have rows, all have grain.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from mapper.arrays import BoolArray, Float32Array

FINER = 2
"""Pixels of drawing along an edge of a pixel: edges are not stairs."""
_SMALLEST_PX = 1.6
_LARGEST_SHARE = 0.25
"""Radius of the smallest and the largest shape: pixels, and share of the image."""
_COVERED = 4.0
"""Area of all shapes / area of the image."""
_STRIP, _ROW, _DISC = 0.12, 0.3, 0.55
"""Shares of shapes up to strips, rows of rectangles and discs; the rest are polygons."""


def make_image(seed: int, *, size_px: int, bands: int = 4) -> Float32Array:
    """Return an image (band, y, x) of mean 0 and standard deviation 1.

    Args:
        seed: Names the image.
        size_px: Edge in pixels.
        bands: Number of bands, alike as those of one scene are.
    """
    canvas = paint_canvas(seed, size_px=size_px, bands=bands)
    image = canvas.reshape(bands, size_px, FINER, size_px, FINER).mean((2, 4))
    image -= image.mean((1, 2), keepdims=True)
    unit: Float32Array = (image / max(float(image.std()), 1e-6)).astype(np.float32)
    return unit


def paint_canvas(seed: int, *, size_px: int, bands: int) -> Float32Array:
    """Return an image as it is drawn, (band, 2 y, 2 x): no pixel has a part of two shapes."""
    random = np.random.default_rng([seed, 11])
    edge = size_px * FINER
    likeness = random.uniform(0.55, 0.98)
    canvas = np.zeros((bands, edge, edge), np.float32)
    paint = _Paint(canvas=canvas, random=random, likeness=likeness, grain=_draw_grain(edge, random))
    paint.fill(np.ones((edge, edge), bool), (slice(0, edge), slice(0, edge)))
    for radius in _draw_radii(edge, random):
        paint.add_shape(float(radius))
    return paint.canvas


def _draw_radii(edge: int, random: np.random.Generator) -> npt.NDArray[np.float64]:
    """Return radii of shapes, in pixels of drawing: density ~ radius ** -3 between the smallest and the largest."""
    least, most = _SMALLEST_PX * FINER, _LARGEST_SHARE * edge
    mean_area = np.pi * 2 * np.log(most / least) / (least**-2 - most**-2)
    number = int(_COVERED * edge**2 / mean_area)
    share = random.random(number)
    radii: npt.NDArray[np.float64] = (least**-2 - share * (least**-2 - most**-2)) ** -0.5
    return radii


def _draw_grain(edge: int, random: np.random.Generator) -> Float32Array:
    """Return noise of several grains, standard deviation 1."""
    total = np.zeros((edge, edge))
    for sd in (0.7, 1.5, 3, 8):
        part = ndimage.gaussian_filter(random.normal(size=(edge, edge)), sd, mode="wrap")
        total += random.uniform(0.1, 1) * part / part.std()
    grain: Float32Array = (total / total.std()).astype(np.float32)
    return grain


@dataclass(frozen=True, kw_only=True)
class _Paint:
    """A canvas, (band, y, x), and what it is painted with."""

    canvas: Float32Array
    random: np.random.Generator
    likeness: float
    """Share of the variance that all bands have in common."""
    grain: Float32Array

    def add_shape(self, radius: float) -> None:
        """Paint a shape of any kind somewhere."""
        edge = self.canvas.shape[-1]
        row, col = self.random.uniform(0, edge, 2)
        kind, turn = self.random.random(), self.random.uniform(0, np.pi)
        length = radius * self.random.uniform(3, 10) if kind < _STRIP else 1.5 * radius
        window = tuple(slice(max(int(at - length), 0), min(int(at + length) + 2, edge)) for at in (row, col))
        down, right = np.ogrid[window]
        along = np.cos(turn) * (right - col) + np.sin(turn) * (down - row)
        across = np.cos(turn) * (down - row) - np.sin(turn) * (right - col)
        self.fill(self._cover(kind, radius, length, along, across), window)

    def _cover(
        self,
        kind: float,
        radius: float,
        length: float,
        along: npt.NDArray[np.float64],
        across: npt.NDArray[np.float64],
    ) -> BoolArray:
        """Return the pixels of a shape, by coordinates from its middle."""
        if kind < _STRIP:
            width = max(radius * self.random.uniform(0.1, 0.3), 0.7 * FINER)
            return (np.abs(along) < length) & (np.abs(across) < width)
        if kind < _ROW:
            pitch = max(radius * self.random.uniform(0.3, 0.8), 3.0 * FINER)
            inside = (np.abs(along) < radius) & (np.abs(across) < radius * self.random.uniform(0.3, 1))
            return inside & (along % pitch < 0.6 * pitch) & (across % pitch < self.random.uniform(0.4, 0.9) * pitch)
        if kind < _DISC:
            return along**2 + (across * self.random.uniform(1, 2)) ** 2 < radius**2
        shape = np.ones(np.broadcast_shapes(along.shape, across.shape), bool)
        for angle in np.sort(self.random.uniform(0, 2 * np.pi, int(self.random.integers(3, 7)))):
            shape &= np.cos(angle) * along + np.sin(angle) * across < radius * self.random.uniform(0.5, 1)
        return shape & (along**2 + across**2 < (1.5 * radius) ** 2)

    def fill(self, shape: BoolArray, window: tuple[slice, ...]) -> None:
        """Paint the pixels of a shape in one colour, with grain and maybe rows."""
        bands = len(self.canvas)
        common, own = self.random.normal(), self.random.normal(size=bands)
        colour = np.sqrt(self.likeness) * common + np.sqrt(1 - self.likeness) * own
        texture = self.random.gamma(1.0, 0.15) * self.grain[window]
        if self.random.random() < 0.25:
            texture = texture + self.random.uniform(0.1, 0.6) * self._draw_rows(window)
        tint = 1 + 0.3 * self.random.normal(size=bands)
        for band, value, share in zip(self.canvas, colour, tint, strict=True):
            np.copyto(band[window], (value + share * texture).astype(np.float32), where=shape)

    def _draw_rows(self, window: tuple[slice, ...]) -> npt.NDArray[np.float64]:
        down, right = np.ogrid[window]
        turn, period = self.random.uniform(0, np.pi), FINER * self.random.uniform(2.2, 12)
        rows: npt.NDArray[np.float64] = np.sin(2 * np.pi * (np.cos(turn) * right + np.sin(turn) * down) / period)
        return rows
