"""Headers of files: what a file says of itself, read when it is opened, and its stored numbers with its own masks.

A file hides pixels in four ways: by a value that means no data, by a mask inside it, by an alpha band, and by a mask
beside it (``FILE.msk``, as GDAL writes it). GDAL's drivers report the first three; the last is looked for beside local
files only, and opened as a GeoTIFF and nothing else. What formats have no room for (no data of JPEG 2000, no data by
band), GDAL writes to ``FILE.aux.xml``, of which these numbers are read and nothing else: such a file may name others.
"""

import threading
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import numpy as np
import numpy.typing as npt
import rasterio
from affine import Affine
from rasterio.enums import ColorInterp, MaskFlags
from rasterio.errors import NotGeoreferencedWarning
from rasterio.windows import Window

from mapper.access.admission import is_remote
from mapper.arrays import BoolArray

_LARGEST_AUXILIARY = 1 << 20
"""Bytes of a file of GDAL's beside another at most; tables of attributes can be longer, and are none of ours."""
_opening = threading.Lock()
"""Held while warnings are set aside, which is done for all threads at once."""


@dataclass(frozen=True, kw_only=True)
class Header:
    """Header of one raster file; tuples go by band, whose numbers begin at 1."""

    crs: str | None
    """CRS as WKT."""
    transform: Affine
    shape: tuple[int, int]
    dtypes: tuple[str, ...]
    nodata: tuple[float | None, ...]
    """Stored values that mean no data."""
    scales: tuple[float, ...] = ()
    offsets: tuple[float, ...] = ()
    """Scale and offset, 1 and 0 where the file has none: GDAL tells the two alike."""
    names: tuple[str, ...] = ()
    """Descriptions of the bands, empty where there are none."""
    masked: tuple[bool, ...] = ()
    """True for bands with a mask inside the file."""
    alpha: int = 0
    """Number of the band that is marked as alpha; 0 without one."""
    beside: str = ""
    """Path of the mask beside the file; empty without one."""

    @property
    def count(self) -> int:
        """Number of bands, alpha among them."""
        return len(self.dtypes)

    @classmethod
    def of(cls, dataset: rasterio.DatasetReader, href: str = "") -> "Header":
        """Return the header of an open file.

        Args:
            dataset: The file.
            href: Its location, beside which a mask is looked for if it is a local path.
        """
        flags, beside = dataset.mask_flag_enums, _read_auxiliary(href)
        return cls(
            crs=None if dataset.crs is None else dataset.crs.to_wkt(),
            transform=dataset.transform,
            shape=(dataset.height, dataset.width),
            dtypes=tuple(dataset.dtypes),
            nodata=tuple(beside.get((k, "NoDataValue"), own) for k, own in enumerate(dataset.nodatavals, 1)),
            scales=tuple(beside.get((k, "Scale"), own) for k, own in enumerate(dataset.scales, 1)),
            offsets=tuple(beside.get((k, "Offset"), own) for k, own in enumerate(dataset.offsets, 1)),
            names=tuple(name or "" for name in dataset.descriptions),
            masked=tuple(not each or (MaskFlags.per_dataset in each and MaskFlags.alpha not in each) for each in flags),
            alpha=_find_alpha(dataset),
            beside=_find_mask(href),
        )


@dataclass(frozen=True, kw_only=True)
class StoredBand:
    """Choice of one band of a file and of the masks over it."""

    band: int
    """Number of the band, from 1."""
    masked: bool = False
    """True where the file's own mask hides pixels."""
    alpha: int = 0
    """Number of the band whose zeros hide pixels; 0 for none."""
    beside: str = ""
    """Path of the mask whose zeros hide pixels; empty for none."""


Stored = tuple[npt.NDArray[Any], BoolArray | None]
"""Stored numbers (y, x), and True where a mask hides them; None where none does."""


def read_bands(dataset: rasterio.DatasetReader, window: Window, choices: Sequence[StoredBand]) -> list[Stored]:
    """Read bands of an open file in one window, decoded together; returns them in the order they are asked for.

    Args:
        dataset: The file.
        window: Rows and columns inside the file.
        choices: The bands, at least one.

    Raises:
        OSError: If a mask beside the file is none of it.
    """
    numbers = sorted({number for each in choices for number in (each.band, each.alpha) if number})
    alike = len({dataset.dtypes[number - 1] for number in numbers}) == 1
    together = dataset.read(numbers, window=window) if alike else [dataset.read(k, window=window) for k in numbers]
    pixels = dict(zip(numbers, together, strict=True))
    found: list[Stored] = []
    for each in choices:
        masks = [pixels[each.alpha]] if each.alpha else []
        masks += [dataset.read_masks(each.band, window=window)] if each.masked else []
        masks += [_read_beside(dataset, each, window)] if each.beside else []
        hidden = np.logical_or.reduce([mask == 0 for mask in masks]) if masks else None
        # a band that is asked for twice must not be changed twice
        found.append((pixels[each.band] if len(choices) == 1 else pixels[each.band].copy(), hidden))
    return found


def _read_beside(dataset: rasterio.DatasetReader, choice: StoredBand, window: Window) -> npt.NDArray[Any]:
    with _opening, warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)  # it lies where its file does
        opened = rasterio.open(choice.beside, driver="GTiff", sharing=False)
    with opened as file:
        if file.shape != dataset.shape:
            raise OSError(f"the mask {Path(choice.beside).name} has {file.shape} rows and columns, not {dataset.shape}")
        mask: npt.NDArray[Any] = file.read(choice.band if file.count >= choice.band > 1 else 1, window=window)
        return mask


def _find_alpha(dataset: rasterio.DatasetReader) -> int:
    """Return the number of the alpha band; 0 without one."""
    try:
        kinds = list(dataset.colorinterp)
    except ValueError:  # GDAL knows more kinds of bands than rasterio
        flags = dataset.mask_flag_enums
        return dataset.count if any(MaskFlags.alpha in each for each in flags) else 0
    return kinds.index(ColorInterp.alpha) + 1 if ColorInterp.alpha in kinds else 0


def _find_mask(href: str) -> str:
    """Return the path of the mask beside a local file; empty without one."""
    path = _path_beside(href, ".msk")
    return "" if path is None else str(path)


def _read_auxiliary(href: str) -> dict[tuple[int, str], float]:
    """Return the numbers that GDAL wrote beside a local file, by band and name.

    Raises:
        OSError: If what is there is not of GDAL.
    """
    path = _path_beside(href, ".aux.xml")
    if path is None:
        return {}
    fault = "it is too large"
    if path.stat().st_size <= _LARGEST_AUXILIARY:
        try:
            bands = list(ET.fromstring(path.read_bytes()).iter("PAMRasterBand"))  # noqa: S314 - bounded, and expat's limits
            return {
                (int(band.get("band", "0")), each.tag): float(each.text or "")
                for band in bands
                for each in band
                if each.tag in ("NoDataValue", "Scale", "Offset")
            }
        except (ValueError, ET.ParseError) as error:
            fault = str(error)
    raise OSError(f"{path.name} beside it cannot be understood: {fault}")


def _path_beside(href: str, ending: str) -> Path | None:
    """Return the path of a file beside a local one; None without it."""
    if not href or is_remote(href):
        return None
    path = Path(f"{href.removeprefix('file://')}{ending}")
    return path if path.is_file() else None
