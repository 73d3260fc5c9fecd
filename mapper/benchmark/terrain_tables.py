"""Tables of what a suite counted about heights of the ground: by place, land cover and slope, and all of it as rows."""

from collections.abc import Iterator

from mapper.benchmark.results import Report, Result
from mapper.evaluation.metric import HEIGHT_METRICS, choose_metrics
from mapper.evaluation.tables import SEES_TRUTH, Cell, Column, Table, score_columns, score_row
from mapper.evaluation.terrain_tables import CLASSES, TERRAIN_COLUMNS, tabulate_classes
from mapper.evaluation.uncertainty import LEVELS

GROUPS = {"guide+source": "guide + source", "source": "source only", "guide": "guide only", "truth": SEES_TRUTH}
"""Group of a method in tables."""


def counts_terrain(report: Report) -> bool:
    """Return whether the sites of a suite are heights of the ground."""
    return any(outcome.tally.terrain.counted for outcome in report.outcomes)


def place_tables(report: Report) -> list[Table]:
    """Return a table of all scores for each place, and errors by land cover and by slope where it has them."""
    return [table for site in report.samples for table in _describe_place(report, site)]


def class_rows(report: Report) -> list[dict[str, Cell]]:
    """Return a row for each method, place and class of ground with all scores of errors, to compute with.

    The class ``all`` of each place has the scores of its shape, and the shares of errors within intervals, too.
    """
    return [
        {"method": outcome.method.name, "place": site, **row}
        for outcome in report.outcomes
        for site, result in outcome.results.items()
        for row in _list_classes(result)
    ]


def _describe_place(report: Report, site: str) -> list[Table]:
    results = {outcome.method.name: outcome.results[site] for outcome in report.outcomes if site in outcome.results}
    groups = {outcome.method.name: GROUPS[outcome.method.group] for outcome in report.outcomes}
    metrics = choose_metrics(report.target, HEIGHT_METRICS)
    errors = (Column(key=c.key, title=c.title, digits=3, better=c.better) for c in score_columns(metrics.values()))
    levels = (Column(key=f"coverage_{round(100 * level)}", title=f"in {level:.0%}", digits=3) for level in LEVELS)
    covered = any(result.uncertainty for result in results.values())
    rows = [
        score_row(name, result.score, group=groups[name]) | result.tally.terrain.values() | _cover(result)
        for name, result in results.items()
    ]
    columns = (*errors, *TERRAIN_COLUMNS, *(levels if covered else ()))
    whole = Table(title=f"## {site} ({report.units})", columns=columns, rows=rows)
    terrains = {name: result.tally.terrain for name, result in results.items()}
    return [whole, *tabulate_classes(terrains, report.target, place=site, groups=groups)]


def _cover(result: Result) -> dict[str, Cell]:
    if result.uncertainty is None:
        return {}
    return {f"coverage_{round(100 * level)}": result.uncertainty.coverage.share(level) for level in LEVELS}


def _list_classes(result: Result) -> Iterator[dict[str, Cell]]:
    whole: dict[str, Cell] = {"by": "", "class": "all", "n": result.score.n}
    errors = {name: result.score.value(name) for name in HEIGHT_METRICS}
    yield whole | errors | result.tally.terrain.values() | _cover(result)
    for what in CLASSES:
        for name, score in getattr(result.tally.terrain, what).items():
            if score.n:
                yield {"by": what, "class": name, "n": score.n, **score.values()}
