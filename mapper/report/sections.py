"""The sections of the page of a run, in their order."""

import html
from collections.abc import Iterator, Mapping
from datetime import datetime

from pyproj import CRS

from mapper.markup.html import Cell, Markup, make_pairs, make_table
from mapper.markup.tile_map import count_states, draw_legend, draw_tiles
from mapper.report.charts import BLUE, GREEN, GREY, draw_bars, draw_histogram, draw_ramp, draw_timeline, draw_work
from mapper.report.contents import Story
from mapper.report.quicklook import Picture
from mapper.report.record_summary import Acquisition
from mapper.text import describe_amount, describe_bytes, describe_seconds

_STAGES = {"read": BLUE, "predict": GREEN, "write": "#cc79a7", "wait": GREY}
_BOX, _SMALL_BOX = (660, 620), (300, 190)
"""Width and height of pictures on the page."""
_CHANNELS = 12
_SHORTEST_S = 0.05
_LINES = 12
"""Of tables that could be long."""


def describe_run(story: Story) -> Iterator[Markup]:
    """All sections; one that has nothing to tell is left out."""
    yield _head(story)
    yield _section("Map", _show_maps(story))
    yield _section("Values and quality", _show_pixels(story))
    yield _section("Work", _show_work(story))
    yield _section("Acquisitions", _show_acquisitions(story))
    yield _section("Failed tiles", _show_failures(story))
    yield _section("Cost", _show_cost(story))
    yield _section("Model", _show_model(story))
    yield _section("How to make it again", _show_origin(story))


def _section(title: str, content: str) -> Markup:
    return Markup(f"<section><h2>{title}</h2>{content}</section>" if content else "")


def _head(story: Story) -> Markup:
    standing, found, about = story.standing, story.gathered, story.description.extra
    done = standing.whole.tiles - standing.counts["missing"].tiles
    mean = "&ndash;" if found.value_mean is None else f"{found.value_mean:,.1f}"
    pace = standing.overall.megapixels_per_second
    figures = {
        f"of {standing.whole.tiles:,} tiles done": f"{done:,}",
        "of land mapped": _say_area(sum(standing.counts[name].km2 for name in ("ok", "empty"))),
        "valid pixels": _say_count(found.valid_px),
        f"{story.target.units} on average": mean,
        "at work": describe_seconds(standing.totals.wall_s),
        "valid pixels a second": "&ndash;" if pace is None else f"{pace:.3g} M",
    }
    cells = "".join(f"<div><b>{value}</b><span>{html.escape(name)}</span></div>" for name, value in figures.items())
    return Markup(
        f"<header><h1>{html.escape(str(about['title']))}"
        f'<span class="state {standing.state}">{standing.state}</span></h1>'
        f"<p>{html.escape(str(about['source']))}, {about['time_coverage_start']} to {about['time_coverage_end']}"
        f"<br>{html.escape(standing.store)}</p></header>"
        f'<div class="figures">{cells}</div>'
    )


def _show_maps(story: Story) -> str:
    target, standing = story.target, story.standing
    name = f"{target.long_name} ({target.units})"
    west, south, east, north = story.description.grid.geobox.extent.to_crs("EPSG:4326").boundingbox.bbox
    place = f"; {west:.2f} to {east:.2f} degrees east, {south:.2f} to {north:.2f} north"
    more = f"; colours from the 2nd to the 98th percentile{place}"
    main = (
        _show_picture(story, story.value, name, box=_BOX, more=more) or '<p class="note">No pixel has a value yet.</p>'
    )
    counts = count_states(standing.states)
    tiles = (
        f"<figure>{draw_tiles(standing.states, width=300, height=230)}<figcaption>{draw_legend(counts)}</figcaption>"
        "</figure>"
    )
    small = _show_picture(story, story.sd, f"standard deviation ({target.units})")
    small += _show_picture(story, story.n_valid, "valid observations")
    return f'<div class="map"><div>{main}</div><div class="side"><div><h3>Tiles</h3>{tiles}</div>{small}</div></div>'


def _show_picture(
    story: Story, picture: Picture | None, name: str, *, box: tuple[float, float] = _SMALL_BOX, more: str = ""
) -> str:
    """A picture in a box of pixels, its colours, and what it is."""
    if picture is None:
        return ""
    kind = ' class="coarse"' if max(picture.shape) < 300 else ""
    rows, cols = picture.shape
    width = min(box[0], box[1] * cols / rows)
    edge = picture.map_px * float(story.description.grid.resolution)
    pixel = f"{edge:g} degrees" if CRS.from_user_input(story.description.grid.crs).is_geographic else f"{edge:,.0f} m"
    ramp = draw_ramp(picture.colours, picture.low, picture.high, label=name)
    return (
        f'<figure><img{kind} style="width:{width:.0f}px" src="{picture.uri}" alt="{html.escape(name)}">{ramp}'
        f"<figcaption>From {picture.origin}, pixels of {pixel}{html.escape(more)}</figcaption></figure>"
    )


