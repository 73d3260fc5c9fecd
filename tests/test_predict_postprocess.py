"""Outputs become bands: each is held against its own band of the source, flagged together, and cropped."""

from types import SimpleNamespace

import numpy as np
import pytest

from mapper.grid import Window
from mapper.models.contract import Contract, Input, Output
from mapper.predict.operators import block_mean
from mapper.predict.postprocess import Postprocessor, Reference, blank_bands
from mapper.predict.predictor import Prediction
from mapper.predict.quality import mask_of
from mapper.spec import ConsistencySpec, TargetBand

SCALE = 4
WINDOW = Window(top=0, left=0, bottom=24, right=32)
CORE = Window(top=5, left=6, bottom=19, right=27)
TARGETS = (TargetBand(name="red", bounds=(0, None)), TargetBand(name="nir", sd=False))


def finish(*, image, sd, consistency, outputs=None, inside=None, flags=None, sees_source_sd=False):
    contract = Contract(
        model="toy",
        inputs=(Input(role="source", px=0),),
        outputs=(
            Output(name="nir", units="1"),
            Output(name="red", units="1"),
            Output(name="red_sd", units="1", kind="sd", of="red"),
        ),
        scale=SCALE,
        halo_px=0,
        sees_source_sd=sees_source_sd,
    )
    tie = ConsistencySpec.model_validate(consistency)
    spec = SimpleNamespace(targets=TARGETS, consistency=tie, target=SimpleNamespace(quality=()))
    postprocessor = Postprocessor(
        spec=spec,
        contract=contract,
        scale=SCALE,
        core=CORE,
        window=WINDOW,
        inside=np.ones(WINDOW.shape, bool) if inside is None else inside,
    )
    plain = {name: np.full(WINDOW.shape, value, np.float32) for name, value in (("red", 4), ("red_sd", 3), ("nir", 9))}
    n_valid = np.full(WINDOW.shape, 7, np.uint16)
    source = Reference(image=np.asarray(image, np.float32), sd=np.asarray(sd, np.float32))
    prediction = Prediction(outputs=plain | (outputs or {}))
    return postprocessor.finish(prediction, source, n_valid=n_valid, flags=flags or {})


def coarse(red, nir):
    return np.stack([np.full((6, 8), red, np.float32), np.full((6, 8), nir, np.float32)])


def test_each_band_is_held_against_its_own_source_by_its_own_tie():
    tie = {"mode": "hard", "bands": {"nir": {"mode": "below", "tolerance": 1}}}
    rough = coarse(5, 6)
    rough[1, ::2, ::2] += 5  # no even ground
    bands, residuals = finish(image=rough, sd=coarse(4, np.nan), consistency=tie)
    assert list(bands) == ["red", "red_sd", "nir", "qa", "n_valid"]
    assert all(array.shape == CORE.shape for array in bands.values())
    assert (bands["red"] == 5).all()
    means = block_mean(bands["nir"][8 - CORE.top : 16 - CORE.top, 8 - CORE.left : 24 - CORE.left], SCALE)
    np.testing.assert_allclose(means, np.minimum(rough[1, 2:4, 2:6] + 1, 9), atol=1e-5)  # at most 1 above its source
    assert (bands["red_sd"] == 5).all()  # 3 and 4 in quadrature
    assert residuals == {"red": 0, "nir": pytest.approx(1, abs=1e-5)}
    assert (bands["n_valid"] == 7).all()
    above = np.kron(rough[1] < 8, np.ones((SCALE, SCALE))) > 0
    expected = np.where(above[CORE.slices], mask_of("source_disagrees"), 0)  # nir was 3 above: more than its tolerance
    np.testing.assert_array_equal(bands["qa"], expected)


def test_below_a_map_may_lie_as_far_as_it_likes():
    outputs = {"nir": np.full(WINDOW.shape, -40, np.float32)}
    outputs["nir"][:, 20:] = 9
    tie = {"mode": "none", "bands": {"nir": {"mode": "below", "tolerance": 2}}}
    bands, left = finish(image=coarse(4, 6), sd=coarse(np.nan, 0.5), consistency=tie, outputs=outputs)
    disagrees = bands["qa"] == mask_of("source_disagrees")
    np.testing.assert_array_equal(disagrees, np.arange(CORE.left, CORE.right)[None] + np.zeros((14, 1)) >= 20)
    assert left["nir"] <= 1e-4
    assert np.nanmin(bands["nir"]) < -39


def test_a_band_without_source_is_missing_and_one_pixel_is_flagged_for_all_bands():
    image = coarse(4, 9)
    image[0, 2], image[1, 2, 3] = np.nan, np.nan  # a row of red, one source pixel of both
    bands, _ = finish(image=image, sd=coarse(1, 1), consistency="soft")
    row = slice(8 - CORE.top, 12 - CORE.top)
    assert np.isnan(bands["red"][row]).all()
    assert np.isnan(bands["red_sd"][row]).all()
    missing = np.isnan(bands["nir"])
    assert missing.sum() == SCALE * SCALE
    assert (bands["qa"][row] == mask_of("source_missing")).all()
    assert not bands["qa"][: row.start].any()
    assert (bands["n_valid"] == np.where(missing, 0, 7)).all()


def test_outside_the_area_nothing_else_is_known():
    inside = np.ones(WINDOW.shape, bool)
    inside[:, :16] = False
    bands, _ = finish(image=coarse(4, 9), sd=coarse(1, 1), consistency="none", inside=inside, flags={"guide_gap": True})
    edge = 16 - CORE.left
    assert np.isnan(bands["red"][:, :edge]).all()
    assert (bands["qa"][:, :edge] == mask_of("outside_area")).all()
    assert (bands["qa"][:, edge:] == mask_of("guide_gap")).all()


@pytest.mark.parametrize("operator", [{"operator": "gaussian-psf", "mtf": 0.3}, {"operator": "block-mean"}])
def test_what_an_operator_leaves_is_told_by_band(operator):
    random = np.random.default_rng(0)
    outputs = {name: random.uniform(1, 2, WINDOW.shape).astype(np.float32) for name in ("red", "nir")}
    _, left = finish(image=coarse(1.5, 1.5), sd=coarse(0, 0), consistency={**operator, "mode": "none"}, outputs=outputs)
    rows, cols = slice(1, 5), slice(1, 7)  # the source pixels that the tile touches
    if operator["operator"] == "block-mean":
        expected = np.abs(block_mean(outputs["nir"], SCALE) - 1.5)[rows, cols].max()
        assert left["nir"] == pytest.approx(expected)
    assert 0 < left["red"] < 0.5


def test_a_tile_without_a_pixel_says_why():
    inside = np.array([[True, False]])
    blank = blank_bands(SimpleNamespace(targets=TARGETS, target=SimpleNamespace(quality=())), inside, "source_missing")
    assert list(blank) == ["red", "red_sd", "nir", "qa", "n_valid"]
    assert blank["qa"].tolist() == [[mask_of("source_missing"), mask_of("outside_area")]]
    assert np.isnan(blank["nir"]).all()
