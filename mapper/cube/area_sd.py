"""Standard deviation of area averages whose errors correlate over a distance.

A pixel of a projected source grid is the mean of its fine samples, and each sample is the value of the stored pixel
that it falls in: a mean of the stored pixels i with weights w_i, their shares of the samples. The variance of a mean of
correlated quantities (JCGM 100:2008, "GUM", 5.2.2) is::

    Var = sum_i sum_j  w_i w_j  sd_i sd_j  r(d_ij),      r(d) = exp(-d / L)

with d_ij the distance of the centres of two stored pixels in metres and L the correlation length. A stored pixel has
one error, however many samples it gives, so even independent errors (L = 0) do not average away inside it; a length
beyond all distances gives the mean of the standard deviations.

Which stored pixel a sample falls in is interpolated between the corners of its source pixel, each projected exactly:
for source pixels of 100 m that moves a sample by less than 1e-4 of a stored pixel, and it is the same in every window.
"""

from collections.abc import Sequence

import numpy as np
from odc.geo.geobox import GeoBox
from pyproj import CRS, Transformer

from mapper.access.files import Access
from mapper.access.tally import AssetName
from mapper.arrays import Float32Array, Float64Array, IntArray
from mapper.catalog.items import ItemDict, name_asset
from mapper.catalog.provider import CollectionRule
from mapper.cube.header import Header
from mapper.cube.projection import AssetGrid, declared_grid
from mapper.cube.witness import Witness
from mapper.errors import GridError

_TIE = 5e-7
"""Tolerance in stored pixels: a sample this close to an edge lies on it, so that rounding does not decide."""
_MOST_STORED = 1024
"""Number of stored pixels that one source pixel may span; time grows with the square of it."""
_GRID_TOLERANCE = 1e-2
"""Tolerance in stored pixels over the extent of a file: positions in files are decimal."""


def average_deviation(fine: Float32Array, geobox: GeoBox, *, stored: AssetGrid, correlation_m: float) -> Float32Array:
    """Return the standard deviation of the mean of each block of fine samples.

    Args:
        fine: (y * scale, x * scale) standard deviation of the stored pixel under each sample, NaN where missing.
        geobox: The blocks: source pixels, (y, x).
        stored: The grid that stored pixels lie on; which part of it a file covers does not matter.
        correlation_m: Metres over which the correlation of two stored pixels falls to 1/e; 0 for independent ones.

    Returns:
        (y, x) float32; NaN where fewer than half of the samples are valid.

    Raises:
        GridError: If source pixels span too many stored pixels.
    """
    (height, width), scale = geobox.shape, fine.shape[0] // geobox.shape[0]
    rows, cols = (_floor_samples(corners, scale) for corners in _locate_corners(geobox, stored))
    top, left = rows.min(axis=(1, 3)), cols.min(axis=(1, 3))
    bottom = rows.max(axis=(1, 3))
    rows -= top[:, None, :, None]
    cols -= left[:, None, :, None]
    box = int(rows.max()) + 1, int(cols.max()) + 1
    if box[0] * box[1] > _MOST_STORED:
        raise GridError(
            f"source.sd_correlation: a source pixel spans {box[0]} x {box[1]} stored pixels, at most {_MOST_STORED} "
            "can be correlated; leave it out, which takes them as fully correlated"
        )
    shares = _share_out(fine, rows * box[1] + cols, box)
    steps = _measure_steps(stored, (top + bottom).ravel() / 2 + 0.5)
    deviation: Float64Array = np.sqrt(_combine(shares, steps, correlation_m)).reshape(height, width)
    valid = np.isfinite(fine).reshape(height, scale, width, scale).sum(axis=(1, 3))
    deviation[valid * 2 < scale * scale] = np.nan
    return deviation.astype(np.float32)


def find_stored_grid(
    items: Sequence[ItemDict], *, rule: CollectionRule, band: str, access: Access, witness: Witness | None = None
) -> AssetGrid | None:
    """Return the grid of the stored pixels of a band, as items declare it, else as files do; None without items.

    A file that was opened and lies elsewhere than its item declares counts, not its item.

    Args:
        items: Items of one collection.
        rule: How it is read.
        band: Our band name.
        access: How files are reached, and who counts.
        witness: What was learned from the files that were opened.

    Returns:
        The grid of the first item's file, on the grid of them all; None if no item holds the band.

    Raises:
        GridError: If the files lie on different grids.
        AssetError: If a file has to be asked and cannot be read.
    """
    first: tuple[str, AssetGrid] | None = None
    for item in items:
        asset = rule.asset(item, band)
        if asset is None:
            continue
        name = name_asset(item, asset)
        header = witness and witness.find_elsewhere(name, band)
        grid = _grid_of(header) if header else declared_grid(item, asset) or _read_grid(name, rule, access)
        if first is None:
            first = item["id"], grid
        elif not _share_grid(first[1], grid):
            raise GridError(
                f"source.sd_correlation: the pixels of {first[0]} and {item['id']} lie on different grids, so that "
                "their distances are not known; leave it out, which takes them as fully correlated"
            )
    return first and first[1]


def _read_grid(name: AssetName, rule: CollectionRule, access: Access) -> AssetGrid:
    return access.read(name, rule.access, lambda dataset: _grid_of(Header.of(dataset)))


