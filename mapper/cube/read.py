"""Eager reading of one block: the reader of tasks, through the loader of odc-stac.

The loader mosaics and schedules; odc-stac itself would cut a block larger than its chunk into pieces and open every
file once for each. Every file is read by :mod:`mapper.cube.resample`, for the clear pixels only, and calibrated here.
Bands are read one at a time and observations without a single clear pixel are not read at all, so that the block of a
season costs the memory of one band.
"""

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, TypeVar, cast

import numpy as np
import xarray as xr
from odc.geo.geobox import GeoBox, GeoboxTiles
from odc.geo.xr import xr_coords
from odc.loader import chunked_load
from odc.loader.types import RasterBandMetadata, RasterGroupMetadata, RasterLoadParams, RasterSource

from mapper.access.files import Access, gdal_environment
from mapper.access.rules import AccessRule
from mapper.access.tally import AssetName
from mapper.arrays import BoolArray, Float32Array
from mapper.catalog.footprint import window_footprint
from mapper.catalog.items import ItemDict, Items, name_asset
from mapper.catalog.provider import CollectionRule
from mapper.cube.belief import Belief, Beliefs
from mapper.cube.calibrate import Calibration, apply, find_clear
from mapper.cube.observations import Observation, group_items, require_bands, select_band
from mapper.cube.projection import RIM_PX, find_outline, may_touch
from mapper.cube.resample import Reading, Sampler
from mapper.errors import CorruptAssetError

Answer = TypeVar("Answer")


@dataclass(frozen=True, kw_only=True)
class FileRequest:
    """One file to read, as the driver data of a source."""

    name: AssetName
    beliefs: tuple[Belief, ...]
    """What item and collection say of the band, then of other bands of the file that are read next."""
    pending: BoolArray | None
    """(y, x) True for the pixels that its image still lacks, shared by the files of an image; None for all pixels."""


@dataclass(frozen=True, kw_only=True)
class SamplerDriver:
    """Driver that reads files as float32 with NaN where missing."""

    access: Access
    rule: AccessRule
    sampler: Sampler

    def new_load(self, _geobox: GeoBox, **_options: object) -> None:
        """Return the state of a load: none, since its files share only the sampler."""

    def finalise_load(self, _state: None) -> None:
        """Return the result of closing a load: none, since nothing is open."""

    @contextmanager
    def restore_env(self, _captured: dict[str, Any], _state: None) -> Iterator[None]:
        """Enter GDAL's settings in the thread that reads."""
        with gdal_environment():
            yield

    def open(self, source: RasterSource, _context: None) -> "_FileReader":
        """Return a reader of one file, without opening it."""
        return _FileReader(request=source.driver_data, driver=self)


@dataclass(frozen=True, kw_only=True)
class _FileReader:
    request: FileRequest
    driver: SamplerDriver

    def read(self, config: Any, geobox: GeoBox, **_options: object) -> tuple[tuple[slice, slice], Float32Array]:
        """Return the pixels of a file on a geobox, and the slices they fill: all or none."""
        pixels = self._read(config, geobox)
        if pixels is None:
            return (slice(0, 0), slice(0, 0)), np.empty((0, 0), np.float32)
        return (slice(0, pixels.shape[0]), slice(0, pixels.shape[1])), pixels

    def _read(self, config: Any, geobox: GeoBox) -> Float32Array | None:
        pending = self.request.pending
        if pending is not None and not pending.any():
            return None
        pixels = self.driver.sampler.read(
            self.request.name,
            geobox,
            access=self.driver.access,
            rule=self.driver.rule,
            resampling=config.resampling,
            beliefs=self.request.beliefs,
            wanted=pending,
        )
        if pending is not None and pixels is not None:
            # the files of an image are read one after the other: the next is asked for what this one lacks
            pending &= np.isnan(pixels)
        return pixels


_LOG = logging.getLogger(__name__)


_BLOCK_ROWS = 32
"""Rows that are calibrated at a time, so that temporary arrays stay in the cache of a core."""


