"""A burst gains from the dates that resemble the anchor, and does not lose by those that do not."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from real_stacks import read_probav, score_cpsnr, score_psnr
from shared import needs_shared

from mapper.cube.shifts import estimate_shifts
from mapper.errors import WeightsError
from mapper.models.burst import BackProjection, match_dates
from mapper.models.card import FARTHEST_SHIFT, LIKENESS_REACH, reach_of_rounds, read_card
from mapper.models.interpolation import upsample
from mapper.models.views import PointSpread
from mapper.models.weights import load_model
from mapper.spec import ModelSpec
from mapper.synthetic.bursts import BurstOptions, degrade, move, simulate_burst


def make_inputs(burst, scale=2):
    values = torch.from_numpy(burst.values)[None]
    shift = torch.from_numpy(burst.shift)[None, :, :, None, None].expand(-1, -1, -1, *values.shape[-2:])
    return {
        "guide": torch.empty(1, 1, 0, values.shape[-2] * scale, values.shape[-1] * scale),
        "source": values,
        "source.clear": torch.from_numpy(burst.clear)[None],
        "source.anchor": values[:, burst.anchor : burst.anchor + 1],
        "source.shift": shift,
    }


def run(name, inputs, *, psf=None, psf_sd=None, **options):
    options |= {"psf": psf_sd} if psf_sd else {}
    outputs = BackProjection(read_card(ModelSpec(name=name, options=options or None)), psf=psf)(inputs)
    return torch.cat(list(outputs.values()), 1)[0]


@pytest.fixture(scope="module")
def ground():
    random = np.random.default_rng(1)
    return 50 + move(20 * random.standard_normal((2, 96, 128)), np.array([0.4, 0.5])).astype(np.float32)


@pytest.fixture(scope="module")
def hard(ground):
    options = BurstOptions(
        dates=6, noise=(0.02, 0.02), gain=0.2, offset=0.5, clouds=0.2, changed=0.1, object_px=(4, 10), drift=0.1
    )
    return simulate_burst(ground, options, seed=3)


def test_dates_gain_and_bad_ones_cost_nothing(hard):
    inputs = make_inputs(hard)
    alone, together = (score_psnr(run(name, inputs), hard.truth, border=16) for name in ("back-projection", "burst"))
    base = score_psnr(upsample(inputs["source.anchor"][:, 0], 2, "bicubic")[0], hard.truth, border=16)
    assert together > alone + 0.5 > base + 1
    lying = inputs | {"source.clear": torch.ones_like(inputs["source.clear"])}
    assert score_psnr(run("burst", lying), hard.truth, border=16) > alone, "clouds that no mask tells of"
    unknown = {name: array for name, array in inputs.items() if name != "source.shift"}
    assert score_psnr(run("burst", unknown), hard.truth, border=16) < together


def test_a_burst_does_not_know_the_order_of_its_dates(hard):
    inputs = make_inputs(hard)
    order = torch.tensor([3, 0, 5, 1, 4, 2])
    shuffled = {name: inputs[name][:, order] for name in ("source", "source.clear", "source.shift")}
    found = run("burst", inputs | shuffled, rounds=4)
    torch.testing.assert_close(found, run("burst", inputs, rounds=4), atol=1e-4, rtol=0)


def test_a_burst_of_the_anchor_alone_is_its_back_projection(hard):
    inputs = make_inputs(hard)
    only = {name: inputs[name][:, [hard.anchor]] for name in ("source", "source.clear", "source.shift")}
    found, expected = run("burst", inputs | only, rounds=4), run("back-projection", inputs, rounds=4)
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)


def test_gains_are_undone_and_changes_weigh_little(hard):
    inputs = make_inputs(hard)
    shown = inputs["source.anchor"][:, 0]
    dates = match_dates(inputs, shown, torch.ones_like(shown[:, :1], dtype=torch.bool))
    changed = torch.from_numpy(hard.changed)[None, :, None] & dates.clear
    others = [number for number in range(6) if number != hard.anchor]
    same = (dates.clear & ~changed)[:, others]
    assert dates.weights[:, others][same].mean() > 3 * dates.weights[:, others][changed[:, others]].mean()
    assert not dates.weights[:, hard.anchor].any()
    before, after = (
        (values[:, others] - shown[:, None]).abs().mean(2, keepdim=True)[same].mean()
        for values in (inputs["source"], dates.values)
    )
    assert after < 0.8 * before


@pytest.mark.parametrize("name", ["back-projection", "burst"])
def test_a_window_with_its_halo_gives_the_same_bits(name):
    random = torch.Generator().manual_seed(2)
    model = load_model(ModelSpec(name=name, options={"rounds": 1}))
    halo = model.contract.halo(2) // 2
    rows = 2 * halo + 3 + 9
    source = torch.rand((1, 2, 1, rows, 20), generator=random) * 300
    source[..., 12:20, 3:12] = torch.nan
    inputs = {
        "guide": torch.empty(1, 1, 0, rows * 2, 40),
        "source": source,
        "source.clear": torch.rand((1, 2, rows, 20), generator=random) < 0.9,
        "source.anchor": source[:, :1] + 5,
        "source.shift": torch.rand((1, 2, 2, rows, 20), generator=random) * 4 - 2,
    }
    whole = model(inputs)["band_0"]
    part = model(
        {
            key: array[..., 12 if key == "guide" else 6 : -6 if key == "guide" else -3, :]
            for key, array in inputs.items()
        }
    )
    inner = part["band_0"][..., 2 * halo : -2 * halo, :]
    assert inner.shape[-2] == 6
    expected = whole[..., 2 * (halo + 6) : 2 * (halo + 9), :]
    assert torch.equal(inner.nan_to_num(), expected.nan_to_num())


@pytest.mark.parametrize("name", ["back-projection", "burst"])
def test_what_lies_in_a_margin_is_left_out_and_the_rest_has_the_same_bits(name, hard):
    inputs = make_inputs(hard)
    whole, part = run(name, inputs, rounds=2), run(name, inputs | {"margin": torch.tensor([11, 3, 0, 30])}, rounds=2)
    assert torch.equal(part, whole[:, 22:-6, :-60])


def test_dates_that_show_a_part_of_a_window_are_matched_as_in_all_of_it(hard):
    inputs = make_inputs(hard)
    clear = torch.zeros_like(inputs["source.clear"])
    clear[..., 5:17, 6:20] = inputs["source.clear"][..., 5:17, 6:20]
    shown = inputs["source.anchor"][:, 0]
    known = torch.ones_like(shown[:, :1], dtype=torch.bool)
    found = match_dates(inputs | {"source.clear": clear}, shown, known)
    away = (..., slice(17 + 16 + 4, None), slice(None))
    assert torch.equal(found.values[away], shown[:, None].expand_as(found.values)[away]), "not clear, so the anchor's"
    assert not found.weights[away].any()
    planes = {name: each for name, each in (inputs | {"source.clear": clear}).items() if name != "guide"}
    wide = {name: F.pad(each.float(), (40,) * 4).to(each.dtype) for name, each in planes.items()}
    around = match_dates(wide, wide["source.anchor"][:, 0], F.pad(known, (40,) * 4, value=True))
    inner = (..., slice(40, -40), slice(40, -40))
    assert torch.equal(around.weights[inner], found.weights)
    assert found.weights.any()


def test_the_card_says_how_far_it_looks():
    for name, expected in (("back-projection", 62), ("burst", reach_of_rounds(15, 2) + LIKENESS_REACH)):
        model = load_model(ModelSpec(name=name))
        assert isinstance(model, BackProjection)
        assert model.contract.halo(3) == 3 * (expected + 2)


def test_gaps_of_the_anchor_are_filled_a_little_and_do_not_spread(ground):
    burst = simulate_burst(ground, BurstOptions(dates=1, noise=(0, 0)), seed=0)
    inputs = make_inputs(burst)
    inputs["source.anchor"] = inputs["source.anchor"].clone()
    inputs["source.anchor"][..., 10:30, 20:40] = torch.nan
    found, whole = run("back-projection", inputs), run("back-projection", make_inputs(burst))
    assert found[:, 24:56, 44:76].isnan().all()
    assert found.isfinite().float().mean() == pytest.approx(1 - 16 * 16 / (48 * 64))
    known = torch.ones(96, 128, dtype=torch.bool)
    known[16:64, 36:84] = False
    assert (found - whole)[:, known].abs().max() < 8
    assert (found - whole)[:, 56:60, 40:80].nan_to_num().abs().max() < 60


@pytest.mark.parametrize("psf", [0.3, 0.6])
def test_the_result_looks_like_the_anchor_through_the_psf_that_is_given(ground, psf):
    burst = simulate_burst(ground, BurstOptions(dates=1, noise=(0, 0), psf_sd=(psf, psf)), seed=0)
    inputs, inside = make_inputs(burst), np.s_[:, 6:-6, 6:-6]

    def differ(given):
        seen = degrade(run("back-projection", inputs, rounds=40, psf_sd=given).numpy(), 2, psf_sd=psf)
        return np.abs(seen - burst.values[burst.anchor])[inside].max()

    assert differ(psf) < 0.05 * differ(0.514)


def test_options_of_a_model_without_weights_are_part_of_what_it_is():
    plain, asked = (read_card(ModelSpec(name="burst", options=each)) for each in (None, {"rounds": 15, "psf": 0.514}))
    assert (asked.digest, asked.contract) == (plain.digest, plain.contract)
    more = read_card(ModelSpec(name="burst", options={"rounds": 16}))
    added = reach_of_rounds(16, FARTHEST_SHIFT) - reach_of_rounds(15, FARTHEST_SHIFT)
    assert more.contract.halo_source_px - plain.contract.halo_source_px == added > 0
    sharper = read_card(ModelSpec(name="burst", options={"psf": 0.4}))
    assert len({plain.digest, more.digest, sharper.digest}) == 3
    with pytest.raises(
        WeightsError, match=r"bicubic has no options, got .*'rounds': 3.*: back-projection and burst have"
    ):
        read_card(ModelSpec(name="bicubic", options={"rounds": 3}))
    with pytest.raises(WeightsError, match="burst-fusion-x2 has its options in its card"):
        read_card(ModelSpec(name="burst-fusion-x2", options={"rounds": 3}))


@needs_shared
def test_a_real_stack_confirms_published_figures():
    dates, anchor, truth = read_probav("NIR_0594")
    shown = torch.from_numpy(dates[anchor])[None, None]
    inputs = {"guide": torch.empty(1, 1, 0, 384, 384), "source": shown}
    psf = PointSpread(sd=0.8 / 3, mean_px=3)
    assert score_cpsnr(upsample(shown[:, 0], 3, "bicubic")[0, 0].numpy(), truth) == pytest.approx(50.05, abs=0.02)
    assert score_cpsnr(run("back-projection", inputs, rounds=8, psf=psf)[0].numpy(), truth) == pytest.approx(
        50.72, abs=0.03
    )
    like = np.argsort([np.std(date - dates[anchor]) for date in dates])[:5]
    shift = estimate_shifts(dates[like], np.ones((5, 128, 128), bool), dates[anchor], row=0, col=0).shift
    stack = {
        "source": torch.from_numpy(dates[like])[None],
        "source.anchor": shown,
        "source.shift": torch.from_numpy(shift)[None],
    }
    assert score_cpsnr(run("burst", inputs | stack, rounds=8, psf=psf)[0].numpy(), truth) > 50.7
