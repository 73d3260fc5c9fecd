"""Tables of what a suite counted about heights of the ground: by place, land cover and slope, and all of it as rows."""

from collections.abc import Iterator

from mapper.benchmark.results import Outcome, Report, Result
from mapper.evaluation.metric import HEIGHT_METRICS, choose_metrics
from mapper.evaluation.relief import COVER
from mapper.evaluation.score import Score
from mapper.evaluation.tables import SEES_TRUTH, Cell, Column, Table, score_columns, score_row
from mapper.evaluation.terrain import SLOPES, TERRAIN_SCORES
from mapper.evaluation.uncertainty import LEVELS

GROUPS = {"guide+source": "guide + source", "source": "source only", "guide": "guide only", "truth": SEES_TRUTH}
"""Group of a method in tables."""

TERRAIN_COLUMNS = tuple(
    Column(
        key=key, title=title, units=units, digits=4 if key.startswith("pits") else 0 if units == "m³" else 2, better=b
    )
    for key, (title, units, b) in TERRAIN_SCORES.items()
)
"""Columns of the scores of the shape of the ground."""


_TITLES = {"cover": "land cover", "slope": "true slope"}
_PAIR = ("bias", "rmse")


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


def _describe_place(report: Report, site: str) -> Iterator[Table]:
    scored = [(outcome, outcome.results[site]) for outcome in report.outcomes if site in outcome.results]
    metrics = choose_metrics(report.target, HEIGHT_METRICS)
    columns = tuple(
        Column(key=c.key, title=c.title, digits=3, better=c.better) for c in score_columns(metrics.values())
    )
    levels = tuple(Column(key=f"coverage_{round(100 * level)}", title=f"in {level:.0%}", digits=3) for level in LEVELS)
    with_sd = any(result.uncertainty for _, result in scored)
    rows = [_score_place(outcome, result) for outcome, result in scored]
    shown = (*columns, *TERRAIN_COLUMNS, *(levels if with_sd else ()))
    yield Table(title=f"## {site} ({report.units})", columns=shown, rows=rows)
    for what, names in (("cover", COVER), ("slope", SLOPES)):
        classes = [(outcome, getattr(result.tally.terrain, what)) for outcome, result in scored]
        present = [name for name in names if any(scores.get(name, Score()).n for _, scores in classes)]
        if not present:
            continue
        pairs = tuple(
            Column(key=f"{name} {metric}", title=f"{name} {metrics[metric].title}", better=metrics[metric].better)
            for name in present
            for metric in _PAIR
        )
        cells: list[dict[str, Cell]] = [
            {
                "group": GROUPS[outcome.method.group],
                "method": outcome.method.name,
                **{f"{name} {metric}": scores[name].value(metric) for name in present for metric in _PAIR},
            }
            for outcome, scores in classes
        ]
        yield Table(title=f"{site}: bias and RMSE by {_TITLES[what]} ({report.units})", columns=pairs, rows=cells)


def _score_place(outcome: Outcome, result: Result) -> dict[str, Cell]:
    group = GROUPS[outcome.method.group]
    return score_row(outcome.method.name, result.score, group=group) | result.tally.terrain.values() | _cover(result)


def _cover(result: Result) -> dict[str, Cell]:
    if result.uncertainty is None:
        return {}
    return {f"coverage_{round(100 * level)}": result.uncertainty.coverage.share(level) for level in LEVELS}


def _list_classes(result: Result) -> Iterator[dict[str, Cell]]:
    whole = {name: result.score.value(name) for name in HEIGHT_METRICS}
    yield {
        "by": "",
        "class": "all",
        "n": result.score.n,
        **whole,
        **result.tally.terrain.values(),
        **_cover(result),
    }
    for what in _TITLES:
        for name, score in getattr(result.tally.terrain, what).items():
            if score.n:
                yield {"by": what, "class": name, "n": score.n, **score.values()}
