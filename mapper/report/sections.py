"""Sections of the page of a run, in their order."""

import html
from collections.abc import Iterator, Mapping
from datetime import datetime

from pyproj import CRS

from mapper.markup.html import Cell, Markup, make_pairs, make_table
from mapper.markup.tile_map import count_states, draw_legend, draw_tiles
from mapper.redaction import redact
from mapper.report.charts import BLUE, GREEN, GREY, draw_bars, draw_histogram, draw_ramp, draw_timeline, draw_work
from mapper.report.contents import BandContents, Contents
from mapper.report.pixel_sample import Histogram
from mapper.report.quicklook import Quicklook
from mapper.report.record_summary import Acquisition
from mapper.text import describe_amount, describe_bytes, describe_seconds

_STAGES = {"read": BLUE, "predict": GREEN, "write": "#cc79a7", "wait": GREY}
_BOX, _SMALL_BOX = (660, 620), (300, 190)
"""Width and height of pictures on the page."""
_CHANNELS = 12
_SHORTEST_S = 0.05
_MOST_ROWS = 12
"""Most rows of a table."""


def describe_run(contents: Contents) -> Iterator[Markup]:
    """Yield the sections; one without content is left out."""
    yield _head(contents)
    yield _section("Map", _show_maps(contents))
    yield _section("Values and quality", _show_pixels(contents))
    yield _section("Work", _show_work(contents))
    yield _section("Acquisitions", _show_acquisitions(contents))
    yield _section("Failed tiles", _show_failures(contents))
    yield _section("Cost", _show_cost(contents))
    yield _section("Model", _show_model(contents))
    yield _section("How to make it again", _show_origin(contents))


def _section(title: str, content: str) -> Markup:
    return Markup(f"<section><h2>{title}</h2>{content}</section>" if content else "")


def _head(contents: Contents) -> Markup:
    status, about = contents.status, contents.description.extra
    done = status.whole.tiles - status.counts["missing"].tiles
    speed = status.overall.megapixels_per_second
    figures = {
        f"of {status.whole.tiles:,} tiles done": f"{done:,}",
        "of land mapped": _describe_area(sum(status.counts[name].km2 for name in ("ok", "empty"))),
        "valid pixels": _describe_count(contents.bands[0].summary.valid_px),
        **dict(map(_describe_mean, contents.bands)),
        "at work": describe_seconds(status.totals.wall_s),
        "valid pixels a second": "&ndash;" if speed is None else f"{speed:.3g} M",
    }
    cells = "".join(f"<div><b>{value}</b><span>{html.escape(name)}</span></div>" for name, value in figures.items())
    return Markup(
        f"<header><h1>{html.escape(str(about['title']))}"
        f'<span class="state {status.state}">{status.state}</span></h1>'
        f"<p>{html.escape(str(about['source']))}, {about['time_coverage_start']} to {about['time_coverage_end']}"
        f"<br>{html.escape(redact(status.store, paths=True))}</p></header>"
        f'<div class="figures">{cells}</div>'
    )


def _describe_mean(found: BandContents) -> tuple[str, str]:
    """Return what the mean of a band is called, and the mean; reflectances need more decimals than biomass."""
    mean, units = found.summary.mean, found.band.units
    name = f"{units} on average" if units != "1" else f"{found.band.name} on average"
    if mean is None:
        return name, "&ndash;"
    return name, f"{mean:,.1f}" if units != "1" else f"{mean:.3f}"


def _name_band(found: BandContents) -> str:
    return f"{found.band.long_name} ({found.band.units})"


def _name_sd(found: BandContents, contents: Contents) -> str:
    band = f" of {found.band.name}" if len(contents.bands) > 1 else ""
    return f"standard deviation{band} ({found.band.units})"


