"""PIUnet-like: a shifted date is read where the anchor shows the same; attention counts what is clear and no more."""

import numpy as np
import pytest
import torch
from scipy import ndimage
from test_models_stacks import build, make_stack, run, take

from mapper.models.piunet import REACH, apply_kernels, attend, interpolate_at


def test_kernels_read_at_the_shift_as_scipy_does():
    generator = torch.Generator().manual_seed(0)
    image = torch.randn(1, 1, 12, 14, generator=generator, dtype=torch.double)
    shift = (torch.rand(1, 2, 12, 14, generator=generator, dtype=torch.double) - 0.5) * 2 * REACH
    found = apply_kernels(image, interpolate_at(shift))[0, 0].numpy()
    places = np.indices((12, 14)) + shift[0].numpy()
    expected = ndimage.map_coordinates(image[0, 0].numpy(), places, order=1)
    inside = (slice(REACH, -REACH),) * 2
    np.testing.assert_allclose(found[inside], expected[inside], atol=1e-12)


def test_a_greater_shift_counts_as_the_greatest():
    far, farthest = (interpolate_at(torch.full((1, 2, 1, 1), value)) for value in (9.0, float(REACH)))
    assert torch.equal(far, farthest)
    assert far.sum() == 1


def test_a_date_that_lies_elsewhere_gives_what_it_gives_in_place():
    """What is learnt of registration left out, a whole shift moves a date back."""
    network, stack = build("piunet"), make_stack(rows=24, cols=24, dates=2)
    stack["clear"][:] = 1
    for parameter in network.register.predict[-1].parameters():
        torch.nn.init.zeros_(parameter)
    network.head[0].weight.data[:, 2:] = 0  # neither the anchor beside a date nor its shift
    stack["shift"][:] = 0
    moved = {key: stack[key].clone() for key in ("source", "shift")}
    moved["source"][:, 1] = torch.roll(stack["source"][:, 1], (1, -2), (-2, -1))
    moved["shift"][:, 1, 0], moved["shift"][:, 1, 1] = 1, -2
    inside = (..., slice(18, -18), slice(18, -18))
    torch.testing.assert_close(run(network, stack | moved)[inside], run(network, stack)[inside], atol=1e-11, rtol=0)
    unknown = moved | {"shift": stack["shift"]}
    assert (run(network, stack | unknown)[inside] - run(network, stack)[inside]).abs().max() > 1e-3


def test_dates_given_twice_count_once():
    network, stack = build("piunet"), make_stack(dates=3)
    twice = take(stack, dates=[0, 1, 2, 2, 1, 0])
    stack["clear"][:], twice["clear"][:] = 1, 1
    torch.testing.assert_close(run(network, twice), run(network, stack), atol=1e-11, rtol=0)


def test_attention_is_that_of_torch_over_the_dates_that_count():
    generator = torch.Generator().manual_seed(0)
    query, key, value = torch.randn(3, 1, 5, 4, 2, 3, generator=generator, dtype=torch.double)
    weight = torch.ones(1, 5, 1, 2, 3, dtype=torch.double)
    weight[:, 3] = 0
    found = attend(query, key, value, weight)
    to_rows = lambda each: each.permute(0, 3, 4, 1, 2)  # noqa: E731
    rest = [0, 1, 2, 4]
    expected = torch.nn.functional.scaled_dot_product_attention(
        to_rows(query), to_rows(key[:, rest]), to_rows(value[:, rest])
    )
    torch.testing.assert_close(to_rows(found), expected)
    assert not attend(query, key, value, torch.zeros_like(weight)).any()


def test_the_deviation_is_that_of_a_laplacian_and_starts_where_it_should():
    network, stack = build("piunet"), make_stack()
    for parameter in network.last.parameters():
        torch.nn.init.zeros_(parameter)
    network.last.bias.data[-8:] = np.log(3.0)
    scale = torch.distributions.Laplace(torch.tensor(0.0), torch.tensor(3.0, dtype=torch.double))
    torch.testing.assert_close(run(network, stack)[:, 2:], scale.stddev.expand(1, 2, 20, 24))


@pytest.mark.parametrize("log_scale", [-1e4, 1e4])
def test_deviations_stay_finite_and_positive(log_scale):
    network = build("piunet")
    network.last.bias.data[-8:] = log_scale
    sd = run(network, make_stack())[:, 2:]
    assert sd.isfinite().all()
    assert (sd > 0).all()
