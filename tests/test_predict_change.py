"""A date that shows something else than the anchor is told from one in other light, and the same for any window."""

import numpy as np
import pytest

from mapper.cube.shifts import estimate_shifts
from mapper.predict.change import find_changed
from mapper.predict.quality import CHANGE_REACH
from mapper.synthetic.bursts import BurstOptions, simulate_burst
from mapper.synthetic.imagery import make_image

NOISE = 0.003
OBJECT = (slice(90, 102), slice(110, 119))


@pytest.fixture(scope="module")
def burst():
    """Three dates of two bands in other gains, with an object on one that the anchor does not have."""
    image = make_image(7, size_px=384, bands=2) * 0.06 + 0.2
    options = BurstOptions(dates=3, noise=(NOISE / float(image.std()),) * 2, gain=0.1, offset=0.2)
    made = simulate_burst(image, options, seed=3)
    other = (made.anchor + 1) % 3
    clear = made.clear.copy()
    clear[other, 20:70, 60:100] = clear[other - 1, 120:, :30] = False
    values = np.where(clear[:, None], made.values, np.nan).astype(np.float32)
    values[(other, slice(None), *OBJECT)] += np.float32(0.12)
    anchor = made.values[made.anchor]
    shift = estimate_shifts(values, clear, anchor, row=0, col=0).shift
    return values, clear, anchor, shift, other


def test_an_object_is_found_and_another_gain_is_none(burst):
    values, clear, anchor, shift, other = burst
    found = find_changed(values, clear, anchor, shift, row=0, col=0)
    inside = tuple(slice(part.start + 2, part.stop - 2) for part in OBJECT)
    assert found[other][inside][clear[other][inside]].mean() > 0.95
    found[(other, *(slice(part.start - 5, part.stop + 5) for part in OBJECT))] = False
    assert found[clear].mean() < 0.005


def test_what_is_not_clear_has_not_changed(burst):
    values, clear, anchor, shift, other = burst
    hidden = clear.copy()
    hidden[other] = False
    assert not find_changed(values, hidden, anchor, shift, row=0, col=0)[other].any()
    assert not find_changed(values, clear, np.full_like(anchor, np.nan), shift, row=0, col=0).any()
    assert not find_changed(values, clear, anchor, shift + 5, row=0, col=0).any()


@pytest.mark.parametrize("corner", [(3, 6), (21, 0), (2, 17)])
def test_any_window_with_its_surroundings_gives_the_same(burst, corner):
    values, clear, anchor, shift, _ = burst
    row, col = corner
    part = slice(row, 180), slice(col, 189)
    whole = find_changed(values, clear, anchor, shift, row=-8, col=4)
    cut = find_changed(
        values[..., *part], clear[..., *part], anchor[..., *part], shift[..., *part], row=row - 8, col=col + 4
    )
    inner = slice(row + CHANGE_REACH, 180 - CHANGE_REACH), slice(col + CHANGE_REACH, 189 - CHANGE_REACH)
    mine = tuple(slice(at.start - first, at.stop - first) for at, first in zip(inner, corner, strict=True))
    np.testing.assert_array_equal(cut[:, *mine], whole[:, *inner])
    assert whole.any()
