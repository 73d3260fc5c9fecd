"""Mosaic of files that sample one smooth field, such as terrain, interpolated across their borders.

A file that is resampled alone ends in half a pixel of repeated values, and its neighbour begins with one: a step along
every border. Here files on one endless grid are put together before they are interpolated, so that a border inside of
them is no place at all. Files whose rows lie on one lattice but whose columns do not (the Copernicus DEM, whose spacing
in longitude grows with latitude) are interpolated along each row on its own spacing, then between the rows of both.

A stored pixel that is about as large as the pixel that is wanted is an average of as much ground already: it is
interpolated at the centre, which leaves pixels on the same lattice as they are, to the bit. Smaller ones are
interpolated at the centres of the fine pixels and averaged. A pixel is missing where less than three quarters of the
weights of the four pixels around it are of stored values: a gap as wide as a stored pixel stays a gap, and nothing is
drawn far beyond the edge of what is known.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Literal

import numpy as np
import numpy.typing as npt
import rasterio
from affine import Affine
from odc.geo.geobox import GeoBox
from pyproj import CRS
from rasterio.windows import Window

from mapper.access.files import Access, gdal_environment
from mapper.access.rules import AccessRule
from mapper.access.tally import AssetName
from mapper.arrays import Float32Array
from mapper.cube.belief import Belief
from mapper.cube.calibrate import Calibration, apply
from mapper.cube.pixel_positions import PixelPositions, SourceGrid, most_pixels
from mapper.cube.resample import Sampler, cubic_weights, read_values

Kernel = Literal["bilinear", "cubic"]
LEAST_SHARE = 0.75
"""Share of the weights around a pixel that has to be of stored values."""
_WHOLE = 1 - 1e-5
"""Share from which nothing is lacking, by the rounding of weights."""
_FINER = 1.5
"""Stored pixels in one that is wanted, along y, from which these are averaged."""
_EARTH_M = 6_371_000.0
_BLOCK_PX = 2**15
"""Pixels that are interpolated at a time: their arrays stay in the cache of a core."""


@dataclass(frozen=True, kw_only=True)
class StoredField:
    """One file of a mosaic, and how its numbers are read."""

    name: AssetName
    beliefs: tuple[Belief, ...]
    calibration: Calibration


@dataclass(frozen=True, kw_only=True)
class MosaicReader:
    """Reader of the pixels of one window from several files together."""

    geobox: GeoBox
    """Pixels that are wanted."""
    scale: int
    """Fine pixels in one of them along each axis."""
    kernel: Kernel
    access: Access
    rule: AccessRule
    sampler: Sampler

    def read(self, files: Sequence[StoredField]) -> Float32Array:
        """Return the field, (y, x) float32 in physical units, NaN where it is not known.

        Args:
            files: Where several have a pixel, the first of them counts.

        Raises:
            TransientAssetError: Throttling or network.
            CorruptAssetError: A file is missing, truncated, no georeferenced raster, or contradicts its item.
        """
        layers = self._assemble(files)
        if layers is None:
            return self._read_halves(files)
        total, share = (np.zeros(self.geobox.shape, np.float32) for _ in range(2))
        for layer in layers:
            values, weights = layer.interpolate(self.kernel, self.scale)
            # whole pixels of the first layer that has them; what two have in part they make together
            used = np.where(share >= _WHOLE, np.float32(0), weights)
            replaced = (weights >= _WHOLE) & (share < _WHOLE)
            total = np.where(replaced, values, total + used * values)
            share = np.where(replaced, weights, share + used)
        field: Float32Array = np.full(self.geobox.shape, np.nan, np.float32)
        np.divide(total, share, out=field, where=share >= LEAST_SHARE)
        return field

    def _assemble(self, files: Sequence[StoredField]) -> list["_Layer"] | None:
        """Read all files into frames of stored pixels; returns these in layers of one lattice of rows.

        None where a frame would have more pixels than are read at once.
        """
        frames: dict[SourceGrid, _Frame] = {}
        for each in files:
            with gdal_environment():
                if not self.access.read(each.name, self.rule, partial(self._copy, each, frames)):
                    return None
        layers: dict[tuple[object, ...], _Layer] = {}
        for grid, frame in frames.items():
            key = frame.fine, grid.crs, grid.step[1], grid.phase[1]
            layers.setdefault(key, _Layer(fine=frame.fine)).frames.append(frame)
        return [part for layer in layers.values() for part in layer.split()]

    def _copy(self, file: StoredField, frames: dict[SourceGrid, "_Frame"], dataset: rasterio.DatasetReader) -> bool:
        """Copy the pixels of a file to the frame of its grid; returns False where that would have too many pixels."""
        ((_, decision),) = self.sampler.witness.decide(dataset, file.name, file.beliefs[:1])
        grid, origin = SourceGrid.of(dataset, crs=file.beliefs[0].trusted_crs)
        frame = frames.get(grid) or self._make_frame(grid)
        if frame is None:
            return False
        frames[grid] = frame
        turns = (-int(grid.turn), 0, int(grid.turn)) if grid.turn and grid.turn.is_integer() else (0,)
        for turn in turns:
            part = frame.find(origin[0], origin[1] + turn, dataset.shape)
            if part is None:
                continue
            window, place = part
            values = apply(read_values(dataset, window, decision), file.calibration)
            held = frame.values[place]
            np.copyto(held, values, where=np.isnan(held))
        return True

    def _make_frame(self, grid: SourceGrid) -> "_Frame | None":
        fine = is_finer(grid, self.geobox)
        wanted = _divide(self.geobox, self.scale) if fine else self.geobox
        positions = self.sampler.positions(wanted, grid)
        if positions.frame_px > most_pixels(positions.corner.size) and max(self.geobox.shape) > 1:
            return None
        return _Frame(fine=fine, positions=positions, values=np.full(positions.shape, np.nan, np.float32))

    def _read_halves(self, files: Sequence[StoredField]) -> Float32Array:
        rows, cols = self.geobox.shape
        middle = (slice(0, rows // 2), slice(None)) if rows >= cols else (slice(None), slice(0, cols // 2))
        after = (slice(rows // 2, None), slice(None)) if rows >= cols else (slice(None), slice(cols // 2, None))
        halves = [
            MosaicReader(
                geobox=self.geobox[part], scale=self.scale, kernel=self.kernel, access=self.access, rule=self.rule,
                sampler=self.sampler,
            ).read(files)
            for part in (middle, after)
        ]  # fmt: skip
        return np.concatenate(halves, axis=0 if rows >= cols else 1)


def is_finer(grid: SourceGrid, geobox: GeoBox) -> bool:
    """Return True if the pixels of a grid are so much smaller than those of a geobox that these are averages of them.

    Rows decide, whose height is the same everywhere: of two windows of a map both are read alike.
    """
    there, here = CRS.from_wkt(grid.crs), CRS.from_user_input(str(geobox.crs))
    return _measure(here, geobox.transform.e) >= _FINER * _measure(there, grid.step[1])


def _measure(crs: CRS, step: float) -> float:
    """Return a step along y in metres, along a meridian where it is in degrees."""
    unit = float(crs.axis_info[0].unit_conversion_factor)
    return abs(step) * unit * (_EARTH_M if crs.is_geographic else 1.0)


def _divide(geobox: GeoBox, scale: int) -> GeoBox:
    shape = geobox.shape[0] * scale, geobox.shape[1] * scale
    return GeoBox(shape, geobox.transform @ Affine.scale(1 / scale), geobox.crs)


@dataclass(frozen=True, kw_only=True)
class _Frame:
    """Stored pixels of one grid around the pixels of a window."""

    fine: bool
    """True where the positions are those of fine pixels."""
    positions: PixelPositions
    values: Float32Array
    """(row, column) in physical units, NaN where no file has a value."""

    def find(self, top: int, left: int, shape: tuple[int, int]) -> tuple[Window, tuple[slice, slice]] | None:
        """Return the window of a file that lies in the frame, and its place there; None if none does."""
        at, spans = (self.positions.top, self.positions.left), []
        for first, begin, size, count in zip((top, left), at, self.values.shape, shape, strict=True):
            start, stop = max(first, begin), min(first + count, begin + size)
            if start >= stop:
                return None
            spans.append((start - first, stop - start, slice(start - begin, stop - begin)))
        (row, height, rows), (col, width, cols) = spans
        return Window(col, row, width, height), (rows, cols)

    @property
    def rows(self) -> npt.NDArray[np.int64]:
        """Row on the endless grid of the upper two stored pixels around each pixel, (pixel,)."""
        rows: npt.NDArray[np.int64] = self.positions.corner.reshape(-1).astype(np.int64) // self.positions.shape[1]
        return rows + self.positions.top

    def weights(self, axis: int, span: slice) -> Float32Array:
        """Return distances from the first of the two stored pixels around each pixel, along y (0) or x (1)."""
        if self.positions.weights is None:
            return np.zeros(self.positions.corner.reshape(-1)[span].shape, np.float32)
        return self.positions.weights[axis].reshape(-1)[span]

    def interpolate_row(self, row: int, kernel: Kernel, span: slice) -> tuple[Float32Array, Float32Array]:
        """Return values along one row of stored pixels, and the share of the weights that are of stored values."""
        stored, width = self.values.reshape(-1), self.positions.shape[1]
        corner = self.positions.corner.reshape(-1)[span].astype(np.intp) + row * width
        taps = [stored.take(corner + step, mode="clip") for step in range(-1, 3)]
        values, share = _mix(taps, [np.isfinite(tap).astype(np.float32) for tap in taps], self.weights(1, span), kernel)
        if self.positions.outside is not None:
            share = np.where(self.positions.outside.reshape(-1)[span], np.float32(0), share)
        return values, share


@dataclass(kw_only=True)
class _Layer:
    """Frames whose rows lie on one lattice."""

    fine: bool
    frames: list[_Frame] = field(default_factory=list)

    def split(self) -> list["_Layer"]:
        """Return the layer, in parts where rounding took the same row for two."""
        first = self.frames[0].rows
        alike = [frame for frame in self.frames if np.array_equal(frame.rows, first)]
        others = [frame for frame in self.frames if not any(frame is each for each in alike)]
        parts = [_Layer(fine=self.fine, frames=[frame]) for frame in others]
        return [_Layer(fine=self.fine, frames=alike), *parts]

    def interpolate(self, kernel: Kernel, scale: int) -> tuple[Float32Array, Float32Array]:
        """Return values (y, x) of the wanted pixels, 0 where nothing is known, and the share that is of stored ones."""
        shape = self.frames[0].positions.corner.shape
        values, share = (np.zeros(shape, np.float32) for _ in range(2))
        for first in range(0, values.size, _BLOCK_PX):
            span = slice(first, min(first + _BLOCK_PX, values.size))
            values.reshape(-1)[span], share.reshape(-1)[span] = self._interpolate(kernel, span)
        return _average(values, share, scale) if self.fine else (values, share)

    def _interpolate(self, kernel: Kernel, span: slice) -> tuple[Float32Array, Float32Array]:
        lines, shares = [], []
        for row in range(-1, 3):
            total, share = self.frames[0].interpolate_row(row, kernel, span)
            for frame in self.frames[1:]:
                values, weights = frame.interpolate_row(row, kernel, span)
                whole = (weights >= _WHOLE) & (share < _WHOLE)
                added = share + np.where(share < _WHOLE, weights, np.float32(0))
                mixed = np.divide(total * share + values * weights, added, out=total.copy(), where=added > share)
                total, share = np.where(whole, values, mixed), np.where(whole, weights, np.minimum(added, 1))
            lines.append(total)
            shares.append(share)
        return _mix(lines, shares, self.frames[0].weights(0, span), kernel)


def _mix(
    taps: Sequence[Float32Array], shares: Sequence[Float32Array], at: Float32Array, kernel: Kernel
) -> tuple[Float32Array, Float32Array]:
    """Interpolate four values in a line; returns the value, and the share of the weights that are of stored values.

    The cubic kernel needs all four; else the two beside the position are interpolated linearly, as far as they are
    known.

    Args:
        taps: At -1, 0, 1 and 2.
        shares: Of each tap that is of stored values.
        at: Position between the taps at 0 and 1.
        kernel: ``bilinear`` takes these two alone.
    """
    known = [np.where(share > 0, tap, np.float32(0)) for tap, share in zip(taps, shares, strict=True)]
    near, far = (1 - at) * shares[1], at * shares[2]
    share: Float32Array = near + far
    value: Float32Array = np.zeros_like(share)
    np.divide(near * known[1] + far * known[2], share, out=value, where=share > 0)
    if kernel == "cubic":
        weights = cubic_weights(at)
        whole = np.logical_and.reduce(
            [(part >= _WHOLE) | (weight == 0) for part, weight in zip(shares, weights, strict=True)]
        )
        cubic = sum(weight * tap for weight, tap in zip(weights, known, strict=True))
        value = np.where(whole, cubic, value)
    return value, share


def _average(values: Float32Array, share: Float32Array, scale: int) -> tuple[Float32Array, Float32Array]:
    """Return the mean of fine pixels over each block, weighted by their shares, and the mean of these."""
    height, width = values.shape[0] // scale, values.shape[1] // scale
    blocks = (height, scale, width, scale)
    parts = share.reshape(blocks).sum(axis=(1, 3), dtype=np.float64)
    total = (values * share).reshape(blocks).sum(axis=(1, 3), dtype=np.float64)
    mean = np.divide(total, parts, out=np.zeros_like(total), where=parts > 0)
    return mean.astype(np.float32), (parts / scale**2).astype(np.float32)
