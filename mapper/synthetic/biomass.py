"""Synthetic biomass: the truth on the grid of the map, and the coarse map that a satellite mission would make of it.

The coarse map has the grid and the habits of the real one: EPSG:4326, pixel edges at multiples of 1/1125 degree,
uint16 Mg ha-1, area mean of the truth, too low where there is much, noise that its standard deviation describes.
"""

from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pystac
from affine import Affine
from odc.geo.geobox import GeoBox
from scipy.special import ndtri

from mapper.arrays import Float32Array
from mapper.noise import derive_key, node_uniform
from mapper.synthetic.frames import Frame, write_cog
from mapper.synthetic.noise import Raster, smooth_noise
from mapper.synthetic.site import Site
from mapper.synthetic.stac import describe_asset, describe_grid, make_item
from mapper.synthetic.surface import average_blocks

SOURCE, TRUTH = "esa-cci-biomass", "truth"
PER_DEGREE = 1125
"""Number of source pixels in a degree."""
SOURCE_NODATA = 65535
TRUTH_NODATA = -9999.0
_PARTS = 10
"""Points along each edge of a source pixel that its mean is taken over."""
_SATURATION = (220.0, 30.0, 0.55)
"""Saturation of the coarse map: its onset and width in Mg ha-1, and the slope it loses."""


def write_truth(site: Site, out_dir: Path, *, year: int) -> pystac.Item:
    """Write the truth on the ground's own grid, and return its item."""
    name = f"truth-{site.seed}-{year}"
    write_cog(out_dir / TRUTH / name / "agb.tif", site.ground.biomass, site.geobox, nodata=TRUTH_NODATA)
    asset = describe_asset("agb.tif", site.geobox, title="Above-ground biomass", nodata=TRUTH_NODATA,
                           data_type="float32", unit="Mg ha-1")  # fmt: skip
    return make_item(
        name, TRUTH, footprint=site.footprint(site.geobox), when=_year(year), assets={"agb": asset},
        properties=describe_grid(site.geobox), crs=str(site.geobox.crs),
    )  # fmt: skip


def write_source(site: Site, out_dir: Path, *, year: int) -> pystac.Item:
    """Write the coarse map and its standard deviation, and return one item for both."""
    geobox, row, col = _cover_ground(site.geobox)
    agb, deviation = measure_biomass(site, geobox, row=row, col=col)
    box = geobox.boundingbox
    cell = f"N{int(np.floor(box.top / 10)) * 10 + 10:02d}E{int(np.floor(box.left / 10)) * 10:03d}"
    name = f"{cell}_ESACCI-BIOMASS-L4-AGB-MERGED-100m-{year}-fv5.0"
    assets = {}
    for key, values in (("agb", agb), ("agb_sd", deviation)):
        file = f"{name.replace('-AGB-', f'-{key.upper()}-')}.tif"
        write_cog(out_dir / SOURCE / name / file, values, geobox, nodata=SOURCE_NODATA)
        assets[key] = describe_asset(
            file, geobox, title=f"Above-ground biomass{', standard deviation' if key == 'agb_sd' else ''}",
            nodata=SOURCE_NODATA, data_type="uint16", unit="Mg ha-1",
        )  # fmt: skip
    return make_item(
        name, SOURCE, footprint=site.footprint(geobox), when=_year(year), assets=assets,
        properties=describe_grid(geobox), crs="EPSG:4326",
    )  # fmt: skip


def measure_biomass(
    site: Site, geobox: GeoBox, *, row: int, col: int
) -> tuple[npt.NDArray[np.uint16], npt.NDArray[np.uint16]]:
    """Return the coarse map of the truth, and its standard deviation.

    Args:
        site: Where.
        geobox: Source pixels, in EPSG:4326.
        row: First row on the global grid, from the equator northwards, negative below.
        col: First column on the global grid.

    Returns:
        Biomass and its standard deviation, uint16 Mg ha-1 (y, x); :data:`SOURCE_NODATA` where a pixel is not wholly
        on the ground.
    """
    mean, whole = average_truth(site, geobox)
    expected = expect_source(mean)
    deviation = np.where(mean < 0.5, np.float32(1), 5 + np.float32(0.14) * expected)
    error = deviation * _source_noise(site.seed, mean.shape, row=row, col=col) * (mean >= 0.5)
    agb = np.clip(np.rint(expected + error), 0, 60000).astype(np.uint16)
    nodata = np.uint16(SOURCE_NODATA)
    return np.where(whole, agb, nodata), np.where(whole, np.rint(deviation).astype(np.uint16), nodata)


def expect_source(mean: Float32Array) -> Float32Array:
    """Return the value that the coarse map shows of a true mean, without noise: it saturates."""
    start, width, loss = _SATURATION
    lost = np.float32(loss * width) * np.logaddexp(0, (mean - start) / width)
    at_zero = np.float32(loss * width) * np.logaddexp(0, -start / width)
    expected: Float32Array = np.maximum(mean - lost + at_zero, 0).astype(np.float32)
    return expected


def average_truth(site: Site, geobox: GeoBox) -> tuple[Float32Array, npt.NDArray[np.bool_]]:
    """Return the area mean of the truth on source pixels, and True where a pixel lies wholly on the ground; (y, x)."""
    parts = GeoBox(
        (geobox.shape.y * _PARTS, geobox.shape.x * _PARTS), geobox.transform @ Affine.scale(1 / _PARTS), geobox.crs
    )
    sampler = Frame.over(site.geobox, parts).sampler()
    mean = average_blocks(sampler.read(site.ground.biomass), _PARTS)
    return mean, average_blocks(sampler.inside.astype(np.float32), _PARTS) > 0.9999


def _source_noise(seed: int, shape: tuple[int, int], *, row: int, col: int) -> Float32Array:
    """Return unit noise, a third of its variance shared by neighbours; a function of the row and column."""
    rows, cols = -row + np.arange(shape[0]), col + np.arange(shape[1])
    white = ndtri(np.clip(node_uniform(derive_key(seed, "source"), rows, cols), 1e-6, 1 - 1e-6)).astype(np.float32)
    at = Raster(east=cols.astype(np.float64), north=rows.astype(np.float64))
    return np.float32(0.82) * white + np.float32(0.57) * smooth_noise(derive_key(seed, "retrieval"), at, 5)


def _cover_ground(ground: GeoBox) -> tuple[GeoBox, int, int]:
    """Return the grid of source pixels around the ground, and the global row and column of its upper left corner."""
    box = ground.footprint("EPSG:4326", npoints=40).boundingbox
    col, row = int(np.floor(box.left * PER_DEGREE)), int(np.ceil(box.top * PER_DEGREE))
    shape = row - int(np.floor(box.bottom * PER_DEGREE)), int(np.ceil(box.right * PER_DEGREE)) - col
    transform = Affine(1 / PER_DEGREE, 0, col / PER_DEGREE, 0, -1 / PER_DEGREE, row / PER_DEGREE)
    return GeoBox(shape, transform, "EPSG:4326"), row, col


def _year(year: int) -> tuple[datetime, datetime]:
    return datetime(year, 1, 1, tzinfo=UTC), datetime(year, 12, 31, 23, 59, 59, tzinfo=UTC)