@dataclass(frozen=True, kw_only=True)
class BlockReader:
    """Reader of bands of one collection onto one geobox."""

    geobox: GeoBox
    rule: CollectionRule
    access: Access = field(default_factory=Access)
    threads: int = 1
    """Number of files read at a time; worth more than the cores where files are remote."""
    sampler: Sampler = field(default_factory=Sampler)
    nested: bool = False
    """True if bands are copied, and so refused where the header of a file says that its pixels are not the geobox's."""
    look: Callable[[ItemDict, str], bool] = lambda *_: True
    """Whether the file of an asset is opened; items that are known to touch the geobox need not be asked."""

    @cached_property
    def _beliefs(self) -> Beliefs:
        return Beliefs(rule=self.rule)

    def read_clear(self, groups: Sequence[Observation]) -> BoolArray:
        """Return True where the mask of the collection lets a pixel pass; dims (group, y, x)."""
        mask = self.rule.mask
        if mask is None or not groups:
            return np.ones((len(groups), *self.geobox.shape), bool)
        return find_clear(self._load(groups, mask.asset, believe=self._beliefs.of_mask, resampling="nearest"), mask)

    def read_band(self, groups: Sequence[Observation], band: str, clear: BoolArray) -> Float32Array:
        """Return one band in physical units, float32, NaN where missing or masked; dims (group, y, x).

        Args:
            groups: Observations.
            band: Our band name.
            clear: What may pass, as :meth:`read_clear` returns it.

        Raises:
            TransientAssetError: Throttling or network.
            CorruptAssetError: A file is missing, truncated or no georeferenced raster.
        """
        wanted = [k for k, group in enumerate(groups) if band in group.calibrations and clear[k].any()]
        if not wanted:
            return np.full((len(groups), *self.geobox.shape), np.nan, np.float32)
        stack = self._load(
            [select_band(groups[k], self.rule, band) for k in wanted],
            self.rule.bands[band].asset,
            believe=lambda item: self._beliefs.of_bands(item, band, groups[wanted[0]].calibrations),
            resampling="copy" if self.nested else self.rule.resampling,
            clear=[clear[k] for k in wanted],
        )
        for k, image in zip(wanted, stack, strict=True):
            _calibrate(image, groups[k].calibrations[band])
        if len(wanted) == len(groups):
            return stack
        spread = np.full((len(groups), *self.geobox.shape), np.nan, np.float32)
        spread[wanted] = stack
        return spread

    def _load(
        self,
        groups: Sequence[Observation],
        asset: str,
        *,
        believe: Callable[[ItemDict], tuple[Belief, ...]],
        resampling: Reading,
        clear: Sequence[BoolArray] | None = None,
    ) -> Float32Array:
        """Return stored numbers of one asset, float32, NaN where missing or not clear; dims (group, y, x)."""
        sources: list[dict[str, RasterSource]] = []
        images: dict[tuple[int, int, int], list[int]] = {}
        for k, group in enumerate(groups):
            pending = None if clear is None else clear[k].copy()
            members = [item for item in group.items if asset in item["assets"] and self.look(item, asset)]
            images[k, 0, 0] = list(range(len(sources), len(sources) + len(members)))
            for item in members:
                name = name_asset(item, asset)
                request = FileRequest(name=name, beliefs=believe(item), pending=pending)
                sources.append({asset: RasterSource(uri=name.href, driver_data=request)})
        driver: Any = SamplerDriver(access=self.access, rule=self.rule.access, sampler=self.sampler)
        dataset = chunked_load(
            {asset: RasterLoadParams(dtype="float32", fill_value=np.nan, resampling=resampling)},
            RasterGroupMetadata({(asset, 1): RasterBandMetadata("float32", np.nan)}),
            sources,
            images,
            GeoboxTiles(self.geobox, self.geobox.shape),
            [group.time for group in groups],
            {},
            driver,
            pool=self.threads if self.threads > 1 else None,
        )
        return cast("Float32Array", dataset[asset].data)


