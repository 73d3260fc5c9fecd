"""What the loader of odc-stac needs to read files through a :class:`Sampler`: a reader driver."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from odc.geo.geobox import GeoBox
from odc.loader.types import RasterSource

from mapper.access.files import Access, gdal_environment
from mapper.access.name import AssetName
from mapper.access.rules import AccessRule
from mapper.cube.warp import BoolArray, FloatArray, Sampler


@dataclass(frozen=True, kw_only=True)
class FileRequest:
    """One file to read, as the driver data of a source."""

    name: AssetName
    missing: tuple[float, ...]
    """Stored values that are no measurements."""
    pending: BoolArray | None
    """(y, x) True for the pixels that its image still lacks, shared by the files of an image; None for all pixels."""


@dataclass(frozen=True, kw_only=True)
class SamplerDriver:
    """Reads files as float32 with NaN where missing."""

    access: Access
    rule: AccessRule
    sampler: Sampler

    def new_load(self, _geobox: GeoBox, **_options: object) -> None:
        """Nothing is shared by the files of a load but the sampler."""

    def finalise_load(self, _state: None) -> None:
        """Nothing to close."""

    @contextmanager
    def restore_env(self, _captured: dict[str, Any], _state: None) -> Iterator[None]:
        """GDAL's settings, in the thread that reads."""
        with gdal_environment():
            yield

    def open(self, source: RasterSource, _context: None) -> "_FileReader":
        """A reader of one file; opens nothing yet."""
        return _FileReader(request=source.driver_data, driver=self)


@dataclass(frozen=True, kw_only=True)
class _FileReader:
    request: FileRequest
    driver: SamplerDriver

    def read(self, config: Any, geobox: GeoBox, **_options: object) -> tuple[tuple[slice, slice], FloatArray]:
        """The pixels of a file on a geobox, and which of them they are: all or none."""
        pixels = self._read(config, geobox)
        if pixels is None:
            return (slice(0, 0), slice(0, 0)), np.empty((0, 0), np.float32)
        return (slice(0, pixels.shape[0]), slice(0, pixels.shape[1])), pixels

    def _read(self, config: Any, geobox: GeoBox) -> FloatArray | None:
        pending = self.request.pending
        if pending is not None and not pending.any():
            return None
        pixels = self.driver.sampler.read(
            self.request.name,
            geobox,
            access=self.driver.access,
            rule=self.driver.rule,
            resampling=config.resampling,
            missing=self.request.missing,
            wanted=pending,
        )
        if pending is not None and pixels is not None:
            # the files of an image are read one after the other: the next is asked for what this one lacks
            pending &= np.isnan(pixels)
        return pixels
