"""Losses for a reference that lies elsewhere in other colours: shifts are undone, the sensor's view is held."""

import numpy as np
import pytest
import torch

from mapper.evaluation.image_metrics import ssim_map
from mapper.predict.operators import BlockMean, GaussianPsf
from mapper.training.registered_loss import (
    ColourMatch,
    RadiometricConsistency,
    RegisteredError,
    ShiftNet,
    average_error,
    compare_structure,
    move,
    see_through,
    weigh_lanczos,
)


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.double)


def wave(rows, cols, *, down=0.0, right=0.0, bands=2):
    """A smooth image, known everywhere, read at an offset."""
    row, col = np.mgrid[:rows, :cols].astype(float)
    images = [np.sin((row + down) / (3 + b)) + np.cos((col + right) / 4) for b in range(bands)]
    return torch.from_numpy(np.stack(images))[None]


def small_net(bands=2, **options):
    torch.manual_seed(0)
    return ShiftNet(bands, **{"width": 4, "hidden": 8, "cells": 2} | options).double()


class Fixed(ShiftNet):
    """One that gives a shift it was told."""

    def __init__(self, down, right):
        super().__init__(2, width=2, hidden=2, cells=1)
        self.told = torch.tensor([[down, right]], dtype=torch.double, requires_grad=True)

    def forward(self, image, reference):  # noqa: ARG002
        return self.told.expand(len(image), 2)


def test_shift_net_has_the_published_size_and_starts_from_no_shift():
    with torch.device("meta"):
        assert sum(p.numel() for p in ShiftNet(1).parameters()) == 34_187_648
    net = small_net(width=2, cells=16)
    assert net.look[:-3](torch.zeros(1, 4, 128, 128, dtype=torch.double)).shape == (1, 4, 16, 16)
    assert not net(wave(32, 40), wave(32, 40)).any()


@pytest.mark.parametrize("shift", [(0.0, 0.0), (2.0, -3.0), (0.3, -1.7)])
def test_images_are_read_at_the_shift(shift):
    down, right = shift
    moved = move(wave(40, 44), torch.tensor([shift], dtype=torch.double), reach_px=4)
    inside = (..., slice(8, -8), slice(8, -8))
    expected = wave(40, 44, down=down, right=right)
    whole = all(float(part).is_integer() for part in shift)
    torch.testing.assert_close(moved[inside], expected[inside], atol=1e-12 if whole else 0.02, rtol=0)


def test_each_image_of_a_batch_has_its_own_shift():
    images, shifts = draw(3, 2, 20, 20), torch.tensor([[1.0, 0], [0, -2], [0.5, 0.25]], dtype=torch.double)
    together = move(images, shifts, reach_px=4)
    for at in range(3):
        torch.testing.assert_close(together[at : at + 1], move(images[at : at + 1], shifts[at : at + 1], reach_px=4))


def test_lanczos_weights_sum_to_one_and_have_a_gradient():
    shift = torch.tensor([-4.0, -0.5, 0, 1.25, 4], dtype=torch.double, requires_grad=True)
    weights = weigh_lanczos(shift, 7)
    torch.testing.assert_close(weights.sum(-1), torch.ones(5, dtype=torch.double))
    several = torch.tensor([-1.3, 0.4], dtype=torch.double, requires_grad=True)
    assert torch.autograd.gradcheck(lambda each: weigh_lanczos(each, 7), several)
    assert torch.autograd.grad((weights * torch.arange(15)).sum(), shift)[0].isfinite().all()


def test_the_right_shift_gives_the_least_error_and_gradients_lead_to_it():
    output, truth = wave(48, 48), wave(48, 48, down=1.5, right=-0.75)
    errors = {}
    for shift in ((1.5, -0.75), (1.0, -0.5), (2.0, -1.0), (0.0, 0.0)):
        told = Fixed(*shift)
        loss = RegisteredError(2, shift_net=told)(output, truth, output, 2)
        errors[shift] = loss.item()
        if shift == (1.0, -0.5):
            down, right = torch.autograd.grad(loss, told.told)[0][0]
            assert down < 0 < right  # descent moves down and to the left
    assert min(errors, key=errors.get) == (1.5, -0.75)
    assert errors[1.5, -0.75] < 0.02 * errors[0.0, 0.0]


def test_a_network_learns_to_register():
    net = small_net(bands=1).eval()  # its statistics and what is dropped fixed
    loss = RegisteredError(1, shift_net=net)
    output, truth = wave(32, 32, bands=1), wave(32, 32, bands=1, down=1.2, right=-0.8)
    losses = []
    for _ in range(11):
        losses.append(loss(output, truth, output, 2))
        gradients = torch.autograd.grad(losses[-1], list(net.parameters()))
        with torch.no_grad():
            for parameter, gradient in zip(net.parameters(), gradients, strict=True):
                parameter.sub_(0.005 * gradient.sign())
    assert min(losses) < 0.25 * losses[0]
    down, right = net(output, truth).detach()[0]
    assert right < 0 < down


def test_brightness_is_taken_out_and_what_is_unknown_too():
    image, truth = draw(2, 2, 9, 9), draw(2, 2, 9, 9, seed=1)
    known = draw(2, 2, 9, 9, seed=2) > -0.5
    found = average_error(image, torch.where(known, truth + 3, torch.nan), known)
    for at in np.ndindex(2, 2):
        error = (truth - image)[at][known[at]].numpy()
        assert found[at].item() == pytest.approx(error.var())


