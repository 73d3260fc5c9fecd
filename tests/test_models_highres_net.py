"""HighRes-net has the published size, fuses in pairs by validity; as published, the order of dates matters."""

import pytest
import torch
from test_models_stacks import build, make_stack, run, take

from mapper.models.highres_net import HighResNet


@pytest.mark.parametrize(("bands", "scale", "expected"), [(1, 3, 591_818), (1, 2, 591_818), (3, 2, 594_252)])
def test_it_has_the_published_number_of_parameters(bands, scale, expected):
    with torch.device("meta"):
        network = HighResNet(0, scale, bands=bands)
    assert sum(parameter.numel() for parameter in network.parameters()) == expected
    parts = [sum(p.numel() for p in part.parameters()) for part in (network.encode, network.fuse, network.decode)]
    assert bands > 1 or parts == [185_861, 368_963, 36_994]


def test_the_order_of_the_dates_matters():
    network, stack = build("highres-net"), make_stack(dates=4)
    output = run(network, stack)
    assert (run(network, take(stack, dates=[1, 0, 2, 3])) - output).abs().max() > 1e-3 * output.abs().max()


def test_the_last_of_an_odd_number_of_dates_is_dropped():
    network, stack = build("highres-net"), make_stack(dates=3)
    assert torch.equal(run(network, stack), run(network, take(stack, dates=slice(0, 2))))


def test_dates_join_from_both_ends():
    """The last date meets the first, so that a missing first half keeps what the second half brought."""
    network, stack = build("highres-net"), make_stack(dates=4)
    stack["clear"][:] = 1
    stack["clear"][:, [1, 2]] = 0
    without = stack | {"clear": stack["clear"].clone()}
    without["clear"][:, 3] = 0
    assert (run(network, stack) - run(network, without)).abs().max() > 1e-3
    features = torch.randn(1, 4, 4, 3, 3, dtype=torch.double)
    valid = torch.tensor([1.0, 0, 0, 1], dtype=torch.double)[None, :, None, None, None].expand(1, 4, 1, 3, 3)
    fused = network._fuse_all(features, valid)
    pair = features[:, 0] + network.fuse(torch.cat([features[:, 0], features[:, 3]], 1))
    torch.testing.assert_close(fused, pair)


def test_what_a_missing_first_half_was_given_is_not_lost():
    network = build("highres-net")
    features = torch.randn(1, 4, 4, 3, 3, dtype=torch.double)
    valid = torch.tensor([1.0, 0, 1, 0], dtype=torch.double)[None, :, None, None, None].expand(1, 4, 1, 3, 3)
    other = features.clone()
    other[:, 2] += 1
    assert (network._fuse_all(features, valid) - network._fuse_all(other, valid)).abs().min() > 0


def test_more_dates_than_the_halo_allows_are_refused():
    with pytest.raises(ValueError, match=r"got 5 dates, the network takes at most 4: option most_dates"):
        run(build("highres-net"), make_stack(dates=5, rows=4, cols=4))
    with pytest.raises(ValueError, match="at least one date"):
        HighResNet(0, 2, most_dates=0)


def test_the_halo_of_sixteen_dates_is_nineteen_source_pixels_and_the_filling():
    with torch.device("meta"):
        assert HighResNet(0, 2, most_dates=16).halo_px == 2 * (19 + 2)


def test_a_scale_that_would_leave_holes_is_refused():
    with pytest.raises(ValueError, match=r"a scale of 2 or 3, got 0 and 4"):
        HighResNet(0, 4)
