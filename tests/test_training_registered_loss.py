"""Losses for a reference that lies elsewhere in other colours: shifts are undone, the sensor's view is held."""

from functools import partial

import numpy as np
import pytest
import torch

from mapper.errors import InputError
from mapper.evaluation.image_metrics import ssim_map
from mapper.predict.operators import BlockMean, GaussianPsf
from mapper.synthetic.bursts import degrade
from mapper.training.registered_loss import (
    ColourMatch,
    RadiometricConsistency,
    Radiometry,
    RegisteredError,
    RegisteredSum,
    ShiftNet,
    average_error,
    compare_structure,
    move,
    see_through,
    weigh_lanczos,
)
from mapper.training.scene_config import PsfConfig


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


class KnownShift(RegisteredError):  # noqa: N818 - an error of images
    """One whose registration was told, in place of the published network."""

    def __init__(self, bands, *, mtf=None, shift=(0.4, -0.7)):
        super().__init__(bands, mtf=mtf, shift_net=Fixed(*shift))


class KnownShiftColours(RadiometricConsistency):
    """The same."""

    def __init__(self, bands, *, mtf=None, shift=(0, 0)):
        super().__init__(bands, mtf=mtf, shift_net=Fixed(*shift), hidden=4)


def sum_of(kind, output, truth, anchor, **numbers):
    """The loss as a training sees it: of images in target units, summed over pixels."""
    torch.manual_seed(0)
    radiometry = Radiometry(**{"bands": 2, "mean": 0.3, "unit": 0.06, "mtf": None} | numbers)
    return RegisteredSum(kind(2, mtf=radiometry.mtf), radiometry).double()(output, truth, anchor).item()


def reflect(image):
    return 0.3 + 0.06 * image


def test_a_result_that_lies_elsewhere_scores_like_one_that_does_not():
    """The truth is that of the image moved by (.4, -.7) pixels: Lanczos finds it to a thousandth."""
    output, anchor = reflect(wave(48, 48)), reflect(wave(24, 24))
    still, moved = reflect(wave(48, 48)), reflect(wave(48, 48, down=0.4, right=-0.7))
    error = 0.3 * (reflect(draw(1, 2, 48, 48)) - 0.3)
    known = still.numel()
    scores = {
        name: sum_of(kind, output, truth + error, anchor)
        for name, kind, truth in (
            ("in place", partial(KnownShift, shift=(0, 0)), still),
            ("registered", KnownShift, moved),
            ("not registered", partial(KnownShift, shift=(0, 0)), moved),
        )
    }
    assert scores["registered"] == pytest.approx(scores["in place"], rel=0.02)
    assert scores["not registered"] > 1.2 * scores["in place"]
    assert scores["in place"] / known == pytest.approx(0.3**2, rel=0.05)


def test_a_gain_and_an_offset_of_the_result_cost_what_the_anchor_is_missed_by():
    """Colours are matched for the truth: what is left is nine tenths of the mean square of what was added."""
    image = wave(48, 48)
    truth = 0.5 * image.flip(1) + 0.3

    class Matched(KnownShiftColours):
        def __init__(self, bands, *, mtf, gain, offset):
            super().__init__(bands, mtf=mtf)
            first, _, last = self.colour_match.layers
            plus = torch.eye(2, dtype=torch.double)
            with torch.no_grad():
                first.weight[..., 0, 0], first.bias[:] = torch.cat([plus, -plus]), 0
                last.weight[..., 0, 0] = 0.5 / gain * torch.cat([plus.flip(0), -plus.flip(0)], 1)
                last.bias[:] = 0.3 - 0.5 * offset / gain

    for gain, offset in ((1.0, 0.0), (1.2, -0.5)):
        output = gain * image + offset
        cost = sum_of(partial(Matched, gain=gain, offset=offset), *map(reflect, (output, truth, see_through(image, 2))))
        added = see_through(output - image, 2).square().mean().item()
        assert cost / image.numel() == pytest.approx(0.9 * added, abs=1e-6)


@pytest.mark.parametrize(("kind", "gain"), [(KnownShift, 1.0), (KnownShiftColours, 1.7)])
def test_a_deviation_learns_from_errors_in_place_and_in_the_radiometry_of_the_result(kind, gain):
    """Whatever offset, and gain under the second, the truth has: the best deviation is the root mean square of them."""
    shift = (0.4, -0.7)
    image, noise = wave(64, 64), 0.2 * draw(1, 2, 64, 64)
    truth = gain * (wave(64, 64, down=shift[0], right=shift[1]) + noise) + 3
    loss = kind(2, shift=shift).double()
    below, above = (torch.tensor(0.2 * factor, dtype=torch.double, requires_grad=True) for factor in (0.95, 1.05))
    for sd in (below, above):
        torch.autograd.backward(loss(image, truth, see_through(image, 2), 2, sd.expand(1, 2, 64, 64)))
    assert below.grad < 0 < above.grad


def test_a_deviation_does_not_change_how_the_mean_learns():
    image, truth = wave(40, 40).requires_grad_(), draw(1, 2, 40, 40)
    grads = [
        torch.autograd.grad(KnownShift(2).double()(image, truth, see_through(image, 2), 2, sd), image)[0]
        for sd in (None, torch.full_like(truth, 3.0))
    ]
    torch.testing.assert_close(*grads)


def test_a_patch_that_is_too_small_is_refused_with_what_to_do():
    small = wave(20, 20)
    with pytest.raises(
        InputError, match=r"KnownShiftColours gets 20 x 20 px of a patch .* at least 25: enlarge patch_px"
    ):
        sum_of(KnownShiftColours, small, small, see_through(small, 2))


def test_the_modulation_of_a_sensor_is_what_is_left_of_the_shortest_wave():
    scale, psf = 4, PsfConfig(sd=0.4, aperture_px=2)
    wave_of = np.tile(np.cos(np.pi * (np.arange(64 * scale) - (scale - 1) / 2) / scale), (1, 8, 1))
    seen = degrade(wave_of, scale, psf_sd=psf.sd, aperture_px=psf.aperture_px)[0, 0, 8:-8]
    assert np.abs(seen).mean() == pytest.approx(psf.modulation(scale), rel=0.01)
