"""The same pixels as :mod:`mapper.cube.read`, lazily through stackstac: for notebooks and regions, never for tasks.

stackstac lays the graph out; every file is read by :mod:`mapper.cube.resample`, so both readers give the same numbers.
Items are mosaicked into the same observations. stackstac misreads what items of STAC 1.1 say about their projection, so
it is told nothing but where each file lies on the target grid.
"""

# mypy: disable-error-code="no-untyped-call"
# dask ships types for a part of its functions only

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import dask.array as da
import numpy as np
import stackstac
import xarray as xr
from odc.geo.geobox import GeoBox
from rasterio.warp import transform_bounds
from rasterio.windows import Window
from shapely.geometry import shape

from mapper.access.files import Access, gdal_environment
from mapper.access.rules import AccessRule
from mapper.access.tally import AssetName
from mapper.arrays import Float32Array
from mapper.catalog.items import ItemDict, Items
from mapper.catalog.provider import CollectionRule
from mapper.cube.calibrate import apply, find_clear, missing_values
from mapper.cube.observations import Observation, group_items, require_bands, select_band
from mapper.cube.projection import declared_grid
from mapper.cube.read import as_dataset, split_usable
from mapper.cube.resample import Resampling, Sampler
from mapper.errors import GridError

Bounds = tuple[float, float, float, float]


def open_cube(
    items: Items,
    geobox: GeoBox,
    *,
    bands: Sequence[str],
    rule: CollectionRule,
    access: Access | None = None,
    chunks: int = 1024,
) -> xr.Dataset:
    """Open items of one collection as a lazy cube.

    Args:
        items: Items of one collection; select season and orbit first.
        geobox: Target pixels, north up, in a CRS with an EPSG code.
        bands: Our band names.
        rule: How the collection is read.
        access: How files are reached, when they are read.
        chunks: Edge of a dask chunk in pixels.

    Returns:
        What :func:`mapper.cube.read.read_block` returns, as dask arrays.

    Raises:
        GridError: If the grid has no EPSG code or is rotated.
        SpecError: If no item has a band, or a calibration cannot be decided.
    """
    require_bands(items, rule, bands)
    epsg = None if geobox.crs is None else geobox.crs.epsg
    if epsg is None or not geobox.axis_aligned:
        raise GridError(f"a lazy cube needs a north-up grid whose CRS has an EPSG code, got {geobox}")
    usable, _ = split_usable(items, rule)
    groups = group_items(usable, rule, bands)
    stacker = _Stacker(geobox=geobox, epsg=epsg, rule=rule, access=access or Access(), chunks=chunks)
    clear = None
    if rule.mask is not None:
        missing = () if rule.mask.nodata is None else (float(rule.mask.nodata),)
        mask = stacker.stack(groups, rule.mask.asset, missing=lambda _: missing, resampling="nearest")
        clear = da.map_blocks(find_clear, mask, rule.mask, dtype=bool)
    stacks = {}
    for band in bands:
        holding = [select_band(group, rule, band) for group in groups]
        stored = stacker.stack(
            holding,
            rule.bands[band].asset,
            missing=partial(missing_values, rule=rule, band=band),
            resampling=rule.resampling,
        )
        images = [_calibrate(stored[k], group, band) for k, group in enumerate(groups)]
        stacks[band] = da.stack(images) if images else stored
        if clear is not None:
            stacks[band] = da.where(clear, stacks[band], np.float32(np.nan))
    return as_dataset(stacks, groups, geobox, rule)


