"""Resampling files onto the grid of a map so that no pixel depends on the window it was read in.

GDAL's warper approximates the projection inside the window it is given: the same pixel read in two windows differs by
up to 0.07 of a source pixel, and nearest neighbours flip. Here the exact position of every target pixel is computed
once for each source *grid* (CRS, pixel size, phase), shared by all files on it (every Sentinel-2 tile of a UTM zone),
and each file is then a plain window read followed by a few gathers: the same pixels in every window, four times
quicker than an exact warp of each file.

A target pixel is missing where the source pixel that holds its centre is missing; of the other neighbours only the
valid ones count. Nothing is averaged when the target is coarser than the source.
"""

import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import rasterio
from odc.geo.geobox import GeoBox
from pyproj import CRS, Transformer
from rasterio.windows import Window

from mapper.access.files import Access, AssetName
from mapper.access.rules import AccessRule

FloatArray = npt.NDArray[np.float32]
Resampling = Literal["nearest", "bilinear", "cubic"]

_SNAP_DECIMALS = 6
"""Positions are rounded to this part of a source pixel, so that ties fall alike in every window."""
_MARGIN = 2
"""Source pixels around the outermost centres, for the neighbours of a cubic kernel."""
_CACHED_LATTICES = 4


@dataclass(frozen=True, kw_only=True)
class SourceGrid:
    """The endless grid that the pixels of a file lie on."""

    crs: str
    """WKT."""
    step: tuple[float, float]
    """Pixel size along x and y, signed, in units of ``crs``."""
    phase: tuple[float, float]
    """Where one pixel corner lies, between 0 and the step."""

    @classmethod
    def of(cls, dataset: rasterio.DatasetReader) -> tuple["SourceGrid", tuple[int, int]]:
        """The grid of a file, and the row and column of its first pixel on that grid.

        Raises:
            OSError: If the file is not georeferenced along its rows and columns.
        """
        transform = dataset.transform
        if dataset.crs is None or transform.b or transform.d:
            raise OSError(f"{dataset.name} has no georeference along rows and columns")
        (col, x), (row, y) = _split(transform.c, transform.a), _split(transform.f, transform.e)
        return cls(crs=dataset.crs.to_wkt(), step=(transform.a, transform.e), phase=(x, y)), (row, col)


@dataclass(frozen=True, kw_only=True)
class Lattice:
    """Where the pixels of one geobox lie on a source grid."""

    top: int
    left: int
    shape: tuple[int, int]
    """First row and column, and size, of the frame of source pixels that is needed."""
    holder: npt.NDArray[np.int32]
    """Flat index into the frame of the source pixel that holds each target pixel; (y, x)."""
    corner: npt.NDArray[np.int32]
    """The same of the upper left of the four pixels around it."""
    weights: tuple[FloatArray, FloatArray] | None
    """Distance from ``corner`` along y and x, 0 to 1; None where the grids coincide."""
    outside: npt.NDArray[np.bool_] | None
    """True where a pixel has no image in the source CRS; None where all have."""

    def resample(self, frame: FloatArray, resampling: Resampling) -> FloatArray:
        """Resample a frame of source pixels, float32 with NaN where missing, to target pixels (y, x)."""
        held = frame.ravel().take(self.holder)
        if self.outside is not None:
            held[self.outside] = np.nan
        if resampling == "nearest" or self.weights is None:
            return held
        valid = np.isfinite(frame)
        if valid.all() and self.outside is None:
            return self._blend(frame, resampling)
        with np.errstate(invalid="ignore", divide="ignore"):
            blend = self._blend(np.where(valid, frame, np.float32(0)), resampling)
            blend /= self._blend(valid.astype(np.float32), resampling)
        blend[np.isnan(held)] = np.nan
        return blend

    def _blend(self, frame: FloatArray, resampling: Resampling) -> FloatArray:
        if self.weights is None:
            raise ValueError("coinciding grids need no blending")
        flat, width = frame.ravel(), frame.shape[1]
        if resampling == "bilinear":
            first = _lerp(flat, self.corner, self.weights[1])
            second = _lerp(flat[width:], self.corner, self.weights[1])
            second -= first
            second *= self.weights[0]
            second += first
            return second
        rows, cols = (_cubic_weights(weight) for weight in self.weights)
        total = np.zeros(self.corner.shape, np.float32)
        for row in range(4):
            line = np.zeros_like(total)
            for col in range(4):
                line += cols[col] * flat.take(self.corner + ((row - 1) * width + col - 1))
            total += rows[row] * line
        return total


