"""What scores of heights need of a map beside the heights: sizes of pixels, edges of tiles, land cover of the guide."""

import numpy as np

from mapper.arrays import ByteArray, IntArray
from mapper.catalog.items import Items
from mapper.catalog.provider import Provider
from mapper.cube.composite import read_guide
from mapper.evaluation.relief import COVER, UNKNOWN_COVER, Ground
from mapper.grid import MapGrid, Window, measure_pixels
from mapper.spec import MapSpec


def read_ground(spec: MapSpec, window: Window, items: Items, provider: Provider) -> Ground:
    """Return what is known of the pixels of a window.

    Land cover is that of the guide's channels of its names: nothing where there are none.
    """
    grid = spec.map_grid
    dy_m, dx_m = measure_pixels(grid.crs, grid.geobox_of(window).transform, window.shape[0])
    return Ground(
        dy_m=dy_m,
        dx_m=dx_m,
        cover=_read_cover(spec, window, items, provider),
        edges=find_edges(grid, window),
        period_px=grid.scale,
    )


def find_edges(grid: MapGrid, window: Window) -> tuple[IntArray, IntArray]:
    """Return rows and columns of a window before which a tile ends, the edges of the window left out."""
    rows, cols = (
        np.arange((start // grid.tile_px + 1) * grid.tile_px, end, grid.tile_px) - start
        for start, end in ((window.top, window.bottom), (window.left, window.right))
    )
    return rows, cols


def _read_cover(spec: MapSpec, window: Window, items: Items, provider: Provider) -> ByteArray | None:
    names = [channel.name for channel in spec.guide.channels]
    known = [name for name in COVER[1:] if name in names]
    if not known or not window.shape[0]:
        return None
    values = read_guide(items, spec.map_grid.geobox_of(window), spec=spec, provider=provider).values
    cover = np.zeros(window.shape, np.uint8)
    for name in known:
        channel = values[names.index(name)]
        cover[channel > 0.5] = COVER.index(name)
        cover[np.isnan(channel)] = UNKNOWN_COVER
    return cover