def _show_pixels(story: Story) -> str:
    found, target = story.pixels, story.target
    if not found.pixels:
        return ""
    drawn = {
        f"{target.long_name} ({target.units})": (found.value, BLUE),
        f"standard deviation ({target.units})": (found.sd, "#9e2f7f"),
        "valid observations of a pixel": (found.n_valid, "#4292c6"),
    }
    charts = [draw_histogram(counts, label=label, colour=colour) for label, (counts, colour) in drawn.items() if counts]
    counted = {"nothing to remark": found.unflagged} | found.flags
    shares = {name.replace("_", " "): 100 * count / found.pixels for name, count in counted.items()}
    flags = draw_bars(shares, say=_say_percent, colours={"nothing to remark": GREEN}, whole=100.0)
    which = "all" if found.whole else "a sample of"
    cells = "".join(f"<div>{chart}</div>" for chart in charts)
    return (
        f"<p>Counted over {which} {found.pixels:,} pixels of tiles with data; a pixel may have several flags. The last "
        "bar of a histogram holds all that is beyond.</p>"
        f'<div class="cols">{cells}<div><h3>Quality flags, part of the pixels</h3>{flags}</div></div>'
    )


def _show_work(story: Story) -> str:
    totals, found, recent = story.standing.totals, story.gathered, story.standing.recent
    if not totals.batches:
        return ""
    stages = {name: totals.seconds[name] for name in _STAGES if totals.seconds.get(name, 0) >= _SHORTEST_S}
    whole = sum(stages.values()) or 1.0
    bars = draw_bars(
        stages,
        say=lambda seconds: f"{describe_seconds(seconds)}, {100 * seconds / whole:.0f} %",
        colours=_STAGES,
    )
    said = f"<p>Bottleneck lately: <b>{html.escape(recent.bottleneck)}</b>.</p>" if recent.bottleneck else ""
    over_time = ""
    if found.finished and found.begun:
        chart = draw_work(found.finished, min(found.begun))
        over_time = (
            f"<h3>Tiles over time</h3>{chart}"
            '<p class="note">Bars: tiles an hour. Line: tiles so far, of all that stand.</p>'
        )
    return (
        f'{said}<div class="cols"><div><h3>Seconds of work by stage</h3>{bars}<br>{make_pairs(_list_work(story))}</div>'
        f"<div>{over_time}<h3>Slowest tiles</h3>{_list_slowest(story)}</div></div>"
    )


def _list_work(story: Story) -> Mapping[str, Cell]:
    totals, standing, found = story.standing.totals, story.standing, story.gathered
    retries = ", ".join(f"{count:,} {reason}" for reason, count in sorted(totals.retries.items(), key=lambda p: -p[1]))
    busy = standing.recent.device_busy
    return {
        "runs": totals.runs,
        "commits": totals.batches,
        "tiles attempted": totals.attempted,
        "tiles an hour": None if standing.overall.tiles_per_hour is None else f"{standing.overall.tiles_per_hour:,.0f}",
        "time left": describe_seconds(standing.eta_s) if standing.state == "running" and standing.eta_s else None,
        "workers": len(found.workers) or None,
        "devices": ", ".join(sorted(found.devices)),
        "devices busy lately": None if busy is None else _say_percent(100 * busy),
        "requests to archives": totals.requests or None,
        "read from archives": describe_bytes(totals.bytes_read) if totals.bytes_read else None,
        "put again": retries,
        "last commit": f"{totals.at:%Y-%m-%d %H:%M:%S} UTC",
    }


def _list_slowest(story: Story) -> Markup:
    rows = ((str(tile.tile), describe_seconds(tile.seconds), tile.stage, tile.items) for tile in story.gathered.slowest)
    return make_table(("tile", "took", "most of it", "items"), rows)


def _show_acquisitions(story: Story) -> str:
    acquisitions = list(story.gathered.acquisitions.values())
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
        f"{draw_timeline(rows)}{table}{_list_drops(story)}"
    )


def _list_drops(story: Story) -> str:
    drops = story.gathered.drops
    if not drops:
        return ""
    table = make_table(("why items were left out", "times"), drops.most_common(_LINES))
    return f'<div style="margin-top:18px">{table}</div>'


