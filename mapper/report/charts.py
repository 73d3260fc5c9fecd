"""Charts as SVG: bars, histograms, a time line, work over time."""

import html
import math
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta

import numpy as np

from mapper.markup.html import Markup
from mapper.report.pixel_sample import Histogram

BLUE, RED, GREEN, GREY = "#2f6f9f", "#d55e00", "#009e73", "#9aa7b1"
_WIDE, _HIGH = 460, 190
_LEFT, _RIGHT, _TOP, _BOTTOM = 44, 12, 12, 34
_ROW = 26
_MONTHS_SHOWN = 13


def find_ticks(low: float, high: float, *, count: int = 5) -> list[float]:
    """Return round numbers between two, about ``count`` of them."""
    span = high - low
    if span <= 0:
        return [low]
    raw = span / count
    power = 10 ** math.floor(math.log10(raw))
    step = next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= raw * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [number * step for number in range(first, math.floor(high / step + 1e-9) + 1)]


def draw_histogram(histogram: Histogram, *, label: str, colour: str = BLUE) -> Markup:
    """Draw pixels by value, with mean and median."""
    low, high = float(histogram.edges[0]), float(histogram.edges[-1])
    top = max(int(histogram.counts.max()), 1)
    total = max(int(histogram.counts.sum()), 1)

    def x(value: float) -> float:
        return _LEFT + (value - low) / (high - low) * (_WIDE - _LEFT - _RIGHT)

    def y(count: float) -> float:
        return _HIGH - _BOTTOM - count / top * (_HIGH - _TOP - _BOTTOM)

    edges = histogram.edges.tolist()
    bars = "".join(
        f"M{x(left):.1f} {y(0):.1f}V{y(count):.1f}H{max(x(right) - 0.8, x(left) + 0.4):.1f}V{y(0):.1f}z"
        for left, right, count in zip(edges, edges[1:], histogram.counts.tolist(), strict=False)
    )
    grid = _draw_shares(top / total, y, top)
    marks = _mark(x(histogram.mean), f"mean {histogram.mean:.4g}", line=0)
    marks += _mark(x(histogram.median), f"median {histogram.median:.4g}", line=1)
    axis = _draw_axis([(x(tick), f"{tick:g}") for tick in find_ticks(low, high)], label)
    return _wrap(f'{grid}<path fill="{colour}" d="{bars}"/>{axis}{marks}', label)


def draw_bars(
    values: Mapping[str, float], *, say: Callable[[float], str], colours: Mapping[str, str], whole: float | None = None
) -> Markup:
    """Draw horizontal bars with a name and a number each; ``whole`` is as long as the drawing, else the longest is."""
    left, width = 126, _WIDE
    longest = whole or max(values.values(), default=0) or 1
    room = width - left - 132
    rows = []
    for number, (name, value) in enumerate(values.items()):
        top, length = number * _ROW + 4, max(value / longest * room, 0)
        rows.append(
            f'<text x="{left - 8}" y="{top + 13}" text-anchor="end">{html.escape(name)}</text>'
            f'<rect x="{left}" y="{top}" width="{room:.1f}" height="17" fill="#eef1f4"/>'
            f'<rect x="{left}" y="{top}" width="{length:.1f}" height="17" fill="{colours.get(name, BLUE)}"/>'
            f'<text x="{left + room + 8}" y="{top + 13}" class="number">{html.escape(say(value))}</text>'
        )
    return _wrap("".join(rows), "bars", height=len(values) * _ROW + 6)


