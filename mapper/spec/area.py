"""The ground of a map: its area, its period and its grid."""

from datetime import date
from functools import cached_property
from pathlib import Path
from typing import Literal, Self

import shapely
from pydantic import Field, model_validator
from shapely.geometry.base import BaseGeometry

from mapper.description import FilePath, Fractional, Part
from mapper.spec.area_file import read_area
from mapper.spec.plausibility import suggest_box


class AreaSpec(Part):
    """The area that is mapped: a box (west, south, east, north; degrees) or the polygons of a GeoJSON file."""

    bbox: tuple[float, float, float, float] | None = None
    """West, south, east and north in degrees."""
    geojson: FilePath | None = None
    """File with polygons in longitude and latitude, or in the CRS that its ``crs`` member names, instead of a box."""

    @model_validator(mode="after")
    def _exactly_one(self) -> Self:
        if (self.bbox is None) == (self.geojson is None):
            raise ValueError("give exactly one of bbox and geojson")
        if self.bbox is not None:
            west, south, east, north = self.bbox
            if not (-90 <= south < north <= 90):
                raise ValueError(
                    f"bbox must be west, south, east, north with south < north, got {self.bbox}{suggest_box(self.bbox)}"
                )
            if west >= east:
                raise ValueError(
                    f"bbox has west {west} >= east {east}: areas across the antimeridian are not supported; "
                    "split the map in two at 180 degrees"
                )
        return self

    @cached_property
    def geometry(self) -> BaseGeometry:
        """Area in longitude and latitude (EPSG:4326).

        Raises:
            SpecError: If the GeoJSON file cannot be read, holds no polygon, or is not in longitude and latitude.
        """
        if self.bbox is not None:
            return shapely.box(*self.bbox)
        return read_area(Path(str(self.geojson)))


class PeriodSpec(Part):
    """First and last day, both included."""

    start: date
    """First day."""
    end: date
    """Last day, included."""

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.end < self.start:
            raise ValueError(f"period ends {self.end} before it starts {self.start}")
        return self


class GridSpec(Part):
    """The output grid.

    ``projected``: the source is averaged or resampled onto it. ``native``: the lattice of the source's own files
    divided by the scale, geographic or projected, so that the pixels of the source are copied bit for bit.
    """

    kind: Literal["projected", "native"] = "projected"
    """Grid of its own, or the lattice of the source divided."""
    crs: str = "EPSG:3035"
    """Coordinate reference system, as an EPSG code or anything that PROJ reads."""
    resolution: Fractional
    """Edge of a target pixel in units of the CRS."""
    tile: int = Field(default=1024, gt=0)
    """Edge of a tile in target pixels."""
    chunk: int = Field(default=256, gt=0)
    """Edge of a chunk in target pixels; divides ``tile``."""

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.tile % self.chunk:
            raise ValueError(f"tile {self.tile} must be a multiple of chunk {self.chunk}")
        return self
