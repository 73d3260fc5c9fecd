"""Split pixels are the pixels of an image, and a date sees what its point spread function says."""

import pytest
import torch
import torch.nn.functional as F  # noqa: N812

from mapper.models.margin import Margin
from mapper.models.views import PointSpread, View, join_pixels, pad_split, register, split_pixels


@pytest.mark.parametrize("scale", [1, 2, 3])
def test_pixels_are_split_padded_and_joined(scale):
    image = torch.rand(2, 3, 4 * scale, 5 * scale)
    split = split_pixels(image, scale)
    assert split.shape == (scale, scale, 2, 3, 4, 5)
    assert torch.equal(join_pixels(split), image)
    expected = F.pad(image, (2 * scale,) * 4, mode="replicate")
    assert torch.equal(join_pixels(pad_split(split, 2)), expected)


def make_view(shift, *, scale=2, edge=24, farthest=2):
    shift = torch.tensor(shift).view(1, 2, 1, 1).expand(1, 2, edge, edge)
    share = torch.full((1, edge, edge), 0.5)
    return View.make(shift, share, scale=scale, psf=PointSpread.of_protocol(scale), farthest=farthest)


def test_a_date_shows_at_p_plus_shift_what_the_image_shows_at_p():
    rows, cols = (torch.arange(48.0) + 0.5) / 2, (torch.arange(48.0) + 0.5) / 2
    image = (3 * rows[:, None] - 5 * cols)[None, None]
    wide = pad_split(split_pixels(image, 2), 4)
    for shift in ([0.0, 0.0], [0.3, -0.7], [-1.5, 2.0]):
        seen = make_view(shift).look(wide)[0, 0, 6:-6, 6:-6]
        at = torch.arange(6.0, 18.0) + 0.5
        torch.testing.assert_close(seen, 3 * (at[:, None] - shift[0]) - 5 * (at - shift[1]), atol=2e-2, rtol=0)


def test_differences_come_back_by_the_share_of_a_date():
    shift = [0.4, -0.9]
    view, difference = make_view(shift), torch.rand(1, 2, 24, 24)
    onto = torch.ones(2, 2, 1, 2, 24, 24)
    view.bring_back(difference, onto=onto)
    by_pixel = torch.tensor(shift).view(1, 2, 1, 1).expand(1, 2, 24, 24)
    expected = 1 + 0.5 * register(difference, by_pixel, scale=2)
    torch.testing.assert_close(join_pixels(onto), expected)


def test_taps_without_weight_are_left_out_and_change_nothing():
    near, far = make_view([0.0, 0.0], farthest=2), make_view([0.0, 0.0], farthest=0)
    assert len(near.down) == len(far.down) < 2 * 9
    wide = pad_split(torch.rand(2, 2, 1, 1, 24, 24), 4)
    torch.testing.assert_close(near.look(wide), far.look(wide))


def test_a_trimmed_view_sees_the_same_inside():
    view, image = make_view([0.4, -0.9]), torch.rand(2, 2, 1, 1, 24, 24)
    margin = Margin(top=3, bottom=5, left=0, right=7)
    part = view.trim(margin, 0).look(pad_split(margin.trim(image), 4))
    whole = margin.trim(view.look(pad_split(image, 4)))
    inner = (..., slice(4, -4), slice(0, -4))
    assert torch.equal(part[inner], whole[inner])
