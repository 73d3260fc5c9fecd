"""The map of tiles in a terminal: a half block a tile, coloured by status; without colours, one or two characters."""

from collections.abc import Mapping
from types import MappingProxyType

import numpy as np
from rich.text import Text

from mapper.markup.tile_map import STATES, StateArray, count_states, shrink_states

_CHARACTERS: Mapping[str, str] = MappingProxyType(
    {"missing": "·", "ok": "█", "empty": "░", "failed": "X", "outside": " "}
)
_Palette = Mapping[str, str]
MANY_COLOURS: _Palette = MappingProxyType(
    {"missing": "#6b7680", "ok": "#009e73", "empty": "#8fb8de", "failed": "#d55e00"}
)
"""Seen on dark and on light ground."""
FEW_COLOURS: _Palette = MappingProxyType({"missing": "bright_black", "ok": "green", "empty": "blue", "failed": "red"})
"""Of terminals that have sixteen."""
_NARROWEST = 8
_LINES = 24
"""Of a terminal, for the map alone."""


def draw_tile_map(states: StateArray, *, width: int, palette: _Palette | None, lines: int = _LINES) -> Text:
    """The tiles of a map by status, with a legend.

    Args:
        states: Of every tile, see :data:`mapper.markup.tile_map.STATES`.
        width: Columns of the terminal.
        palette: Colours by status, with which a character is two tiles above each other; None for no colours.
        lines: At most so many.
    """
    cols = max(_NARROWEST, width - 1)
    cells, factor = shrink_states(states, rows=lines * 2 if palette else lines, cols=cols)
    if palette is None and 2 * cells.shape[1] <= cols:
        cells = np.repeat(cells, 2, axis=1)  # a character is twice as high as wide
    text = _draw_half_blocks(cells, palette) if palette else _draw_characters(cells)
    text.append_text(_draw_legend(states, palette, width=cols))
    if factor > 1:
        text.append(f"a cell is {factor} x {factor} tiles\n")
    text.rstrip()
    return text


def _draw_half_blocks(cells: StateArray, palette: _Palette) -> Text:
    """Two rows of cells in a line of characters: one is the upper half, the other what lies behind it."""
    text = Text()
    for top in range(0, len(cells), 2):
        lower = cells[top + 1].tolist() if top + 1 < len(cells) else [STATES.index("outside")] * cells.shape[1]
        for above, below in zip(cells[top].tolist(), lower, strict=True):
            text.append(*_halve(palette.get(STATES[above]), palette.get(STATES[below])))
        text.append("\n")
    return text


def _halve(above: str | None, below: str | None) -> tuple[str, str]:
    """A character that shows two colours above each other, and its style."""
    if above is None:
        return (" ", "") if below is None else ("▄", below)
    return ("▀", above) if below is None else ("▀", f"{above} on {below}")


def _draw_characters(cells: StateArray) -> Text:
    lines = ("".join(_CHARACTERS[STATES[state]] for state in row).rstrip() for row in cells.tolist())
    return Text("".join(f"{line}\n" for line in lines))


def _draw_legend(states: StateArray, palette: _Palette | None, *, width: int) -> Text:
    """What the colours or characters mean, in as many lines as it takes."""
    text, used = Text(), 0
    for state, count in count_states(states).items():
        if not count:
            continue
        label = f" {count:,} {state}"
        if used and used + 3 + len(label) > width:
            text.append("\n")
            used = 0
        text.append("  " if used else "")
        text.append("■" if palette else _CHARACTERS[state], style=palette[state] if palette else "")
        text.append(label)
        used += 3 + len(label)
    text.append("\n")
    return text
