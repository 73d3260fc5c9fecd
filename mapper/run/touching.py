"""Which items the window of every tile touches, for all tiles together.

What :meth:`Items.touching` finds for one window, twenty times quicker: a map of a continent has a hundred thousand
windows, and planning asks for the items of each.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
import shapely
from pyproj import Transformer

from mapper.catalog.footprint import footprint
from mapper.catalog.items import Items
from mapper.grid import Tile
from mapper.run.context import MapContext
from mapper.run.reads import bounds_of

_LONLAT = "EPSG:4326"
_CHUNK_TILES = 2048
_POINTS = 100
"""Points along the longer side of a window, as its own footprint has them."""
_QUARTER = 16
"""Segments of a quarter circle around a corner, likewise."""


def find_touching(context: MapContext, tiles: Sequence[Tile], collections: Sequence[Items]) -> Iterator[list[Items]]:
    """For each tile, the items of each collection whose footprint its window intersects.

    Args:
        context: What all tasks share.
        tiles: Any number.
        collections: Looked through one by one.

    Yields:
        Items in their order, as many lists as tiles.
    """
    trees = [shapely.STRtree([footprint(item) for item in items]) for items in collections]
    for first in range(0, len(tiles), _CHUNK_TILES):
        windows = _footprints(context, tiles[first : first + _CHUNK_TILES])
        chosen = [_query(tree, windows) for tree in trees]
        for numbers in zip(*chosen, strict=True):
            yield [
                Items(items=tuple(items.items[k] for k in found.tolist()), query=items.query)
                for items, found in zip(collections, numbers, strict=True)
            ]


def _query(tree: shapely.STRtree, windows: npt.NDArray[np.object_]) -> list[npt.NDArray[np.int64]]:
    """Numbers of the items that touch each window, ascending."""
    window, item = tree.query(windows, predicate="intersects")
    order = np.lexsort((item, window))
    return np.split(item[order], np.searchsorted(window[order], np.arange(1, len(windows))))


def _footprints(context: MapContext, tiles: Sequence[Tile]) -> npt.NDArray[np.object_]:
    """Windows in longitude and latitude, a pixel larger than they are: ``GeoBox.footprint("EPSG:4326", buffer=1)``."""
    bounds = bounds_of(context, tiles, halo=True)
    boxes = shapely.buffer(shapely.box(*bounds.T), float(context.grid.resolution), quad_segs=_QUARTER)
    project = Transformer.from_crs(context.grid.crs, _LONLAT, always_xy=True)
    spans = np.maximum(bounds[:, 2] - bounds[:, 0], bounds[:, 3] - bounds[:, 1])
    dense = shapely.segmentize(boxes, spans / _POINTS)

    def locate(points: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        return np.stack(project.transform(*points.T), axis=1)

    located: npt.NDArray[np.object_] = shapely.transform(dense, locate)
    for number in np.flatnonzero(~np.isfinite(shapely.bounds(located)).all(axis=1)).tolist():
        # a window that reaches beyond the CRS: points without an image are dropped
        geobox = context.grid.geobox_of(context.window(tiles[number]))
        located[number] = geobox.footprint(_LONLAT, buffer=1).geom
    return located
