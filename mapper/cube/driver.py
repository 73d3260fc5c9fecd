"""What odc-stac needs to read files through a :class:`Sampler`: a reader driver, which is its own metadata parser."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import pystac
from odc.geo.geobox import GeoBox
from odc.loader.types import RasterBandMetadata, RasterGroupMetadata, RasterSource

from mapper.access.files import Access, AssetName, gdal_environment
from mapper.access.rules import AccessRule
from mapper.cube.warp import FloatArray, Sampler


@dataclass(frozen=True, kw_only=True)
class SamplerDriver:
    """Reads one asset of many items, as float32 with NaN where missing.

    odc-stac takes the band table from the first item of a collection and guesses types that items do not declare: here
    it is told the same for every item, so that any of them may lack the asset.
    """

    asset: str
    missing: tuple[float, ...]
    """Stored values that are no measurements."""
    access: Access
    rule: AccessRule
    sampler: Sampler
    aux_reader: None = None
    dask_reader: None = None

    @property
    def md_parser(self) -> "SamplerDriver":
        """The driver itself."""
        return self

    def extract(self, _item: pystac.Item) -> RasterGroupMetadata:
        """Describe the asset."""
        return RasterGroupMetadata({(self.asset, 1): RasterBandMetadata("float32", float("nan"))})

    def driver_data(self, item: pystac.Item, _band: tuple[str, int]) -> AssetName:
        """What the file is, for :meth:`open`."""
        return AssetName(item=item.id, asset=self.asset, href=item.assets[self.asset].href)

    def new_load(self, _geobox: GeoBox, **_options: object) -> None:
        """Nothing is shared by the files of a load but the sampler."""

    def finalise_load(self, _state: None) -> None:
        """Nothing to close."""

    def capture_env(self) -> dict[str, Any]:
        """The environment is always our own."""
        return {}

    @contextmanager
    def restore_env(self, _captured: dict[str, Any], _state: None) -> Iterator[None]:
        """GDAL's settings, in the thread that reads."""
        with gdal_environment():
            yield

    def open(self, source: RasterSource, _context: None) -> "_FileReader":
        """A reader of one file; opens nothing yet."""
        return _FileReader(name=source.driver_data, driver=self)


@dataclass(frozen=True, kw_only=True)
class _FileReader:
    name: AssetName
    driver: SamplerDriver

    def read(self, config: Any, geobox: GeoBox, **_options: object) -> tuple[tuple[slice, slice], FloatArray]:
        """The pixels of a file on a geobox, and which of them they are: all or none."""
        driver = self.driver
        pixels = driver.sampler.read(
            self.name,
            geobox,
            access=driver.access,
            rule=driver.rule,
            resampling=config.resampling,
            missing=driver.missing,
        )
        if pixels is None:
            return (slice(0, 0), slice(0, 0)), np.empty((0, 0), np.float32)
        return (slice(0, pixels.shape[0]), slice(0, pixels.shape[1])), pixels
