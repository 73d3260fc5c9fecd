"""A finished map is compared with its truth on the pixels that all have, whatever blocks it is read in."""

import numpy as np
import pytest
import xarray as xr

from mapper.catalog.provider import load_provider
from mapper.catalog.search import search_collection
from mapper.evaluation import score_map as compare
from mapper.evaluation.score_map import compare_methods, draw_comparison, find_truth, read_truth
from mapper.grid import Window
from mapper.models.weights import load_model
from mapper.predict.predictor import Predictor
from mapper.spec import ModelSpec, read_spec


@pytest.fixture(scope="module")
def parts(made_region):
    """Arguments of a comparison, and the truth of the whole map."""
    spec = read_spec(made_region.map)
    provider, truth, grid = load_provider(spec.catalog.provider), find_truth(spec, "truth:agb"), spec.map_grid
    whole = Window(top=0, left=0, bottom=grid.shape[0], right=grid.shape[1])
    known = np.where(grid.inside_area(whole), read_truth(grid, whole, truth, provider), np.nan)
    arguments = {
        "items": search_collection(spec, spec.source.collection), "provider": provider, "truth": truth,
        "interpolations": {"nearest": Predictor(load_model(ModelSpec(name="nearest")))},
    }  # fmt: skip
    return spec, arguments, known


def write(known, *, sd):
    """A map that errs as much as it announces, with a gap; deviations left out where sd is 0."""
    value = known + np.random.default_rng(1).normal(0, sd or 1, known.shape)
    value[40:50, 30:70] = np.nan
    arrays = {"agb": value.astype(np.float32)}
    if sd:
        arrays["agb_sd"] = np.full(known.shape, sd, np.float32)
    return xr.Dataset({name: (("y", "x"), array) for name, array in arrays.items()})


def test_the_map_is_scored_where_all_have_a_value(parts):
    spec, arguments, known = parts
    written = write(known, sd=12)
    result = compare_methods(spec, **arguments, written=written)
    error = written["agb"].to_numpy().astype(float) - known
    own, nearest = result.scores[result.own], result.scores["nearest"]
    assert own.n == nearest.n == np.isfinite(error).sum()
    assert own.value("rmse") == pytest.approx(np.sqrt(np.nanmean(error**2)), rel=1e-4)
    assert nearest.value("residual_max") < 1e-3


def test_the_deviations_of_the_map_are_checked(parts):
    spec, arguments, known = parts
    coverage = compare_methods(spec, **arguments, written=write(known, sd=12)).uncertainty.coverage
    for level in (0.68, 0.9, 0.95):
        assert coverage.share(level) == pytest.approx(level, abs=0.02)
    assert coverage.mean_sd == pytest.approx(12)


def test_a_map_without_deviations_has_no_coverage(parts):
    spec, arguments, known = parts
    result = compare_methods(spec, **arguments, written=write(known, sd=0))
    assert result.uncertainty.coverage.n == 0
    assert result.to_dict()["uncertainty"] is None
    assert len(result.tables()) == 1


def test_tables_hold_every_metric_of_every_method(parts):
    spec, arguments, known = parts
    scores, intervals = compare_methods(spec, **arguments, written=write(known, sd=12)).tables()
    for table in (scores, intervals):
        assert table.title.endswith("Mg ha-1")
        assert all({column.key for column in table.columns} < row.keys() for row in table.rows)
    assert [row["method"] for row in scores.rows] == ["nearest", spec.model.name]
    assert [row["method"] for row in intervals.rows] == ["68%", "90%", "95%"]


def test_blocks_do_not_change_scores_of_pixels(parts, monkeypatch):
    spec, arguments, known = parts
    written = write(known, sd=12)
    whole = compare_methods(spec, **arguments, written=written)
    monkeypatch.setattr(compare, "_BLOCK_PX", 90)
    blocks = compare_methods(spec, **arguments, written=written)
    for name in whole.scores:
        a, b = whole.tallies[name], blocks.tallies[name]
        assert b.score.n == a.score.n
        assert b.score.value("rmse") == pytest.approx(a.score.value("rmse"))
        assert b.score.value("residual_max") == pytest.approx(a.score.value("residual_max"), abs=1e-4)
        assert b.bins.n == a.bins.n
        np.testing.assert_array_equal(b.density.counts, a.density.counts)
        assert b.score.value("ssim") == pytest.approx(a.score.value("ssim"), abs=0.05), (
            "only windows across blocks are missing"
        )
    assert blocks.uncertainty.coverage.hits == whole.uncertainty.coverage.hits


def test_pictures_of_a_comparison_are_drawn(parts, tmp_path):
    spec, arguments, known = parts
    result = compare_methods(spec, **arguments, written=write(known, sd=12))
    paths = draw_comparison(result, tmp_path / "plots")
    assert {path.name for path in paths} == {"scatter.png", "bins.png", "reliability.png"}
    assert all(path.stat().st_size > 10_000 for path in paths)
