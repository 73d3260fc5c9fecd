"""What a task will cost, from metadata alone: memory, bytes to read, bytes to store.

Memory is what decides whether a plan can run at all; it is estimated from above. The model behind the numbers: all
dates of one band and season are read, decoded and reduced at once, while the finished channels wait; then patches go
through the network while the window waits.
"""

import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
import shapely
from shapely.geometry.base import BaseGeometry

from mapper.catalog.items import ItemDict, Items, item_datetime
from mapper.run.context import MapContext, Task
from mapper.store.encoding import Encoding

_FLOAT = 4
_BATCH = 4
"""Patches at once where the device decides, at most."""
_COPIES_READ = 3
"""Copies of one band of all dates that exist at once while it is decoded, masked and reduced."""
_PLANES_FINISH = 12
"""Float planes of a window besides the guide: prediction, consistency in float64, flags, masks."""
_ACTIVATIONS = MappingProxyType({True: 256, False: 16})
"""Floats held for each target pixel of a batch, by networks with a guide and by interpolations.

Measured with 31 items, 9 channels and a window of 700 x 700 px: 0.59 GiB for MSG of width 16, 1.00 for width 32, where
1.05 is estimated.
"""


def memory_bytes(context: MapContext, task: Task) -> int:
    """Peak memory of one task, in bytes, without the libraries themselves."""
    rows, cols = context.window(task.tile).shape
    plane = rows * cols * _FLOAT
    channels = len(context.spec.guide.channels) if context.reads_guide else 0
    patch = min(context.options.patch_px, rows) * min(context.options.patch_px, cols)
    network = _ACTIVATIONS[context.reads_guide] * patch * (context.options.batch or _BATCH) * _FLOAT
    reading = _COPIES_READ * _most_dates(context, task) * plane
    finishing = (channels + _PLANES_FINISH) * plane + network
    return channels * plane + max(reading, finishing)


def read_bytes(context: MapContext, task: Task) -> int:
    """Decoded bytes of the assets' pixels under a window; what travels is compressed and less."""
    footprint = context.grid.geobox_of(context.window(task.tile)).footprint("EPSG:4326").geom
    bands = _bands_by_collection(context)
    items = (*task.guide, *task.source)
    return round(sum(_item_bytes(i, bands[i["collection"]], context) * _share(i, footprint) for i in items))


def tile_bytes(context: MapContext) -> int:
    """Bytes of one stored tile before compression: value, standard deviation, flags, observations."""
    target = context.spec.target.encoding
    sizes = [np.dtype(encoding.dtype).itemsize for encoding in (Encoding.of_value(target), Encoding.of_sd(target))]
    return int(context.grid.tile_px**2 * (sum(sizes) + 4))


def _most_dates(context: MapContext, task: Task) -> int:
    """Images of the season and layer that has most."""
    if not context.reads_guide:
        return 1
    guide = context.spec.guide
    counts = [
        _dates(task.guide.of(layer.collection).in_months(months).on_orbit(layer.orbit))
        for layer in guide.layers
        for months in guide.seasons.values()
    ]
    return max([1, *counts])


def _dates(items: Items) -> int:
    """Images after mosaicking: one a day and platform."""
    return len({(item_datetime(item).date(), item["properties"].get("platform")) for item in items})


def _bands_by_collection(context: MapContext) -> dict[str, set[str]]:
    source = context.spec.source
    bands = {source.collection: {band for band in (source.variable, source.sd) if band}}
    for layer in context.spec.guide.layers:
        bands.setdefault(layer.collection, set()).update(layer.bands)
    return bands


def _item_bytes(item: ItemDict, bands: set[str], context: MapContext) -> float:
    rule = context.provider.rule(item["collection"])
    dtypes = {rule.bands[band].asset: rule.dtype for band in bands} | ({rule.mask.asset: "uint8"} if rule.mask else {})
    assets = item["assets"]
    return sum(_asset_bytes(assets[key], item, dtype) for key, dtype in dtypes.items() if key in assets)


def _asset_bytes(asset: Mapping[str, Any], item: ItemDict, dtype: str) -> float:
    """Decoded bytes where the item declares a shape, else the size of the file, else 0."""
    shape = asset.get("proj:shape") or item["properties"].get("proj:shape")
    if not shape:
        return float(asset.get("file:size", 0))
    bands = asset.get("raster:bands") or asset.get("bands") or [{}]
    declared = asset.get("data_type") or bands[0].get("data_type") or dtype
    return float(math.prod(shape)) * np.dtype(declared).itemsize


def _share(item: ItemDict, footprint: BaseGeometry) -> float:
    """The part of an item that lies in a window; areas in square degrees, which cancel out."""
    whole = shapely.geometry.shape(item["geometry"])
    return float(shapely.intersection(whole, footprint).area / whole.area) if whole.area else 0.0
