"""Losses count known pixels away from the rim; members learn alone; a deviation learns what the mean leaves."""

import numpy as np
import pytest
import torch
from places import SCALE, know_plain, make_config, make_place
from scipy import ndimage

from mapper.errors import InputError
from mapper.training.initial_model import make_model
from mapper.training.losses import LOSSES, Objective, Patches, bend, sum_loss
from mapper.training.pixel_losses import beside_mean
from mapper.training.sample import Sample


def test_cross_entropy_is_that_of_probabilities():
    output, truth = pair([0.2, 0.9, 0.5, 1.0, 0.3], [0, 1, 1, 0, np.nan])
    total = sum_loss(output, truth, loss="bce", unit=1)
    expected = torch.nn.functional.binary_cross_entropy(output[..., :3], truth[..., :3], reduction="sum").item()
    assert total.item() == pytest.approx(expected + 6 * np.log(10), rel=0.01), "sure and wrong is bounded"
    torch.autograd.backward(total)
    assert torch.isfinite(output.grad).all()
    assert output.grad[..., 0] == pytest.approx(1.25)


def pair(value, truth, sd=None):
    output = torch.tensor(value, dtype=torch.float32).reshape(1, 1, 1, -1)
    if sd is not None:
        output = torch.cat([output, torch.tensor(sd, dtype=torch.float32).reshape(1, 1, 1, -1)], 1)
    return output.requires_grad_(), torch.tensor(truth, dtype=torch.float32).reshape(1, 1, 1, -1)


@pytest.mark.parametrize(("loss", "expected"), [("l1", 0.5 + 3), ("huber", 0.125 + 2.5), ("mse", 0.25 + 9)])
def test_losses_are_in_units_and_leave_the_unknown_out(loss, expected):
    output, truth = pair([5, 30, 7], [0, 0, np.nan])
    total = sum_loss(output, truth, loss=loss, unit=10)
    assert total.item() == pytest.approx(expected)
    torch.autograd.backward(total)
    assert torch.isfinite(output.grad).all()
    assert output.grad[..., 2] == 0


@pytest.mark.parametrize(  # latent has no deviation; those that learn are tested apart
    "loss", [name for name, loss in LOSSES.items() if name != "latent" and not isinstance(loss, type)]
)
def test_the_best_deviation_is_that_of_the_errors(loss):
    error = np.random.default_rng(0).normal(0, 20, 4000)
    sd = torch.tensor(3.0, requires_grad=True)
    optimizer = torch.optim.Adam([sd], lr=0.5)
    for _ in range(300):
        optimizer.zero_grad()
        output = torch.stack([torch.tensor(error, dtype=torch.float32), sd.expand(4000)])[None, :, None]
        torch.autograd.backward(sum_loss(output, torch.zeros(1, 1, 1, 4000), loss=loss, unit=10) / 4000)
        optimizer.step()
    assert sd.item() == pytest.approx(20, rel=0.05)


@pytest.mark.parametrize("loss", ["l1", "huber", "mse", "l1-mse-gradient"])
def test_a_deviation_does_not_change_how_the_mean_learns(loss):
    alone, truth = pair([5, 30], [0, 0])
    beside, _ = pair([5, 30], [0, 0], [1, 50])
    for output in (alone, beside):
        torch.autograd.backward(sum_loss(output, truth, loss=loss, unit=10))
    torch.testing.assert_close(alone.grad[:, 0], beside.grad[:, 0])


def images(seed, edge=9):
    """Values and a truth with gaps, (2, 1, y, x)."""
    random = np.random.default_rng(seed)
    value, truth = random.normal(0, 20, (2, 2, 1, edge, edge + 2)).astype(np.float32)
    truth[random.random(truth.shape) < 0.08] = np.nan
    return torch.tensor(value, requires_grad=True), torch.tensor(truth)


def sum_by_scipy(value, truth, unit):
    """One L1, one MSE, a tenth of the L1 of the difference of Sobel's gradients, where nothing near is unknown."""
    total = 0.0
    for one, other in zip(value[:, 0], truth[:, 0], strict=True):
        known = np.isfinite(other)
        error = (one - other)[known] / unit
        inside = ndimage.binary_erosion(known, np.ones((3, 3)))
        slopes = [
            np.abs(ndimage.sobel(one / unit, axis) - ndimage.sobel(np.nan_to_num(other) / unit, axis))[inside].sum()
            for axis in (0, 1)
        ]
        total += np.abs(error).sum() + np.square(error).sum() + 0.1 * sum(slopes)
    return total