def _show_maps(contents: Contents) -> str:
    first, *others = contents.bands
    status = contents.status
    west, south, east, north = contents.description.grid.geobox.extent.to_crs("EPSG:4326").boundingbox.bbox
    extent = f"; {west:.2f} to {east:.2f} degrees east, {south:.2f} to {north:.2f} north"
    more = f"; colours from the 2nd to the 98th percentile{extent}"
    main = _show_picture(contents, first.picture, _name_band(first), box=_BOX, more=more)
    main = main or '<p class="note">No pixel has a value yet.</p>'
    counts = count_states(status.states)
    tiles = (
        f"<figure>{draw_tiles(status.states, width=300, height=230)}<figcaption>{draw_legend(counts)}</figcaption>"
        "</figure>"
    )
    small = _show_picture(contents, first.sd_picture, _name_sd(first, contents))
    for found in others:
        small += _show_picture(contents, found.picture, _name_band(found))
        small += _show_picture(contents, found.sd_picture, _name_sd(found, contents))
    small += _show_picture(contents, contents.count_picture, "valid observations")
    return f'<div class="map"><div>{main}</div><div class="side"><div><h3>Tiles</h3>{tiles}</div>{small}</div></div>'


def _show_picture(
    contents: Contents, picture: Quicklook | None, name: str, *, box: tuple[float, float] = _SMALL_BOX, more: str = ""
) -> str:
    """Return a picture in a box of pixels, with its colours and its name."""
    if picture is None:
        return ""
    kind = ' class="coarse"' if max(picture.shape) < 300 else ""
    rows, cols = picture.shape
    width = min(box[0], box[1] * cols / rows)
    edge = picture.map_px * float(contents.description.grid.resolution)
    pixel = (
        f"{edge:g} degrees" if CRS.from_user_input(contents.description.grid.crs).is_geographic else f"{edge:,.0f} m"
    )
    ramp = draw_ramp(picture.colours, picture.low, picture.high, label=name)
    return (
        f'<figure><img{kind} style="width:{width:.0f}px" src="{picture.uri}" alt="{html.escape(name)}">{ramp}'
        f"<figcaption>From {picture.origin}, pixels of {pixel}{html.escape(more)}</figcaption></figure>"
    )


def _show_pixels(contents: Contents) -> str:
    found = contents.sample
    if not found.pixels:
        return ""
    drawn: dict[str, tuple[Histogram | None, str]] = {}
    for band in contents.bands:
        drawn[_name_band(band)] = band.values, BLUE
        drawn[_name_sd(band, contents)] = band.sds, "#9e2f7f"
    drawn["valid observations of a pixel"] = found.histograms[contents.description.count.name], "#4292c6"
    charts = [draw_histogram(counts, label=label, colour=colour) for label, (counts, colour) in drawn.items() if counts]
    counted = {"nothing to remark": found.unflagged} | found.flags
    shares = {name.replace("_", " "): 100 * count / found.pixels for name, count in counted.items()}
    flags = draw_bars(shares, describe=_describe_percent, colours={"nothing to remark": GREEN}, whole=100.0)
    which = "all" if found.is_whole else "a sample of"
    cells = "".join(f"<div>{chart}</div>" for chart in charts)
    return (
        f"<p>Counted over {which} {found.pixels:,} pixels of tiles with data; a pixel may have several flags. The "
        "outer bars of a histogram hold all that is beyond.</p>"
        f'<div class="cols">{cells}<div><h3>Quality flags, part of the pixels</h3>{flags}</div></div>'
    )


def _show_work(contents: Contents) -> str:
    totals, found, recent = contents.status.totals, contents.summary, contents.status.recent
    if not totals.batches:
        return ""
    stages = {name: totals.seconds[name] for name in _STAGES if totals.seconds.get(name, 0) >= _SHORTEST_S}
    whole = sum(stages.values()) or 1.0
    bars = draw_bars(
        stages,
        describe=lambda seconds: f"{describe_seconds(seconds)}, {100 * seconds / whole:.0f} %",
        colours=_STAGES,
    )
    bottleneck = f"<p>Bottleneck lately: <b>{html.escape(recent.bottleneck)}</b>.</p>" if recent.bottleneck else ""
    over_time = ""
    if found.finished and found.begun:
        chart = draw_work(found.finished, min(found.begun))
        over_time = (
            f"<h3>Tiles over time</h3>{chart}"
            '<p class="note">Bars: tiles an hour. Line: tiles so far, of all that stand.</p>'
        )
    work = make_pairs(_list_work(contents))
    return (
        f'{bottleneck}<div class="cols"><div><h3>Seconds of work by stage</h3>{bars}<br>{work}</div>'
        f"<div>{over_time}<h3>Slowest tiles</h3>{_list_slowest(contents)}</div></div>"
    )


