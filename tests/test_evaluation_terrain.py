"""What is counted about heights of the ground adds up over blocks, and agrees with numpy."""

import json

import numpy as np
import pytest
from scipy import ndimage

from mapper.evaluation.relief import COVER, Ground, find_slope
from mapper.evaluation.tally import Tally
from mapper.evaluation.terrain import SLOPES, TERRAIN_SCORES, Terrain
from mapper.spec.target import BandSpec

METRES = BandSpec(units="m", value_range=100)
EDGE = 60


def make_ground(rows=EDGE, *, px=3.0, **changes):
    return Ground(dy_m=np.full(rows, px), dx_m=np.full(rows, px), **changes)


@pytest.fixture(scope="module")
def site():
    """Map and truth of hills with gaps, and what stands on them."""
    random = np.random.default_rng(3)
    truth = 300 * ndimage.gaussian_filter(random.normal(size=(EDGE, EDGE)), 6) - 4
    value = truth + 0.3 + ndimage.gaussian_filter(random.normal(size=truth.shape), 2)
    truth[4:7, 30:40], value[50, 9] = np.nan, np.nan
    cover = random.integers(0, 3, truth.shape).astype(np.uint8)
    return value, truth, cover


def test_classes_of_cover_and_slope_split_the_errors(site):
    value, truth, cover = site
    terrain = Terrain.of(value, truth, make_ground(cover=cover), target=METRES)
    error = value - truth
    for code, name in enumerate(COVER[:3]):
        own = error[np.isfinite(error) & (cover == code)]
        score = terrain.cover[name]
        assert score.n == own.size
        assert score.value("bias") == pytest.approx(own.mean())
        assert score.value("median_error") == pytest.approx(np.median(own), abs=0.02)
    assert terrain.cover["water"].n == 0
    slope = find_slope(truth, np.full(EDGE, 3.0), np.full(EDGE, 3.0))
    for low, high, name in zip((0, 2, 5, 10, 20), (2, 5, 10, 20, 90), SLOPES, strict=True):
        own = error[np.isfinite(error) & (slope >= low) & (slope < high)]
        assert terrain.slope[name].n == own.size
        if own.size:
            assert terrain.slope[name].value("rmse") == pytest.approx(np.sqrt(np.mean(own**2)))
    assert sum(score.n for score in terrain.slope.values()) == np.isfinite(error[np.isfinite(slope)]).sum()


def test_the_error_of_the_slope_is_in_degrees(site):
    _, truth, _ = site
    rows = np.mgrid[:EDGE, :EDGE][0]
    flat, tilted = np.zeros((EDGE, EDGE)), 3 * rows * np.tan(np.radians(7))
    assert Terrain.of(tilted, flat, make_ground(), target=METRES).values()["slope_rmse"] == pytest.approx(7)
    assert Terrain.of(truth + 5, truth, make_ground(), target=METRES).values()["slope_rmse"] == pytest.approx(0)
    steep = Terrain.of(flat, tilted, make_ground(), target=METRES).slope["5-10°"]
    assert steep.n == (EDGE - 2) ** 2


def test_water_flows_over_true_heights_that_are_not_scored(site):
    _, truth, _ = site
    heights = np.where(np.isfinite(truth), truth, 0).astype(np.float32)
    heights[20:30, 20:30] = -50
    masked = np.where(heights == -50, np.nan, heights)
    whole = Terrain.of(heights, masked, make_ground(heights=heights), target=METRES).values()
    assert whole["filled_m3"] == whole["filled_true_m3"] > 100 * 9 * 40
    open_ = Terrain.of(heights, masked, make_ground(), target=METRES).values()
    assert open_["filled_true_m3"] < whole["filled_true_m3"]


def test_pits_and_seams_are_counted_of_the_map_as_it_is():
    flat = np.zeros((EDGE, EDGE))
    value = flat.copy()
    value[10:50:8, 10:50:8] = -1
    values = Terrain.of(value, flat, make_ground(), target=METRES).values()
    assert values["pits"] == pytest.approx(25 / (EDGE - 2) ** 2)
    assert values["pits_true"] == 0
    assert values["filled_m3"] == pytest.approx(25 * 9)
    edges = (np.array([], int), np.array([30]))
    stepped = np.random.default_rng(0).normal(size=(EDGE, EDGE)) + 9 * (np.mgrid[:EDGE, :EDGE][1] >= 30)
    assert Terrain.of(stepped, flat, make_ground(edges=edges), target=METRES).values()["seam_ratio"] > 3
    assert np.isnan(values["seam_ratio"])


@pytest.mark.parametrize("cut", [5, 31, EDGE - 5])
def test_blocks_add_up_but_for_what_lies_across_them(cut):
    random = np.random.default_rng(cut)
    truth = random.normal(size=(EDGE, EDGE)).cumsum(0)
    value, cover = truth + random.normal(size=truth.shape), random.integers(0, 4, truth.shape).astype(np.uint8)
    whole = Terrain.of(value, truth, make_ground(cover=cover), target=METRES)
    blocks = [(slice(None, cut), cut), (slice(cut, None), EDGE - cut)]
    total = Terrain()
    for part, rows in blocks:
        total += Terrain.of(value[part], truth[part], make_ground(rows, cover=cover[part]), target=METRES)
    for name in COVER:
        assert total.cover[name].to_dict() == whole.cover[name].to_dict()
    assert whole.slopes[0] - total.slopes[0] == 2 * (EDGE - 2)


def test_nothing_compared_is_neutral_and_json(site):
    value, truth, cover = site
    nothing = Terrain()
    assert not nothing.counted
    assert nothing.values() == {}
    terrain = Terrain.of(value, truth, make_ground(cover=cover), target=METRES)
    assert (nothing + terrain).values().keys() == TERRAIN_SCORES.keys()
    content = json.loads(json.dumps(terrain.to_dict(), allow_nan=False))
    assert set(content["cover"]) == {"bare", "building", "tree"}
    assert content["streams_f1"] is None or 0 <= content["streams_f1"] <= 1


def test_a_tally_of_heights_has_quantiles_and_no_other_has(site):
    value, truth, _ = site
    heights = Tally.of(value, truth, target=METRES, ground=make_ground())
    plain = Tally.of(value, truth, target=METRES)
    assert {"nmad", "le90", "le95", "median_error"} <= set(heights.score.metrics) - set(plain.score.metrics)
    assert heights.terrain.counted
    assert not plain.terrain.counted
    assert (heights + Tally()).terrain.slope["2-5°"].n == heights.terrain.slope["2-5°"].n
