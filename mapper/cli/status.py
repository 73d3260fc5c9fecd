"""Command that shows the progress of a map: `mapper status`."""

import time
from collections.abc import Iterator, Mapping
from datetime import timedelta
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated

import numpy as np
import typer
from rich.console import Console
from rich.live import Live
from rich.text import Text

from mapper.api import location_of
from mapper.arrays import ByteArray
from mapper.cli.options import JsonOption, PricesOption, StoreArgument
from mapper.cli.printing import print_json
from mapper.markup.tile_map import STATES, count_states, shrink_states
from mapper.text import describe_amount, describe_bytes, describe_seconds

_CHARACTERS: Mapping[str, str] = MappingProxyType(
    {"missing": "·", "ok": "█", "empty": "░", "failed": "X", "outside": " "}
)


_Palette = Mapping[str, str]


MANY_COLOURS: _Palette = MappingProxyType(
    {"missing": "#6b7680", "ok": "#009e73", "empty": "#8fb8de", "failed": "#d55e00"}
)
"""Colours that are legible on dark and on light ground."""


FEW_COLOURS: _Palette = MappingProxyType({"missing": "bright_black", "ok": "green", "empty": "blue", "failed": "red"})
"""Colours of terminals that have sixteen."""


_NARROWEST = 8


_LINES = 24
"""Lines of a terminal that the map alone takes."""