@dataclass(frozen=True, kw_only=True)
class _Stacker:
    """Lays out the observations of one collection on one geobox."""

    geobox: GeoBox
    epsg: int
    rule: CollectionRule
    access: Access
    chunks: int
    sampler: Sampler = field(default_factory=Sampler)

    def stack(
        self,
        groups: Sequence[Observation],
        asset: str,
        *,
        missing: Callable[[ItemDict], tuple[float, ...]],
        resampling: Resampling,
    ) -> Any:
        """Stored numbers of one asset as a dask array, float32, NaN where missing; dims (group, y, x)."""
        members = [
            (k, item, bounds)
            for k, group in enumerate(groups)
            for item in group.items
            if asset in item["assets"] and (bounds := _bounds_on(self.geobox, item, asset)) is not None
        ]
        empty = da.full((len(groups), *self.geobox.shape), np.nan, dtype=np.float32, chunks=(1, self.chunks, -1))
        if not members:
            return empty
        source = _Source(
            geobox=self.geobox,
            epsg=self.epsg,
            items={item["assets"][asset]["href"]: item["id"] for _, item, _ in members},
            asset=asset,
            resampling=resampling,
            missing={item["id"]: missing(item) for _, item, _ in members},
            access=self.access,
            rule=self.rule.access,
            sampler=self.sampler,
        )
        cube = _stack_items([self._as_plain(member, groups, asset) for member in members], asset, source, self.chunks)
        positions: dict[int, list[int]] = {}
        for position, (k, _, _) in enumerate(members):
            positions.setdefault(k, []).append(position)
        return da.stack(
            [
                stackstac.mosaic(cube[positions[k], 0], dim="time", reverse=True).data if k in positions else empty[k]
                for k in range(len(groups))
            ]
        )

    def _as_plain(
        self, member: tuple[int, ItemDict, Bounds], groups: Sequence[Observation], asset: str
    ) -> dict[str, Any]:
        k, item, bounds = member
        return {
            "id": item["id"],
            "properties": {
                "datetime": groups[k].time.isoformat(),
                "proj:epsg": self.epsg,
                "proj:bbox": list(bounds),
            },
            "assets": {asset: {"href": item["assets"][asset]["href"]}},
        }


@dataclass(frozen=True, kw_only=True)
class _Source:
    """What the readers of one asset share."""

    geobox: GeoBox
    epsg: int
    items: Mapping[str, str]
    """Item id by location."""
    asset: str
    resampling: Resampling
    missing: Mapping[str, tuple[float, ...]]
    """Stored values that are no measurements, by item id."""
    access: Access
    rule: AccessRule
    sampler: Sampler


class _FileReader:
    """What stackstac opens a file with; most of what it offers is decided elsewhere."""

    def __init__(self, source: _Source, *, url: str, **_options: object) -> None:
        self.source = source
        self.url = url

    def read(self, window: Window) -> Float32Array:
        """Pixels of a window of the geobox (y, x)."""
        source = self.source
        name = AssetName(item=source.items[self.url], asset=source.asset, href=self.url)
        part = source.geobox[window.toslices()]
        with gdal_environment():
            pixels = source.sampler.read(
                name,
                part,
                access=source.access,
                rule=source.rule,
                resampling=source.resampling,
                missing=source.missing[name.item],
            )
        return np.full(part.shape, np.nan, np.float32) if pixels is None else pixels

    def close(self) -> None:
        """Nothing is kept open."""


def _stack_items(plain: list[dict[str, Any]], asset: str, source: _Source, chunks: int) -> xr.DataArray:
    geobox = source.geobox
    cube: xr.DataArray = stackstac.stack(
        plain,
        assets=[asset],
        epsg=source.epsg,
        resolution=(abs(geobox.resolution.x), abs(geobox.resolution.y)),
        bounds=geobox.boundingbox.bbox,
        snap_bounds=False,
        chunksize=chunks,
        dtype=np.dtype("float32"),
        fill_value=np.float32("nan"),
        rescale=False,
        sortby_date=False,
        xy_coords="center",
        properties=False,
        band_coords=False,
        reader=partial(_FileReader, source),
    )
    return cube


def _calibrate(image: Any, group: Observation, band: str) -> Any:
    if band not in group.calibrations:
        return image
    return da.map_blocks(apply, image, group.calibrations[band], dtype=np.float32)


def _bounds_on(geobox: GeoBox, item: ItemDict, asset: str) -> Bounds | None:
    """Bounds of an asset in the CRS of a geobox, with two pixels to be sure; None if they lie beside it."""
    place = declared_grid(item, asset)
    crs, bounds = ("EPSG:4326", shape(item["geometry"]).bounds) if place is None else (place.crs, place.bounds)
    left, bottom, right, top = transform_bounds(crs, str(geobox.crs), *bounds, densify_pts=101)
    margin = 2 * max(abs(geobox.resolution.x), abs(geobox.resolution.y))
    grown = (left - margin, bottom - margin, right + margin, top + margin)
    box = geobox.boundingbox
    apart = grown[0] > box.right or grown[2] < box.left or grown[1] > box.top or grown[3] < box.bottom
    return None if apart else grown
