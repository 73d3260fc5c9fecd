"""Plausibility of a box, a CRS and a resolution: what cannot be meant is refused, with what probably was meant.

A grid costs nothing to describe and everything to fill: a metre taken for a degree makes it ten billion times as large.
So this comes before a search, and in one line.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction

from pyproj import CRS, Geod
from pyproj.exceptions import CRSError, ProjError
from shapely.geometry.base import BaseGeometry

from mapper.errors import GridError
from mapper.grid import MapGrid

Box = tuple[float, float, float, float]
"""West, south, east and north in degrees."""

_MOST_TILES = 10_000_000
"""Tiles of a grid, those outside the area counted: all the land of the Earth at 10 m has some 2 million of 1024 px."""
_QUICKLY_COUNTED = 100_000
_LONGEST_TILE = 32_768
_MOST_CHUNKS = 256
"""Chunks along the edge of a tile."""
_COARSEST_DEGREES = 1
_FINEST_METRES = 0.01
_METRES_IN_A_DEGREE = 111_320
_WIDEST_DEGREES = 12
"""Degrees of longitude beyond which a zone of UTM, of 6, fits no more."""
_MUCH_SMALLER = 0.01
_ORDERS = {
    "south, west, north, east": (1, 0, 3, 2),
    "west, east, south, north": (0, 2, 1, 3),
    "south, north, west, east": (2, 0, 3, 1),
    "west, north, east, south": (0, 3, 2, 1),
}
"""Ways in which boxes are written elsewhere: where west, south, east and north stand in them."""


@dataclass(frozen=True, kw_only=True)
class GridRequest:
    """Grid that a map asks for."""

    crs: str
    resolution: Fraction
    source_resolution: Fraction
    tile_px: int
    chunk_px: int


def suggest_box(numbers: Box) -> str:
    """Return how a box was probably meant that is none as it stands; empty where nobody could tell."""
    order, box = min(_reorder(numbers), key=lambda found: _spread(found[1]), default=("", None))
    return f"; {_show(box)} if it was written {order}" if box else ""


def doubt_box(numbers: Box) -> str:
    """Return a sentence where a box would be a hundred times smaller in another order; empty for most boxes."""
    order, box = min(_reorder(numbers), key=lambda found: _spread(found[1]), default=("", None))
    if box is None or _spread(box) >= _MUCH_SMALLER * _spread(numbers):
        return ""
    return f"the box {_show(numbers)} is west, south, east, north; written {order} it would be {_show(box)}"


def make_grid(area: BaseGeometry, asked: GridRequest) -> MapGrid:
    """Make the grid of a map, unless it cannot be meant.

    Args:
        area: In longitude and latitude.
        asked: What the map says of its grid.

    Raises:
        GridError: If the CRS is unknown or made for somewhere else, pixels or tiles are absurd, there are more tiles
            than anybody computes, or the grid cannot be built.
    """
    crs = _read_crs(asked.crs, area)
    _check_order(area, asked.crs, crs)
    _check_pixel(asked, crs, area)
    _check_tile(asked)
    try:
        grid = MapGrid.cover(
            area,
            crs=asked.crs,
            resolution=asked.resolution,
            source_resolution=asked.source_resolution,
            tile_px=asked.tile_px,
            chunk_px=asked.chunk_px,
        )
    except (ProjError, OverflowError) as error:
        raise GridError(f"the area {area.bounds} cannot be projected to {asked.crs}: {error}") from error
    _check_size(area, grid, _name_unit(crs))
    return grid


def describe_grid(area: BaseGeometry, grid: MapGrid) -> str:
    """Return size of an area, of its grid, and number of tiles, for people."""
    (rows, cols), (tile_rows, tile_cols) = grid.shape, grid.tile_shape
    whole = tile_rows * tile_cols
    tiles = f"{len(grid.tile_indices()):,}" if whole <= _QUICKLY_COUNTED else f"up to {whole:,}"
    return (
        f"area {measure_km2(area):,.1f} km2, {tiles} tiles of {grid.tile_px} px, grid {rows:,} x {cols:,} px of "
        f"{grid.resolution} in {grid.crs}"
    )


def measure_km2(area: BaseGeometry) -> float:
    """Return the square kilometres of an area in longitude and latitude, on the ellipsoid."""
    square_metres, _ = Geod(ellps="WGS84").geometry_area_perimeter(area)
    return abs(float(square_metres)) / 1e6


def _reorder(numbers: Box) -> Iterator[tuple[str, Box]]:
    """Yield other orders in which a box may have been written, and the boxes that it then was."""
    for order, positions in _ORDERS.items():
        west, south, east, north = (numbers[position] for position in positions)
        if -180 <= west < east <= 180 and -90 <= south < north <= 90:
            yield order, (west, south, east, north)


def _read_crs(text: str, area: BaseGeometry) -> CRS:
    fitting = _suggest_crs(area)
    try:
        crs = CRS.from_user_input(text)
    except CRSError as error:
        meant = f"EPSG:{text}, if that is the code, or {fitting}" if text.strip().isdigit() else fitting
        raise GridError(f"grid.crs {text!r} is not known to PROJ: here {meant} would do") from error
    if not (crs.is_projected or crs.is_geographic):
        raise GridError(f"grid.crs {text!r} ({crs.name}) is no CRS of a map: here {fitting} would do")
    return crs


def _suggest_crs(area: BaseGeometry) -> str:
    """Return a CRS in metres for an area: of the UTM zone that its middle lies in, unless it is large."""
    west, south, east, north = area.bounds
    if east - west > _WIDEST_DEGREES:
        return "an equal-area CRS of the continent, such as EPSG:3035 in Europe, or EPSG:6933"
    zone = min(60, max(1, int(((west + east) / 2 + 180) // 6) + 1))
    return f"EPSG:{326 if north + south >= 0 else 327}{zone:02d} (UTM)"


def _check_order(area: BaseGeometry, text: str, crs: CRS) -> None:
    """Refuse an area far from where a CRS is used, if latitude and longitude in each other's place bring it there."""
    use = crs.area_of_use
    if use is None or use.west >= use.east:
        return
    used = (use.west, use.south, use.east, use.north)
    west, south, east, north = area.bounds
    outside = east < use.west or west > use.east or north < use.south or south > use.north
    if outside and use.west <= south < north <= use.east and use.south <= west < east <= use.north:
        raise GridError(
            f"the area {_show(area.bounds)} lies outside of {text}, which is used in {_show(used)}: longitude and "
            f"latitude probably stand in each other's place; west, south, east, north is "
            f"{_show((south, west, north, east))}"
        )


