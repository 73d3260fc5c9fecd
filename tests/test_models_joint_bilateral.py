"""JointBilateral averages by place and likeness: where the guide tells source pixels apart, it sharpens."""

import pytest
import torch
from receptive import measured_halo

from mapper.models.interpolation import upsample
from mapper.models.joint_bilateral import JointBilateral
from mapper.models.weights import count_parameters

SCALE = 10


@pytest.fixture
def field():
    """Two kinds of cover with an oblique border, seen in a noisy guide of three channels, one of them blind."""
    torch.manual_seed(0)
    rows, cols = torch.meshgrid(torch.arange(160), torch.arange(160), indexing="ij")
    wooded = ((rows + 0.6 * cols + 9 * torch.sin(rows / 12)) > 130).float()
    truth = (wooded * 2 - 1)[None, None]
    guide = torch.cat([truth, -truth, torch.zeros_like(truth)], 1) + 0.3 * torch.randn(1, 3, 160, 160)
    return guide, torch.nn.functional.avg_pool2d(truth, SCALE), truth


def error(value, truth):
    return (value - truth).square().mean().sqrt().item()


def test_it_beats_interpolation_untrained(field):
    guide, source, truth = field
    value = JointBilateral(3, SCALE)(guide, source)
    methods = ("nearest", "bilinear", "bicubic")
    assert error(value, truth) < 0.9 * min(error(upsample(source, SCALE, method), truth) for method in methods)


def test_training_improves_it(field):
    guide, source, truth = field
    network = JointBilateral(3, SCALE, spatial=1.5, alike=3)
    before = error(network(guide, source), truth)
    optimiser = torch.optim.Adam(network.parameters(), lr=0.1)
    for _ in range(10):
        optimiser.zero_grad()
        (network(guide, source) - truth).square().mean().backward()
        optimiser.step()
    assert error(network(guide, source), truth) < 0.9 * before


def direct(guide, source, *, radius, spatial, alike):
    """The definition, pixel by pixel."""
    means = torch.nn.functional.avg_pool2d(guide, SCALE)
    rows, cols = source.shape[-2:]
    value = torch.zeros_like(guide[:, :1])
    for row in range(radius * SCALE, (rows - radius) * SCALE):
        for col in range(radius * SCALE, (cols - radius) * SCALE):
            total = weight = 0.0
            for r in range(row // SCALE - radius, row // SCALE + radius + 1):
                for c in range(col // SCALE - radius, col // SCALE + radius + 1):
                    distance = ((row + 0.5) / SCALE - 0.5 - r) ** 2 + ((col + 0.5) / SCALE - 0.5 - c) ** 2
                    unlike = (guide[0, :, row, col] - means[0, :, r, c]).square().mean()
                    w = torch.exp(torch.tensor(-distance / (2 * spatial**2)) - unlike / (2 * alike**2))
                    total, weight = total + w * source[0, 0, r, c], weight + w
            value[0, 0, row, col] = total / weight
    return value


def test_it_is_what_its_definition_says():
    torch.manual_seed(1)
    guide, source = torch.randn(1, 2, 30, 40), torch.randn(1, 1, 3, 4)
    value = JointBilateral(2, SCALE, radius=1, spatial=0.8, alike=0.7)(guide, source)
    expected = direct(guide, source, radius=1, spatial=0.8, alike=0.7)
    torch.testing.assert_close(value[..., 10:20, 10:30], expected[..., 10:20, 10:30], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("scale", "radius"), [(2, 1), (3, 2), (10, 2)])
def test_declared_halo_is_the_measured_radius_as_whole_source_pixels(scale, radius):
    network = JointBilateral(1, scale, radius=radius, spatial=2, alike=3)
    assert network.halo_px == measured_halo(network, 1, scale)


def test_a_guide_like_none_around_still_gives_a_finite_value():
    guide = torch.zeros(1, 2, 50, 50)
    guide[:, :, 25, 25] = 1e3
    source = torch.arange(25.0).reshape(1, 1, 5, 5)
    value = JointBilateral(2, SCALE, alike=0.01)(guide, source)
    assert value.isfinite().all()
    assert 0 <= value.min() <= value.max() <= 24


def test_values_stay_between_those_of_the_source():
    torch.manual_seed(2)
    source = torch.rand(2, 1, 6, 6)
    value = JointBilateral(4, SCALE)(torch.randn(2, 4, 60, 60), source)
    assert source.min() <= value.min() <= value.max() <= source.max()


def test_two_numbers_are_learned():
    assert count_parameters(JointBilateral(56, SCALE)) == 2


def test_no_guide_is_refused():
    with pytest.raises(ValueError, match="needs guide channels"):
        JointBilateral(0, SCALE)


@pytest.mark.parametrize("option", ["radius", "spatial", "alike"])
def test_options_that_average_nothing_are_refused(option):
    with pytest.raises(ValueError, match="must be positive"):
        JointBilateral(3, SCALE, **{option: 0})
