"""Piece of a map that is exported: all pixels, those of a box, or those of an area."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
from odc.geo.geom import Geometry
from pydantic import ValidationError
from shapely.geometry.base import BaseGeometry

from mapper.description import describe_faults
from mapper.errors import GridError, InputError
from mapper.grid import MapGrid, Tile, Window, project_area
from mapper.spec import AreaSpec

_HAIR = 1e-6
"""Fraction of a pixel: an edge that lies so close to that of a pixel is that of the pixel."""


@dataclass(frozen=True, kw_only=True)
class Piece:
    """A rectangle of pixels of a map, and what counts in it."""

    grid: MapGrid
    """Grid of the map; its area is what counts."""
    window: Window
    masked: bool
    """True if pixels outside of the area are left out."""

    def inside(self, window: Window) -> npt.NDArray[np.bool_] | None:
        """Return True where a pixel of a window counts; None where all do."""
        return self.grid.inside_area(window) if self.masked else None

    def parts(self, edge: int) -> Iterator[Window]:
        """Return the windows of so many pixels along an edge that it falls into, row by row."""
        at = self.window
        for top in range(at.top, at.bottom, edge):
            for left in range(at.left, at.right, edge):
                bottom, right = min(top + edge, at.bottom), min(left + edge, at.right)
                yield Window(top=top, left=left, bottom=bottom, right=right)

    def tiles(self) -> list[Tile]:
        """Return the tiles that it touches, row by row."""
        edge, at = self.grid.tile_px, self.window
        return [
            Tile(row, col)
            for row in range(at.top // edge, -(-at.bottom // edge))
            for col in range(at.left // edge, -(-at.right // edge))
        ]


def choose_piece(grid: MapGrid, *, bbox: Sequence[float] | None = None, area: Path | str | None = None) -> Piece:
    """Return the pixels that a box or an area touches; without either, the whole map.

    Args:
        grid: Of the map.
        bbox: West, south, east, north in degrees.
        area: GeoJSON file with polygons in longitude and latitude; pixels outside of them are left out.

    Raises:
        InputError: If both are given, or one of them makes no sense.
        GridError: If nothing of it lies on the map.
    """
    if bbox is not None and area is not None:
        raise InputError("give a box or an area, not both")
    if bbox is None and area is None:
        rows, cols = grid.shape
        return Piece(grid=grid, window=Window(top=0, left=0, bottom=rows, right=cols), masked=False)
    outline = _read_outline(bbox, area)
    projected = project_area(outline, grid.crs)
    name = f"the box {','.join(f'{value:g}' for value in bbox)}" if bbox is not None else f"the area of {area}"
    window = _find_window(grid, projected, name)
    return Piece(grid=replace(grid, area=projected), window=window, masked=area is not None)


def _read_outline(bbox: Sequence[float] | None, area: Path | str | None) -> BaseGeometry:
    if bbox is not None and not all(map(math.isfinite, bbox)):
        raise InputError(f"the box {bbox} is not of finite degrees")
    content = {"geojson": area} if bbox is None else {"bbox": tuple(bbox)}
    try:
        return AreaSpec.model_validate(content).geometry
    except ValidationError as error:
        raise InputError(describe_faults(error, "area")) from error


def _find_window(grid: MapGrid, outline: Geometry, name: str) -> Window:
    left, bottom, right, top = outline.boundingbox.bbox
    (c0, r0), (c1, r1) = ~grid.geobox.transform @ (left, top), ~grid.geobox.transform @ (right, bottom)
    rows, cols = grid.shape
    window = Window(
        top=max(0, math.floor(r0 + _HAIR)),
        left=max(0, math.floor(c0 + _HAIR)),
        bottom=min(rows, math.ceil(r1 - _HAIR)),
        right=min(cols, math.ceil(c1 - _HAIR)),
    )
    if min(window.shape) <= 0:
        west, south, east, north = grid.geobox.extent.to_crs("EPSG:4326").boundingbox.bbox
        raise GridError(f"{name} lies outside of the map, which covers {west:.4f},{south:.4f},{east:.4f},{north:.4f}")
    return window
