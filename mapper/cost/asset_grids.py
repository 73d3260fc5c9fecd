"""Grids of the files of an item as it declares them, their sizes, and how often they are read.

Files of one item that have the same pixels are one frame: the bands of Sentinel-2 at 10 m, those at 20 m with the mask.
"""

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
from pyproj import CRS

from mapper.access.admission import is_remote
from mapper.catalog.footprint import footprint, span
from mapper.catalog.items import ItemDict, Items, enters
from mapper.catalog.provider import CollectionRule
from mapper.cube.projection import declared_grid
from mapper.cube.source import is_source
from mapper.plan.context import Context

_COMPRESSION = MappingProxyType({1: 0.10, 2: 0.60, 4: 0.55, 8: 0.55})
"""Compressed / decoded, by bytes a pixel, where an item does not state the size of its files.

Masks 0.09 to 0.10; Sentinel-2 0.55 (JPEG 2000) to 0.62 (deflate); radar in float32 0.44 to 0.57 without overviews.
"""
_FULL_RESOLUTION = 0.75
"""Part of a GeoTIFF's size that is no overview."""
_DEGREE_M = 111_320

Reads = Mapping[str, int]
"""Number of reads of each asset of an item for one tile."""


@dataclass(frozen=True, kw_only=True)
class Frame:
    """Files of one item that have the same pixels."""

    crs: str
    origin: tuple[float, float]
    """Easting and northing of the outer corner of the first pixel."""
    step: tuple[float, float]
    """Signed, along x and y."""
    shape: tuple[int, int]


@dataclass(kw_only=True)
class Load:
    """Cost of a frame, summed over its files and how often each is read."""

    files: int = 0
    remote: int = 0
    pixel_bytes: float = 0.0
    """Bytes of one decoded pixel, summed over all files."""
    travel_bytes: float = 0.0
    """Compressed bytes of one pixel, summed over remote files."""


def find_guide_reads(context: Context, items: Items) -> dict[int, Reads]:
    """Count how often each asset of a guide is read, by item: once for each season and layer that the item enters."""
    layers = [
        (layer, months, context.provider.rule(layer.collection)) for _, months, layer in context.spec.guide.composites
    ]
    reads: dict[int, Counter[str]] = {}
    for number, item in enumerate(items):
        for layer, months, rule in layers:
            if enters(item, layer, months):
                reads.setdefault(number, Counter()).update(_assets_of(item, rule, layer.bands))
    return dict(reads)


def find_source_reads(context: Context, items: Items) -> dict[int, Reads]:
    """Count how often each asset of the source is read, by the number of its item: once, if it is of the year."""
    source = context.spec.source
    rule = context.provider.rule(source.collection)
    bands = [band for band in (*source.band_names, source.sd) if band]
    return {
        number: Counter(_assets_of(item, rule, bands))
        for number, item in enumerate(items)
        if is_source(item, context.spec)
    }


def _assets_of(item: ItemDict, rule: CollectionRule, bands: Sequence[str]) -> Iterator[str]:
    """Yield the assets that are opened for some bands; none of an item that lacks its mask."""
    if rule.mask:
        if rule.mask.asset not in item["assets"]:
            return
        yield rule.mask.asset
    yield from (asset for band in bands if (asset := rule.asset(item, band)))


def frames_of(item: ItemDict, reads: Reads, context: Context) -> dict[Frame, Load]:
    """Return the frames of an item's assets, and what each costs."""
    frames: dict[Frame, Load] = {}
    placed: dict[str, Frame] = {}
    rule = context.provider.rule(item["collection"])
    for key, times in reads.items():
        asset = item["assets"][key]
        stated = str({name: asset[name] for name in asset if name.startswith("proj:")})
        if stated not in placed:  # most assets say what another has said
            placed[stated] = _frame_of(item, key, context)
        frame = placed[stated]
        size = _pixel_size(asset, "uint8" if rule.mask and key == rule.mask.asset else rule.dtype)
        load = frames.setdefault(frame, Load())
        load.files += times
        load.pixel_bytes += times * size
        if is_remote(str(asset["href"])):
            load.remote += times
            load.travel_bytes += times * size * _compression(asset, frame, size)
    return frames


def _frame_of(item: ItemDict, key: str, context: Context) -> Frame:
    """Return the frame of an asset: as declared, else its footprint's box in degrees cut into pixels."""
    declared = declared_grid(
        item, key
    )  # none where the item contradicts itself: files are read where they say they lie
    if declared is not None:
        at = declared.transform
        return Frame(crs=declared.crs.srs, origin=(at.c, at.f), step=(at.a, at.e), shape=declared.shape)
    west, south, east, north = span(footprint(item))
    shape = item["assets"][key].get("proj:shape") or item["properties"].get("proj:shape")
    rows, cols = shape or _guess_shape(item, (west, south, east, north), context)
    step = (east - west) / cols or 1.0, (south - north) / rows or -1.0
    return Frame(crs="EPSG:4326", origin=(west, north), step=step, shape=(int(rows), int(cols)))


def _guess_shape(item: ItemDict, box: tuple[float, ...], context: Context) -> tuple[int, int]:
    """Guess rows and columns of a file that states none: pixels as large as those it is to become."""
    west, south, east, north = box
    grid = context.grid
    degrees = float(grid.resolution) / (1 if CRS.from_user_input(grid.crs).is_geographic else _DEGREE_M)
    degrees *= grid.scale if item["collection"] == context.spec.source.collection else 1
    narrowing = max(math.cos(math.radians((south + north) / 2)), 0.01)
    return max(1, round((north - south) / degrees)), max(1, round((east - west) * narrowing / degrees))


def _pixel_size(asset: Mapping[str, Any], dtype: str) -> int:
    bands = asset.get("raster:bands") or asset.get("bands") or [{}]
    declared = asset.get("data_type") or bands[0].get("data_type") or dtype
    return np.dtype(declared).itemsize


def _compression(asset: Mapping[str, Any], frame: Frame, size: int) -> float:
    """Return compressed / decoded bytes: from the size of the file where that is stated."""
    stated = float(asset.get("file:size") or 0)
    if not stated:
        return _COMPRESSION[size]
    if "tif" in str(asset.get("type", asset["href"])):
        stated *= _FULL_RESOLUTION
    return min(stated / (math.prod(frame.shape) * size), 1.0)
