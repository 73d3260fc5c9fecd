"""Stacked dates: at each pixel the clear ones most like the anchor, the anchor where there are too few."""

import numpy as np
import pytest
import torch
from test_models_stacks import build, make_stack, run

from mapper.models.stacked_dates import WINDOW_PX, StackedDates, pick_dates


def pick(stack, count):
    return pick_dates(stack["source"], stack["clear"], stack["anchor"], count=count)


def test_the_likest_clear_dates_are_picked_as_counted_by_hand():
    stack = make_stack(dates=5, bands=2)
    source, clear, anchor = (stack[key][0].numpy() for key in ("source", "clear", "anchor"))
    picked = pick(stack, 2)[0].numpy()
    half = WINDOW_PX // 2
    for row, col in ((0, 0), (5, 6), (9, 3)):
        window = (slice(max(row - half, 0), row + half + 1), slice(max(col - half, 0), col + half + 1))
        unlike = []
        for date in range(5):
            seen = clear[date, 0][window] > 0
            squares = np.square(source[date] - anchor)[:, *window].mean(0)
            unlike.append(squares[seen].mean() if clear[date, 0, row, col] else np.inf)
        best = np.argsort(unlike)[:2]
        np.testing.assert_allclose(picked[:, :, row, col], source[best][:, :, row, col])


def test_the_anchor_stands_in_for_want_of_clear_dates():
    stack = make_stack(dates=2)
    stack["clear"][:, 1] = 0
    picked = pick(stack, 3)
    assert torch.equal(picked, stack["anchor"][:, None].expand(-1, 3, -1, -1, -1))


def test_a_changed_date_gives_way():
    stack = make_stack(dates=3)
    stack["clear"][:] = 1
    stack["source"][:, 1] += 5
    torch.testing.assert_close(pick(stack, 2)[:, 1], stack["source"][:, 2])


def test_a_guide_is_looked_at():
    torch.manual_seed(0)
    network, stack = StackedDates(2, 2, bands=2, width=4, blocks=1).double(), make_stack()
    for parameter in network.last.parameters():
        torch.nn.init.normal_(parameter)
    guide = torch.randn(1, 2, 20, 24, dtype=torch.double)
    first, second = (run(network, stack | {"guide": each}) for each in (guide, -guide))
    assert (first - second).abs().max() > 1e-3


def test_every_picked_date_is_looked_at():
    network, stack = build("stacked", dates=3), make_stack(dates=3)
    stack["clear"][:] = 1
    output = run(network, stack)
    for date in range(3):
        other = stack["source"].clone()
        other[:, date] += 1e-3
        assert (run(network, stack | {"source": other}) - output).abs().max() > 1e-5


def test_nothing_to_stack_is_refused():
    with pytest.raises(ValueError, match="got 2 and 0 dates"):
        StackedDates(0, 2, dates=0)
