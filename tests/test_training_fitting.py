"""Training learns what a guide tells, says the same twice, and leaves the truth it does not know alone."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from places import SCALE, know_plain, make_config, make_place

from mapper.errors import InputError, MapperError
from mapper.models.weights import load_model, save_model
from mapper.predict.predictor import Predictor
from mapper.spec import ModelSpec
from mapper.training import fitting
from mapper.training.checkpoint import RunFolder
from mapper.training.fitting import fit
from mapper.training.initial_model import choose_options, make_model
from mapper.training.losses import LOSSES, Objective, members_of
from mapper.training.registered_loss import RegisteredError, ShiftNet


@pytest.fixture
def plain():
    with know_plain():
        yield


@pytest.fixture(scope="module")
def fitted():
    return fit([make_place(0), make_place(1)], make_config())


def rmse(value, truth):
    return np.sqrt(np.mean((value - truth) ** 2))


def states_equal(a, b):
    a, b = (model.network.state_dict() for model in (a, b))
    return all(torch.equal(a[name], b[name]) for name in a)


def test_a_trained_model_beats_bicubic_on_a_place_it_never_saw(fitted):
    sample = make_place(2)
    bicubic = Predictor(load_model(ModelSpec(name="bicubic"))).sharpen(sample.guide, sample.source).mean
    value = Predictor(fitted.model).sharpen(sample.guide, sample.source).mean
    assert rmse(value, sample.truth) < 0.8 * rmse(bicubic, sample.truth)
    assert value.min() >= 0


def test_the_contract_says_what_was_trained_on(fitted):
    contract = fitted.model.contract
    assert [band.name for band in contract.guide] == ["date0_B04", "date0_noise"]
    assert contract.scale == SCALE
    assert contract.source.bands[0].mean == pytest.approx(100, abs=15)
    assert contract.halo_px == fitted.model.network.halo_px
    assert (contract.align_px, contract.gives_sd, contract.sees_source_sd) == (1, False, False)
    assert contract.bounds == (0, None)
    free = make_config(model={"non_negative": False})
    assert make_model([make_place(0)], free).contract.bounds == (None, None)


@pytest.mark.usefixtures("plain")
def test_the_contract_says_what_the_network_is():
    contract = make_model([make_place(0)], make_config(model={"architecture": "plain"})).contract
    assert (contract.align_px, contract.gives_sd, contract.sees_source_sd) == (2, True, True)
    assert contract.step(SCALE) == 2 * SCALE


@pytest.mark.usefixtures("plain")
def test_dates_are_told_to_networks_that_want_them():
    config, sample = make_config(model={"architecture": "plain"}), make_place(0, dates=3)
    assert choose_options(config, sample) == {"dates": 3}
    assert make_model([sample], config).network.dates == 3
    assert choose_options(make_config(model={"architecture": "plain", "options": {"dates": 1}}), sample) == {"dates": 1}
    assert choose_options(make_config(model={"architecture": "msg"}), sample) == {}


def test_without_a_guide_the_source_alone_is_learnt():
    config = make_config(steps=3, model={"guide": False, "options": {"width": 2}}, augment={"guide_dropout": 0.5})
    model = fit([make_place(0)], config).model
    assert model.contract.guide == ()
    sample = make_place(0)
    assert Predictor(model).sharpen(sample.guide[:0], sample.source).mean.shape == sample.truth.shape


def test_a_trained_model_survives_its_file(fitted, tmp_path):
    sample = make_place(3)
    path = tmp_path / "tiny.safetensors"
    save_model(fitted.model, path, options={"width": 4, "source_input": "full"})
    loaded = load_model(ModelSpec(name="tiny", weights=path))
    first, again = (Predictor(m).sharpen(sample.guide, sample.source).mean for m in (fitted.model, loaded))
    np.testing.assert_array_equal(first, again)


def test_same_seed_same_weights_whatever_was_drawn_before():
    torch.manual_seed(1)
    first = fit([make_place(0)], make_config(steps=3, seed=5)).model
    state = torch.get_rng_state()
    again, other = (fit([make_place(0)], make_config(steps=3, seed=seed)).model for seed in (5, 6))
    assert states_equal(first, again)
    assert not states_equal(first, other)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("loss", ["l1", "huber", "mse"])
def test_patches_without_known_truth_inside_the_rim_teach_nothing(loss):
    sample = make_place(0)
    truth = np.full_like(sample.truth, np.nan)
    truth[0, 0] = 1e6  # on the rim of every patch that holds it
    sample = replace(sample, truth=truth)
    config = make_config(steps=2, loss=loss, weight_decay=0)
    assert states_equal(make_model([sample], config), fit([sample], config).model)


@pytest.mark.usefixtures("plain")
def test_the_running_mean_has_buffers_and_differs_from_the_last_step():
    config = make_config(steps=20, ema=0.95, loss="nll", model={"architecture": "plain"})
    kept, last = (fit([make_place(0)], config.model_copy(update={"ema": ema})).model for ema in (0.95, 0.0))
    assert not states_equal(kept, last)
    name = "body.1.running_mean"
    fresh = make_model([make_place(0)], config).network.state_dict()[name]
    assert not torch.equal(kept.network.state_dict()[name], fresh)
    assert not torch.equal(kept.network.state_dict()[name], last.network.state_dict()[name])
    assert kept.network.state_dict()["body.1.num_batches_tracked"] == 20


@pytest.mark.usefixtures("plain")
def test_a_deviation_is_learnt():
    config = make_config(loss="nll", model={"architecture": "plain"}, steps=200)
    sample = make_place(1)
    prediction = Predictor(fit([make_place(0)], config).model).sharpen(sample.guide, sample.source, sample.source_sd)
    error = np.abs(prediction.mean - sample.truth)
    assert 0.5 < np.sqrt(np.mean(prediction.sd**2)) / rmse(prediction.mean, sample.truth) < 2
    assert np.corrcoef(prediction.sd.ravel(), error.ravel())[0, 1] > 0


def test_members_of_an_ensemble_end_apart():
    config = make_config(steps=3, model={"options": {"width": 2, "members": 2}})
    members = members_of(fit([make_place(0)], config).model)
    first, second = (torch.cat([p.flatten() for p in member.parameters()]) for member in members)
    assert not torch.equal(first, second)


def test_validation_is_looked_at_every_so_often_and_at_the_end():
    seen, watched = [], []

    def validate(model):
        seen.append(model)
        return float(len(seen))

    config = make_config(steps=10, validate_every=4)
    rows = fit([make_place(0)], config, validate=validate, watch=watched.append).rows
    assert [row.rmse for row in rows if row.rmse is not None] == [1, 2, 3]
    assert [row.step for row in rows if row.rmse is not None] == [4, 8, 10]
    assert tuple(watched) == rows
    assert [row.step for row in rows] == list(range(1, 11))


def test_the_rate_rises_then_falls():
    rates = [fitting._rate(step, 100) for step in range(100)]
    assert rates.index(max(rates)) == 4
    assert max(rates) == 1
    assert rates == sorted(rates[:5]) + sorted(rates[5:], reverse=True)
    assert rates[-1] == pytest.approx(0.01, abs=0.001)


def test_batches_drawn_ahead_come_in_order():
    assert list(fitting._look_ahead(str, range(3, 9), 4)) == list("345678")
    assert list(fitting._look_ahead(str, range(2), 4)) == list("01")
    assert list(fitting._look_ahead(str, range(0), 4)) == []


def test_bf16_learns_too():
    sample = make_place(2)
    value = Predictor(fit([make_place(0)], make_config(precision="bf16", steps=40)).model).sharpen(
        sample.guide, sample.source
    )
    bicubic = Predictor(load_model(ModelSpec(name="bicubic"))).sharpen(sample.guide, sample.source).mean
    assert rmse(value.mean, sample.truth) < 0.9 * rmse(bicubic, sample.truth)


def test_a_training_that_diverges_says_so():
    with pytest.raises(MapperError, match="diverged"):
        fit([make_place(0)], make_config(lr=1e30, steps=20))


def test_nothing_to_learn_is_refused():
    sample = make_place(0)
    with pytest.raises(InputError, match="no truth"):
        fit([replace(sample, truth=np.full_like(sample.truth, np.nan))], make_config())


@pytest.mark.parametrize(
    ("non_negative", "bounds"), [(None, (-400.0, 9000.0)), (True, (0.0, None)), (False, (None, None))]
)
def test_a_model_is_kept_within_the_bounds_of_its_target_unless_told_otherwise(non_negative, bounds):
    place = replace(make_place(0), target="elevation", bounds=(-400.0, 9000.0))
    contract = make_model([place], make_config(model={"non_negative": non_negative})).contract
    assert contract.bounds == bounds
    assert contract.means[0].name == "elevation"
    assert make_model([place], make_config(target="height")).contract.means[0].name == "height"


class SmallRegistered(RegisteredError):  # noqa: N818 - an error of images
    """The registered error with a registration that is small enough for a test."""

    def __init__(self, bands, *, mtf=None):
        super().__init__(bands, mtf=mtf, shift_net=ShiftNet(bands, width=2, hidden=4, cells=1))


def test_a_loss_with_layers_of_its_own_learns_and_goes_on_where_it_was(offer, tmp_path):
    offer(LOSSES, small=SmallRegistered)
    samples, config = [make_place(0)], make_config(steps=6, loss="small", checkpoint_every=3)
    whole, run = fit(samples, config), RunFolder(tmp_path / "a.run")

    def stop(row):
        if row.step > 3:
            raise KeyboardInterrupt

    run.begin({})
    with pytest.raises(KeyboardInterrupt):
        fit(samples, config, run=run, watch=stop)
    saved = run.load()
    assert saved.step == 3
    first = Objective(make_model(samples, config), loss="small").learned.state_dict()
    name = "0.loss.shift_net.decide.2.weight"
    assert not torch.equal(saved.tensors[f"loss.{name}"], first[name])
    assert states_equal(fit(samples, config, run=run).model, whole.model)
    assert not any("shift_net" in name for name in whole.model.state_dict())
