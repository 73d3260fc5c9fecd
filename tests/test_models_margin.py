"""A margin is what nobody needs, and what is trimmed of it never comes back."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from mapper.models.margin import Margin, find_margin

margins = st.builds(Margin, *[st.integers(0, 9)] * 4)


@given(margins, st.integers(0, 12), st.integers(0, 12), st.sampled_from([1, 2, 3]))
def test_to_trim_twice_is_to_trim_once(margin, far, near, scale):
    image = torch.arange(22 * 25 * scale**2).view(1, 22 * scale, 25 * scale)
    far = max(far, near)
    once = margin.trim(image, near, scale=scale)
    twice = margin.within(far).trim(margin.trim(image, far, scale=scale), near, scale=scale)
    assert torch.equal(once, twice)
    assert torch.equal(margin.beyond(near).trim(image, scale=scale), once)
    assert torch.equal(Margin().trim(image), image)


def test_around_what_is_known_lies_the_rest():
    known = torch.zeros(2, 1, 12, 20, dtype=torch.bool)
    known[0, 0, 3, 8] = known[1, 0, 5, 6] = True
    assert Margin.around(known, 0) == Margin(top=3, bottom=6, left=6, right=11)
    assert Margin.around(known, 4) == Margin(top=0, bottom=2, left=2, right=7)


def test_a_model_is_told_of_its_margin():
    assert find_margin({}) == Margin()
    assert find_margin({"margin": torch.tensor([1, 2, 3, 4])}) == Margin(top=1, bottom=2, left=3, right=4)
