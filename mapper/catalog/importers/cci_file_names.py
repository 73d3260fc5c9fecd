"""File names of the ESA CCI biomass maps: releases, years, and cells of 10 x 10 degrees.

A cell is named by its *upper left* corner: ``N60E010`` reaches from 60 degrees north down to 50. Cells without land
have no file. Below the root the archive keeps ``v{version}/geotiff/{year}/``.
"""

import math
from dataclasses import dataclass
from typing import Literal

from mapper.errors import InputError

ARCHIVE = "https://dap.ceda.ac.uk/neodc/esacci/biomass/data/agb/maps"
"""Address of the published maps."""
CELL_DEGREES = 10
MARGIN_DEGREES = 0.1
"""Margin in degrees around a box in which cells are wanted too: a map reads some context around its area."""

Bbox = tuple[float, float, float, float]
"""West, south, east, north in degrees."""
Quantity = Literal["AGB", "AGB_SD"]


@dataclass(frozen=True, kw_only=True)
class Release:
    """One version of the maps."""

    years: tuple[int, ...]
    doi: str
    labels: tuple[str, ...]
    """Names of the version in file names, the likelier first."""


RELEASES = {
    "3.0": Release(years=(2010, 2017, 2018), doi="10.5285/5f331c418e9f4935b8eb1b836f8a91b8", labels=("3.0",)),
    "4.0": Release(years=(2010, *range(2017, 2021)), doi="10.5285/af60720c1e404a9e9d2c145d2b2ead4e", labels=("4.0",)),
    "5.0": Release(years=(2010, *range(2015, 2022)), doi="10.5285/02e1b18071ad45a19b4d3e8adafa2817", labels=("5.0",)),
    # a repair of 5.0, published with tiles under the name of either
    "5.01": Release(
        years=(2010, *range(2015, 2022)), doi="10.5285/bf535053562141c6bb7ad831f5998d77", labels=("5.01", "5.0")
    ),
    "6.0": Release(
        years=(2007, 2010, *range(2015, 2023)), doi="10.5285/95913ffb6467447ca72c4e9d8cf30501", labels=("6.0",)
    ),
    "7.0": Release(
        years=(*range(2005, 2013), *range(2015, 2025)), doi="10.5285/6429d1aafe1e43b9b414e4a5a7f8b903", labels=("7.0",)
    ),
}


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One cell, by its upper left corner in whole degrees."""

    west: int
    north: int

    def __str__(self) -> str:
        ns, ew = "N" if self.north >= 0 else "S", "E" if self.west >= 0 else "W"
        return f"{ns}{abs(self.north):02d}{ew}{abs(self.west):03d}"


@dataclass(frozen=True, kw_only=True)
class AnnualMap:
    """One map: a version and a year.

    Raises:
        InputError: If there is no such map.
    """

    version: str
    year: int

    def __post_init__(self) -> None:
        if self.version not in RELEASES:
            known = "; ".join(f"{version} ({_ranges(release.years)})" for version, release in RELEASES.items())
            raise InputError(f"ESA CCI biomass has no version {self.version!r}: its versions and years are {known}")
        if self.year not in self.release.years:
            raise InputError(
                f"ESA CCI biomass {self.version} has no map of {self.year}: its years are {_ranges(self.release.years)}"
            )

    def __str__(self) -> str:
        return f"ESA CCI biomass {self.version} of {self.year}"

    @property
    def release(self) -> Release:
        """Return the release of the version."""
        return RELEASES[self.version]

    def folders(self, root: str) -> tuple[str, ...]:
        """Return the folders below a root that may hold the files: as the archive arranges them, or the root itself."""
        base = root.rstrip("/")
        return f"{base}/v{self.version}/geotiff/{self.year}", base

    def file_names(self, cell: Cell, quantity: Quantity) -> tuple[str, ...]:
        """Return the names that the file of a cell may have, the likelier first."""
        stem = f"{cell}_ESACCI-BIOMASS-L4-{quantity}-MERGED-100m-{self.year}"
        return tuple(f"{stem}-fv{label}.tif" for label in self.release.labels)


def cells_near(bbox: Bbox | None) -> list[Cell]:
    """Return the cells that a box touches or comes near to, from the north-west; without a box all of the globe.

    Raises:
        InputError: If the box is none, or lies across the antimeridian.
    """
    west, south, east, north = bbox or (-180, -90, 180, 90)
    if not (-180 <= west < east <= 180 and -90 <= south < north <= 90):
        raise InputError(
            f"the box must be west, south, east, north in degrees with west < east and south < north, got {bbox}; "
            "one across the antimeridian has to be split"
        )
    near = MARGIN_DEGREES
    cols = range(_floor(west - near), math.ceil((east + near) / CELL_DEGREES) * CELL_DEGREES, CELL_DEGREES)
    rows = range(_floor(south - near), math.ceil((north + near) / CELL_DEGREES) * CELL_DEGREES, CELL_DEGREES)
    return [
        Cell(west=col, north=row + CELL_DEGREES)
        for row in reversed(rows)
        for col in cols
        if -180 <= col < 180 and -90 <= row < 90
    ]


def _floor(degrees: float) -> int:
    return math.floor(degrees / CELL_DEGREES) * CELL_DEGREES


def _ranges(years: tuple[int, ...]) -> str:
    """Format years as ``2010, 2015-2017``."""
    runs: list[list[int]] = []
    for year in years:
        if runs and year == runs[-1][-1] + 1:
            runs[-1].append(year)
        else:
            runs.append([year])
    return ", ".join(f"{run[0]}-{run[-1]}" if len(run) > 1 else str(run[0]) for run in runs)