def _check_pixel(asked: GridRequest, crs: CRS, area: BaseGeometry) -> None:
    """Refuse a pixel whose unit was mistaken: degrees for metres, or metres for degrees."""
    size = float(asked.resolution)
    if crs.is_geographic and size >= _COARSEST_DEGREES:
        raise GridError(
            f"grid.resolution {asked.resolution} is in degrees in {asked.crs}, some {size * _METRES_IN_A_DEGREE:,.0f} "
            f"m: {size:g} m would be 1/{round(_METRES_IN_A_DEGREE / size)}, or take {_suggest_crs(area)}"
        )
    if crs.is_projected and size * crs.axis_info[0].unit_conversion_factor < _FINEST_METRES:
        raise GridError(
            f"grid.resolution {asked.resolution} is in {_name_unit(crs)} in {asked.crs}: if degrees were meant, "
            f"that is some {size * _METRES_IN_A_DEGREE:.3g} m"
        )


def _check_tile(asked: GridRequest) -> None:
    if asked.tile_px > _LONGEST_TILE:
        raise GridError(
            f"grid.tile {asked.tile_px} px is more than a worker holds: a tile is one task, at most {_LONGEST_TILE} px "
            "long, 1024 suits most maps"
        )
    if asked.tile_px > _MOST_CHUNKS * asked.chunk_px:
        raise GridError(
            f"grid.chunk {asked.chunk_px} px cuts a tile of {asked.tile_px} px into more than {_MOST_CHUNKS} x "
            f"{_MOST_CHUNKS} chunks: 256 suits most maps"
        )


def _check_size(area: BaseGeometry, grid: MapGrid, unit: str) -> None:
    """Refuse a pixel that is larger than the area, and more tiles than anybody computes."""
    left, bottom, right, top = grid.area.boundingbox.bbox
    size, (rows, cols), (tile_rows, tile_cols) = float(grid.resolution), grid.shape, grid.tile_shape
    if size > max(right - left, top - bottom):
        raise GridError(
            f"one pixel of {grid.resolution} {unit} is larger than the area of {right - left:g} x {top - bottom:g} "
            f"{unit}: make grid.resolution finer, or the area larger"
        )
    if tile_rows * tile_cols <= _MOST_TILES:
        return
    doubt = doubt_box(area.bounds)
    raise GridError(
        f"the grid would have {tile_rows * tile_cols:,} tiles ({rows:,} x {cols:,} px of {grid.resolution} {unit}) for "
        f"an area of {measure_km2(area):,.0f} km2, more than {_MOST_TILES:,}: make grid.resolution coarser, grid.tile "
        f"larger or the area smaller{doubt and f'; {doubt}'}"
    )


def _name_unit(crs: CRS) -> str:
    return f"{crs.axis_info[0].unit_name}s"


def _spread(box: Box) -> float:
    west, south, east, north = box
    return (east - west) * (north - south)


def _show(box: Box) -> str:
    return f"[{', '.join(f'{number:g}' for number in box)}]"