def draw_work(finished: Sequence[tuple[datetime, int]], begun: datetime, *, bins: int = 60) -> Markup:
    """Draw tiles that were done over time, as bars, and all so far, as a line."""
    times = np.sort(np.array([moment.timestamp() for moment, _ in finished]))
    start, end = begun.timestamp(), float(times[-1])
    span = max(end - start, 1.0)
    counts, _ = np.histogram(times, bins=bins, range=(start, start + span))
    top, whole = max(int(counts.max()), 1), len(times)

    def x(second: float) -> float:
        return _LEFT + (second - start) / span * (_WIDE - _LEFT - _RIGHT)

    def y(share: float) -> float:
        return _HIGH - _BOTTOM - share * (_HIGH - _TOP - _BOTTOM)

    width = (_WIDE - _LEFT - _RIGHT) / bins
    bars = "".join(
        f"M{_LEFT + number * width:.1f} {y(0):.1f}V{y(count / top):.1f}h{width - 0.6:.1f}V{y(0):.1f}z"
        for number, count in enumerate(counts.tolist())
        if count
    )
    marks = np.unique(np.linspace(0, whole - 1, min(whole, 120)).astype(int)).tolist()
    line = "L".join(f"{x(float(times[k])):.1f} {y((k + 1) / whole):.1f}" for k in marks)
    fastest = top * bins / span * 3600
    rates = [(y(tick / fastest), f"{tick:,.0f}") for tick in find_ticks(0, fastest, count=3)]
    axis = _draw_axis([(x(at), text) for at, text in _clock_ticks(start, span)], f"since {begun:%Y-%m-%d %H:%M} UTC")
    body = (
        f'{_draw_levels(rates)}<path fill="{BLUE}" fill-opacity="0.55" d="{bars}"/>'
        f'<path fill="none" stroke="{RED}" stroke-width="1.8" d="M{x(start):.1f} {y(0):.1f}L{line}"/>{axis}'
    )
    return _wrap(body, "tiles over time")


def draw_timeline(rows: Mapping[str, tuple[Sequence[datetime], Sequence[datetime]]]) -> Markup:
    """Draw dates as ticks, a row for each name: of what was used above the line, of what was dropped below it."""
    width, left, high = 2 * _WIDE, 150, 40
    moments = [moment for pair in rows.values() for part in pair for moment in part]
    start, end = min(moments), max(moments)
    margin = max((end - start) * 0.02, timedelta(days=3))
    start, end = start - margin, end + margin
    span = (end - start).total_seconds()

    def x(moment: datetime) -> float:
        return left + (moment - start).total_seconds() / span * (width - left - _RIGHT)

    parts, bottom = [], len(rows) * high
    for at, text in _month_ticks(start, end):
        parts.append(f'<path stroke="#e3e8ec" d="M{x(at):.1f} 0V{bottom}"/>')
        parts.append(f'<text x="{x(at):.1f}" y="{bottom + 14}" text-anchor="middle">{text}</text>')
    for number, (name, (used, dropped)) in enumerate(rows.items()):
        middle = number * high + 22
        parts += [
            f'<text x="{left - 10}" y="{middle + 4}" text-anchor="end">{html.escape(name)}</text>',
            f'<path stroke="#c5ccd3" d="M{left} {middle}H{width - _RIGHT}"/>',
            _draw_marks(used, x, middle - 14, 14, BLUE),
            _draw_marks(dropped, x, middle, 11, RED),
        ]
    return _wrap("".join(parts), "acquisitions by date", width=width, height=bottom + 20)


def draw_ramp(colours: Sequence[str], low: float, high: float, *, label: str) -> Markup:
    """Draw a colour bar."""
    stops = "".join(
        f'<stop offset="{number / (len(colours) - 1):.3f}" stop-color="#{colour}"/>'
        for number, colour in enumerate(colours)
    )
    name = f"ramp-{colours[0]}-{colours[-1]}"
    ticks = "".join(
        f'<text x="{10 + (tick - low) / (high - low) * 240:.1f}" y="26" text-anchor="middle">{tick:g}</text>'
        for tick in find_ticks(low, high, count=4)
    )
    body = (
        f'<defs><linearGradient id="{name}">{stops}</linearGradient></defs>'
        f'<rect x="10" y="0" width="240" height="12" fill="url(#{name})"/>{ticks}'
        f'<text x="130" y="42" text-anchor="middle" class="label">{html.escape(label)}</text>'
    )
    return _wrap(body, label, width=260, height=46, kind="ramp")