def draw_tile_map(states: ByteArray, *, width: int, palette: _Palette | None, lines: int = _LINES) -> Text:
    """Draw the tiles of a map by status, with a legend.

    Args:
        states: Status of every tile, see :data:`mapper.markup.tile_map.STATES`.
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


def _draw_half_blocks(cells: ByteArray, palette: _Palette) -> Text:
    """Draw two rows of cells in a line of characters: one is the upper half, the other the lower."""
    text = Text()
    for top in range(0, len(cells), 2):
        lower = cells[top + 1].tolist() if top + 1 < len(cells) else [STATES.index("outside")] * cells.shape[1]
        for above, below in zip(cells[top].tolist(), lower, strict=True):
            text.append(*_halve(palette.get(STATES[above]), palette.get(STATES[below])))
        text.append("\n")
    return text


def _halve(above: str | None, below: str | None) -> tuple[str, str]:
    """Return a character that shows two colours above each other, and its style."""
    if above is None:
        return (" ", "") if below is None else ("▄", below)
    return ("▀", above) if below is None else ("▀", f"{above} on {below}")


def _draw_characters(cells: ByteArray) -> Text:
    lines = ("".join(_CHARACTERS[STATES[state]] for state in row).rstrip() for row in cells.tolist())
    return Text("".join(f"{line}\n" for line in lines))


def _draw_legend(states: ByteArray, palette: _Palette | None, *, width: int) -> Text:
    """Draw the meaning of the colours or characters, in as many lines as it takes."""
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


if TYPE_CHECKING:
    from mapper.monitor.status import Count, Standing
    from mapper.monitor.throughput import Pace


status_app = typer.Typer(rich_markup_mode="markdown")


_BAR = 40


_WATCH_SECONDS = 10.0


_REASONS, _TILES = 5, 4


_LARGE_KM2 = 1e5


_PALETTES = {"standard": FEW_COLOURS, "windows": FEW_COLOURS}


_FEWEST_LINES, _FILE_LINES = 8, 40


_OTHER_LINES = 5
"""Lines of a terminal that the map leaves free: for the legend and the next prompt."""


_STAGES = ("read", "predict", "write")


@status_app.command()
def status(
    store: StoreArgument,
    *,
    prices: PricesOption = None,
    watch: Annotated[bool, typer.Option("--watch", help="Refresh every 10 seconds, until the map is done.")] = False,
    show_map: Annotated[bool, typer.Option("--map/--no-map", help="Show the map of tiles by status.")] = True,
    as_json: JsonOption = False,
) -> None:
    """Show the status of a map: tiles done and missing, pace, time left, bottleneck, failures, cost, map of tiles.

    All of it comes from the store, without reading pixels: ask from any machine, while a run is on or after it. The
    time left and the pace are those of the last hour of commits.
    """
    from mapper.cost.prices import read_prices
    from mapper.monitor.status import read_standing

    if watch and as_json:
        raise typer.BadParameter("--watch is for people, --json for programs: give one")
    location, price_list = location_of(store), read_prices(prices) if prices else None
    standing = read_standing(location, prices=price_list)
    if as_json:
        print_json(standing.to_dict())
        return
    console = Console(highlight=False)
    if not watch:
        console.print(_draw(standing, console, show_map=show_map), soft_wrap=True)
        return
    with Live(_draw(standing, console, show_map=show_map), console=console, auto_refresh=False) as live:
        while standing.state != "complete":
            time.sleep(_WATCH_SECONDS)
            standing = read_standing(location, prices=price_list)
            live.update(_draw(standing, console, show_map=show_map), refresh=True)


def _draw(standing: "Standing", console: Console, *, show_map: bool) -> Text:
    """Draw the status of a map for a terminal."""
    text = Text(describe_standing(standing))
    if show_map:
        palette = None if console.color_system is None else _PALETTES.get(console.color_system, MANY_COLOURS)
        room = max(_FEWEST_LINES, console.height - len(text.plain.splitlines()) - _OTHER_LINES)
        lines = room if console.is_terminal else _FILE_LINES
        text.append("\n\n")
        text.append_text(draw_tile_map(standing.states, width=console.width, palette=palette, lines=lines))
    return text


def describe_standing(standing: "Standing") -> str:
    """Describe the status of a map for people."""
    rows = [(name, text) for name, text in _rows(standing) if text]
    return "\n".join([_head(standing), *(f"{name:<10}{text}" for name, text in rows)])


def _head(standing: "Standing") -> str:
    share = 1 - standing.counts["missing"].tiles / standing.whole.tiles
    filled = int(_BAR * share)
    bar = "█" * filled + "░" * (_BAR - filled)
    return f"{standing.name}: {standing.store}\n{bar} {_percent(share)}"


def _rows(standing: "Standing") -> Iterator[tuple[str, str]]:
    """Yield the name and text of each line; one without text is left out."""
    yield "tiles", _describe_tiles(standing)
    yield "state", _describe_state(standing)
    if not standing.totals.batches:
        return
    yield "runs", f"{standing.totals.runs}, the last began {_ago(standing, standing.totals.run_started.timestamp())}"
    yield "pace", _describe_pace(standing)
    yield "left", _describe_left(standing)
    yield "work", _describe_work(standing)
    yield "lately", _describe_lately(standing)
    yield "read", _describe_reading(standing)
    for number, line in enumerate(_describe_failures(standing)):
        yield "" if number else "failed", line
    yield "cost", _describe_cost(standing)


def _describe_tiles(standing: "Standing") -> str:
    large = standing.whole.km2 >= _LARGE_KM2

    def area(count: "Count") -> str:
        return f"{count.km2 / 1e6:.3f} Mkm2" if large else f"{count.km2:,.1f} km2"

    parts = [f"{count.tiles:,} {name} ({area(count)})" for name, count in standing.counts.items() if count.tiles]
    return f"{standing.whole.tiles:,} ({area(standing.whole)}): {', '.join(parts)}"


def _describe_state(standing: "Standing") -> str:
    holder, quiet = standing.holder, describe_seconds(standing.quiet_s)
    last = f"last commit {quiet} ago" if standing.totals.batches else "no commit yet"
    if standing.state == "stalled":
        last = f"no commit for {quiet}, {describe_seconds(standing.pace.quiet_limit)} would be usual at most"
    if holder is None:
        writer = "nobody writes"
    else:
        known = {True: "writes", False: "was killed, wrote", None: "writes, if it lives,"}
        does = known[standing.writer_alive]
        writer = f"process {holder.pid} on {holder.host} {does} since {holder.since:%Y-%m-%d %H:%M} UTC"
    return f"{standing.state}: {last}; {writer}"


def _describe_pace(standing: "Standing") -> str:
    if standing.pace.tiles_per_hour is None:
        return ""
    late, whole = _rates(standing.pace), _rates(standing.overall)
    return f"{late} in {describe_seconds(standing.pace.seconds)} of commits" + (f"; {whole} over all" if whole else "")


def _rates(pace: "Pace") -> str:
    if pace.tiles_per_hour is None or pace.megapixels_per_second is None:
        return ""
    return f"{pace.tiles_per_hour:,.0f} tiles/h, {pace.megapixels_per_second:.3g} Mpx/s"


def _describe_left(standing: "Standing") -> str:
    if standing.state == "complete" or standing.eta_s is None:
        return ""
    left = describe_seconds(standing.eta_s)
    if standing.state != "running":
        return f"{left} of work at that pace"
    end = standing.now + timedelta(seconds=max(0.0, standing.eta_s - standing.quiet_s))
    return f"{left} at that pace: {end:%Y-%m-%d %H:%M} UTC"


def _describe_work(standing: "Standing") -> str:
    seconds = standing.totals.seconds
    parts = [f"{stage} {describe_seconds(seconds[stage])}" for stage in _STAGES if stage in seconds]
    waited = f"; waiting for a device {describe_seconds(seconds['wait'])}" if seconds.get("wait", 0) >= 1 else ""
    return ", ".join(parts) + waited


def _describe_lately(standing: "Standing") -> str:
    recent = standing.recent
    if not recent.workers:
        return ""
    parts = []
    if recent.device_busy is not None:
        parts.append(f"devices busy {_percent(recent.device_busy)} of the time")
    parts += [
        f"bottleneck: {recent.bottleneck}",
        "1 worker" if len(recent.workers) == 1 else f"{len(recent.workers)} workers",
    ]
    if len(recent.workers) > 1:
        shares = [f"{use.worker} {describe_seconds(use.seconds)}" for use in (recent.workers[0], recent.workers[-1])]
        parts[-1] += f", least at work {shares[0]}, most {shares[1]}"
    return f"{'; '.join(parts)} (last {recent.tiles} tiles, {describe_seconds(recent.seconds)})"


def _describe_reading(standing: "Standing") -> str:
    totals = standing.totals
    if not totals.requests:
        return ""
    reasons = sorted(totals.retries.items(), key=lambda pair: -pair[1])
    again = f"; put again: {', '.join(f'{count:,} {reason}' for reason, count in reasons)}" if reasons else ""
    return f"{totals.requests:,} requests, {describe_bytes(totals.bytes_read)}{again}"


def _describe_failures(standing: "Standing") -> Iterator[str]:
    for each in standing.failures[:_REASONS]:
        tiles = " ".join(map(str, each.tiles[:_TILES])) + (" ..." if len(each.tiles) > _TILES else "")
        yield f"{len(each.tiles)} x {each.reason} (tiles {tiles})"
    left = standing.counts["failed"].tiles - sum(len(each.tiles) for each in standing.failures[:_REASONS])
    if left > 0:
        yield f"{left:,} more; all: `mapper run MAP.yaml --only failed --dry-run`"


def _describe_cost(standing: "Standing") -> str:
    spending = standing.spending
    if spending is None:
        return ""
    money = partial(describe_amount, unit=spending.currency)
    parts = ", ".join(f"{name} {money(amount)}" for name, amount in spending.parts.items() if amount)
    text = f"{money(spending.total)} {spending.currency} so far" + (f" ({parts})" if parts else "")
    rest = {"{} a tile": spending.per_tile, "{} a Mkm2": spending.per_mkm2, "whole map {}": spending.whole}
    return ", ".join([text, *(words.format(money(value)) for words, value in rest.items() if value is not None)])


def _ago(standing: "Standing", moment: float) -> str:
    return f"{describe_seconds(max(0.0, standing.now.timestamp() - moment))} ago"


def _percent(part: float) -> str:
    return f"{100 * part:.1f} %" if part < 0.9995 or part == 1 else "99.9 %"
