"""Tables hold every row, in groups, the best in bold; CSV keeps what Markdown rounds."""

import csv
import io
import math

import numpy as np
import pytest
from targets import BIOMASS

from mapper.evaluation.metric import METRICS, choose_metrics
from mapper.evaluation.score import Score
from mapper.evaluation.tables import (
    GROUPS,
    Column,
    Table,
    coverage_table,
    score_columns,
    score_row,
    to_csv,
    to_markdown,
)
from mapper.evaluation.uncertainty import Coverage


def columns_of(*names):
    return score_columns(choose_metrics(BIOMASS, names).values())


@pytest.fixture
def rows():
    truth = np.random.default_rng(1).uniform(0, 300, (20, 20))
    errors = {"unet": 40, "bicubic": 30, "msg": 10}
    groups = {"unet": "guide only", "bicubic": "source only", "msg": "guide + source"}
    return [
        score_row(
            name,
            Score.of(truth + error, truth, metrics=choose_metrics(BIOMASS)),
            group=groups[name],
            parameters=1_234_567 + error,
        )
        for name, error in errors.items()
    ]


def cells_of(markdown):
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in markdown.splitlines()]


def test_rows_are_gathered_in_groups_with_units_above(rows):
    header, rule, *body = cells_of(to_markdown(rows, columns_of("rmse", "psnr")))
    assert header == ["group", "method", "RMSE (Mg ha-1)", "PSNR (dB)"]
    assert rule[2].endswith("-:")
    assert [(line[0], line[1]) for line in body] == list(zip(GROUPS, ("msg", "bicubic", "unet"), strict=True))


def test_the_best_is_bold_at_its_own_end(rows):
    body = cells_of(to_markdown(rows, columns_of("rmse", "psnr", "bias")))[2:]
    assert body[0][2:] == ["**10.00**", "**33.98**", "10.00"], "a bias has no better end"
    assert not any("**" in cell for line in body[1:] for cell in line)


def test_lines_are_aligned_for_those_who_read_the_text(rows):
    lines = to_markdown(rows, columns_of()).splitlines()
    assert len({len(line) for line in lines}) == 1


def test_a_group_is_named_once_and_no_group_at_all_not_shown(rows):
    same = [{**row, "group": "source only"} for row in rows]
    assert [line[0] for line in cells_of(to_markdown(same, ()))[2:]] == ["source only", "", ""]
    none = [{**row, "group": ""} for row in rows]
    assert cells_of(to_markdown(none, ()))[0] == ["method"]


def test_missing_undefined_and_negative_zero_read_well():
    columns = (Column(key="x", title="|x|", better="lower"), Column(key="n", title="n"))
    rows = [{"method": "a|b", "x": math.nan, "n": 12345}, {"method": "c", "x": -0.0001, "n": None}]
    text = to_markdown(rows, columns)
    assert "a\\|b" in text
    assert "\\|x\\|" in text
    assert cells_of(text.replace("\\|", ""))[2:] == [["ab", "-", "12,345"], ["c", "0.00", "-"]]


def test_csv_keeps_full_precision_and_names_units(rows):
    table = list(csv.DictReader(io.StringIO(to_csv(rows, columns_of()))))
    assert [float(line["rmse (Mg ha-1)"]) for line in table] == [row["rmse"] for row in rows]
    assert table[0]["residual_mean (Mg ha-1)"] == ""
    assert table[0]["parameters"] == "1234607"


def test_every_metric_has_a_column():
    assert tuple(column.key for column in columns_of(*METRICS)) == tuple(METRICS)


def test_a_table_stands_below_its_title_its_rows_named_by_the_first_column(rows):
    title, _, *lines = Table(title="scores", columns=columns_of("rmse"), rows=rows).to_markdown().splitlines()
    assert title == "scores"
    assert len(lines) == 2 + len(rows)
    coverage = Coverage.of(np.random.default_rng(3).normal(0, 10, 9000), np.full(9000, 10.0))
    header, _, *body = cells_of(to_markdown_of(coverage_table(coverage, title="intervals")))
    assert header == ["nominal", "observed (%)", "mean width"]
    assert [line[0] for line in body] == ["68%", "90%", "95%"]
    assert float(body[1][1]) == pytest.approx(90, abs=1.5)


def to_markdown_of(table):
    return table.to_markdown().split("\n\n", 1)[1]