def _list_work(contents: Contents) -> Mapping[str, Cell]:
    totals, status, found = contents.status.totals, contents.status, contents.summary
    retries = ", ".join(f"{count:,} {reason}" for reason, count in sorted(totals.retries.items(), key=lambda p: -p[1]))
    busy = status.recent.device_share
    return {
        "runs": totals.runs,
        "commits": totals.batches,
        "tiles attempted": totals.attempted,
        "tiles an hour": None if status.overall.tiles_per_hour is None else f"{status.overall.tiles_per_hour:,.0f}",
        "time left": describe_seconds(status.eta_s) if status.state == "running" and status.eta_s else None,
        "workers": len(found.workers) or None,
        "devices": ", ".join(sorted(found.devices)),
        "devices busy lately": None if busy is None else _describe_percent(100 * busy),
        "requests to archives": totals.requests or None,
        "read from archives": describe_bytes(totals.bytes_read) if totals.bytes_read else None,
        "put again": retries,
        "last commit": f"{totals.at:%Y-%m-%d %H:%M:%S} UTC",
    }


def _list_slowest(contents: Contents) -> Markup:
    rows = (
        (str(tile.tile), describe_seconds(tile.seconds), tile.stage, tile.items) for tile in contents.summary.slowest
    )
    return make_table(("tile", "took", "most of it", "items"), rows)


def _show_acquisitions(contents: Contents) -> str:
    acquisitions = list(contents.summary.acquisitions.values())
    if not acquisitions:
        return ""
    groups: dict[str, list[Acquisition]] = {}
    for each in sorted(acquisitions, key=lambda item: (item.role, item.collection, item.datetime)):
        groups.setdefault(each.collection, []).append(each)
    rows: dict[str, tuple[list[datetime], list[datetime]]] = {
        name: ([a.datetime for a in group if a.used], [a.datetime for a in group if a.dropped])
        for name, group in groups.items()
    }
    table = make_table(
        ("collection", "role", "items", "first", "last", "times used", "times left out"),
        (
            (
                name,
                group[0].role,
                len(group),
                f"{min(a.datetime for a in group):%Y-%m-%d}",
                f"{max(a.datetime for a in group):%Y-%m-%d}",
                sum(a.used for a in group),
                sum(a.dropped for a in group),
            )
            for name, group in groups.items()
        ),
    )
    return (
        "<p>Above the line what was used, in blue; below it, in red, what was left out of at least one tile.</p>"
        f"{draw_timeline(rows)}{table}{_list_drops(contents)}"
    )


def _list_drops(contents: Contents) -> str:
    drops = contents.summary.drops
    if not drops:
        return ""
    table = make_table(
        ("why items were left out", "times"),
        [(redact(why, paths=True), times) for why, times in drops.most_common(_MOST_ROWS)],
    )
    return f'<div style="margin-top:18px">{table}</div>'


def _show_failures(contents: Contents) -> str:
    status = contents.status
    failed = status.counts["failed"].tiles
    if not failed:
        return ""
    rows = (
        (
            redact(each.reason, paths=True),
            len(each.tiles),
            " ".join(map(str, each.tiles[:_MOST_ROWS])) + (" ..." if each.tiles[_MOST_ROWS:] else ""),
        )
        for each in status.failures[:_MOST_ROWS]
    )
    rest = failed - sum(len(each.tiles) for each in status.failures[:_MOST_ROWS])
    more = f'<p class="note">{rest:,} more failed earlier.</p>' if rest else ""
    return f"{make_table(('reason', 'tiles', 'which (row,column)'), rows)}{more}"


