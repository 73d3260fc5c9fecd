"""Output grid: the pixels of a map, its tiles, and the nesting of the coarse source in them.

Conventions: rows grow southwards, columns eastwards, both counted in target pixels from the outer upper-left corner of
the map. Bounds are pixel edges (left, bottom, right, top). The origin lies on a source pixel edge counted from the
origin of the CRS, so that maps of neighbouring regions share their pixel edges; ``scale`` target pixels make one source
pixel. Tiles may have any size: a window that feeds a network is always widened to whole source pixels, which makes
the result independent of the tiling.
"""

import hashlib
import json
import math
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property, lru_cache

import numpy as np
import numpy.typing as npt
import shapely
from affine import Affine
from odc.geo.geobox import GeoBox
from odc.geo.geom import Geometry
from pyproj import CRS, Transformer
from shapely.geometry.base import BaseGeometry

from mapper.errors import GridError

_DENSIFY_DEGREES = 0.02
"""Step in degrees of densification: edges of an area are straight in longitude and latitude until projected."""
_of_thread = threading.local()


@dataclass(frozen=True, order=True)
class Tile:
    """One grid cell = one task = one whole shard."""

    row: int
    col: int

    def __str__(self) -> str:
        return f"{self.row},{self.col}"


@dataclass(frozen=True, kw_only=True)
class Window:
    """Rectangle of target pixels, half open; it may extend beyond the map."""

    top: int
    left: int
    bottom: int
    right: int

    @property
    def shape(self) -> tuple[int, int]:
        """Return the numbers of rows and columns."""
        return self.bottom - self.top, self.right - self.left

    @property
    def slices(self) -> tuple[slice, slice]:
        """Return the index of the window in an array of the whole map."""
        return slice(self.top, self.bottom), slice(self.left, self.right)

    def inside(self, outer: "Window") -> tuple[slice, slice]:
        """Return the index of this window in an array that covers ``outer``."""
        return (
            slice(self.top - outer.top, self.bottom - outer.top),
            slice(self.left - outer.left, self.right - outer.left),
        )

    def shifted(self, down: int, right: int | None = None) -> "Window":
        """Return this window moved down and right, by as much where nothing else is said."""
        right = down if right is None else right
        return Window(top=self.top + down, left=self.left + right, bottom=self.bottom + down, right=self.right + right)

    def __and__(self, other: "Window") -> "Window":
        """Return what both have in common; without rows or columns where there is none."""
        top, left = max(self.top, other.top), max(self.left, other.left)
        bottom, right = max(min(self.bottom, other.bottom), top), max(min(self.right, other.right), left)
        return Window(top=top, left=left, bottom=bottom, right=right)

    def grown(self, margin: int, step: int) -> "Window":
        """Return this window with ``margin`` pixels on every side, widened outwards to multiples of ``step``."""
        return Window(
            top=(self.top - margin) // step * step,
            left=(self.left - margin) // step * step,
            bottom=-(-(self.bottom + margin) // step) * step,
            right=-(-(self.right + margin) // step) * step,
        )


@dataclass(frozen=True, kw_only=True)
class MapGrid:
    """Grid of one map.

    Raises:
        GridError: If tile, chunk and scale do not fit each other.
    """

    geobox: GeoBox
    """Geobox of all target pixels; its shape is a whole number of tiles."""
    area: Geometry
    """Area that is mapped, in the CRS of the grid."""
    resolution: Fraction
    """Target pixel size in units of the CRS, exact."""
    scale: int
    """Ratio of source pixel to target pixel."""
    tile_px: int
    chunk_px: int

    def __post_init__(self) -> None:
        if self.tile_px % self.chunk_px:
            raise GridError(f"tile {self.tile_px} px must be a multiple of chunk {self.chunk_px} px")
        if self.geobox.shape.y % self.tile_px or self.geobox.shape.x % self.tile_px:
            raise GridError(f"grid {tuple(self.geobox.shape)} is not a whole number of {self.tile_px} px tiles")

    @classmethod
    def cover(
        cls,
        area: BaseGeometry,
        *,
        crs: str,
        resolution: Fraction,
        source_resolution: Fraction,
        tile_px: int,
        chunk_px: int,
    ) -> "MapGrid":
        """Build the smallest grid of whole tiles that covers an area.

        Args:
            area: Polygon in longitude and latitude (EPSG:4326), not across the antimeridian.
            crs: CRS of the grid, for example ``EPSG:3035``.
            resolution: Target pixel size in units of ``crs``.
            source_resolution: Source pixel size in units of ``crs``.
            tile_px: Tile edge in target pixels.
            chunk_px: Chunk edge in target pixels; divides ``tile_px``.

        Raises:
            GridError: If the source does not nest in the grid, or the area cannot be projected.
        """
        scale = source_resolution / resolution
        if scale.denominator != 1 or scale < 1:
            raise GridError(
                f"the source does not nest in the grid: source pixel {source_resolution} / target pixel {resolution} "
                f"= {float(scale):g}, expected a whole number; change grid.resolution or source.resolution"
            )
        projected = project_area(area, crs)
        left, bottom, right, top = (Fraction(v) / source_resolution for v in projected.boundingbox.bbox)
        col, row = math.floor(left), math.ceil(top)
        rows = _whole_tiles((row - math.floor(bottom)) * int(scale), tile_px)
        cols = _whole_tiles((math.ceil(right) - col) * int(scale), tile_px)
        step = float(resolution)
        origin = float(col * source_resolution), float(row * source_resolution)
        transform = Affine(step, 0.0, origin[0], 0.0, -step, origin[1])
        geobox = GeoBox((rows, cols), transform, crs)
        return cls(
            geobox=geobox,
            area=projected,
            resolution=resolution,
            scale=int(scale),
            tile_px=tile_px,
            chunk_px=chunk_px,
        )

    @property
    def crs(self) -> str:
        """Return the CRS of the grid, as ``EPSG:code`` where it has one."""
        return str(self.geobox.crs)

    @property
    def shape(self) -> tuple[int, int]:
        """Return the numbers of rows and columns of the whole map."""
        return int(self.geobox.shape.y), int(self.geobox.shape.x)

    @property
    def tile_shape(self) -> tuple[int, int]:
        """Return the numbers of rows and columns of tiles."""
        return self.shape[0] // self.tile_px, self.shape[1] // self.tile_px

    @cached_property
    def digest(self) -> str:
        """Return the sha256 of everything that decides where a pixel lies."""
        content = {
            "crs": self.crs,
            "transform": list(self.geobox.transform)[:6],
            "shape": self.shape,
            "tile": self.tile_px,
            "chunk": self.chunk_px,
            "scale": self.scale,
            "area": self.area.geom.wkb_hex,
        }
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()

    def tiles(self) -> Iterator[Tile]:
        """Yield the tiles that the area touches, row by row."""
        return (Tile(row, col) for row, col in self.tile_indices().tolist())

    def tile_indices(self) -> npt.NDArray[np.int64]:
        """Return rows and columns of the tiles that the area touches, row by row: (tile, 2)."""
        shapely.prepare(self.area.geom)
        at, edge, cols = self.geobox.transform, self.tile_px, np.arange(self.tile_shape[1])
        left, touched = at.c + at.a * edge * cols, []
        for row in range(self.tile_shape[0]):
            top = np.full_like(left, at.f + at.e * edge * row)
            boxes = shapely.box(left, top + at.e * edge, left + at.a * edge, top)
            touched.append(shapely.intersects(self.area.geom, boxes))
        return np.argwhere(touched)

    def window(self, tile: Tile, *, halo_px: int = 0, step: int | None = None) -> Window:
        """Return the pixels of a tile; with a halo, widened outwards to whole source pixels.

        Args:
            tile: Which.
            halo_px: Context on every side.
            step: Widen to multiples of this, itself a multiple of the scale, instead.

        Raises:
            ValueError: If the tile is not in the grid.
        """
        if not (0 <= tile.row < self.tile_shape[0] and 0 <= tile.col < self.tile_shape[1]):
            raise ValueError(f"tile {tile} is outside the grid of {self.tile_shape} tiles")
        top, left = tile.row * self.tile_px, tile.col * self.tile_px
        core = Window(top=top, left=left, bottom=top + self.tile_px, right=left + self.tile_px)
        return core.grown(halo_px, step or self.scale) if halo_px else core

    def geobox_of(self, window: Window) -> GeoBox:
        """Return the target pixels of a window as a GeoBox."""
        transform = self.geobox.transform @ Affine.translation(window.left, window.top)
        return GeoBox(window.shape, transform, self.geobox.crs)

    def source_geobox_of(self, window: Window) -> GeoBox:
        """Return the source pixels under a window.

        Raises:
            ValueError: If the window does not consist of whole source pixels.
        """
        if any(edge % self.scale for edge in (window.top, window.left, window.bottom, window.right)):
            raise ValueError(f"window {window} does not lie on source pixel edges (scale {self.scale})")
        fine = self.geobox_of(window)
        shape = (window.shape[0] // self.scale, window.shape[1] // self.scale)
        return GeoBox(shape, fine.transform @ Affine.scale(self.scale), self.geobox.crs)

    def position_of(self, window: Window) -> tuple[int, int]:
        """Return row and column of a window's upper-left pixel, counted from the origin of the CRS.

        Maps of one CRS and resolution count alike, whatever their areas and tiles.
        """
        at, step = self.geobox.transform, float(self.resolution)
        return round(-at.f / step) + window.top, round(at.c / step) + window.left

    def inside_area(self, window: Window) -> npt.NDArray[np.bool_]:
        """Return True where the centre of a pixel lies in the area; dims (y, x) of the window."""
        area, geobox = _own_copy(self.area.geom), self.geobox_of(window)
        if shapely.contains_properly(area, shapely.box(*geobox.boundingbox.bbox)):
            return np.ones(window.shape, bool)
        (rows, cols), at = window.shape, geobox.transform
        # not rasterio's geometry_mask: it opens a dataset and meddles with warnings, which threads share
        x, y = np.meshgrid(at.c + at.a * (np.arange(cols) + 0.5), at.f + at.e * (np.arange(rows) + 0.5))
        return np.asarray(shapely.contains_xy(area, x, y))

    def locate(self, x: float, y: float, *, crs: str) -> tuple[int, int, Tile]:
        """Return row, column and tile of the pixel that holds a point.

        Raises:
            GridError: If the point is outside the map.
        """
        east, north = _find_transformer(crs, self.crs).transform(x, y)
        col_f, row_f = ~self.geobox.transform @ (east, north)
        if not (0 <= row_f < self.shape[0] and 0 <= col_f < self.shape[1]):  # so is a point without an image there
            raise GridError(f"point ({x}, {y}) in {crs} is outside the map, which covers {self.geobox.boundingbox}")
        row, col = math.floor(row_f), math.floor(col_f)
        return row, col, Tile(row // self.tile_px, col // self.tile_px)


def _own_copy(area: BaseGeometry) -> BaseGeometry:
    """Return a prepared copy of a geometry for this thread: GEOS builds the index of one while it is first asked."""
    known: tuple[BaseGeometry, BaseGeometry] | None = getattr(_of_thread, "area", None)
    if known is None or known[0] is not area:
        copy: BaseGeometry = shapely.from_wkb(shapely.to_wkb(area))
        shapely.prepare(copy)
        known = _of_thread.area = area, copy
    return known[1]


@lru_cache(maxsize=64)
def _find_transformer(source: str, target: str) -> Transformer:
    """Return the transformer between two CRSs, cached: PROJ takes tens of milliseconds; threads may share one."""
    return Transformer.from_crs(source, target, always_xy=True)


def project_area(area: BaseGeometry, crs: str) -> Geometry:
    """Project an area from longitude and latitude, its edges densified first.

    Raises:
        GridError: If the area crosses the antimeridian, is empty, or has no finite image in ``crs``.
    """
    if area.is_empty:
        raise GridError("the area is empty")
    west, _, east, _ = area.bounds
    if west < -180 or east > 180 or east - west > 180:
        raise GridError(
            f"the area spans longitudes {west:g} to {east:g}: areas across the antimeridian are not supported; "
            "split the map in two at 180 degrees"
        )
    dense = Geometry(shapely.segmentize(area, _DENSIFY_DEGREES), "EPSG:4326")
    projected = dense.to_crs(crs)
    if not all(math.isfinite(v) for v in projected.boundingbox.bbox) or projected.is_empty or not projected.geom.area:
        raise GridError(f"the area {area.bounds} has no finite image in {crs}; choose a CRS that is valid there")
    if not projected.geom.is_valid:  # rings that touch in degrees may cross in another CRS
        parts = shapely.get_parts(shapely.make_valid(projected.geom))
        return Geometry(shapely.union_all([part for part in parts if part.geom_type.endswith("Polygon")]), crs)
    return projected


def coarsen(fine: tuple[slice, slice], scale: int) -> tuple[slice, slice]:
    """Return rows and columns of target pixels, edges on source pixels, as rows and columns of source pixels."""
    rows, cols = fine
    return slice(rows.start // scale, rows.stop // scale), slice(cols.start // scale, cols.stop // scale)


def _whole_tiles(pixels: int, tile_px: int) -> int:
    return max(1, -(-pixels // tile_px)) * tile_px


def measure_pixels(
    crs: object, transform: Affine, rows: int
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return height and width of the pixels of each row, in metres: each (rows,).

    Projected coordinates are taken at their word, in their own unit of length; degrees are turned into metres at the
    latitude of the row, on the ellipsoid WGS84 (series of the meridian's and the parallel's arc, right to centimetres
    a degree). Without a CRS the unit is the metre.

    Args:
        crs: Anything that pyproj reads; None for none.
        transform: Of the raster, without rotation.
        rows: Number of rows.
    """
    known = CRS.from_user_input(crs) if crs else None
    height, width = np.full(rows, abs(transform.e)), np.full(rows, abs(transform.a))
    if known is None or not known.is_geographic:
        unit = known.axis_info[0].unit_conversion_factor if known and known.axis_info else 1.0
        return height * unit, width * unit
    phi = np.radians(transform.f + transform.e * (np.arange(rows) + 0.5))
    along = 111_132.92 - 559.82 * np.cos(2 * phi) + 1.175 * np.cos(4 * phi) - 0.0023 * np.cos(6 * phi)
    across = 111_412.84 * np.cos(phi) - 93.5 * np.cos(3 * phi) + 0.118 * np.cos(5 * phi)
    return height * along, width * across
