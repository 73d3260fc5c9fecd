"""Source map on its own grid: stored pixels on a native grid, area averages on a projected one.

The area average of a coarse target pixel is the mean of nearest reads at the centres of its ``scale`` x ``scale`` fine
pixels: exact up to the fine sampling, and the same in every window. The standard deviation of such an average follows
from the distance over which errors correlate (``source.sd_correlation``, see :mod:`mapper.cube.area_sd`); without
one it is averaged as such, which takes the errors of neighbouring pixels as fully correlated: the cautious choice.

Means of nearest reads show the edges of stored pixels as terraces. A field that is smooth, such as terrain, is
interpolated instead where the map asks for it (``source.resampling``), across its files (:mod:`mapper.cube.mosaic`).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import bottleneck as bn
import numpy as np
import numpy.typing as npt
import shapely
from affine import Affine
from odc.geo.geobox import GeoBox
from pyproj import CRS
from shapely.affinity import translate
from shapely.geometry.base import BaseGeometry

from mapper.access.files import Access
from mapper.arrays import Float32Array
from mapper.catalog.footprint import footprint, window_footprint
from mapper.catalog.heights import describe_heights
from mapper.catalog.items import ItemDict, Items, item_datetime, name_asset
from mapper.catalog.provider import CollectionRule, Provider
from mapper.catalog.uses import ItemUse
from mapper.cube.area_sd import average_deviation, find_stored_grid
from mapper.cube.belief import believe_band
from mapper.cube.datum_shift import add_shift
from mapper.cube.mosaic import MosaicReader, StoredField
from mapper.cube.observations import describe_use, group_items, select_band
from mapper.cube.projection import declared_grid
from mapper.cube.read import BlockReader, read_sound
from mapper.errors import GridError, SpecError
from mapper.spec import MapSpec

_NESTING_TOLERANCE = 1e-2
"""Tolerance in source pixels over the extent of a file: positions in files are decimal."""
_RIM_PX = 3
"""Stored pixels around a file in which it is interpolated with others: the reach of a cubic kernel, and rounding."""
_LEAST_DEGREE_M = 110_000.0
"""Metres in a degree, a little less than of latitude anywhere."""


@dataclass(frozen=True, kw_only=True)
class Source:
    """Source map over one window, on the source grid."""

    image: Float32Array
    """(band, y, x) mean in the units of its collection, NaN where missing."""
    image_sd: Float32Array
    """(band, y, x) standard deviation in the same units, NaN where unknown."""
    uses: tuple[ItemUse, ...]
    """Uses of all items, those left out included."""

    @property
    def mean(self) -> Float32Array:
        """(y, x) mean of the first band."""
        first: Float32Array = self.image[0]
        return first

    @property
    def sd(self) -> Float32Array:
        """(y, x) standard deviation of the first band."""
        first: Float32Array = self.image_sd[0]
        return first


def read_source(
    items: Items,
    geobox: GeoBox,
    *,
    spec: MapSpec,
    provider: Provider,
    access: Access | None = None,
) -> Source:
    """Read the source map over one window.

    Args:
        items: Items of any collections; those of another year, or that do not touch the window, are ignored.
        geobox: Source pixels.
        spec: What is asked for.
        provider: How the collection is read.
        access: How files are reached, and who counts.

    Returns:
        The map; several dates (without ``source.year``) are averaged.

    Raises:
        GridError: On a native grid, if the pixels of an item are not those of the grid; with ``sd_correlation``, if
            items lie on different grids.
        SpecError: If a band is unknown.
        TransientAssetError: Throttling or network.
    """
    rule = provider.rule(spec.source.collection)
    chosen = find_near(items, geobox, spec=spec, rule=rule)
    native = spec.grid.kind == "native"
    scale = 1 if native else int(spec.source.resolution / spec.grid.resolution)
    fine = GeoBox(
        (geobox.shape[0] * scale, geobox.shape[1] * scale), geobox.transform @ Affine.scale(1 / scale), geobox.crs
    )
    bands = _list_bands(spec)
    if native:
        for item in chosen:
            _check_nesting(item, rule, spec)
    nearest = rule.model_copy(update={"resampling": "nearest"})
    reader = BlockReader(geobox=fine, rule=nearest, access=access or Access(), nested=native)
    dropped: dict[str, str] = {}
    means, images = read_sound(chosen, dropped, lambda sound: _read_means(reader, sound, geobox, spec, rule))
    image = add_shift(np.stack(means), spec.source.datum_shift, geobox)
    sd = np.full(image.shape, np.nan, np.float32)
    if spec.source.sd:
        read = [item for item in chosen if item["id"] not in dropped]
        sd[0] = _average_sd(images[1], geobox, read, reader, spec)
    uses = (
        describe_use(
            item,
            rule,
            bands,
            role="source",
            dropped=dropped.get(item["id"], ""),
            witness=reader.sampler.witness,
        )
        for item in chosen
    )
    noted = tuple(replace(use, calibration=use.calibration + _note(spec, rule)) for use in uses)
    return Source(image=image, image_sd=sd, uses=noted)


def select_source(items: Items, spec: MapSpec) -> Items:
    """Return the items of the source map of the year that is asked for."""
    return items.pick(number for number, item in enumerate(items) if is_source(item, spec))


def is_source(item: ItemDict, spec: MapSpec) -> bool:
    """Return True for an item of the source map, of the year that is asked for."""
    year = spec.source.year
    return item["collection"] == spec.source.collection and (year is None or item_datetime(item).year == year)


def is_interpolated(spec: MapSpec) -> bool:
    """Return True for a source that is interpolated between stored pixels; a native grid copies them."""
    return spec.source.is_field and spec.grid.kind != "native"


def find_near(items: Items, geobox: GeoBox, *, spec: MapSpec, rule: CollectionRule) -> Items:
    """Return the items of the source that a window needs: those around it too, where it is interpolated."""
    if not is_interpolated(spec):
        return select_source(items.touching(geobox) if len(items) else items, spec)
    chosen, window = select_source(items, spec), window_footprint(geobox)
    reach = [outline_reach(item, spec=spec, rule=rule) for item in chosen]
    return chosen.pick(np.flatnonzero(shapely.intersects(np.array(reach, object), window)).tolist())


def outline_reach(item: ItemDict, *, spec: MapSpec, rule: CollectionRule) -> BaseGeometry:
    """Return where pixels depend on an item of a source, in longitude and latitude: its footprint, and a rim of pixels.

    Raises:
        SpecError: If the item has neither a geometry nor a box.
    """
    outline = footprint(item)
    if not is_interpolated(spec):
        return outline
    declared = declared_grid(item, rule.bands[spec.source.band_names[0]].asset)
    crs, step = CRS.from_user_input(spec.grid.crs), float(spec.source.resolution)
    if declared is not None:
        crs, step = declared.crs, max(abs(declared.transform.a), abs(declared.transform.e))
    rim = _RIM_PX * step * crs.axis_info[0].unit_conversion_factor
    latitude = min(max(abs(outline.bounds[1]), abs(outline.bounds[3])), 89.0)
    degrees = math.degrees(rim) if crs.is_geographic else rim / _LEAST_DEGREE_M / math.cos(math.radians(latitude))
    grown: BaseGeometry = shapely.buffer(outline, degrees, join_style="mitre")
    if grown.bounds[0] >= -180 and grown.bounds[2] <= 180:
        return grown
    return shapely.union_all([grown, translate(grown, 360), translate(grown, -360)])


def average_blocks(fine: Float32Array, scale: int) -> Float32Array:
    """Return the mean of ``scale`` x ``scale`` blocks over their valid pixels; NaN where fewer than half are valid.

    Args:
        fine: (y * scale, x * scale), NaN where missing.
        scale: Edge of a block.

    Returns:
        (y, x) float32, summed in float64.
    """
    if scale == 1:
        return fine
    height, width = fine.shape[0] // scale, fine.shape[1] // scale
    blocks = fine.reshape(height, scale, width, scale).astype(np.float64)
    valid = np.isfinite(blocks).sum(axis=(1, 3))
    total = np.nansum(blocks, axis=(1, 3))
    mean: npt.NDArray[np.float64] = np.full((height, width), np.nan)
    np.divide(total, valid, out=mean, where=valid * 2 >= scale * scale)
    return mean.astype(np.float32)


def _average_sd(
    fine: Float32Array, geobox: GeoBox, items: list[ItemDict], reader: BlockReader, spec: MapSpec
) -> Float32Array:
    """Return the standard deviation of the area averages of a window; of the stored pixels on a native grid."""
    band, correlation, scale = spec.source.sd, spec.source.sd_correlation, fine.shape[0] // geobox.shape[0]
    if band is None or correlation is None or scale == 1:
        return average_blocks(fine, scale)
    stored = find_stored_grid(items, rule=reader.rule, band=band, access=reader.access, witness=reader.sampler.witness)
    if stored is None:
        return average_blocks(fine, scale)
    return average_deviation(fine, geobox, stored=stored, correlation_m=correlation)


def _note(spec: MapSpec, rule: CollectionRule) -> str:
    """Return the text of a record about heights and their datum, and the standard deviation of area averages."""
    heights = describe_heights(rule, spec.source.datum_shift)
    return (f"; {heights}" if heights else "") + _note_averages(spec)


def _note_averages(spec: MapSpec) -> str:
    if spec.source.sd is None or spec.grid.kind == "native" or spec.source.resolution == spec.grid.resolution:
        return ""
    length = spec.source.sd_correlation
    errors = "fully correlated" if length is None else f"correlated over {length:g} m" if length else "independent"
    return f"; {spec.source.sd} of area averages: errors {errors}"


def _list_bands(spec: MapSpec) -> list[str]:
    """Return the bands that are sharpened, then that of their standard deviation."""
    return [*spec.source.band_names, *([spec.source.sd] if spec.source.sd else [])]


def _read_means(
    reader: BlockReader, items: Sequence[ItemDict], geobox: GeoBox, spec: MapSpec, rule: CollectionRule
) -> tuple[list[Float32Array], list[Float32Array]]:
    """Return the image (y, x) of each band on source pixels, and what was read: the standard deviation is the last."""
    bands, count = _list_bands(spec), len(spec.source.band_names)
    if is_interpolated(spec):
        means = _interpolate(reader, items, geobox, spec, rule)
        return means, [*means, *_read_images(reader, items, bands[count:])]
    images = _read_images(reader, items, bands)
    scale = reader.geobox.shape[0] // geobox.shape[0]
    return [average_blocks(each, scale) for each in images[:count]], images


def _interpolate(
    reader: BlockReader, items: Sequence[ItemDict], geobox: GeoBox, spec: MapSpec, rule: CollectionRule
) -> list[Float32Array]:
    """Return one image (y, x) for each band, interpolated across files.

    Items that do not change with time are one image, others one for each date, which are averaged.

    Raises:
        SpecError: If the collection is none of a smooth field.
    """
    _require_field(spec, rule)
    mosaic = MosaicReader(
        geobox=geobox,
        scale=reader.geobox.shape[0] // geobox.shape[0],
        kernel="cubic" if spec.source.resampling == "cubic" else "bilinear",
        access=reader.access,
        rule=rule.access,
        sampler=reader.sampler,
    )
    images = []
    for band in spec.source.band_names:
        files = [
            [
                StoredField(
                    name=name_asset(item, rule.bands[band].asset),
                    beliefs=(believe_band(item, rule, band),),
                    calibration=group.calibrations[band],
                )
                for item in select_band(group, rule, band).items
            ]
            for group in group_items(items, rule, (band,))
        ]
        if spec.source.static:
            files = [[each for part in files for each in part]]
        images.append(_average_dates(np.stack([mosaic.read(part) for part in files if part] or [mosaic.read(())])))
    return images


def _require_field(spec: MapSpec, rule: CollectionRule) -> None:
    """Refuse to interpolate between codes, and across what a mask hides."""
    coded = [band for band in spec.source.band_names if rule.bands[band].classes]
    why = "has a mask, whose gaps would be drawn over" if rule.mask is not None else ""
    why = f"has codes of classes in {coded[0]}, between which there is nothing" if coded else why
    if why:
        asked = f"source.resampling {spec.source.resampling}"
        raise SpecError(f"{asked}: collection {spec.source.collection} {why}; leave source.resampling out")


def _read_images(reader: BlockReader, items: Sequence[ItemDict], bands: Sequence[str]) -> list[Float32Array]:
    """Return one image (y, x) for each band, dates averaged."""
    groups = group_items(items, reader.rule, bands)
    clear = reader.read_clear(groups)
    return [_average_dates(reader.read_band(groups, band, clear)) for band in bands]


def _average_dates(stack: Float32Array) -> Float32Array:
    if not len(stack):
        return np.full(stack.shape[1:], np.nan, np.float32)
    image: Float32Array = bn.nanmean(stack, axis=0) if len(stack) > 1 else stack[0]
    return image


def _check_nesting(item: ItemDict, rule: CollectionRule, spec: MapSpec) -> None:
    """Refuse an item whose pixels are not those of a native grid; one without a declaration is accepted."""
    declared = declared_grid(item, rule.bands[spec.source.band_names[0]].asset)
    if declared is None:
        return
    step, (rows, cols) = float(spec.source.resolution), declared.shape
    edges_agree = all(abs(edge / step - round(edge / step)) < _NESTING_TOLERANCE for edge in declared.bounds)
    width, height = abs(declared.transform.a), abs(declared.transform.e)
    same_size = max(abs(width / step - 1) * cols, abs(height / step - 1) * rows) < _NESTING_TOLERANCE
    if not (edges_agree and same_size and declared.crs == CRS(spec.grid.crs)):
        raise GridError(
            f"source item {item['id']} does not lie on the native grid: its pixels are {width:.10g} x {height:.10g} in "
            f"{declared.crs.to_string()} from ({declared.transform.c:.10g}, {declared.transform.f:.10g}), the grid has "
            f"{spec.source.resolution} in {spec.grid.crs}; change source.resolution, or use a projected grid"
        )
