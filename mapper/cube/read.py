"""Eager reading of one block: the reader of tasks.

Every file is opened once for a block, however large that is, and read by :mod:`mapper.cube.resample`, for the pixels
only that are clear and that the files before it in the same image did not have; calibration is done here. Bands are
read one at a time and observations without a single clear pixel are not read at all, so that the block of a season
costs the memory of one band.
"""

import logging
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, TypeVar

import numpy as np
import xarray as xr
from odc.geo.geobox import GeoBox
from odc.geo.xr import xr_coords

from mapper.access.files import Access, gdal_environment
from mapper.access.tally import AssetName
from mapper.arrays import BoolArray, Float32Array
from mapper.catalog.footprint import window_footprint
from mapper.catalog.items import ItemDict, Items, name_asset
from mapper.catalog.provider import CollectionRule
from mapper.cube.belief import Belief, Beliefs
from mapper.cube.calibrate import Calibration, apply, find_clear
from mapper.cube.observations import Observation, group_items, require_bands, select_band
from mapper.cube.projection import RIM_PX, find_outline, may_touch
from mapper.cube.resample import Reading, Resampling, Sampler
from mapper.errors import CorruptAssetError

Answer = TypeVar("Answer")


_LOG = logging.getLogger(__name__)
_POOLS = threading.local()

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
    """True where the file of an asset is opened; items that are known to touch the geobox need not be asked."""

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
            resampling="copy" if self.nested else choose_resampling(self.rule, band),
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
        stack = np.full((len(groups), *self.geobox.shape), np.nan, np.float32)
        files = [
            [
                (name_asset(item, asset), believe(item))
                for item in group.items
                if asset in item["assets"] and self.look(item, asset)
            ]
            for group in groups
        ]

        def fill(k: int) -> None:
            self._fill(stack[k], files[k], resampling=resampling, wanted=None if clear is None else clear[k])

        if min(self.threads, len(groups)) <= 1:
            for k in range(len(groups)):
                fill(k)
        else:
            _run_all(_reading_threads(self.threads), fill, len(groups))
        return stack

    def _fill(
        self,
        image: Float32Array,
        files: Sequence[tuple[AssetName, tuple[Belief, ...]]],
        *,
        resampling: Reading,
        wanted: BoolArray | None,
    ) -> None:
        """Fill the wanted pixels of an image (y, x) from files one after the other: the first that has one counts."""
        for name, beliefs in files:
            lacking = None if wanted is None else wanted & np.isnan(image)
            if lacking is not None and not lacking.any():
                return
            with gdal_environment():
                pixels = self.sampler.read(
                    name,
                    self.geobox,
                    access=self.access,
                    rule=self.rule.access,
                    resampling=resampling,
                    beliefs=beliefs,
                    wanted=lacking,
                )
            if pixels is not None:
                np.copyto(image, pixels, where=np.isnan(image))


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
        A variable for each band: float32 in the units of the rule, NaN where missing or masked, dims (time, y, x); an
        indicator of classes has the flags of CF; the coordinate ``group`` names each observation. Without items there
        are no time steps.

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
    return xr.Dataset(
        {band: (("time", "y", "x"), stack, _describe_band(rule, band)) for band, stack in stacks.items()}, coords=coords
    )


def choose_resampling(rule: CollectionRule, band: str) -> Resampling:
    """Return the resampling of one of our bands: that of its collection, nearest for an indicator of classes."""
    return "nearest" if rule.bands[band].classes else rule.resampling


def _describe_band(rule: CollectionRule, band: str) -> dict[str, Any]:
    """Return the CF attributes of one of our bands."""
    flags = {"flag_values": [0, 1], "flag_meanings": f"other {band}"} if rule.bands[band].classes else {}
    datum = {"vertical_datum": rule.vertical_datum} if rule.vertical_datum and rule.may_be_height(band) else {}
    return {"units": rule.units_of(band), **flags, **datum, "grid_mapping": "spatial_ref"}


def _reading_threads(count: int) -> ThreadPoolExecutor:
    """Return the threads that read for the calling thread; they stay, since PROJ and GDAL set up each one anew."""
    pools: dict[int, ThreadPoolExecutor] = _POOLS.__dict__.setdefault("pools", {})
    if count not in pools:
        pools[count] = ThreadPoolExecutor(count, thread_name_prefix="read")
    return pools[count]


def _run_all(pool: ThreadPoolExecutor, function: Callable[[int], None], count: int) -> None:
    """Call a function for each number in threads; raise what the first one raised, when none is at work any more."""
    futures = [pool.submit(function, number) for number in range(count)]
    try:
        for future in futures:
            future.result()
    finally:
        for future in futures:
            future.cancel()
        wait(futures)


def _calibrate(image: Float32Array, calibration: Calibration) -> None:
    """Convert stored numbers to physical units in place."""
    for first in range(0, len(image), _BLOCK_ROWS):
        rows = slice(first, first + _BLOCK_ROWS)
        image[rows] = apply(image[rows], calibration)