def test_minus_the_clear_psnr_of_a_range_of_one_is_decibels():
    output, truth = wave(40, 40), wave(40, 40) + 0.1 * draw(1, 2, 40, 40)
    plain, decibels = (
        RegisteredError(2, shift_net=Fixed(0, 0), clear_psnr=each)(output, truth, output, 2) for each in (False, True)
    )
    assert plain.item() == pytest.approx(0.01, rel=0.15)
    assert decibels.item() == pytest.approx(-20, abs=0.7)


@pytest.mark.parametrize(("scale", "mtf"), [(2, 0.17), (3, 0.3)])
def test_the_sensor_sees_as_the_operator_that_maps_are_held_with(scale, mtf):
    image = draw(1, 2, 8 * scale, 10 * scale)
    for operator, options in ((GaussianPsf(scale, mtf=mtf), {"mtf": mtf}), (BlockMean(scale), {})):
        found = see_through(image, scale, **options)[0].numpy()
        expected = np.stack([operator.apply(band.numpy()) for band in image[0]])
        np.testing.assert_allclose(found, expected, atol=1e-10)


def test_structure_is_that_of_the_score():
    image, reference = draw(2, 2, 17, 19), draw(2, 2, 17, 19, seed=1)
    reference[0, 0, 3, 4] = torch.nan
    maps = [ssim_map(image[at].numpy(), reference[at].numpy(), 4.0) for at in np.ndindex(2, 2)]
    expected = np.nanmean((1 - np.stack(maps)) / 2)
    assert compare_structure(image, reference, value_range=4.0).item() == pytest.approx(expected)
    assert compare_structure(image, image, value_range=4.0).item() == pytest.approx(0, abs=1e-12)


def test_consistency_and_structure_are_weighted_as_published():
    torch.manual_seed(0)
    loss = RadiometricConsistency(2, shift_net=Fixed(0, 0)).double()
    output, truth, anchor = draw(1, 2, 40, 40), draw(1, 2, 40, 40, seed=1), draw(1, 2, 20, 20, seed=2)
    anchor[:, :, 3, 4] = torch.nan
    seen = output.reshape(1, 2, 20, 2, 20, 2).mean((3, 5))
    rim = slice(7, -7)
    structure = compare_structure(loss.colour_match(output)[..., rim, rim], truth[..., rim, rim], value_range=4.0)
    expected = 0.9 * torch.nanmean((seen - anchor) ** 2) + 0.1 * structure
    assert loss(output, truth, anchor, 2).item() == pytest.approx(expected.item())


def test_colours_of_the_reference_cost_nothing_once_they_are_matched():
    output = wave(40, 40)
    truth, anchor = 0.5 * output.flip(1) + 0.3, see_through(output, 2)
    loss = RadiometricConsistency(2, shift_net=Fixed(0, 0), hidden=4).double()
    assert loss(output, truth, anchor, 2).item() > 0.01
    first, _, last = loss.colour_match.layers
    plus = torch.eye(2, dtype=torch.double)
    with torch.no_grad():
        first.weight[..., 0, 0], first.bias[:] = torch.cat([plus, -plus]), 0
        last.weight[..., 0, 0], last.bias[:] = 0.5 * torch.cat([plus.flip(0), -plus.flip(0)], 1), 0.3
    assert loss(output, truth, anchor, 2).item() == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("kind", [RegisteredError, RadiometricConsistency])
def test_gradients_reach_every_parameter_and_gaps_have_none(kind):
    loss = kind(2, shift_net=small_net()).double().train()
    torch.nn.init.normal_(loss.shift_net.decide[-1].weight)  # it starts from no shift, with nothing to learn before
    output = draw(2, 2, 48, 48).requires_grad_()
    truth, anchor = draw(2, 2, 48, 48, seed=1), draw(2, 2, 24, 24, seed=2)
    truth[:, :, 20:30, 5:9] = torch.nan
    anchor[:, :, 2:4] = torch.nan
    torch.autograd.backward(loss(output, truth, anchor, 2))
    silent = [k for k, p in loss.named_parameters() if p.grad is None or not p.grad.any() or p.grad.isnan().any()]
    assert not silent
    assert output.grad.isfinite().all()
    assert output.grad.any()


@pytest.mark.parametrize("kind", [RegisteredError, RadiometricConsistency])
def test_without_any_truth_and_anchor_there_is_no_loss(kind):
    output = draw(1, 2, 32, 32).requires_grad_()
    loss = kind(2, shift_net=small_net().eval()).double()
    nothing = loss(output, torch.full_like(output, torch.nan), torch.full((1, 2, 16, 16), torch.nan).double(), 2)
    assert nothing.item() == pytest.approx(0, abs=1e-9)
    torch.autograd.backward(nothing)
    assert output.grad.isfinite().all()


def test_colours_are_matched_pixel_by_pixel():
    torch.manual_seed(0)
    match, image = ColourMatch(3).double(), draw(1, 3, 6, 7)
    whole = match(image)
    assert whole.shape == image.shape
    torch.testing.assert_close(match(image[..., 2:3, 4:5]), whole[..., 2:3, 4:5])
    assert sum(p.numel() for p in match.parameters()) == 3 * 64 + 64 + 64 * 3 + 3
