"""Latent diffusion learns, draws samples that differ by their noise alone, and makes no map."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from run_maps import make_spec

from mapper.errors import ContractError, WeightsError
from mapper.evaluation.fidelity import rmse
from mapper.models.architectures import ARCHITECTURES, build_network
from mapper.models.weights import count_parameters, save_model
from mapper.plan.context import make_context
from mapper.training.bursts import read_bursts
from mapper.training.config import TrainConfig
from mapper.training.fitting import fit
from mapper.training.scene_config import BurstData
from mapper.training.trainer import predict_sample

SCENES = {"size_px": 64, "scale": 4, "dates": 1, "noise": [0, 0]}
SMALL = {"base": 8, "width": 16}


@pytest.fixture(scope="module")
def scenes():
    return read_bursts(BurstData(seeds=[0, 1, 2, 3], **SCENES))


def describe(steps):
    return TrainConfig(
        name="tiny", out="weights", data=[{"kind": "bursts", "seeds": [0], **SCENES}], loss="latent", threads=1,
        model={"architecture": "latent-diffusion", "options": SMALL}, patch_px=32, margin_source_px=0, batch=4,
        steps=steps, lr=4e-3, ema=0.9, precision="fp32", checkpoint_every=10,
    )  # fmt: skip


@pytest.fixture(scope="module")
def fitted(scenes):
    return fit(scenes[:3], describe(90))


@pytest.fixture(scope="module")
def model(fitted):
    return fitted.model


def draw(model, scene, *, samples=1, steps=4):
    return predict_sample(model, scene, device="cpu", samples=samples, steps=steps)


def test_it_learns_to_encode_and_to_tell_code_from_noise(fitted, scenes):
    losses = [row.loss for row in fitted.rows]
    assert np.mean(losses[-20:]) < 0.6 * losses[0]
    untrained = fit(scenes[:3], describe(1)).model
    unseen = scenes[3]
    errors = [rmse(draw(each, unseen).mean, unseen.truth) for each in (fitted.model, untrained)]
    noise = np.random.default_rng(0).normal(unseen.truth.mean(), unseen.truth.std(), unseen.truth.shape)
    assert errors[0] < 0.8 * min(errors[1], rmse(noise, unseen.truth))


def test_samples_differ_and_their_mean_is_nearer_to_the_truth(model, scenes):
    unseen = scenes[3]
    one, several = draw(model, unseen), draw(model, unseen, samples=6)
    assert one.sd is None
    assert several.sd.min() > 0
    assert rmse(several.mean, unseen.truth) < rmse(one.mean, unseen.truth)
    np.testing.assert_array_equal(one.mean, draw(model, unseen).mean)


def test_any_unit_and_any_bands_will_do(model, scenes):
    unseen = scenes[3]
    bands = np.concatenate([unseen.source, 100 + 50 * unseen.source])
    stack = replace(unseen.stack, values=bands[None])
    truth = np.concatenate([unseen.truth] * 2)
    both = replace(unseen, source=bands, source_sd=bands, stack=stack, truth=truth, target="a,b")
    drawn = predict_sample(model, both, device="cpu").mean
    np.testing.assert_allclose(drawn[1], 100 + 50 * drawn[0], atol=0.05)


def test_without_noise_it_is_the_same_each_time_and_depends_on_the_whole_patch(model, scenes):
    unseen = scenes[3]
    whole = predict_sample(model, unseen, device="cpu").mean
    np.testing.assert_array_equal(whole, predict_sample(model, unseen, device="cpu").mean)
    part = predict_sample(model, unseen.cut_corner(32), device="cpu").mean
    assert np.abs(part - whole[:, :32, :32])[:, :8, :8].max() > 1e-3
    assert not model.contract.tile_exact


@pytest.mark.parametrize("options", [{"base": 12}, {"width": 10}, {"code": 0}, {"code": 17}])
def test_what_it_cannot_be_is_refused(options):
    with pytest.raises(WeightsError, match="needs features in groups of 8 and a code of 1 to 16"):
        build_network("latent-diffusion", guide_channels=0, scale=4, options=options)
    with pytest.raises(WeightsError, match="takes no guide"):
        build_network("latent-diffusion", guide_channels=1, scale=4, options={})


def test_no_map_is_made_with_it(model, tmp_path):
    path = tmp_path / "latent.safetensors"
    save_model(model, path, options=SMALL)
    spec = make_spec(tmp_path, model={"name": "latent", "weights": str(path)})
    reason = r"^model latent \(latent-diffusion\) looks at a whole patch at once, .* would not meet[^\n]*$"
    with pytest.raises(ContractError, match=reason):
        make_context(spec)


def test_it_has_the_number_of_parameters_that_is_told():
    with torch.device("meta"):
        network = build_network("latent-diffusion", guide_channels=0, scale=4, options={})
    assert count_parameters(network) == 927_565


def test_a_learnt_code_has_unit_spread(model, scenes):
    network = model.network
    truth = torch.from_numpy(scenes[0].truth[None])
    with torch.no_grad():
        code = network._encode((truth - truth.mean()) / truth.std())
    assert 0.5 < float(code.std()) < 2
    assert ARCHITECTURES["latent-diffusion"].stochastic
