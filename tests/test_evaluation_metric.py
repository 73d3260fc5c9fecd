"""Scores agree with numpy and pool over parts."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from targets import BIOMASS

from mapper.errors import InputError
from mapper.evaluation.metric import METRICS, Metric, choose_metrics
from mapper.evaluation.score import Score, Scores, pool
from mapper.spec.target import BandSpec

NO_SOURCE = np.empty((0, 0))


def score_of(value, truth, source=NO_SOURCE, *, names=(), **target):
    """Score of a biomass map, or of a target that differs."""
    return Score.of(value, truth, source, metrics=choose_metrics(BIOMASS.model_copy(update=target), names))


pairs = hnp.arrays(np.float64, (2, 24), elements=st.floats(0, 500))


@given(pairs)
def test_scores_agree_with_numpy(pair):
    value, truth = pair
    score = score_of(value, truth)
    assert score.value("rmse") == pytest.approx(np.sqrt(np.mean((value - truth) ** 2)))
    assert score.value("mae") == pytest.approx(np.mean(np.abs(value - truth)))
    assert score.value("bias") == pytest.approx(np.mean(value - truth), abs=1e-9)


@given(pairs, st.integers(0, 24))
def test_scores_of_parts_pool_to_the_score_of_the_whole(pair, cut):
    value, truth = pair
    pooled = score_of(value[:cut], truth[:cut]) + score_of(value[cut:], truth[cut:])
    whole = score_of(value, truth)
    assert pooled.n == whole.n
    assert pooled.value("rmse") == pytest.approx(whole.value("rmse"))
    assert pooled.value("bias") == pytest.approx(whole.value("bias"), abs=1e-9)


def test_missing_pixels_of_either_side_do_not_count():
    value = np.array([1.0, np.nan, 3.0, 5.0])
    truth = np.array([1.0, 2.0, np.nan, 4.0])
    score = score_of(value, truth)
    assert score.n == 2
    assert score.value("bias") == 0.5


def test_no_pixel_gives_nan_not_zero():
    assert np.isnan(Score().value("rmse"))
    assert np.isnan(Score().value("bias"))
    assert np.isnan(Score().value("r2"))


def test_r2_of_the_truth_is_one_and_of_its_mean_is_zero():
    truth = np.array([0.0, 10.0, 20.0, 50.0])
    assert score_of(truth, truth).value("r2") == pytest.approx(1)
    assert score_of(np.full(4, truth.mean()), truth).value("r2") == pytest.approx(0)


def test_other_shapes_are_refused():
    with pytest.raises(ValueError, match="shape"):
        score_of(np.zeros(3), np.zeros(4))


def gaussian_window():
    """11 x 11 weights of sigma 1.5 that sum to 1."""
    rows, cols = np.mgrid[-5:6, -5:6]
    weights = np.exp(-(rows**2 + cols**2) / (2 * 1.5**2))
    return weights / weights.sum()


def brute_ssim(value, truth, data_range):
    """Wang et al. 2004, equations 13-16, window by window; gaps leave a window out."""
    weights, found = gaussian_window(), []
    c1, c2 = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
    for row in range(value.shape[0] - 10):
        for col in range(value.shape[1] - 10):
            a, b = value[row : row + 11, col : col + 11], truth[row : row + 11, col : col + 11]
            if np.isnan(a + b).any():
                continue
            mean_a, mean_b = (weights * a).sum(), (weights * b).sum()
            var_a, var_b = (weights * (a - mean_a) ** 2).sum(), (weights * (b - mean_b) ** 2).sum()
            both = (weights * (a - mean_a) * (b - mean_b)).sum()
            luminance = (2 * mean_a * mean_b + c1) / (mean_a**2 + mean_b**2 + c1)
            found.append(luminance * (2 * both + c2) / (var_a + var_b + c2))
    return found


@pytest.fixture
def landscapes():
    """Smooth truth, and a map of it with noise and gaps on either side; float32 as maps are."""
    rng = np.random.default_rng(5)
    truth = (150 + 100 * np.sin(np.arange(30) / 4)[:, None] * np.cos(np.arange(40) / 5)).astype(np.float32)
    value = (truth + rng.normal(0, 25, truth.shape)).astype(np.float32)
    value[3, 4] = np.nan
    truth = truth.copy()
    truth[25, 33:35] = np.nan
    return value, truth


@pytest.mark.parametrize("data_range", [500.0, 60.0])
def test_ssim_is_that_of_the_paper_over_windows_without_gaps(landscapes, data_range):
    value, truth = landscapes
    expected = brute_ssim(value.astype(float), truth.astype(float), data_range)
    score = score_of(value, truth, value_range=data_range)
    assert score.sums["ssim"][0] == len(expected)
    assert 0 < len(expected) < 20 * 30
    assert score.value("ssim") == pytest.approx(np.mean(expected), abs=1e-9)


def test_a_map_equal_to_the_truth_is_similar_everywhere_and_has_no_noise(landscapes):
    truth = landscapes[1]
    score = score_of(truth, truth)
    assert score.value("ssim") == pytest.approx(1)
    assert score.value("psnr") == np.inf
    assert score.value("gradient_rmse") == 0
    assert score.to_dict()["psnr"] is None, "JSON knows no infinity"


def test_a_shift_of_both_changes_no_pixelwise_score_and_a_bias_no_gradient(landscapes):
    value, truth = landscapes
    score, moved = score_of(value, truth), score_of(value + 100, truth + 100)
    for name in ("rmse", "mae", "bias", "r2", "psnr", "gradient_rmse"):
        assert moved.value(name) == pytest.approx(score.value(name), rel=1e-5), name
    assert score_of(truth + 7, truth).value("gradient_rmse") == pytest.approx(0, abs=1e-5)


def test_the_gradient_of_a_missed_ramp_is_its_slope():
    rows, cols = np.mgrid[:20, :30].astype(float)
    score = score_of(np.zeros((20, 30)), 3 * rows + 4 * cols)
    assert score.value("gradient_rmse") == pytest.approx(5)
    assert score.sums["gradient_rmse"][0] == 18 * 28


def test_gradients_need_all_neighbours_and_the_pixel_itself():
    value = np.ones((9, 9))
    value[4, 4] = np.nan
    assert score_of(value, np.zeros((9, 9))).sums["gradient_rmse"][0] == 7 * 7 - 9


def test_psnr_refers_to_the_declared_range():
    truth = np.zeros((4, 4))
    assert score_of(truth + 5, truth).value("psnr") == pytest.approx(40)
    assert score_of(truth + 5, truth, value_range=50).value("psnr") == pytest.approx(20)


def test_scores_of_other_ranges_do_not_pool():
    truth = np.zeros((4, 4))
    with pytest.raises(ValueError, match=r"500\.0 .* and .* 50\.0 "):
        score_of(truth, truth) + score_of(truth, truth, value_range=50)


@pytest.mark.parametrize("data_range", [0, -1, np.nan])
def test_a_range_without_extent_is_refused(data_range):
    with pytest.raises(ValueError, match=r"greater than 0|finite number"):
        score_of(np.zeros(3), np.zeros(3), value_range=data_range)


@pytest.mark.parametrize("shape", [(30,), (5, 40), (2, 2)])
def test_maps_smaller_than_a_window_have_no_similarity(shape):
    score = score_of(np.zeros(shape), np.ones(shape))
    assert np.isnan(score.value("ssim"))
    assert score.value("rmse") == 1


def test_without_source_there_is_no_residual():
    scores = score_of(np.zeros(3), np.ones(3)).to_dict()
    assert scores["residual_mean"] is None
    assert scores["residual_max"] is None


def test_residuals_are_those_of_blocks_the_largest_of_all_parts():
    value = np.kron([[1.0, 5.0, np.nan]], np.ones((2, 2)))
    truth, source = np.full(value.shape, np.nan), np.array([[2.0, 2.0, 2.0]])
    blocks = score_of(value, truth, source)
    assert (blocks.value("residual_mean"), blocks.value("residual_max")) == (2, 3)
    pooled = blocks + score_of(value[:, :2], truth[:, :2], np.array([[11.0]]))
    assert (pooled.value("residual_mean"), pooled.value("residual_max")) == (pytest.approx((1 + 3 + 10) / 3), 10)
    assert np.isnan(blocks.value("rmse")), "no truth, no error"


def test_a_target_without_range_has_no_similarity_and_no_psnr(landscapes):
    scores = score_of(*landscapes, value_range=None).to_dict()
    assert (scores["ssim"], scores["psnr"], scores["data_range"]) == (None, None, None)
    assert scores["rmse"] > 0


def test_metrics_know_units_and_direction():
    known = choose_metrics(BandSpec(units="m"), heights=True)
    assert list(known) == list(METRICS)
    assert {name: metric.units for name, metric in known.items()} == {
        "rmse": "m", "mae": "m", "bias": "m", "median_error": "m", "nmad": "m", "le90": "m", "le95": "m",
        "r2": "", "psnr": "dB", "ssim": "", "gradient_rmse": "m / px",
        "residual_mean": "m", "residual_max": "m",
    }  # fmt: skip
    assert {name for name, metric in known.items() if metric.better == "higher"} == {"r2", "psnr", "ssim"}
    assert known["bias"].better == "zero"


def test_chosen_metrics_alone_are_scored():
    score = score_of(np.zeros(3), np.ones(3), names=("bias",))
    assert score.values() == {"bias": -1}
    with pytest.raises(ValueError, match="rmse was not scored; there are bias"):
        score.value("rmse")
    with pytest.raises(ValueError, match="no metrics lpips; there are rmse, mae"):
        choose_metrics(BandSpec(), ("rmse", "lpips"))
    with pytest.raises(ValueError, match="do not add up"):
        score + score_of(np.zeros(3), np.ones(3), names=("rmse",))


class Share(Metric):
    """Share of pixels that err by less than a tenth of the range of values."""

    name, title, better = "share", "within 10 %", "higher"
    units = ""

    def sums(self, value, truth, source):
        del source
        near = np.abs(value - truth) < self.target.value_range / 10
        return np.array([np.isfinite(value - truth).sum(), near.sum()], float)

    def score(self, sums):
        return float(sums[1] / sums[0])


def test_a_metric_of_another_package_is_scored_pooled_and_reported(offer):
    offer(METRICS, share=Share)
    parts = [score_of(np.array([0.0, 10, 200]), np.zeros(3)), score_of(np.array([0.0]), np.zeros(1))]
    assert pool(parts).value("share") == 0.75
    assert pool(parts).to_dict()["share"] == 0.75
    assert list(METRICS)[-1] == "share"


def test_what_is_no_metric_is_refused(offer):
    offer(METRICS, share=dict)
    with pytest.raises(InputError, match=r"mapper\.metrics:share .* of toys .* expected"):
        choose_metrics(BandSpec())


def test_places_pool_by_pixel_and_average_by_place():
    large, small = score_of(np.full(90, 1.0), np.zeros(90)), score_of(np.full(10, 11.0), np.zeros(10))
    scores = Scores(sites={"large": large, "small": small})
    assert scores.pooled.value("rmse") == pytest.approx(np.sqrt((90 * 1 + 10 * 121) / 100))
    assert scores.mean("rmse") == pytest.approx(6)
    assert np.isnan(scores.mean("ssim"))
    assert scores.to_dict()["places"]["small"]["rmse"] == 11


@settings(max_examples=25)
@given(hnp.arrays(np.float64, st.integers(1, 60), elements=st.floats(-30, 30)), st.floats(-5, 5))
def test_quantiles_of_counts_agree_with_those_of_the_errors(error, bias):
    error += bias
    score = score_of(error, np.zeros_like(error), names=("median_error", "nmad", "le90", "le95"), value_range=100)
    lower, upper = (np.quantile(error, 0.5, method=m) for m in ("lower", "higher"))
    near = 0.011 * np.abs(error).max() + 0.001
    assert lower - near <= score.value("median_error") <= upper + near
    for name, share in (("le90", 0.9), ("le95", 0.95)):
        low, high = (np.quantile(np.abs(error), share, method=m) for m in ("lower", "higher"))
        assert low - near <= score.value(name) <= high + near
    assert score.value("le90") <= score.value("le95")


@pytest.mark.parametrize("spread", [0.02, 2.0, 300.0])
def test_quantiles_of_many_errors_are_right_to_one_percent(spread):
    error = np.random.default_rng(0).laplace(0.3 * spread, spread, 40_000)
    names = ("median_error", "nmad", "le90", "le95")
    half = score_of(error[:9000], np.zeros(9000), names=names, value_range=100)
    score = half + score_of(error[9000:], np.zeros(31_000), names=names, value_range=100)
    median = np.median(error)
    expected = (median, 1.4826 * np.median(np.abs(error - median)), *np.quantile(np.abs(error), (0.9, 0.95)))
    assert [score.value(name) for name in names] == pytest.approx(expected, rel=0.01)


def test_quantiles_are_of_heights_or_asked_for():
    assert "nmad" not in choose_metrics(BIOMASS)
    assert {"nmad", "psnr"} < set(choose_metrics(BIOMASS, heights=True))
    assert np.isnan(score_of(np.full(3, np.nan), np.zeros(3), names=("le95",)).value("le95"))
