import numpy as np
import pytest
import torch

from mapper.models.local_separation import RADIUS, separate


def make_case(channels=2, size=24, seed=0):
    """Heights of a plane at 300 m, lifted by 12 m and 7 m for each unit of two random channels."""
    torch.manual_seed(seed)
    row, col = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
    shares = torch.rand(1, channels, size, size, dtype=torch.double)
    lifts = torch.tensor([12.0, 7.0, 0.5][:channels], dtype=torch.double)
    ground = (300 + 0.4 * row - 0.2 * col).double()[None, None]
    return ground + (shares * lifts[:, None, None]).sum(1, keepdim=True), ground, shares, lifts


def test_what_stands_on_a_plane_is_found():
    heights, ground, shares, lifts = make_case()
    found = separate(heights, torch.full_like(heights, 300.0), shares, torch.ones_like(heights))
    assert found.shape == (1, 4, 24, 24)
    torch.testing.assert_close(found[0, :2].mean((1, 2)), lifts, rtol=0.2, atol=0)
    error, before = heights - found[:, 2:3] - ground, heights - ground
    assert error.square().mean() < 0.05 * before.square().mean()
    assert found[:, 3].square().mean() < 0.01 * before.square().mean()


def test_it_is_the_weighted_least_squares_solution():
    heights, _, shares, _ = make_case(channels=1, size=11, seed=3)
    heights = heights + torch.randn_like(heights)
    found = separate(heights, torch.zeros_like(heights), shares, torch.ones_like(heights))[0, :, 5, 5]
    at = np.arange(-RADIUS, RADIUS + 1)
    down, right = (each.ravel() / RADIUS for each in np.meshgrid(at, at, indexing="ij"))
    window = (slice(5 - RADIUS, 5 + RADIUS + 1),) * 2
    share, height = shares[0, 0].numpy()[window].ravel(), heights[0, 0].numpy()[window].ravel()
    weights = np.exp(-(down**2 + right**2) * RADIUS**2 / (2 * 2.2**2))
    terms = np.stack([np.ones_like(down), down, right, down**2, down * right, right**2, share], 1)
    root = np.sqrt(weights)[:, None]
    ridge = np.diag(np.sqrt([1e-3] * 6 + [0.3]))
    rows, goal = np.concatenate([terms * root, ridge]), np.concatenate([height * root[:, 0], np.zeros(7)])
    expected = np.linalg.lstsq(rows, goal, rcond=None)[0]
    assert found[0].item() == pytest.approx(expected[-1], abs=1e-6)
    assert found[1].item() == pytest.approx(expected[-1] * share[len(share) // 2], abs=1e-6)


def test_unknown_heights_tell_nothing():
    heights, _, shares, _ = make_case()
    known = torch.ones_like(heights)
    known[..., 8:12, 8:12] = 0
    level = torch.full_like(heights, 300.0)
    one = separate(heights, level, shares, known)
    other = separate(torch.where(known > 0, heights, 9000.0), level, shares, known)
    torch.testing.assert_close(one, other)
    nothing = separate(heights, level, shares, torch.zeros_like(heights))
    assert not nothing.any()


def test_a_window_gives_what_the_whole_gives():
    heights, _, shares, _ = make_case(seed=5)
    level, known = torch.full_like(heights, 300.0), torch.ones_like(heights)
    whole = separate(heights, level, shares, known)[..., 6 + RADIUS : 18 - RADIUS, 6 + RADIUS : 18 - RADIUS]
    inside = (..., slice(6, 18), slice(6, 18))
    part = separate(heights[inside], level[inside], shares[inside], known[inside])
    torch.testing.assert_close(part[..., RADIUS:-RADIUS, RADIUS:-RADIUS], whole, atol=1e-9, rtol=0)