def read_block(
    items: Items,
    geobox: GeoBox,
    *,
    bands: Sequence[str],
    rule: CollectionRule,
    access: Access | None = None,
    threads: int = 1,
) -> xr.Dataset:
    """Read one block of one collection.

    Args:
        items: Items of one collection; the caller picks season and orbit.
        geobox: Target pixels.
        bands: Our band names.
        rule: How the collection is read.
        access: How files are reached, and who counts.
        threads: Files read at a time.

    A file is opened if its item says that it may lie in the block, or contradicts itself about that; its header says
    which pixels it has there.

    Returns:
        A variable for each band: float32 in the units of the rule, NaN where missing or masked, dims (time, y, x); the
        coordinate ``group`` names each observation. Without items there are no time steps.

    Raises:
        SpecError: If no item has a band, or a calibration cannot be decided.
        TransientAssetError: Throttling or network.
        CorruptAssetError: A file is missing, truncated or no georeferenced raster.
    """
    require_bands(items, rule, bands)
    usable, _ = split_usable(items, rule)
    groups = group_items(usable, rule, bands)
    window = window_footprint(geobox, buffer_px=RIM_PX)

    def look(item: ItemDict, asset: str) -> bool:
        return may_touch(find_outline(item, asset), window)

    reader = BlockReader(geobox=geobox, rule=rule, access=access or Access(), threads=threads, look=look)
    clear = reader.read_clear(groups)
    return as_dataset({band: reader.read_band(groups, band, clear) for band in bands}, groups, geobox, rule)


def read_sound(
    items: Iterable[ItemDict], dropped: dict[str, str], read: Callable[[Sequence[ItemDict]], Answer]
) -> Answer:
    """Read items, again without one whose file turns out to be broken, and return what was read.

    Args:
        items: Items of one collection.
        dropped: Reasons of items that are left out, by id; those found here are added.
        read: Reads the items that are left.

    Raises:
        CorruptAssetError: If a file is broken that belongs to none of the items.
    """
    asked = list(items)
    while True:
        sound = [item for item in asked if item["id"] not in dropped]
        try:
            return read(sound)
        except CorruptAssetError as error:
            if error.item not in {item["id"] for item in sound}:
                raise
            _LOG.warning("item %s is left out: %s", error.item, error)
            dropped[error.item] = str(error)


def split_usable(items: Items, rule: CollectionRule) -> tuple[Items, dict[str, str]]:
    """Return the items that can be read, and by id why others cannot: without its mask an item cannot be trusted."""
    if rule.mask is None:
        return items, {}
    asset = rule.mask.asset
    reasons = {item["id"]: f"item has no mask asset {asset}" for item in items if asset not in item["assets"]}
    for item, reason in reasons.items():
        _LOG.warning("item %s is left out: %s", item, reason)
    return Items(items=tuple(i for i in items if i["id"] not in reasons), query=items.query), reasons


def as_dataset(
    stacks: Mapping[str, Any], groups: Sequence[Observation], geobox: GeoBox, rule: CollectionRule
) -> xr.Dataset:
    """Return stacks of bands (time, y, x) as a Dataset with coordinates."""
    coords: dict[str, Any] = {
        "time": ("time", np.array([group.time for group in groups], "datetime64[ns]")),
        "group": ("time", np.array([group.id for group in groups], str)),
        **{str(name): coord for name, coord in xr_coords(geobox, always_yx=True).items()},
    }
    attrs = {"units": rule.units, "grid_mapping": "spatial_ref"}
    return xr.Dataset({band: (("time", "y", "x"), stack, attrs) for band, stack in stacks.items()}, coords=coords)


def _calibrate(image: Float32Array, calibration: Calibration) -> None:
    """Convert stored numbers to physical units in place."""
    for first in range(0, len(image), _BLOCK_ROWS):
        rows = slice(first, first + _BLOCK_ROWS)
        image[rows] = apply(image[rows], calibration)