def _grid_of(header: Header) -> AssetGrid:
    """Return the grid of a file.

    Raises:
        OSError: If it has none.
    """
    if header.crs is None:
        raise OSError("the file has no georeference")
    return AssetGrid(crs=CRS.from_wkt(header.crs), transform=header.transform, shape=header.shape)


def _share_grid(one: AssetGrid, other: AssetGrid) -> bool:
    """Return True if the pixels of two files lie on one endless grid."""
    (a, _, x, _, e, y), (width, height) = one.transform[:6], (other.transform.a, other.transform.e)
    sizes = abs(width / a - 1) * other.shape[1], abs(height / e - 1) * other.shape[0]
    shifts = (other.transform.c - x) / a, (other.transform.f - y) / e
    apart = [*sizes, *(abs(shift - round(shift)) for shift in shifts)]
    return max(apart) < _GRID_TOLERANCE and one.crs == other.crs


def _locate_corners(geobox: GeoBox, stored: AssetGrid) -> tuple[Float64Array, Float64Array]:
    """Return row and column on the stored grid of the four corners of each block; each (2, 2, y, x)."""
    transform, (height, width) = geobox.transform, geobox.shape
    x, y = np.meshgrid(
        transform.c + transform.a * np.arange(width + 1), transform.f + transform.e * np.arange(height + 1)
    )
    here = CRS.from_user_input(str(geobox.crs))
    if here != stored.crs:
        x, y = Transformer.from_crs(here, stored.crs, always_xy=True).transform(x, y)
    found = (y - stored.transform.f) / stored.transform.e, (x - stored.transform.c) / stored.transform.a
    rows, cols = (np.stack([[p[:-1, :-1], p[:-1, 1:]], [p[1:, :-1], p[1:, 1:]]]) for p in found)
    # a block without an image holds no sample; any position will do
    lost = ~(np.isfinite(rows) & np.isfinite(cols)).all(axis=(0, 1))
    rows[:, :, lost] = cols[:, :, lost] = 0
    if stored.crs.is_geographic:
        turn = 2 * np.pi / _unit(stored.crs) / stored.transform.a
        cols -= turn * np.round((cols - cols[0, 0]) / turn)  # a block may lie across the antimeridian
    return rows, cols


def _floor_samples(corners: Float64Array, scale: int) -> IntArray:
    """Return the whole row or column on the stored grid of every fine sample; dims (y, scale, x, scale)."""
    part = (np.arange(scale) + 0.5) / scale
    west, east = (corners[0, k][:, None] + part[:, None] * (corners[1, k] - corners[0, k])[:, None] for k in (0, 1))
    samples: Float64Array = west[..., None] + part * (east - west)[..., None]
    samples += _TIE
    np.floor(samples, out=samples)
    return samples.astype(np.int64)


def _share_out(fine: Float32Array, stored: IntArray, box: tuple[int, int]) -> Float64Array:
    """Return the products w_i sd_i of the stored pixels under each block; dims (row, column, block).

    Args:
        fine: Standard deviation under each sample, NaN where missing.
        stored: Flat index into ``box`` of the stored pixel under each sample; (y, scale, x, scale).
        box: Rows and columns of stored pixels that a block spans at most.
    """
    height, scale, width, _ = stored.shape
    blocks = height * width
    index = stored * blocks
    index += (np.arange(height) * width)[:, None, None, None] + np.arange(width)[:, None]
    samples = fine.ravel()
    valid = np.isfinite(samples)
    sums = np.bincount(index.ravel(), np.where(valid, samples, 0), minlength=box[0] * box[1] * blocks)
    counts = valid.reshape(height, scale, width, scale).sum(axis=(1, 3)).ravel()
    shares: Float64Array = sums.reshape(*box, blocks) / np.maximum(counts, 1)
    return shares


def _combine(shares: Float64Array, steps: tuple[Float64Array, Float64Array], correlation_m: float) -> Float64Array:
    """Return the variance of each block: all pairs of stored pixels, grouped where they are equally far apart."""
    rows, cols, _ = shares.shape
    variance: Float64Array = np.einsum("ijb,ijb->b", shares, shares)
    if correlation_m == 0:
        return variance
    for down in range(rows):
        for right in range(1 - cols if down else 1, cols):
            near = shares[: rows - down, max(-right, 0) : cols - max(right, 0)]
            far = shares[down:, max(right, 0) : cols + min(right, 0)]
            distance = np.hypot(down * steps[0], right * steps[1])
            variance += 2 * np.exp(-distance / correlation_m) * np.einsum("ijb,ijb->b", near, far)
    return variance


def _measure_steps(stored: AssetGrid, rows: Float64Array) -> tuple[Float64Array, Float64Array]:
    """Measure height and width in metres of stored pixels in some rows of their grid."""
    unit = _unit(stored.crs)
    height, width = abs(stored.transform.e) * unit, abs(stored.transform.a) * unit
    ellipsoid = stored.crs.get_geod() if stored.crs.is_geographic else None
    if ellipsoid is None:
        return np.full(rows.shape, height), np.full(rows.shape, width)
    latitude = (stored.transform.f + stored.transform.e * rows) * unit
    bend = 1 - ellipsoid.es * np.sin(latitude) ** 2
    along = height * ellipsoid.a * (1 - ellipsoid.es) / bend**1.5
    return along, width * ellipsoid.a * np.cos(latitude) / np.sqrt(bend)


def _unit(crs: CRS) -> float:
    """Return the metres, or radians, in one unit of a CRS."""
    return float(crs.axis_info[0].unit_conversion_factor)