def _show_cost(contents: Contents) -> str:
    spending = contents.status.spending
    if spending is None:
        return ""

    def money(amount: float | None) -> str | None:
        return None if amount is None else f"{describe_amount(amount, spending.currency)} {spending.currency}"

    entries = {
        "so far": money(spending.total),
        "a tile": money(spending.per_tile),
        "a million km2": money(spending.per_mkm2),
        "the whole map, at that rate": money(spending.whole),
    }
    parts = {name: amount for name, amount in spending.parts.items() if amount}
    bars = draw_bars(parts, describe=lambda amount: money(amount) or "", colours={})
    return f'<div class="cols"><div>{bars}</div><div>{make_pairs(entries)}</div></div>'


def _show_model(contents: Contents) -> str:
    found, card = contents.summary, contents.card
    rows = [(name, count, digest) for (name, digest), count in found.models.most_common(_MOST_ROWS)]
    made = make_table(("made by", "tiles", "sha256"), rows) if rows else ""
    units = contents.bands[0].band.units
    entries: dict[str, Cell] = {"largest deviation from the source left": f"{found.residual:.3g} {units}"}
    if contents.spec:
        entries["consistency with the source"] = contents.spec.consistency.mode
    if card:
        contract = card.contract
        entries |= {
            "architecture": contract.model,
            "parameters": card.parameters,
            "guide": _list_channels([band.name for band in contract.guide]),
            "scale": contract.scale or "any",
            "gives a standard deviation of its own": "yes" if contract.gives_sd else "no",
            "trained with": card.framework,
        }
    scores = _list_scores(contents)
    beside = f"<div><h3>On places it was not trained on</h3>{scores}</div>" if scores else ""
    return f'{made}<div class="cols"><div>{make_pairs(entries)}</div>{beside}</div>'


def _list_channels(names: list[str]) -> str:
    more = " ..." if names[_CHANNELS:] else ""
    return f"{len(names)} channels: {', '.join(names[:_CHANNELS])}{more}" if names else "none"


def _list_scores(contents: Contents) -> str:
    scores = contents.card.training.get("scores", {}) if contents.card else {}
    names = [name for name, entry in scores.items() if isinstance(entry, Mapping) and "rmse" in entry]
    columns = [key for key in ("rmse", "mae", "bias", "r2") if any(key in scores[name] for name in names)]
    if not columns:
        return ""
    rows = ((name, *(_number(scores[name].get(key)) for key in columns)) for name in names)
    return str(make_table(("method", *columns), rows))


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) else None


def _show_origin(contents: Contents) -> str:
    found, grid, description = contents.summary, contents.description.grid, contents.description
    provider, (rows, cols) = contents.provider, grid.shape
    entries: dict[str, Cell] = {
        "store": redact(contents.status.store, paths=True),
        "snapshot": contents.status.snapshot,
        "grid": f"{grid.crs}, {rows:,} x {cols:,} px of {grid.resolution}, tiles of {grid.tile_px} px",
        "spec": description.spec_digest,
        "code": ", ".join(f"mapper {version}" for version in sorted(found.code_versions)),
        "environment": "; ".join(sorted(found.environments)),
        "guide read from": redact(", ".join(sorted(found.guides)), paths=True),
        "licence of the data": provider.licence if provider else None,
        "to be said with it": provider.attribution if provider else None,
    }
    yaml_text = html.escape(redact(description.spec_yaml, paths=True))
    return f"{make_pairs(entries)}<br><h3>Map description</h3><pre>{yaml_text}</pre>"


def _describe_area(km2: float) -> str:
    return f"{km2 / 1e6:,.2f} Mkm²" if km2 >= 1e5 else f"{km2:,.0f} km²" if km2 >= 100 else f"{km2:,.1f} km²"


def _describe_count(count: int) -> str:
    for size, name in ((1e9, "billion"), (1e6, "million")):
        if count >= size:
            return f"{count / size:,.3g} {name}"
    return f"{count:,}"


def _describe_percent(share: float) -> str:
    return "0 %" if not share else "< 0.1 %" if share < 0.1 else f"{share:.1f} %"
