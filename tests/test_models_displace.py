"""Displaced samples are bilinear, stay in their window, and what is made of them is nought where nothing varies."""

import pytest
import torch
import torch.nn.functional as F  # noqa: N812  the name everyone knows

from mapper.models.displace import KERNEL, RADIUS, KernelHead, Kernels, correct, sample


def pad(values):
    return F.pad(values, (RADIUS + 1,) * 4, mode="replicate")


def random_kernels(rows, cols, spread=1.0):
    samples = KERNEL**2
    return Kernels(torch.rand(2, samples, rows, cols), spread * torch.randn(2, 2 * samples, rows, cols))


def test_samples_agree_with_those_of_torch():
    torch.manual_seed(0)
    values = torch.randn(2, 1, 30, 40, dtype=torch.double)
    down, right = ((torch.rand(2, 2, 30, 40, dtype=torch.double) * 2 - 1) * RADIUS).unbind()
    rows = torch.arange(30)[:, None] + down
    cols = torch.arange(40) + right
    grid = torch.stack([(cols + 0.5) / 20 - 1, (rows + 0.5) / 15 - 1], -1)
    expected = F.grid_sample(values, grid, padding_mode="border", align_corners=False)
    torch.testing.assert_close(sample(pad(values), down, right), expected)


@pytest.mark.parametrize("shift", [-RADIUS, -2, 0, 1, RADIUS])
def test_whole_displacements_are_exact(shift):
    values = torch.randn(1, 1, 20, 20)
    still, moved = torch.zeros(1, 20, 20), torch.full((1, 20, 20), float(shift))
    inner = slice(RADIUS, -RADIUS)
    assert torch.equal(sample(pad(values), moved, still)[..., inner, :], values.roll(-shift, 2)[..., inner, :])
    assert torch.equal(sample(pad(values), still, moved)[..., inner], values.roll(-shift, 3)[..., inner])


def test_gradients_of_displacements_are_those_of_differences():
    torch.manual_seed(1)
    values = torch.randn(1, 1, 6, 6, dtype=torch.double, requires_grad=True)
    down, right = ((torch.rand(1, 6, 6, dtype=torch.double) * 5).requires_grad_() for _ in range(2))
    assert torch.autograd.gradcheck(lambda v, d, r: sample(pad(v), d, r), (values, down, right))


def test_a_flat_source_stays_flat():
    base = torch.full((2, 1, 12, 12), 3.7)
    assert torch.equal(correct(base, random_kernels(12, 12), random_kernels(12, 12)), base)


def test_the_correction_does_not_depend_on_the_level_of_the_source():
    torch.manual_seed(2)
    base, guide, source = torch.randn(2, 1, 12, 12), random_kernels(12, 12), random_kernels(12, 12)
    torch.testing.assert_close(correct(base + 5, guide, source) - 5, correct(base, guide, source), atol=1e-5, rtol=0)


def test_displacements_stay_in_the_window():
    torch.manual_seed(3)
    base = torch.zeros(2, 1, 41, 41)
    base[:, :, 20, 20] = 1
    seen = correct(base, random_kernels(41, 41, spread=100), random_kernels(41, 41)).abs()
    rows, cols = torch.meshgrid(torch.arange(41), torch.arange(41), indexing="ij")
    assert not seen[:, 0][:, ((rows - 20).abs() > RADIUS) | ((cols - 20).abs() > RADIUS)].any()
    assert seen[:, 0, :14].any()


def test_equal_weights_change_nothing():
    samples, base = KERNEL**2, torch.randn(1, 1, 9, 9)
    same = Kernels(torch.full((1, samples, 9, 9), 0.5), torch.randn(1, 2 * samples, 9, 9))
    torch.testing.assert_close(correct(base, same, same), base)


def test_a_head_speaks_for_squares_of_pixels():
    kernels = KernelHead(8, 4)(torch.randn(1, 8, 5, 6))
    assert kernels.weights.shape == (1, KERNEL**2, 20, 24)
    assert kernels.offsets.shape == (1, 2 * KERNEL**2, 20, 24)
    assert ((kernels.weights > 0.4) & (kernels.weights < 0.6)).all()