@dataclass(kw_only=True)
class Sampler:
    """Reads files onto geoboxes, remembering the few lattices used last. May be shared by threads."""

    _lattices: OrderedDict[tuple[GeoBox, SourceGrid], Lattice] = field(default_factory=OrderedDict)
    _lock: Any = field(default_factory=threading.Lock)

    def __reduce__(self) -> tuple[type["Sampler"], tuple[()]]:
        return Sampler, ()

    def __dask_tokenize__(self) -> str:
        return "mapper.Sampler"

    def read(
        self,
        name: AssetName,
        geobox: GeoBox,
        *,
        access: Access,
        rule: AccessRule,
        resampling: Resampling,
        missing: Sequence[float],
    ) -> FloatArray | None:
        """Read the first band of a file onto a geobox.

        Args:
            name: What the file is, and where.
            geobox: Target pixels.
            access: How files are reached, and who counts.
            rule: How the files of its collection are reached.
            resampling: How.
            missing: Stored values that are no measurements.

        Returns:
            Stored numbers (y, x), float32, NaN where missing; None where the file has no pixel there.

        Raises:
            TransientAssetError: Throttling or network.
            CorruptAssetError: The file is missing, truncated or no georeferenced raster.
        """

        def read_frame(dataset: rasterio.DatasetReader) -> tuple[Lattice, FloatArray] | None:
            grid, origin = SourceGrid.of(dataset)
            lattice = self.lattice(geobox, grid)
            frame = _read_frame(dataset, origin, lattice, missing)
            return None if frame is None else (lattice, frame)

        found = access.read(name, rule, read_frame)
        return None if found is None else found[0].resample(found[1], resampling)

    def lattice(self, geobox: GeoBox, grid: SourceGrid) -> Lattice:
        """Where the pixels of a geobox lie on a source grid."""
        with self._lock:
            key = (geobox, grid)
            if key not in self._lattices:
                self._lattices[key] = _locate(geobox, grid)
                if len(self._lattices) > _CACHED_LATTICES:
                    self._lattices.popitem(last=False)
            self._lattices.move_to_end(key)
            return self._lattices[key]


def _split(origin: float, step: float) -> tuple[int, float]:
    """Whole steps and the rest of an origin; rests that differ by rounding only become equal."""
    steps = origin / step
    whole = int(np.floor(steps + 10**-_SNAP_DECIMALS))
    return whole, float(round(steps - whole, _SNAP_DECIMALS) * step)


def _locate(geobox: GeoBox, grid: SourceGrid) -> Lattice:
    x, y = _centres(geobox, grid.crs)
    cols = np.round((x - grid.phase[0]) / grid.step[0], _SNAP_DECIMALS)
    rows = np.round((y - grid.phase[1]) / grid.step[1], _SNAP_DECIMALS)
    del x, y
    outside = ~(np.isfinite(cols) & np.isfinite(rows))
    everywhere = not outside.any()
    if outside.all():
        raise ValueError(f"{geobox} has no image in {grid.crs}")
    if not everywhere:
        # any place will do, the mask goes over it
        cols[outside], rows[outside] = cols[~outside][0], rows[~outside][0]
    top, left = int(np.floor(rows.min())) - _MARGIN, int(np.floor(cols.min())) - _MARGIN
    height, width = int(np.floor(rows.max())) + _MARGIN + 1 - top, int(np.floor(cols.max())) + _MARGIN + 1 - left
    rows -= top
    cols -= left
    holder = rows.astype(np.int32) * np.int32(width) + cols.astype(np.int32)
    rows -= 0.5
    cols -= 0.5
    row, col = rows.astype(np.int32), cols.astype(np.int32)
    weights = ((rows - row).astype(np.float32), (cols - col).astype(np.float32))
    return Lattice(
        top=top,
        left=left,
        shape=(height, width),
        holder=holder,
        corner=row * np.int32(width) + col,
        weights=weights if weights[0].any() or weights[1].any() else None,
        outside=None if everywhere else outside,
    )


def _centres(geobox: GeoBox, crs: str) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """Centres of the pixels of a geobox in another CRS; each (y, x)."""
    transform, (height, width) = geobox.transform, geobox.shape
    x, y = np.meshgrid(
        transform.c + transform.a * (np.arange(width) + 0.5), transform.f + transform.e * (np.arange(height) + 0.5)
    )
    here, there = CRS.from_user_input(str(geobox.crs)), CRS.from_wkt(crs)
    if here == there:
        return x, y
    Transformer.from_crs(here, there, always_xy=True).transform(x, y, inplace=True)
    return x, y


def _read_frame(
    dataset: rasterio.DatasetReader, origin: tuple[int, int], lattice: Lattice, missing: Sequence[float]
) -> FloatArray | None:
    """The pixels of a file in the frame of a lattice, NaN where it has none; None where it has none at all."""
    top, left = lattice.top - origin[0], lattice.left - origin[1]
    row, col = max(top, 0), max(left, 0)
    height = min(top + lattice.shape[0], dataset.height) - row
    width = min(left + lattice.shape[1], dataset.width) - col
    if height <= 0 or width <= 0:
        return None
    stored = dataset.read(1, window=Window(col, row, width, height))
    pixels: FloatArray = stored.astype(np.float32)
    for value in missing:
        pixels[stored == value] = np.nan
    if pixels.shape == lattice.shape:
        return pixels
    frame = np.full(lattice.shape, np.nan, np.float32)
    frame[row - top : row - top + height, col - left : col - left + width] = pixels
    return frame


def _lerp(flat: FloatArray, index: npt.NDArray[np.int32], weight: FloatArray) -> FloatArray:
    first: FloatArray = flat.take(index)
    second: FloatArray = flat[1:].take(index)
    second -= first
    second *= weight
    second += first
    return second


def _cubic_weights(t: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
    """Catmull-Rom weights of the pixels at -1, 0, 1 and 2."""
    return (
        ((-0.5 * t + 1) * t - 0.5) * t,
        (1.5 * t - 2.5) * t * t + 1,
        ((-1.5 * t + 2) * t + 0.5) * t,
        (0.5 * t - 0.5) * t * t,
    )