@pytest.mark.parametrize("seed", range(3))
def test_slopes_count_beside_heights_where_all_neighbours_are_known(seed):
    value, truth = images(seed)
    total = sum_loss(value, truth, loss="l1-mse-gradient", unit=10)
    assert total.item() == pytest.approx(sum_by_scipy(value.detach().numpy(), truth.numpy(), 10), rel=1e-5)
    torch.autograd.backward(total)
    assert torch.isfinite(value.grad).all()
    assert not value.grad[~torch.isfinite(truth)].any()
    assert value.grad[torch.isfinite(truth)].all()


def test_a_shifted_surface_has_the_right_slopes():
    _, truth = images(0)
    known = torch.isfinite(truth).sum().item()
    assert sum_loss(truth.nan_to_num() + 5, truth, loss="l1-mse-gradient", unit=10).item() == pytest.approx(
        0.75 * known
    )


def test_under_nll_no_pixel_is_given_up():
    output, truth = pair([10, 10], [0, 0], [1, 1000])
    torch.autograd.backward(sum_loss(output, truth, loss="nll", unit=10))
    sure, unsure = output.grad[0, 0, 0]
    assert sure > 5 * unsure > 5 * 0.09


def make_patches(members, edge=4, seed=0):
    generator = torch.Generator().manual_seed(seed)
    fine, coarse = (members, 2, 1, edge * SCALE, edge * SCALE), (members, 2, 1, edge, edge)
    no_date = (members, 2, 0, 1, edge, edge)
    return Patches(
        values=torch.empty(no_date),
        clear=torch.empty((members, 2, 0, edge, edge), dtype=torch.bool),
        shift=torch.empty((members, 2, 0, 2, edge, edge)),
        guide=torch.rand((members, 2, 2, *fine[3:]), generator=generator),
        source=100 * torch.rand(coarse, generator=generator),
        source_sd=torch.full(coarse, torch.nan),
        truth=100 * torch.rand(fine, generator=generator),
    )


def make_objective(rim=1, loss="mse", **options):
    config = make_config(model={"options": {"width": 2, **options}})
    return Objective(make_model([make_place(0)], config), loss=loss, rim_source_px=rim)


def test_the_rim_is_not_judged():
    objective, patches = make_objective(), make_patches(1)
    before = objective(patches)
    patches.truth[..., :SCALE] = 1e4
    patches.truth[..., -SCALE:, :] = torch.nan
    torch.testing.assert_close(objective(patches), before)
    assert objective.count(patches).tolist() == [2 * (2 * SCALE) ** 2]


def test_the_middle_of_a_small_patch_is_judged():
    assert make_objective(rim=3).count(make_patches(1, edge=2)).tolist() == [2 * (2 * SCALE) ** 2]
    assert make_objective(rim=3).count(make_patches(1, edge=3)).tolist() == [2 * SCALE**2]


def test_members_learn_from_their_own_patches_alone():
    objective, patches = make_objective(members=2), make_patches(2)
    sums = objective(patches)
    assert sums.shape == (2,)
    torch.autograd.backward(sums[0])
    first, second = ([p.grad for p in member.parameters()] for member in objective.members)
    assert all(grad is not None for grad in first)
    assert all(grad is None or not grad.any() for grad in second)


def test_nll_needs_a_deviation():
    with pytest.raises(InputError, match="msg does not"):
        make_objective(loss="nll")


def make_stack_objective(architecture, loss):
    image = np.random.default_rng(3).normal(size=(1, 12, 12)).astype(np.float32)
    sample = Sample(
        guide=np.empty((0, 48, 48), np.float32),
        source=image,
        source_sd=np.full_like(image, np.nan),
        truth=image.repeat(4, 1).repeat(4, 2),
        bands=(),
        source_units="1",
        target="B04",
    )
    options = {"width": 4, "blocks": 1, **({"flow_width": 4, "flow_blocks": 1} if architecture == "flow-s2" else {})}
    config = make_config(model={"architecture": architecture, "guide": False, "options": options}, patch_px=48)
    return Objective(make_model([sample], config), loss=loss), sample


