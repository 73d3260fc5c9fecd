"""A procedural landscape: terrain, rivers, forest, fields, roads and villages as a pure function of seed and location.

Positions are metres of EPSG:3035. The landscape has no edge and no memory: windows that overlap agree bit for bit
where they do. It is evaluated at twice the resolution that is asked for and averaged, so that edges mix as they do in
a sensor.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt
from odc.geo.geobox import GeoBox

from mapper.arrays import Float32Array
from mapper.noise import derive_key
from mapper.synthetic.farmland import OpenLand, build_village, till_fields
from mapper.synthetic.forest import Trees, cut_stands, grow_trees
from mapper.synthetic.noise import Cells, Raster, cut_cells, fractal_noise, smooth_noise
from mapper.synthetic.surface import Cover, Surface, average_blocks, empty_cover

CRS = "EPSG:3035"

_OVERSAMPLING = 2
_BLOCK_PX = 256
_SINGLE_TREE = 95.0
"""Biomass of single trees and hedges where they cover the ground, Mg ha-1."""


@dataclass(frozen=True, kw_only=True)
class _Land:
    """Large shapes of the land, (y, x)."""

    relief: Float32Array
    """Standardised elevation before the valleys."""
    elevation: Float32Array
    water: npt.NDArray[np.bool_]
    bank: npt.NDArray[np.bool_]
    """(y, x) True beside water, where trees stand."""
    massifs: Cells
    wooded: npt.NDArray[np.bool_]
    village: npt.NDArray[np.bool_]
    moisture: Float32Array


@dataclass(frozen=True, kw_only=True)
class Landscape:
    """One landscape, named by its seed."""

    seed: int

    def render(self, geobox: GeoBox, *, workers: int = 2) -> Surface:
        """Evaluate the landscape on a north-up grid in EPSG:3035, block by block.

        Args:
            geobox: Pixels to fill; each is the mean over 2 x 2 evaluations.
            workers: Threads.

        Raises:
            ValueError: If the grid is not in EPSG:3035.
        """
        if geobox.crs != CRS:
            raise ValueError(f"the landscape lives in {CRS}, got a grid in {geobox.crs}")
        blocks = list(_blocks((geobox.shape.y, geobox.shape.x)))
        with ThreadPoolExecutor(workers) as pool:
            parts = pool.map(lambda block: self._render_block(geobox[block]), blocks)
            return _join(blocks, parts, (geobox.shape.y, geobox.shape.x))

    def _render_block(self, geobox: GeoBox) -> Surface:
        fine = evaluate_surface(self.seed, _fine_raster(geobox))
        return Surface(**{
            field.name: average_blocks(getattr(fine, field.name), _OVERSAMPLING) for field in fields(Surface)
        })  # fmt: skip


def evaluate_surface(seed: int, at: Raster) -> Surface:
    """Evaluate a landscape at single points, without averaging."""
    land = _shape_land(seed, at)
    mosaic = cut_stands(seed, at)
    trees = grow_trees(seed, at, mosaic, relief=land.relief)
    track = (mosaic.stands.border < 2.5) & (smooth_noise(derive_key(seed, "tracks"), at, 300) > 0.1)
    road = (land.massifs.border < 5) & (smooth_noise(derive_key(seed, "roads"), at, 1300) > -0.6)
    glade = mosaic.stands.draw("glade") < 0.06
    grove = mosaic.stands.draw("grove") < 0.05
    wooded = np.where(land.wooded, ~glade, grove & ~land.village)
    fields_ = till_fields(seed, at, land.massifs)
    village = build_village(seed, at, land.massifs)
    return _compose(
        land, trees=trees, open_land=_choose(land.village, village, fields_),
        wooded=wooded & ~land.bank, paved=road, cleared=track | road | land.water,
    )  # fmt: skip


def _shape_land(seed: int, at: Raster) -> _Land:
    relief = fractal_noise(derive_key(seed, "relief"), at, 2600, octaves=6)
    course = smooth_noise(derive_key(seed, "river"), at, 4200) + 0.16 * smooth_noise(derive_key(seed, "bend"), at, 650)
    course += 0.02 * smooth_noise(derive_key(seed, "bank"), at, 90)
    pond = smooth_noise(derive_key(seed, "ponds"), at, 330) + 0.1 * smooth_noise(derive_key(seed, "shore"), at, 60)
    valley = np.exp(-np.square(course / 0.3)).astype(np.float32)
    river, lake = np.abs(course) < 0.011, (pond > 2.6) & (relief < 0.6)
    massifs = cut_cells(derive_key(seed, "massifs"), at, 900, warp_m=110, warp_grain_m=260)
    damp = smooth_noise(derive_key(seed, "moist"), at, 500)
    wild = 0.30 * smooth_noise(derive_key(seed, "wild"), at, 2400) + 0.12 * relief - 0.15 * valley
    wooded = massifs.draw("wooded") + wild > 0.28
    return _Land(
        relief=relief,
        elevation=(210 + 62 * relief - 45 * valley).astype(np.float32),
        water=river | lake,
        bank=((np.abs(course) < 0.019) | (pond > 2.5)) & ~(river | lake),
        massifs=massifs,
        wooded=wooded,
        village=~wooded & (massifs.draw("village") < 0.09 + 0.2 * valley),
        moisture=(0.7 * valley + 0.6 * damp - 0.3 * relief).astype(np.float32),
    )


def _choose(village: npt.NDArray[np.bool_], inside: OpenLand, outside: OpenLand) -> OpenLand:
    return OpenLand(
        cover=np.where(village, inside.cover, outside.cover), trees=np.where(village, inside.trees, outside.trees)
    )


def _compose(
    land: _Land,
    *,
    trees: Trees,
    open_land: OpenLand,
    wooded: npt.NDArray[np.bool_],
    paved: npt.NDArray[np.bool_],
    cleared: npt.NDArray[np.bool_],
) -> Surface:
    """Put trees over ground: the forest's where it is wooded, single trees elsewhere, none where it is cleared."""
    single = np.where(land.bank, np.float32(0.85), open_land.trees)
    leaves = np.where(wooded, trees.leaves, single) * ~cleared
    biomass = np.where(wooded, trees.biomass, np.float32(_SINGLE_TREE) * single) * ~cleared
    height = np.where(wooded, trees.height, np.float32(11))
    conifer = trees.conifer & wooded
    ground = np.where(wooded, np.float32(0), open_land.cover)
    ground[Cover.SOIL] += wooded * trees.bare
    ground[Cover.GRASS] += wooded * (1 - trees.bare)
    ground[:, cleared] = 0
    ground[Cover.WATER][land.water] = 1
    ground[Cover.ASPHALT][paved & ~land.water] = 1
    ground[Cover.SOIL][cleared & ~paved & ~land.water] = 0.6
    ground[Cover.GRASS][cleared & ~paved & ~land.water] = 0.4
    cover = ground * (1 - leaves)
    cover[Cover.CONIFER] += leaves * conifer
    cover[Cover.BROADLEAF] += leaves * ~conifer
    return Surface(
        cover=cover,
        biomass=biomass.astype(np.float32),
        height=(height * leaves).astype(np.float32),
        vigour=np.where(wooded, trees.vigour, np.float32(0)).astype(np.float32),
        moisture=land.moisture,
        elevation=land.elevation,
    )


def _fine_raster(geobox: GeoBox) -> Raster:
    step = float(geobox.resolution.x) / _OVERSAMPLING
    left, top = float(geobox.transform.c), float(geobox.transform.f)
    return Raster(
        east=left + step * (np.arange(geobox.shape.x * _OVERSAMPLING, dtype=np.float64) + 0.5),
        north=top - step * (np.arange(geobox.shape.y * _OVERSAMPLING, dtype=np.float64) + 0.5),
    )


def _blocks(shape: tuple[int, int]) -> Iterator[tuple[slice, slice]]:
    for top in range(0, shape[0], _BLOCK_PX):
        for left in range(0, shape[1], _BLOCK_PX):
            yield slice(top, min(top + _BLOCK_PX, shape[0])), slice(left, min(left + _BLOCK_PX, shape[1]))


def _join(blocks: list[tuple[slice, slice]], parts: Iterator[Surface], shape: tuple[int, int]) -> Surface:
    whole = {f.name: np.empty(shape, np.float32) for f in fields(Surface)} | {"cover": empty_cover(shape)}
    for block, part in zip(blocks, parts, strict=True):
        for name, array in whole.items():
            array[(..., *block)] = getattr(part, name)
    return Surface(**whole)
