"""Pictures of scores are drawn, for one method and for many, and for none that has anything to show."""

import numpy as np
import pytest
from matplotlib.image import imread
from targets import BIOMASS

from mapper.evaluation.bins import Bins
from mapper.evaluation.density import Density
from mapper.evaluation.plots import plot_bins, plot_maps, plot_reliability, plot_scatter, plot_tallies
from mapper.evaluation.tally import Tally, Uncertainty
from mapper.evaluation.uncertainty import Coverage

LABEL = "above-ground biomass (Mg ha-1)"


@pytest.fixture
def truth():
    return np.random.default_rng(1).gamma(1.5, 60, (60, 80))


def make_maps(truth, number):
    rng = np.random.default_rng(2)
    return {f"method {index}": truth + rng.normal(0, 10 + 5 * index, truth.shape) for index in range(number)}


def assert_drawn(path, width=500):
    image = imread(path)
    assert image.shape[1] > width
    assert image[..., :3].std() > 0.05


@pytest.mark.parametrize("number", [1, 3, 7])
def test_all_pictures_of_some_methods(tmp_path, truth, number):
    maps = make_maps(truth, number)
    tallies = {name: Tally.of(value, truth, target=BIOMASS) for name, value in maps.items()}
    uncertainties = {
        name: Uncertainty.of(v - truth, np.full(truth.shape, 12.0), target=BIOMASS) for name, v in maps.items()
    }
    paths = plot_tallies(
        tallies, tmp_path / "new", units="Mg ha-1", quantity="above-ground biomass", uncertainties=uncertainties
    )
    assert [path.name for path in paths] == ["scatter.png", "bins.png", "reliability.png"]
    for path in paths:
        assert_drawn(path)


def test_methods_without_deviations_have_no_reliability(tmp_path, truth):
    paths = plot_tallies(
        {"a": Tally.of(truth, truth, target=BIOMASS)},
        tmp_path,
        units="m",
        quantity="height",
        uncertainties={"a": Uncertainty()},
    )
    assert [path.name for path in paths] == ["scatter.png", "bins.png"]


def test_more_methods_than_colours_are_drawn(tmp_path, truth):
    bins = {name: Bins.of(value, truth, BIOMASS.classes) for name, value in make_maps(truth, 12).items()}
    assert_drawn(plot_bins(bins, tmp_path / "bins.png", units="Mg ha-1"))


def test_reliability_is_drawn_without_errors_by_deviation(tmp_path):
    coverage = Coverage.of(np.random.default_rng(3).normal(0, 1, 500), np.ones(500))
    assert_drawn(plot_reliability({"a": coverage}, tmp_path / "r.png", units="Mg ha-1"))


def test_maps_are_drawn_beside_the_coarser_source(tmp_path, truth):
    gaps = truth.copy()
    gaps[:5] = np.nan
    maps = {"source": truth.reshape(6, 10, 8, 10).mean((1, 3)), "map": gaps}
    guide = np.random.default_rng(4).uniform(0, 1, (60, 80, 3))
    assert_drawn(plot_maps(maps, truth, tmp_path / "maps.png", label=LABEL, guide=guide))


def test_nothing_compared_is_an_empty_panel_not_an_error(tmp_path):
    nothing = Tally()
    path = plot_scatter({"a": nothing.density}, {"a": nothing.score}, tmp_path / "s.png", label=LABEL)
    assert path.exists()
    assert plot_bins({"a": nothing.bins}, tmp_path / "b.png", units="m").exists()


def test_methods_with_other_classes_are_refused(tmp_path, truth):
    bins = {"a": Bins.of(truth, truth, (0, 10)), "b": Bins.of(truth, truth, (0, 20))}
    with pytest.raises(ValueError, match="different classes"):
        plot_bins(bins, tmp_path / "b.png", units="m")


def test_densities_count_every_pixel_and_pool(truth):
    value = truth + 40
    whole = Density.of(value, truth, high=500)
    assert whole.n == truth.size
    parts = Density() + Density.of(value[:20], truth[:20], high=500) + Density.of(value[20:], truth[20:], high=500)
    np.testing.assert_array_equal(parts.counts, whole.counts)
    rows, cols = np.nonzero(whole.counts[:-1])
    assert set(rows - cols) == {10}, "40 units above the diagonal are 10 cells of 4"


def test_densities_of_other_limits_do_not_pool(truth):
    with pytest.raises(ValueError, match="from 0 to 500 and from -5 to 50 do not add up"):
        Density.of(truth, truth, high=500) + Density.of(truth, truth, low=-5, high=50)
    with pytest.raises(ValueError, match="axes must rise"):
        Density.of(truth, truth, high=0)


def test_axes_may_begin_below_zero():
    density = Density.of(np.array([-50.0, 0.0]), np.array([-50.0, 49.9]), low=-50, high=50)
    rows, cols = np.nonzero(density.counts)
    assert list(zip(rows, cols, strict=True)) == [(0, 0), (62, 124)]


def test_a_target_without_range_or_classes_has_scores_but_neither_picture(tmp_path, truth):
    bare = BIOMASS.model_copy(update={"value_range": None, "classes": (), "sd_classes": ()})
    tally = Tally.of(truth + 1, truth, target=bare) + Tally.of(truth + 3, truth, target=bare)
    assert tally.score.value("bias") == pytest.approx(2)
    assert plot_tallies({"a": tally}, tmp_path, units="m", quantity="height") == []
    assert Uncertainty.of(truth, truth, target=bare).by_sd.table() == ()


def test_median_errors_of_a_target_without_range_follow_its_classes(truth):
    bare = BIOMASS.model_copy(update={"value_range": None})
    bins = Tally.of(truth + 1.1, truth, target=bare).bins
    assert bins.error_step == pytest.approx(0.2), "the widest class is 100"
    assert bins.median_error[0] == pytest.approx(1.1, abs=0.1 + 1e-9)
