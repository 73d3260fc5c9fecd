"""A map of tiles by status: as numbers for a terminal, as SVG for a page; of large maps, several tiles are one cell."""

from collections.abc import Mapping
from types import MappingProxyType

import numpy as np
import numpy.typing as npt

from mapper.arrays import ByteArray
from mapper.markup.html import Markup

STATES = ("missing", "ok", "empty", "failed", "outside")
"""States of a tile; outside are tiles that the area does not touch."""
COLOURS: Mapping[str, str] = MappingProxyType(
    {"missing": "#dfe4e8", "ok": "#009e73", "empty": "#8fb8de", "failed": "#d55e00"}
)
"""Colours of states, distinct to all eyes, and in print."""
_FAILED, _OUTSIDE = STATES.index("failed"), STATES.index("outside")


def shrink_states(states: ByteArray, *, rows: int, cols: int) -> tuple[ByteArray, int]:
    """Reduce a map of tiles to fit into some cells.

    A cell of several tiles is failed where one of them is, else what most of those in the area are.

    Args:
        states: Of every tile.
        rows: At most so many.
        cols: At most so many.

    Returns:
        The cells, and how many tiles one is long.
    """
    factor = max(1, -(-states.shape[0] // rows), -(-states.shape[1] // cols))
    if factor == 1:
        return states, 1
    shape = tuple(-(-size // factor) for size in states.shape)
    padded = np.full((shape[0] * factor, shape[1] * factor), _OUTSIDE, np.uint8)
    padded[: states.shape[0], : states.shape[1]] = states
    blocks = padded.reshape(shape[0], factor, shape[1], factor)
    counts = np.stack([(blocks == state).sum(axis=(1, 3)) for state in range(_OUTSIDE)])
    cells = counts.argmax(axis=0).astype(np.uint8)
    cells[counts.sum(axis=0) == 0] = _OUTSIDE
    cells[counts[_FAILED] > 0] = _FAILED
    return cells, factor


def draw_tiles(states: ByteArray, *, cells: int = 64, width: int = 260, height: int = 320) -> Markup:
    """Draw a map of tiles as SVG.

    Args:
        states: Of every tile.
        cells: At most so many along an edge, which bounds the size of the text.
        width: Pixels that it may be wide.
        height: Pixels that it may be high.
    """
    shown, factor = shrink_states(states, rows=cells, cols=cells)
    rows, cols = shown.shape
    scale = min(width / cols, height / rows, 26)
    paths = "".join(
        f'<path fill="{COLOURS[state]}" d="{_outline_runs(shown == STATES.index(state))}"><title>{state}</title></path>'
        for state in COLOURS
        if (shown == STATES.index(state)).any()
    )
    lines = _draw_lines(rows, cols) if scale >= 5 else ""
    return Markup(
        f'<svg xmlns="http://www.w3.org/2000/svg" role="img" aria-label="tiles by status" viewBox="0 0 {cols} {rows}" '
        f'width="{cols * scale:.0f}" height="{rows * scale:.0f}" shape-rendering="crispEdges">{paths}{lines}</svg>'
        + (f"<div>one cell is {factor} x {factor} tiles</div>" if factor > 1 else "")
    )


def draw_legend(counts: Mapping[str, int]) -> Markup:
    """Draw the colours of states that occur, and the number of tiles in each."""
    parts = (
        f'<span style="white-space:nowrap;margin-right:1em"><span style="display:inline-block;width:.8em;height:.8em;'
        f'margin-right:.35em;background:{COLOURS[state]}"></span>{counts[state]:,} {state}</span>'
        for state in COLOURS
        if counts.get(state)
    )
    return Markup(f"<div>{' '.join(parts)}</div>")


def count_states(states: ByteArray) -> dict[str, int]:
    """Count the tiles in each state, those outside left out."""
    counts = np.bincount(states.ravel(), minlength=len(STATES)).tolist()
    return {state: counts[number] for number, state in enumerate(STATES[:-1])}


def _outline_runs(mask: npt.NDArray[np.bool_]) -> str:
    """Outline cells as rectangles one row high: neighbours in a row are one."""
    edges = np.diff(np.pad(mask.astype(np.int8), ((0, 0), (1, 1))), axis=1)
    starts, ends = np.argwhere(edges == 1), np.argwhere(edges == -1)
    return "".join(
        f"M{start} {row}h{end - start}v1h{start - end}z"
        for (row, start), (_, end) in zip(starts.tolist(), ends.tolist(), strict=True)
    )


def _draw_lines(rows: int, cols: int) -> str:
    """Draw white lines between cells that are large enough for them."""
    across = "".join(f"M0 {row}h{cols}" for row in range(1, rows))
    down = "".join(f"M{col} 0v{rows}" for col in range(1, cols))
    return f'<path fill="none" stroke="#fff" stroke-width="0.08" d="{across}{down}"/>'