def _show_failures(story: Story) -> str:
    standing = story.standing
    failed = standing.counts["failed"].tiles
    if not failed:
        return ""
    rows = (
        (
            each.reason,
            len(each.tiles),
            " ".join(map(str, each.tiles[:_LINES])) + (" ..." if each.tiles[_LINES:] else ""),
        )
        for each in standing.failures[:_LINES]
    )
    rest = failed - sum(len(each.tiles) for each in standing.failures[:_LINES])
    more = f'<p class="note">{rest:,} more failed earlier.</p>' if rest else ""
    return f"{make_table(('reason', 'tiles', 'which (row,column)'), rows)}{more}"


def _show_cost(story: Story) -> str:
    spending = story.standing.spending
    if spending is None:
        return ""

    def money(amount: float | None) -> str | None:
        return None if amount is None else f"{describe_amount(amount, spending.currency)} {spending.currency}"

    facts = {
        "so far": money(spending.total),
        "a tile": money(spending.per_tile),
        "a million km2": money(spending.per_mkm2),
        "the whole map, at that rate": money(spending.whole),
    }
    parts = {name: amount for name, amount in spending.parts.items() if amount}
    bars = draw_bars(parts, say=lambda amount: money(amount) or "", colours={})
    return f'<div class="cols"><div>{bars}</div><div>{make_pairs(facts)}</div></div>'


def _show_model(story: Story) -> str:
    found, card = story.gathered, story.card
    rows = [(name, count, digest) for (name, digest), count in found.models.most_common(_LINES)]
    made = make_table(("made by", "tiles", "sha256"), rows) if rows else ""
    facts: dict[str, Cell] = {"largest deviation from the source left": f"{found.residual:.3g} {story.target.units}"}
    if story.spec:
        facts["consistency with the source"] = story.spec.consistency.mode
    if card:
        contract = card.contract
        facts |= {
            "architecture": contract.model,
            "parameters": card.parameters,
            "guide": _list_channels([band.name for band in contract.guide]),
            "scale": contract.scale or "any",
            "gives a standard deviation of its own": "yes" if contract.gives_sd else "no",
            "trained with": card.framework,
        }
    scores = _list_scores(story)
    beside = f"<div><h3>On places it was not trained on</h3>{scores}</div>" if scores else ""
    return f'{made}<div class="cols"><div>{make_pairs(facts)}</div>{beside}</div>'


def _list_channels(names: list[str]) -> str:
    more = " ..." if names[_CHANNELS:] else ""
    return f"{len(names)} channels: {', '.join(names[:_CHANNELS])}{more}" if names else "none"


def _list_scores(story: Story) -> str:
    scores = story.card.training.get("scores", {}) if story.card else {}
    names = [name for name, entry in scores.items() if isinstance(entry, Mapping) and "rmse" in entry]
    columns = [key for key in ("rmse", "mae", "bias", "r2") if any(key in scores[name] for name in names)]
    if not columns:
        return ""
    rows = ((name, *(_number(scores[name].get(key)) for key in columns)) for name in names)
    return str(make_table(("method", *columns), rows))


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) else None


def _show_origin(story: Story) -> str:
    found, grid, description = story.gathered, story.description.grid, story.description
    provider, (rows, cols) = story.provider, grid.shape
    facts: dict[str, Cell] = {
        "store": story.standing.store,
        "snapshot": story.standing.snapshot,
        "grid": f"{grid.crs}, {rows:,} x {cols:,} px of {grid.resolution}, tiles of {grid.tile_px} px",
        "spec": description.spec_digest,
        "code": ", ".join(f"mapper {version}" for version in sorted(found.code_versions)),
        "environment": "; ".join(sorted(found.environments)),
        "guide read from": ", ".join(sorted(found.guides)),
        "licence of the data": provider.licence if provider else None,
        "to be said with it": provider.attribution if provider else None,
    }
    yaml_text = html.escape(description.spec_yaml)
    return f"{make_pairs(facts)}<br><h3>Map description</h3><pre>{yaml_text}</pre>"


def _say_area(km2: float) -> str:
    return f"{km2 / 1e6:,.2f} Mkm²" if km2 >= 1e5 else f"{km2:,.0f} km²" if km2 >= 100 else f"{km2:,.1f} km²"


def _say_count(count: int) -> str:
    for size, name in ((1e9, "billion"), (1e6, "million")):
        if count >= size:
            return f"{count / size:,.3g} {name}"
    return f"{count:,}"


def _say_percent(share: float) -> str:
    return "0 %" if not share else "< 0.1 %" if share < 0.1 else f"{share:.1f} %"
