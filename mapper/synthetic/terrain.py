"""A procedural terrain with what stands on it: bare earth, forest, hedges, towns and lakes, and the surface over all.

Every terrain is a function of its seed and of position, drawn so that terrains differ as real places do: plains and
hills, rough and smooth ground, bocage, forest, villages, cities. The surface is the highest point of a pixel, as a
laser or a photograph sees it; :func:`observe` makes of it what a radar of 30 m sees.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from scipy import ndimage
from scipy.special import ndtr, ndtri

from mapper.arrays import BoolArray, Float32Array, Float64Array
from mapper.noise import derive_key, hash_uniform
from mapper.predict.operators import block_mean
from mapper.synthetic.noise import Raster, cut_cells, smooth_noise

OTHER, BUILDING, TREE, WATER = range(4)
"""Codes of land cover: ``OTHER`` is ground, crops, shrubs and whatever stands unmapped."""
CLASSES = {"building": BUILDING, "tree": TREE, "water": WATER}
"""Code by name of the guide channel."""

_OCTAVES = 9
_COARSEST_M = 3000.0
_TALLEST_SHRUB_M = 3.0
_HILLS_M = 70.0
_FILLED = 0.35
"""Share of a basin that is under water."""
_DAM_SLOPE = 0.3


@dataclass(frozen=True, kw_only=True)
class Terrain:
    """Bare earth, surface and land cover; dims (y, x), north up."""

    ground: Float32Array
    """Height of bare earth, metres."""
    surface: Float32Array
    """Height of the highest thing in a pixel, metres; never below the ground."""
    cover: npt.NDArray[np.uint8]
    """Land cover as a map would have it: codes of :data:`CLASSES`, 0 elsewhere."""
    px_m: float
    """Edge of a pixel, metres."""


@dataclass(frozen=True, kw_only=True)
class _Manner:
    """Numbers that make one terrain unlike another."""

    relief_m: float
    roughness: float
    """Amplitude of an octave / that of the octave before, twice as wide."""
    datum_m: float
    wooded: float
    """Share of forest."""
    hedged: float
    """Share of field borders with a hedge."""
    treed: float
    """Share of plots with a single tree."""
    settled: float
    """Share of land within towns."""
    dense: float
    """Share of plots in towns with a building."""
    storey_m: float
    """Height of a common building."""
    shrubs_m: float
    tree_m: float
    mapped: float
    """Share of trees outside of forests that the land cover has."""
    wet: float

    @classmethod
    def of(cls, seed: int, relief_m: float) -> "_Manner":
        random = np.random.default_rng([seed, 3])
        relief = float(np.exp(random.uniform(np.log(1.5), np.log(relief_m))))
        return cls(
            relief_m=relief,
            roughness=random.uniform(0.36, 0.66 if relief < 60 else 0.54),
            datum_m=random.uniform(-20, 900) if random.random() < 0.7 else random.uniform(-20, 20),
            wooded=random.choice([0.02, 0.1, 0.25, 0.5, 0.8]) * random.uniform(0.6, 1.2),
            hedged=random.choice([0.0, 0.2, 0.6]),
            treed=random.uniform(0, 0.25),
            settled=random.choice([0.0, 0.1, 0.3, 0.7]) * random.uniform(0.6, 1.3),
            dense=random.uniform(0.25, 0.85),
            storey_m=float(np.exp(random.uniform(np.log(4), np.log(18)))),
            shrubs_m=random.uniform(0, 1.2),
            tree_m=random.uniform(7, 26),
            mapped=random.uniform(0.4, 1.0),
            wet=random.choice([0.0, 0.02, 0.1]),
        )


def make_terrain(seed: int, *, size_px: int, px_m: float = 3.0, relief_m: float = _HILLS_M) -> Terrain:
    """Return the terrain of a seed.

    Args:
        seed: Names the terrain: its place, its relief and what stands on it.
        size_px: Edge in pixels.
        px_m: Edge of a pixel, metres.
        relief_m: Largest amplitude of the widest octave of relief, metres; at least 2.
    """
    manner, at = _Manner.of(seed, relief_m), _raster(size_px, px_m)
    town = _rank(smooth_noise(derive_key(seed, "towns"), at, 900)) < manner.settled
    basin = _rank(smooth_noise(derive_key(seed, "lakes"), at, 700)) < manner.wet / _FILLED
    ground, lake = _fill_basins(_shape_ground(seed, at, manner), basin, px_m)
    height = np.zeros(ground.shape, np.float32)
    cover = np.full(ground.shape, OTHER, np.uint8)
    for code, grown, mapped in _stand_up(seed, at, manner, town):
        grown = np.where(lake, np.float32(0), grown)  # noqa: PLW2901 - nothing stands in water
        higher = grown > height
        cover[higher & mapped] = code
        height = np.maximum(height, grown)
    cover[lake] = WATER
    return Terrain(ground=ground, surface=ground + height, cover=cover, px_m=px_m)


def observe(terrain: Terrain, *, seed: int, scale: int, radar: bool = False) -> Float32Array:
    """Return the surface on pixels ``scale`` times as large, (y / scale, x / scale), metres.

    Args:
        terrain: Its edges are multiples of the scale.
        seed: Of the noise.
        scale: Source pixel / target pixel.
        radar: False is the plain mean of a block. True is an X-band interferometer: it looks 1 to 5 m into trees, its
            product is smoothed, and has noise that neighbours share.
    """
    if not radar:
        return block_mean(terrain.surface, scale).astype(np.float32)
    random = np.random.default_rng([seed, 5])
    above = terrain.surface - terrain.ground
    sunk = np.where(terrain.cover == TREE, np.minimum(random.uniform(1, 5), 0.4 * above), 0)
    seen = block_mean(terrain.surface - sunk.astype(np.float32), scale)
    noise = ndimage.gaussian_filter(random.normal(size=seen.shape), 0.6) / _white_gain(0.6)
    blurred = ndimage.gaussian_filter(seen, random.uniform(0.2, 0.6), mode="nearest")
    return (blurred + random.uniform(0.2, 1.2) * noise).astype(np.float32)


def spoil_cover(
    terrain: Terrain, *, seed: int, lost: float, frayed: float = 0.0, shift_px: int = 0, cover_m: float = 0.0
) -> Terrain:
    """Return a terrain whose land cover lacks a share of its buildings and trees, is coarse, and lies beside them.

    The highest point of a pixel at the rim of a roof or a crown is the roof's, what most of the pixel is is not.

    Args:
        terrain: As it is.
        seed: Of what is lost.
        lost: Share of connected objects that are missing.
        frayed: Share of the pixels at the rim of objects that are missing.
        shift_px: Farthest shift along either axis, in pixels.
        cover_m: Edge of the pixels of land cover, metres: each has the class that most of it has. 0 is as it is.
    """
    random = np.random.default_rng([seed, 7])
    cover = terrain.cover.copy()
    for code in (BUILDING, TREE):
        parts, count = ndimage.label(cover == code)
        cover[(random.random(count + 1) < lost)[parts] & (parts > 0)] = OTHER
    if frayed:
        stands = (cover == BUILDING) | (cover == TREE)
        cover[stands & ~ndimage.binary_erosion(stands) & (random.random(cover.shape) < frayed)] = OTHER
    if cover_m > terrain.px_m:
        cover = _coarsen(cover, cover_m / terrain.px_m)
    shift = tuple(int(step) for step in random.integers(-shift_px, shift_px + 1, 2))
    return replace(terrain, cover=np.roll(cover, shift, (0, 1)))


def _coarsen(cover: npt.NDArray[np.uint8], pixels: float) -> npt.NDArray[np.uint8]:
    """Return the commonest class of cells that are some pixels wide, each pixel with that of its middle."""
    cells = [((np.arange(length) + 0.5) // pixels).astype(np.int64) for length in cover.shape]
    starts = [np.unique(cell, return_index=True)[1] for cell in cells]
    present = np.arange(len(CLASSES) + 1, dtype=np.uint8)[:, None, None] == cover
    counts = np.add.reduceat(np.add.reduceat(present.astype(np.int64), starts[0], 1), starts[1], 2)
    coarse: npt.NDArray[np.uint8] = counts.argmax(0).astype(np.uint8)[np.ix_(*cells)]
    return coarse


def _raster(size_px: int, px_m: float) -> Raster:
    along = px_m * (np.arange(size_px, dtype=np.float64) + 0.5)
    return Raster(east=along, north=along[::-1])


def _shape_ground(seed: int, at: Raster, manner: _Manner) -> Float32Array:
    """Return heights of bare earth before water: fractal relief, valleys, and banks along field borders."""
    random = np.random.default_rng([seed, 4])
    total = np.zeros(at.shape, np.float32)
    amplitude = 1.0
    for octave in range(_OCTAVES):
        noise = smooth_noise(derive_key(seed, "ground", octave), at, _COARSEST_M / 2**octave)
        total += np.float32(amplitude) * noise
        amplitude *= manner.roughness
    course = smooth_noise(derive_key(seed, "valley"), at, 1300) + 0.2 * smooth_noise(derive_key(seed, "bend"), at, 300)
    total -= np.float32(random.uniform(0, 1)) * np.exp(-np.square(course / np.float32(random.uniform(0.1, 0.4))))
    ground = np.float32(manner.datum_m) + np.float32(manner.relief_m) * total
    ground += np.float32(random.uniform(0.02, 0.25)) * smooth_noise(derive_key(seed, "furrows"), at, 12)
    return ground + _raise_banks(seed, at, random)


def _raise_banks(seed: int, at: Raster, random: np.random.Generator) -> Float32Array:
    """Return banks and ditches along some borders of fields, and terraces: each field at its own level."""
    fields = cut_cells(derive_key(seed, "fields"), at, 170, warp_m=15, warp_grain_m=120)
    profile = np.exp(-np.square(fields.border / np.float32(random.uniform(2, 6))))
    sign = smooth_noise(derive_key(seed, "banks"), at, 250)
    level = ndimage.gaussian_filter(fields.draw("level") - np.float32(0.5), 2.0)
    banks: Float32Array = (np.float32(random.uniform(0, 1.2)) * profile * sign).astype(np.float32)
    return banks + np.float32(random.uniform(0, 0.8)) * level.astype(np.float32)


def _fill_basins(ground: Float32Array, basin: BoolArray, px_m: float) -> tuple[Float32Array, BoolArray]:
    """Return the ground with level lakes over the lower part of each basin, dammed where it is open, and the lakes."""
    parts, count = ndimage.label(basin)
    if not count:
        return ground, basin
    of_part = [np.quantile(ground[parts == part], _FILLED) for part in range(1, count + 1)]
    level = np.array([0, *of_part], np.float32)[parts]
    lake = basin & (ground < level)
    away, nearest = ndimage.distance_transform_edt(~lake, return_indices=True)
    shore: Float32Array = (level[tuple(nearest)] - _DAM_SLOPE * px_m * away).astype(np.float32)
    return np.maximum(ground, shore), lake


def _stand_up(
    seed: int, at: Raster, manner: _Manner, town: BoolArray
) -> Iterator[tuple[int, Float32Array, BoolArray | np.bool_]]:
    """Yield class, height (m) and what of it is mapped, of everything that stands on the ground."""
    shrubs = manner.shrubs_m * np.exp(0.8 * smooth_noise(derive_key(seed, "shrubs"), at, 60))
    patchy = shrubs * (smooth_noise(derive_key(seed, "crops"), at, 110) > 0)
    yield OTHER, np.minimum(patchy, _TALLEST_SHRUB_M).astype(np.float32), np.True_
    crown = manner.tree_m * (0.7 + 0.2 * smooth_noise(derive_key(seed, "crowns"), at, 9))
    stand = 1 + 0.25 * smooth_noise(derive_key(seed, "stands"), at, 260)
    tall = np.clip(crown * stand, 0, 45).astype(np.float32)
    yield from _grow_forest(seed, at, manner, tall * ~town)
    fields = cut_cells(derive_key(seed, "fields"), at, 170, warp_m=15, warp_grain_m=120)
    hedge = (fields.border < 5) & (_rank(smooth_noise(derive_key(seed, "hedges"), at, 130)) < manner.hedged) & ~town
    known = smooth_noise(derive_key(seed, "mapped"), at, 40) < _quantile(manner.mapped)
    yield TREE, (0.7 * tall * hedge).astype(np.float32), known
    yield TREE, _plant_trees(seed, at, manner.treed) * tall, known
    yield BUILDING, _build(seed, at, manner, town), np.True_


def _grow_forest(
    seed: int, at: Raster, manner: _Manner, tall: Float32Array
) -> Iterator[tuple[int, Float32Array, BoolArray]]:
    """Yield forest with a ragged edge and gaps; its map is generalised, so that gaps and fringe are mapped wrongly."""
    ragged = smooth_noise(derive_key(seed, "forest"), at, 420) + 0.25 * smooth_noise(derive_key(seed, "edge"), at, 50)
    rank = _rank(ragged)
    gaps = smooth_noise(derive_key(seed, "gaps"), at, 14) > 1.6
    forest = (rank < manner.wooded) & ~gaps
    margin = np.float32(0.01) * smooth_noise(derive_key(seed, "margin"), at, 80)
    yield TREE, (tall * forest).astype(np.float32), rank + margin < manner.wooded


def _plant_trees(seed: int, at: Raster, share: float) -> Float32Array:
    """Return 0 to 1, how high single trees reach, of those of the forest."""
    plots = _cut_plots(derive_key(seed, "single"), at, 16.0, 0.4)
    radius = 2 + 4 * plots.draw("radius")
    inside = np.clip(1 - np.square(plots.along / radius) - np.square(plots.across / radius), 0, None)
    reach: Float32Array = np.float32(0.8) * np.sqrt(inside.astype(np.float32)) * (plots.draw("there") < share)
    return reach


def _build(seed: int, at: Raster, manner: _Manner, town: BoolArray) -> Float32Array:
    """Return heights of buildings: common ones in the plots of towns, large ones here and there."""
    random = np.random.default_rng([seed, 6])
    height = np.zeros(at.shape, np.float32)
    for name, pitch_m, share in (("house", random.uniform(18, 32), manner.dense), ("block", 75.0, 0.3 * manner.dense)):
        plots = _cut_plots(derive_key(seed, name), at, pitch_m, random.uniform(0, np.pi / 2))
        half = pitch_m * (0.2 + 0.25 * plots.draw("length")), pitch_m * (0.15 + 0.25 * plots.draw("width"))
        inside = (np.abs(plots.along) < half[0]) & (np.abs(plots.across) < half[1]) & (plots.draw("there") < share)
        tall = manner.storey_m * np.exp(0.5 * (2 * plots.draw("height") - 1)) * (1 if name == "house" else 1.5)
        height = np.maximum(height, np.where(inside & town, tall, 0))
    farm = _cut_plots(derive_key(seed, "farm"), at, 60.0, random.uniform(0, np.pi / 2))
    inside = (np.abs(farm.along) < 12) & (np.abs(farm.across) < 7) & (farm.draw("there") < 0.02)
    return np.maximum(height, np.where(inside, 4 + 4 * farm.draw("height"), 0)).astype(np.float32)


@dataclass(frozen=True, kw_only=True)
class _Plots:
    """A turned lattice of squares."""

    key: int
    row: npt.NDArray[np.int64]
    col: npt.NDArray[np.int64]
    along: Float64Array
    """(y, x) metres from the middle of the plot."""
    across: Float64Array

    def draw(self, name: str) -> Float32Array:
        """Return one random number on [0, 1) for each plot; dims (y, x)."""
        return hash_uniform(derive_key(self.key, name), self.row, self.col)


def _cut_plots(key: int, at: Raster, pitch_m: float, angle: float) -> _Plots:
    east, north = at.east[None, :], at.north[:, None]
    along = (np.cos(angle) * east + np.sin(angle) * north) / pitch_m
    across = (-np.sin(angle) * east + np.cos(angle) * north) / pitch_m
    row, col = np.floor(along).astype(np.int64), np.floor(across).astype(np.int64)
    return _Plots(key=key, row=row, col=col, along=(along - row - 0.5) * pitch_m, across=(across - col - 0.5) * pitch_m)


def _rank(noise: Float32Array) -> Float32Array:
    """Return where standard normal noise lies in its distribution, 0 to 1."""
    return np.asarray(ndtr(noise), np.float32)


def _quantile(share: float) -> float:
    return float(ndtri(min(max(share, 1e-4), 1 - 1e-4)))


def _white_gain(sd: float) -> float:
    """Return the standard deviation that a Gaussian filter leaves of white noise in two dimensions."""
    taps = np.exp(-np.square(np.arange(-8, 9) / sd) / 2)
    return float(np.square(taps / taps.sum()).sum())