def make_stack_patches(sample):
    one = lambda array: torch.from_numpy(array)[None, None]  # noqa: E731
    return Patches(
        guide=one(sample.guide),
        source=one(sample.source),
        source_sd=one(sample.source_sd),
        truth=one(sample.truth),
        values=one(sample.source[None]),
        clear=torch.ones(1, 1, 1, 12, 12, dtype=torch.bool),
        shift=torch.zeros(1, 1, 1, 2, 12, 12),
    )


def test_flow_trains_mean_deviation_and_samples_but_the_mean_does_not_learn_from_samples():
    objective, sample = make_stack_objective("flow-s2", "flow")
    torch.manual_seed(0)
    torch.autograd.backward(objective(make_stack_patches(sample)).sum())
    network = objective.members[0].network
    assert all(p.grad is not None and float(p.grad.abs().sum()) > 0 for p in network.flow_trunk.parameters())
    learnt = [p.grad.clone() for p in network.enter.parameters()]
    network.zero_grad()
    torch.manual_seed(1)  # other times and noise
    torch.autograd.backward(objective(make_stack_patches(sample)).sum())
    for before, parameter in zip(learnt, network.enter.parameters(), strict=True):
        torch.testing.assert_close(parameter.grad, before)


def test_flow_is_judged_in_units_of_the_deviation_and_harder_near_the_end():
    truth, parts = torch.zeros(2, 1, 1, 1), torch.tensor([[0.0, 2.0, 3.0]]).reshape(1, 3, 1, 1).repeat(2, 1, 1, 1)
    alone = sum_loss(parts[:, :2], truth, loss="flow", unit=1.0)
    matched = sum_loss(parts, truth, loss="flow", unit=1.0, time=torch.tensor([0.5, 0.95])) - alone
    assert matched.item() == pytest.approx(9 / 2 * (1 / 0.5 + 1 / 0.2))


def test_flow_needs_a_network_that_draws_samples():
    with pytest.raises(InputError, match="loss flow needs a network that draws samples; burst-fusion draws none"):
        make_stack_objective("burst-fusion", "flow")


def test_an_unknown_loss_is_refused_with_the_names_of_all():
    with pytest.raises(InputError, match="unknown loss 'rmse': expected one of l1, huber, mse, nll"):
        make_objective(loss="rmse")


def test_a_loss_of_another_package_is_trained_with(offer):
    offer(LOSSES, cubic=beside_mean(lambda error: error.abs() ** 3))
    output, truth = pair([5, 30, 7], [0, 0, np.nan])
    assert sum_loss(output, truth, loss="cubic", unit=10).item() == pytest.approx(0.125 + 27)
    assert make_config(loss="cubic").loss == "cubic"
    assert make_objective(loss="cubic").count(make_patches(1)).tolist() == [2 * (2 * SCALE) ** 2]


def test_every_parameter_learns_beside_a_deviation():
    config = make_config(model={"architecture": "plain"})
    with know_plain():
        objective = Objective(make_model([make_place(0)], config), loss="huber")
    torch.autograd.backward(objective(make_patches(1)).sum())
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in objective.parameters())


def test_a_mean_that_fell_below_zero_can_rise_again_but_sinks_no_further():
    output, truth = pair([-500, -500, 20, 20], [50, 0, 50, np.nan])
    bent = bend(output, truth, bounds=(0, None), unit=10)
    np.testing.assert_allclose(bent.detach().numpy().ravel(), [0, 0, 20, 20], atol=1e-6)
    torch.autograd.backward(sum_loss(bent, truth, loss="mse", unit=10))
    np.testing.assert_allclose(output.grad.numpy().ravel(), [-1, 0, -0.6, 0], atol=1e-6)


@pytest.mark.parametrize("loss", ["registered", "radiometric-consistency"])
def test_a_loss_with_layers_of_its_own_teaches_each_member_and_counts_pixels(loss):
    objective, patches = make_objective(loss=loss, members=2), make_patches(2, edge=8)
    sums = objective(patches)
    assert (sums > 0).all()
    torch.autograd.backward(sums[0])
    learnt = [
        [p.grad is not None and bool(p.grad.any()) for p in part.parameters()]
        for part in (*objective.members, *objective.learned)
    ]
    assert [any(each) for each in learnt] == [True, False, True, False]
    patches.truth[:] = torch.nan
    assert not objective(patches).any()
