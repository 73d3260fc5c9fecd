"""Open land: fields in parcels, hedges, orchards and scattered trees; villages with roofs and gardens.

Parcels are strips in one direction for each massif of the landscape, cut across at lengths of their own.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mapper.arrays import Float32Array
from mapper.noise import derive_key, hash_uniform
from mapper.synthetic.noise import Cells, Raster, smooth_noise
from mapper.synthetic.surface import Cover, empty_cover

_CROPS = ((0.36, Cover.WHEAT), (0.50, Cover.RAPE), (0.68, Cover.MAIZE), (0.93, Cover.GRASS), (1.0, Cover.SOIL))
"""Crops and the upper ends of their draws."""


@dataclass(frozen=True, kw_only=True)
class OpenLand:
    """Open land on every pixel, as if none were forest; arrays (y, x)."""

    cover: Float32Array
    """(kind, y, x) cover of the ground between the trees, fractions that sum to one."""
    trees: Float32Array
    """(y, x) fraction covered by single trees, hedges and gardens, all broadleaved."""


@dataclass(frozen=True, kw_only=True)
class _Parcels:
    """Rectangles in the direction of their massif."""

    along: npt.NDArray[np.int64]
    across: npt.NDArray[np.int64]
    edge: Float32Array
    """(y, x) metres to the nearest edge of the parcel."""
    key: int

    def draw(self, name: str) -> Float32Array:
        return hash_uniform(derive_key(self.key, name), self.along, self.across)


def till_fields(seed: int, at: Raster, massifs: Cells) -> OpenLand:
    """Lay out fields, meadows and hedges everywhere."""
    parcels = _cut_parcels(derive_key(seed, "parcels"), at, massifs, length=(220.0, 330.0), width=(80.0, 130.0))
    crop = parcels.draw("crop")
    cover = empty_cover(at.shape)
    kinds = np.array([kind for _, kind in _CROPS])[np.searchsorted([upper for upper, _ in _CROPS], crop)]
    patchy = np.clip(0.86 + 0.10 * smooth_noise(derive_key(seed, "stand"), at, 45), 0.45, 1).astype(np.float32)
    for kind in {kind for _, kind in _CROPS}:
        cover[kind] = (kinds == kind) * patchy
    cover[Cover.SOIL] += 1 - patchy
    margin = parcels.edge < 4
    cover[:, margin] = 0
    cover[Cover.GRASS][margin] = 1
    tufts = smooth_noise(derive_key(seed, "single"), at, 8)
    hedge = (parcels.edge < 8) & (parcels.draw("hedge") < 0.3) & (tufts > -1.1)
    orchard = (kinds == Cover.GRASS) & (parcels.draw("orchard") < 0.3) & (tufts > 1.1)
    return OpenLand(cover=cover, trees=np.where(hedge, np.float32(0.9), np.float32(0.75) * orchard))


def build_village(seed: int, at: Raster, massifs: Cells) -> OpenLand:
    """Build houses, streets and gardens everywhere."""
    plots = _cut_parcels(derive_key(seed, "plots"), at, massifs, length=(28.0, 60.0), width=(24.0, 24.0))
    cover = empty_cover(at.shape)
    roof = (plots.draw("house") < 0.62) & (plots.edge > 3.5)
    street = (plots.draw("street") < 0.16) & ~roof
    cover[Cover.BUILT] = roof
    cover[Cover.ASPHALT] = street
    cover[Cover.GRASS] = ~(roof | street)
    garden = ~(roof | street) & (smooth_noise(derive_key(seed, "garden"), at, 9) > 0.5)
    return OpenLand(cover=cover, trees=np.float32(0.8) * garden)


def _cut_parcels(
    key: int, at: Raster, massifs: Cells, *, length: tuple[float, float], width: tuple[float, float]
) -> _Parcels:
    """Cut strips of a width of the massif's own into parcels; ``length`` and ``width`` are (least, spread) metres."""
    angle = np.pi * massifs.draw("angle")
    # Distances from the corner of a 100 km square keep float32 exact to centimetres, whatever the window.
    east = (at.east - np.floor(at.east[0] / 1e5) * 1e5).astype(np.float32)[None, :]
    north = (at.north - np.floor(at.north[-1] / 1e5) * 1e5).astype(np.float32)[:, None]
    massif = (massifs.draw("name") * (1 << 24)).astype(np.int64)
    broad = width[0] + width[1] * massifs.draw("width")
    across = (east * np.sin(angle) + north * np.cos(angle)) / broad
    strip = np.floor(across).astype(np.int64)
    where = massif * 4096 + strip
    long = length[0] + length[1] * hash_uniform(derive_key(key, "length"), where, np.zeros((1, 1), np.int64))
    along = (east * np.cos(angle) - north * np.sin(angle)) / long
    along += hash_uniform(derive_key(key, "shift"), where, np.zeros((1, 1), np.int64))
    part = np.floor(along).astype(np.int64)
    side = np.float32(0.5) - np.abs(across - strip - np.float32(0.5))
    end = np.float32(0.5) - np.abs(along - part - np.float32(0.5))
    edge = np.minimum(side * broad, end * long).astype(np.float32)
    return _Parcels(along=where, across=part, edge=edge, key=key)
