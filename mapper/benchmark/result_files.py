"""The report of a suite as files: Markdown, CSV in full precision, JSON, and pictures."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from mapper.benchmark.results import Outcome, Report
from mapper.benchmark.scene_results import SceneReport
from mapper.benchmark.sites import slug
from mapper.benchmark.terrain_tables import GROUPS, class_rows, counts_terrain, place_tables
from mapper.evaluation.drainage import NEAR_PX, STREAM_PX
from mapper.evaluation.metric import HEIGHT_METRICS, choose_metrics
from mapper.evaluation.plots import plot_maps, plot_tallies
from mapper.evaluation.relief import Ground
from mapper.evaluation.tables import Cell, Column, score_columns, score_row, to_csv, to_markdown
from mapper.evaluation.terrain_plots import plot_classes, plot_relief
from mapper.evaluation.terrain_tables import TERRAIN_COLUMNS
from mapper.evaluation.uncertainty import LEVELS
from mapper.training.sample import Sample

_METRICS = ("rmse", "mae", "bias", "r2", "psnr", "ssim", "gradient_rmse", "residual_mean")


_STREAMS = f"{STREAM_PX} px drain through them, found within {NEAR_PX} px"
_TERRAIN_NOTES = (
    "- pooled scores of a method are over the sites that it is scored at; `/ bicubic` is over the same sites",
    "- slopes by Horn's 3 x 3 in metres; pits: share of pixels lower than all eight neighbours",
    f"- streams: {_STREAMS}; seam ratio: second differences across edges of source pixels / elsewhere",
    "- land cover is that of the whole mask, also where the guide lacks some of it",
)


def write_report(report: Report | SceneReport, work: Path) -> dict[str, Path]:
    """Write ``suite.md``, ``suite.csv``, ``suite.json``, the pictures of maps, and of heights ``classes.csv``.

    Args:
        report: Findings of a suite.
        work: Folder; made if it is missing.

    Returns:
        Name of each file to its path.
    """
    work.mkdir(parents=True, exist_ok=True)
    pictures = [] if isinstance(report, SceneReport) else draw(report, work)
    if isinstance(report, SceneReport):
        rows: list[dict[str, Cell]] = [{"place": group, **row} for group in report.groups for row in report.rows(group)]
        texts = {"suite.md": report.to_text(), "suite.csv": to_csv(rows)}
    else:
        table = to_csv(table_rows(report), table_columns(report))
        texts = {"suite.md": to_text(report, pictures=pictures), "suite.csv": table}
        texts |= {"classes.csv": to_csv(class_rows(report))} if counts_terrain(report) else {}
    texts["suite.json"] = json.dumps(report.to_dict(), indent=2, default=str) + "\n"
    for name, text in texts.items():
        (work / name).write_text(text)
    return {name: work / name for name in texts} | {path.name: path for path in pictures}


def table_columns(report: Report) -> tuple[Column, ...]:
    """Return the columns of the main table; of those with units, most are in those of the target."""
    units = report.units
    heights = counts_terrain(report)
    metrics = choose_metrics(report.target, (*HEIGHT_METRICS, "residual_mean") if heights else _METRICS)
    scores = {column.key: column for column in score_columns(metrics.values())}
    native = [Column(key="rmse_native", title="native", units=units, better="lower")] if report.suite.native else []
    levels = [Column(key=f"coverage_{round(100 * level)}", title=f"in {level:.0%}", digits=3) for level in LEVELS]
    sites = [Column(key=f"rmse {name}", title=name, units=units, better="lower") for name in report.samples]
    return (
        Column(key="parameters", title="parameters"),
        scores.pop("rmse"),
        Column(key="rmse_mean", title="mean of sites", units=units, better="lower"),
        Column(key="ratio", title="/ bicubic", digits=3, better="lower"),
        *native,
        *scores.values(),
        *(column for column in TERRAIN_COLUMNS if heights and column.key == "slope_rmse"),
        *(levels if any(outcome.coverage for outcome in report.outcomes) else ()),
        Column(key="mpx_per_second", title="Mpx/s"),
        *(sites if len(sites) > 1 else ()),
    )


def table_rows(report: Report) -> list[dict[str, Cell]]:
    """Return the rows of the main table, one for each method."""
    return [_row(report, outcome) for outcome in report.outcomes]


def to_text(report: Report | SceneReport, *, pictures: Sequence[Path] = ()) -> str:
    """Return the report in Markdown: the main table, errors by class of the truth, and how it was made."""
    if isinstance(report, SceneReport):
        return report.to_text()
    suite = report.suite
    columns = [replace(column, units="") for column in table_columns(report)]
    parts = [f"# {suite.title}", _describe(report), to_markdown(table_rows(report), columns)]
    parts += [table.to_markdown() for table in place_tables(report)] if counts_terrain(report) else []
    classes = _bin_columns(report)
    for quantity, title in (("bias", "Bias"), ("rmse", "RMSE"), ("median_error", "Median error")) if classes else ():
        rows = [_bin_row(outcome, quantity) for outcome in report.outcomes]
        parts += [f"## {title} by class of the truth ({report.units})", to_markdown(rows, classes)]
    if pictures:
        parts += ["\n".join(f"![{path.stem}]({path.name})" for path in pictures)]
    return "\n\n".join(part.strip() for part in parts) + "\n"


def draw(report: Report, work: Path) -> list[Path]:
    """Draw scatter, errors by class and reliability, and a panel of maps for each site; return the paths."""
    target = report.target
    tallies = {outcome.method.name: outcome.tally for outcome in report.outcomes}
    uncertainties = {outcome.method.name: u for outcome in report.outcomes if (u := outcome.uncertainty) is not None}
    paths = plot_tallies(
        tallies, work, units=report.units, quantity=target.long_name or "value", uncertainties=uncertainties
    )
    for site, sample in report.samples.items():
        if sample.ground is not None:
            paths += _draw_ground(report, site, sample, sample.ground, work)
            continue
        maps = {o.method.name: o.results[site].value for o in report.outcomes if site in o.results}
        path = work / f"maps-{slug(site)}.png"
        shown = {"source": sample.source} | maps
        paths.append(plot_maps(shown, sample.truth, path, label=report.units, low=target.bounds[0]))
    return paths


def _draw_ground(report: Report, site: str, sample: Sample, ground: Ground, work: Path) -> list[Path]:
    """Draw the hillshades of a site and its errors by class; return the paths."""
    results = {o.method.name: o.results[site] for o in report.outcomes if site in o.results}
    maps = {name: result.value for name, result in results.items()}
    terrains = {name: result.tally.terrain for name, result in results.items()}
    relief = plot_relief(maps, sample.truth, work / f"relief-{slug(site)}.png", source=sample.source, ground=ground)
    return [relief, plot_classes(terrains, work / f"classes-{slug(site)}.png", units=report.units)]


def _describe(report: Report) -> str:
    suite, sites = report.suite, report.samples
    sources = sorted({sample.degradation for sample in sites.values() if sample.degradation})
    scales = [f"{scale} x {scale}" for scale in sorted({sample.scale for sample in sites.values()})]
    span, heights = report.target.value_range, counts_terrain(report)
    native = ", at the label's own (`native`) resolution" if suite.native else ""
    lines = [
        f"- sites: {', '.join(f'{name} ({s.truth.shape[1]} x {s.truth.shape[0]} px)' for name, s in sites.items())}",
        f"- source pixel: {' or '.join(scales)} target pixels; {'; '.join(sources) or 'as delivered'}",
        f"- errors are in {report.units}: RMSE over all pixels, its mean over sites{native}, and by site",
        "- the block residual is the mean of |block mean of map - source|",
        *(_TERRAIN_NOTES if heights else [f"- gradients are in {report.units} per pixel"]),
        *([f"- PSNR (dB) and SSIM refer to a fixed range of {span:g} {report.units}"] if span and not heights else []),
        "- `in 90%`: share of errors within the interval that is to hold 90 %",
        f"- Mpx/s: from arrays in memory to arrays in memory, on {report.device}",
        *(f"- {outcome.method.name}: {text}" for outcome in report.outcomes if (text := _describe_method(outcome))),
        *(f"- {note}" for note in report.notes),
    ]
    return "\n".join(lines)


def _describe_method(outcome: Outcome) -> str:
    """Return what a reader must know of a method beside its figures."""
    method, notes = outcome.method, []
    if method.recipe is not None:
        notes.append(f"trained for each site on all others ({method.recipe.name})")
    if method.wald is not None:
        notes.append(f"trained for each site on its own source by Wald's protocol ({method.wald.name})")
    if method.per_scene is not None:
        notes.append("fitted to each site" + "".join(f", {key} {value}" for key, value in method.options.items()))
    if method.consistency != "none":
        notes.append(f"consistency {method.consistency}")
    return ", ".join(notes)


def _row(report: Report, outcome: Outcome) -> dict[str, Cell]:
    scores, native, coverage = outcome.scores, outcome.native, outcome.coverage
    row = score_row(outcome.method.name, scores.pooled, group=GROUPS[outcome.method.group])
    row |= {"parameters": outcome.parameters, "rmse_mean": scores.mean(), "ratio": report.ratio(outcome)}
    if native is not None:
        row |= {"rmse_native": native.pooled.value("rmse"), "rmse_native_mean": native.mean()}
    row |= {f"coverage_{round(100 * level)}": coverage.share(level) if coverage else None for level in LEVELS}
    row |= outcome.tally.terrain.values()
    row["mpx_per_second"] = outcome.mpx_per_second
    return row | {f"rmse {name}": score.value("rmse") for name, score in scores.sites.items()}


def _bin_columns(report: Report) -> tuple[Column, ...]:
    return tuple(Column(key=label, title=label, digits=1) for label in report.outcomes[0].tally.bins.labels)


def _bin_row(outcome: Outcome, quantity: str) -> dict[str, Cell]:
    values: Sequence[float] = getattr(outcome.tally.bins, quantity)
    return {"method": outcome.method.name} | dict(zip(outcome.tally.bins.labels, values, strict=True))
