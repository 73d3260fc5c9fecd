"""Rasters of scenes: positions of their pixels in the ground's own raster, and the files they are written to.

A frame is a north-up grid in any CRS. The ground is known on one grid in EPSG:3035; pixels of a frame outside of it
have no data. Files are cloud-optimised GeoTIFFs without overviews, the same bytes for the same numbers.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import numpy.typing as npt
import rasterio
from affine import Affine
from odc.geo.geobox import GeoBox
from pyproj import Transformer
from scipy.interpolate import RectBivariateSpline

from mapper.arrays import Float32Array

_NODE_PX = 32
"""Pixels between nodes: projections are computed there and interpolated by a cubic spline, exact to millimetres."""
_BLOCK_PX = 512


@dataclass(frozen=True, kw_only=True)
class Frame:
    """A grid, and the positions of its pixels in the ground's raster."""

    geobox: GeoBox
    row: npt.NDArray[np.float64]
    """(y, x) row in pixels of the ground from the centre of its first."""
    col: npt.NDArray[np.float64]
    ground_shape: tuple[int, int]

    @classmethod
    def over(cls, ground: GeoBox, geobox: GeoBox) -> Self:
        """Locate the pixels of a grid in the ground's raster."""
        east, north = locate_pixels(geobox, str(ground.crs))
        return cls(
            geobox=geobox,
            row=(north - ground.transform.f) / ground.transform.e - 0.5,
            col=(east - ground.transform.c) / ground.transform.a - 0.5,
            ground_shape=(ground.shape.y, ground.shape.x),
        )

    def sampler(self, *, shift_px: tuple[float, float] = (0.0, 0.0)) -> "GroundSampler":
        """Prepare bilinear reading, misregistered by ``shift_px`` (rows, columns of the ground)."""
        rows, cols = self.ground_shape
        row, col = self.row + shift_px[0], self.col + shift_px[1]
        inside = (row >= 0) & (col >= 0) & (row <= rows - 1) & (col <= cols - 1)
        top = np.clip(np.floor(row), 0, rows - 2).astype(np.int64)
        left = np.clip(np.floor(col), 0, cols - 2).astype(np.int64)
        return GroundSampler(
            inside=inside,
            corner=top * cols + left,
            down=np.clip(row - top, 0, 1).astype(np.float32),
            right=np.clip(col - left, 0, 1).astype(np.float32),
            width=cols,
        )


@dataclass(frozen=True, kw_only=True)
class GroundSampler:
    """Bilinear reader of the ground at the pixel centres of a frame; arrays (y, x) of the frame."""

    inside: npt.NDArray[np.bool_]
    """True where the ground is known."""
    corner: npt.NDArray[np.int64]
    """Flat index of the upper left of the four ground pixels."""
    down: Float32Array
    right: Float32Array
    width: int
    """Number of columns of the ground."""

    def read(self, values: npt.NDArray[np.generic]) -> Float32Array:
        """Return values of a ground array at the pixels of the frame; those outside are meaningless."""
        flat = values.astype(np.float32, copy=False).ravel()
        upper, lower = self._across(flat, self.corner), self._across(flat, self.corner + self.width)
        return upper + self.down * (lower - upper)

    def _across(self, flat: Float32Array, corner: npt.NDArray[np.int64]) -> Float32Array:
        left = flat[corner]
        return left + self.right * (flat[corner + 1] - left)


def locate_pixels(geobox: GeoBox, crs: str) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return pixel centres of a frame in another CRS: x and y, each (y, x)."""
    rows, cols = _nodes(geobox.shape.y), _nodes(geobox.shape.x)
    grid_col, grid_row = np.meshgrid(cols + 0.5, rows + 0.5)
    forward = geobox.transform
    east, north = forward.c + forward.a * grid_col, forward.f + forward.e * grid_row
    transformer = Transformer.from_crs(str(geobox.crs), crs, always_xy=True)
    at_rows, at_cols = np.arange(geobox.shape.y), np.arange(geobox.shape.x)
    x, y = (RectBivariateSpline(rows, cols, v)(at_rows, at_cols) for v in transformer.transform(east, north))
    return x, y


def cover_box(ground: GeoBox, crs: str, *, resolution: float, snap: float) -> GeoBox:
    """Return the smallest grid in ``crs`` that covers the ground, its edges at multiples of ``snap``."""
    box = ground.footprint(crs, npoints=100).boundingbox
    left, top = np.floor(box.left / snap) * snap, np.ceil(box.top / snap) * snap
    right, bottom = np.ceil(box.right / snap) * snap, np.floor(box.bottom / snap) * snap
    shape = round((top - bottom) / resolution), round((right - left) / resolution)
    return GeoBox(shape, Affine(resolution, 0, left, 0, -resolution, top), crs)


def write_cog(path: Path, values: npt.NDArray[np.generic], geobox: GeoBox, *, nodata: float | None) -> None:
    """Write one band (y, x) as a cloud-optimised GeoTIFF of 512 px blocks without overviews."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with rasterio.open(
        path, "w", driver="COG", width=values.shape[1], height=values.shape[0], count=1, dtype=values.dtype,
        crs=str(geobox.crs), transform=geobox.transform, nodata=nodata, blocksize=_BLOCK_PX, compress="DEFLATE",
        level=1, predictor="YES", overviews="NONE",
    ) as dataset:  # fmt: skip
        dataset.write(values, 1)


def swath_mask(ground: GeoBox, *, edge: float, tilt: float, keep: str) -> npt.NDArray[np.bool_]:
    """Return True where a swath sees the ground; dims (y, x) of the ground.

    Args:
        ground: Grid of the mask.
        edge: Where the edge of the swath crosses the middle row, as a fraction of the width.
        tilt: Metres the edge moves east for each metre north.
        keep: ``east`` or ``west`` of the edge.
    """
    rows, cols = ground.shape.y, ground.shape.x
    line = edge * cols + tilt * (rows / 2 - np.arange(rows)[:, None])
    beyond: npt.NDArray[np.bool_] = (np.arange(cols)[None, :] >= line) == (keep == "east")
    return beyond


def _nodes(size: int) -> npt.NDArray[np.float64]:
    """Return every 32nd pixel and the last; at least four, as a cubic spline needs."""
    count = max(4, -(-size // _NODE_PX) + 1)
    return np.linspace(0, size - 1, count)