def _draw_marks(
    moments: Sequence[datetime], x: Callable[[datetime], float], top: float, length: float, colour: str
) -> str:
    """Draw ticks; those that would hide each other are one, so the drawing is bounded."""
    places = sorted({round(x(moment) * 2) / 2 for moment in moments})
    path = "".join(f"M{place:g} {top:g}v{length:g}" for place in places)
    return f'<path stroke="{colour}" stroke-width="1.4" d="{path}"/>' if path else ""


def _month_ticks(start: datetime, end: datetime) -> list[tuple[datetime, str]]:
    first, last = start.year * 12 + start.month - 1, end.year * 12 + end.month - 1
    step = next(size for size in (1, 2, 3, 6, 12, 24, 60, 120, 1200) if (last - first) / size <= _MONTHS_SHOWN)
    ticks: list[tuple[datetime, str]] = []
    for count in range(first - first % step, last + 1, step):
        moment = datetime(count // 12, count % 12 + 1, 1, tzinfo=start.tzinfo)
        if start <= moment <= end:
            with_year = step > 1 or moment.month == 1 or not ticks
            ticks.append((moment, f"{moment:%Y}" if step >= 12 else f"{moment:{'%b %Y' if with_year else '%b'}}"))
    return ticks


def _clock_ticks(start: float, span: float) -> list[tuple[float, str]]:
    """Return moments since the begin, in the unit that suits."""
    size, unit = next(((s, u) for s, u in ((86400, "d"), (3600, "h"), (60, "min")) if span >= 2 * s), (1, "s"))
    return [(start + tick * size, f"{tick:g} {unit}") for tick in find_ticks(0, span / size)]


def _draw_shares(largest: float, y: Callable[[float], float], top: float) -> str:
    """Draw levels at round shares of all pixels."""
    ticks = find_ticks(0, 100 * largest, count=3)
    return _draw_levels([(y(tick / 100 / largest * top), f"{tick:g} %") for tick in ticks])


def _draw_levels(levels: Sequence[tuple[float, str]]) -> str:
    return "".join(
        f'<path stroke="#e3e8ec" d="M{_LEFT} {at:.1f}H{_WIDE - _RIGHT}"/>'
        f'<text x="{_LEFT - 5}" y="{at + 3.5:.1f}" text-anchor="end">{html.escape(text)}</text>'
        for at, text in levels
    )


def _draw_axis(ticks: Sequence[tuple[float, str]], label: str) -> str:
    base = _HIGH - _BOTTOM
    texts = "".join(
        f'<path stroke="#9aa7b1" d="M{at:.1f} {base}v4"/>'
        f'<text x="{at:.1f}" y="{base + 15}" text-anchor="middle">{html.escape(text)}</text>'
        for at, text in ticks
    )
    middle = (_LEFT + _WIDE - _RIGHT) / 2
    title = f'<text x="{middle}" y="{_HIGH - 4}" text-anchor="middle" class="label">{html.escape(label)}</text>'
    return f'<path stroke="#9aa7b1" d="M{_LEFT} {base}H{_WIDE - _RIGHT}"/>{texts}{title}'


def _mark(at: float, text: str, *, line: int) -> str:
    """Draw a dashed line with its text beside it, in the row of that number."""
    side, shift = ("start", 5) if at < 0.7 * _WIDE else ("end", -5)
    place = f'x="{at + shift:.1f}" y="{_TOP + 5 + 14 * line}" text-anchor="{side}"'
    return (
        f'<path stroke="#222" stroke-dasharray="3 3" d="M{at:.1f} {_TOP - 4}V{_HIGH - _BOTTOM}"/>'
        f'<text {place} class="mark">{html.escape(text)}</text>'
    )


def _wrap(body: str, label: str, *, width: int = _WIDE, height: int = _HIGH, kind: str = "chart") -> Markup:
    return Markup(
        f'<svg xmlns="http://www.w3.org/2000/svg" class="{kind}" role="img" aria-label="{html.escape(label)}" '
        f'viewBox="0 0 {width} {height}">{body}</svg>'
    )
