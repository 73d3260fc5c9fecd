"""BioMassters chips as published: their files, and the meaning of their numbers.

A chip is a square of 10 m pixels without a georeference. For each of twelve months there may be a file of Sentinel-1
(dB; vv and vh ascending, vv and vh descending; -9999 and exact zeros are fill) and one of Sentinel-2 (ten bands, then
the cloud probability in percent, 255 where unknown); the label is above-ground biomass in Mg ha-1.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from warnings import catch_warnings, simplefilter

import numpy as np
import numpy.typing as npt
import rasterio
from rasterio.errors import NotGeoreferencedWarning, RasterioIOError

from mapper.errors import InputError

S2_BANDS = ("B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B11", "B12")
S2_SCALE = 1e-4
"""Reflectance of one digital number; minima reach 0 in every band: the numbers carry no offset."""
CLOUD_LIMIT, NO_CLP = 40, 255
"""Largest cloud probability of a clear pixel, and the number for an unknown one."""
ORBITS = {"ascending": (0, 1), "descending": (2, 3)}
"""Bands of the Sentinel-1 files (vv and vh), by orbit direction."""
NODATA = -9999.0
LABEL_LIMIT_MG_HA = 500.0
SD_SHARE, SD_LEAST_MG_HA = 0.1, 5.0
"""Standard deviation assumed for a coarse map made from the label: a share of the value, and a minimum."""
MONTHS = (9, 10, 11, 12, 1, 2, 3, 4, 5, 6, 7, 8)
"""Calendar months in the order of the files' numbers, which count from September."""

Seasons = Mapping[str, Sequence[int]]
SEASONS: Mapping[str, Seasons] = {
    "quarterly": {"autumn": (9, 10, 11), "winter": (12, 1, 2), "spring": (3, 4, 5), "summer": (6, 7, 8)},
    "monthly": {f"m{month:02d}": (month,) for month in MONTHS},
}
"""Divisions of the year, by name."""

_BANDS = {"S1": 4, "S2": 11, "agbm": 1}


@dataclass(frozen=True, kw_only=True)
class Chip:
    """One chip: its name and its files."""

    name: str
    files: Mapping[str, Path]
    """Paths by file name; those of other chips too."""

    @property
    def size_px(self) -> int:
        """Return the edge of the chip in pixels: that of the label."""
        return int(min(self._require_label().shape[1:]))

    def read_label(self, crop_px: int) -> npt.NDArray[np.float64]:
        """Return the label (y, x) in Mg ha-1 from the upper left corner on; below zero is zero, NaN where unknown."""
        label = _crop(self._require_label(), crop_px, f"label of chip {self.name}")[0].astype(np.float64)
        return np.where(np.isfinite(label), np.maximum(label, 0), np.nan)

    def read(self, kind: Literal["S1", "S2"], month: int, crop_px: int) -> npt.NDArray[Any] | None:
        """Return stored numbers (band, y, x) from the upper left corner on; None if there is no such file.

        Args:
            kind: Which satellite.
            month: As the files count: 0 is September.
            crop_px: Edge of what is read.

        Returns:
            The bands; None if there is no such file.

        Raises:
            InputError: If the file cannot be read or is not as expected.
        """
        path = self.files.get(f"{self.name}_{kind}_{month:02d}.tif")
        return None if path is None else _crop(_read(path, _BANDS[kind]), crop_px, str(path))

    def _require_label(self) -> npt.NDArray[Any]:
        path = self.files.get(f"{self.name}_agbm.tif")
        if path is None:
            raise InputError(f"chip {self.name} has no label")
        return _read(path, _BANDS["agbm"])


def find_chips(folder: Path, names: Sequence[str] | None = None) -> list[Chip]:
    """Find the chips in a folder and the folders in it: those that have a label.

    Args:
        folder: Folder of the chips.
        names: Of the chips that have to be there; None asks for none.

    Returns:
        All chips, ordered by name.

    Raises:
        InputError: If there is no chip, or one of the names is not among them.
    """
    files = {path.name: path for path in sorted(folder.rglob("*.tif"))}
    known = sorted(name.removesuffix("_agbm.tif") for name in files if name.endswith("_agbm.tif"))
    if not known:
        raise InputError(f"{folder} holds no BioMassters chip: expected files named CHIP_agbm.tif")
    missing = sorted(set(names or ()) - set(known))
    if missing:
        raise InputError(f"{folder} has no chip {', '.join(missing)}; it has {', '.join(known[:12])}")
    return [Chip(name=name, files=files) for name in known]


def find_measured(radar: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    """Return True where a Sentinel-1 band is a measurement, not fill; any shape."""
    return np.asarray(np.isfinite(radar) & (radar != NODATA) & (radar != 0))


def _read(path: Path, bands: int) -> npt.NDArray[Any]:
    try:
        with catch_warnings():
            simplefilter("ignore", NotGeoreferencedWarning)
            with rasterio.open(path, driver="GTiff") as file:
                pixels: npt.NDArray[Any] = file.read()
    except RasterioIOError as error:
        raise InputError(f"{path} cannot be read: {error}") from error
    if len(pixels) != bands:
        raise InputError(f"{path} has {len(pixels)} bands, expected {bands}")
    return pixels


def _crop(pixels: npt.NDArray[Any], crop_px: int, what: str) -> npt.NDArray[Any]:
    if min(pixels.shape[1:]) < crop_px:
        raise InputError(f"{what} has {pixels.shape[1:]} pixels, expected at least {crop_px} x {crop_px}")
    return pixels[:, :crop_px, :crop_px]
