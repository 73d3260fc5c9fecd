"""Cards that notebooks show of objects: a title, a table, and a small map or chart beside it."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import numpy.typing as npt
import shapely
from pyproj import Transformer
from shapely.geometry.base import BaseGeometry

from mapper.errors import GridError
from mapper.grid import MapGrid
from mapper.markup.html import Cell, Markup, make_card, make_pairs, make_table, to_html
from mapper.markup.outlines import PALETTE, draw_outlines
from mapper.markup.tile_map import STATES, draw_tiles

_DRAWN = 400
"""Number of outlines that are drawn of one group."""
_TILES = 24
"""Number of tiles along an edge of a drawing."""
_BAR = 240
_STAGES = {"read": "#2f6f9f", "predict": "#009e73", "write": "#cc79a7", "wait": "#9aa7b1"}


def show_area(title: str, pairs: Mapping[str, Cell], area: BaseGeometry, *, find_grid: Callable[[], MapGrid]) -> str:
    """Return a card: a table beside a map of an area and the tiles that it takes.

    Args:
        title: Over both.
        pairs: Values of the table, by name.
        area: In longitude and latitude.
        find_grid: Gives the grid of the tiles; where it cannot, why is shown instead.
    """
    try:
        grid = find_grid()
    except GridError as error:
        return make_card(title, make_pairs({**pairs, "tiles": f"none: {error}"}), draw_outlines({}, area=area))
    rows, cols = grid.tile_shape
    boxes, factor = _outline_tiles(grid)
    said = f"{rows:,} x {cols:,} of {grid.tile_px} px" + (f", drawn {factor} x {factor} as one" if factor > 1 else "")
    return make_card(title, make_pairs({**pairs, "tiles": said}), draw_outlines({"tiles": boxes}, area=area))


def show_footprints(
    title: str, head: Sequence[str], rows: Mapping[str, Sequence[Cell]], outlines: Mapping[str, Sequence[BaseGeometry]]
) -> str:
    """Return a card: a table of groups beside a map of their outlines.

    Args:
        title: Over both.
        head: Of all columns.
        rows: What follows the name of each group.
        outlines: In longitude and latitude, by group; of many, some that lie evenly are drawn.
    """
    colours = dict(zip(outlines, PALETTE * 9, strict=False))
    named = (
        (Markup(f'<span style="color:{colours.get(name, "inherit")}">&#9632;</span> {to_html(name)}'), *cells)
        for name, cells in rows.items()
    )
    drawn = {name: group[:: max(1, -(-len(group) // _DRAWN))] for name, group in outlines.items()}
    return make_card(title, make_table(head, named), draw_outlines(drawn))


def _outline_tiles(grid: MapGrid) -> tuple[list[BaseGeometry], int]:
    """Outline the tiles that an area touches, in degrees, many as squares; also returns the tiles along an edge."""
    rows, cols = grid.tile_shape
    factor = max(1, -(-max(rows, cols) // _TILES))
    row, col = (index.ravel() * factor for index in np.mgrid[: -(-rows // factor), : -(-cols // factor)])
    at, edge = grid.geobox.transform, grid.tile_px
    right, below = np.minimum(col + factor, cols), np.minimum(row + factor, rows)
    boxes = shapely.box(
        at.c + at.a * edge * col, at.f + at.e * edge * below, at.c + at.a * edge * right, at.f + at.e * edge * row
    )
    shapely.prepare(grid.area.geom)
    boxes = boxes[shapely.intersects(grid.area.geom, boxes)]
    transformer = Transformer.from_crs(grid.crs, "EPSG:4326", always_xy=True)

    def project(points: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        return np.stack(transformer.transform(*points.T), axis=1)

    return list(shapely.transform(boxes, project)), factor


def show_tiles(title: str, pairs: Mapping[str, Cell], indices: npt.NDArray[np.int64]) -> str:
    """Return a card: a table beside a map of some tiles, given as rows and columns, (tile, 2)."""
    if not len(indices):
        return make_card(title, make_pairs(pairs))
    first = indices.min(axis=0)
    states = np.full(tuple(indices.max(axis=0) - first + 1), STATES.index("outside"), np.uint8)
    states[tuple((indices - first).T)] = STATES.index("ok")
    return make_card(title, make_pairs(pairs), draw_tiles(states))


def show_shares(title: str, pairs: Mapping[str, Cell], seconds: Mapping[str, float]) -> str:
    """Return a card: a table beside a bar of the seconds of each stage."""
    known = {name: value for name, value in seconds.items() if value > 0}
    longest = max(known.values(), default=1.0)
    rows = [
        (
            name,
            value,
            Markup(
                f'<div style="width:{_BAR}px"><div style="height:.9em;width:{100 * value / longest:.1f}%;'
                f'background:{_STAGES.get(name, "#2f6f9f")}"></div></div>'
            ),
        )
        for name, value in known.items()
    ]
    return make_card(title, make_pairs(pairs), *([make_table(("stage", "seconds", ""), rows)] if rows else []))
