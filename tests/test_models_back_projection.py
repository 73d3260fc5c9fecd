"""Back-projection finds what the sensor saw, whatever the shifts, without a trace of where a window was cut."""

import numpy as np
import pytest
import torch
from real_stacks import read_naip, read_town, score_psnr
from shared import needs_shared

from mapper.models.back_projection import Dates, back_project, reach_of
from mapper.models.interpolation import upsample
from mapper.models.views import PointSpread, register
from mapper.predict.operators import GaussianPsf
from mapper.synthetic.bursts import BurstOptions, degrade, move, simulate_burst


def run(values, shift, *, anchor=0, scale=2, weights=None, **options):
    """Return (band, y, x) of dates (date, band, y, x) with shifts (date, 2) or by pixel."""
    values = torch.as_tensor(values)
    number, _, rows, cols = values.shape
    shift = torch.as_tensor(np.asarray(shift, np.float32))
    shift = shift[:, :, None, None].expand(-1, -1, rows, cols) if shift.ndim == 2 else shift
    clear = torch.ones(1, number, 1, rows, cols, dtype=torch.bool)
    weights = clear.float() if weights is None else weights
    dates = Dates(values=values[None], clear=clear, shift=shift[None], weights=weights)
    return back_project(dates, anchor=values[None, anchor], scale=scale, **options)[0]


@pytest.fixture(scope="module")
def burst():
    random = np.random.default_rng(1)
    ground = move(random.standard_normal((2, 96, 128)), np.array([0.3, 0.4])).astype(np.float32)
    return simulate_burst(ground, BurstOptions(dates=5, noise=(0, 0)), seed=2)


def test_a_date_alone_is_the_textbook_recursion(burst):
    seen = burst.values[burst.anchor]
    expected = upsample(torch.from_numpy(seen)[None], 2, "bicubic")
    for _ in range(4):
        rest = torch.from_numpy(seen - degrade(expected[0].numpy(), 2))[None]
        expected = expected + upsample(rest, 2, "bicubic")
    found = run(seen[None], [[0, 0]], rounds=4, farthest=0)
    inner = slice(24, -24)
    torch.testing.assert_close(found[:, inner, inner], expected[0, :, inner, inner], atol=2e-3, rtol=0)
    with_shift = run(seen[None], [[0, 0]], rounds=4, farthest=1)
    torch.testing.assert_close(with_shift[:, inner, inner], found[:, inner, inner], atol=1e-5, rtol=0)


def test_dates_that_are_shifted_show_more_than_one(burst):
    def score(found):
        return score_psnr(found, burst.truth, border=24)

    alone = score(run(burst.values[[burst.anchor]], [[0, 0]], farthest=0))
    together = score(run(burst.values, burst.shift, anchor=burst.anchor))
    assert together > alone + 1
    assert score(run(burst.values, -burst.shift, anchor=burst.anchor)) < alone, "the sign matters"
    order = torch.randperm(5)
    shuffled = run(burst.values[order], burst.shift[order], anchor=int((order == burst.anchor).nonzero()))
    torch.testing.assert_close(shuffled, run(burst.values, burst.shift, anchor=burst.anchor), atol=1e-5, rtol=0)


def test_a_date_is_laid_under_the_anchor():
    ground = np.random.default_rng(3).standard_normal((1, 80, 80))
    shift = np.array([0.3, -0.8])
    seen, date = (degrade(image.astype(np.float32), 2, psf_sd=0.9) for image in (ground, move(ground, 2 * shift)))
    by_pixel = torch.tensor(shift, dtype=torch.float32)[None, :, None, None].expand(1, 2, 40, 40)
    laid = register(torch.from_numpy(date)[None], by_pixel)[0].numpy()
    inner = (..., slice(5, -5), slice(5, -5))
    assert (laid - seen)[inner].std() < 0.15 * (date - seen)[inner].std()
    assert [PointSpread.of_protocol(scale).reach(scale) for scale in (2, 3, 4, 10)] == [2, 2, 2, 2]


def test_the_gaussian_is_that_of_the_operator():
    mtf, scale, rows = 0.2, 3, 24
    ground = np.random.default_rng(4).standard_normal((rows * scale, rows * scale))
    seen = GaussianPsf(scale, mtf=mtf).apply(ground.astype(np.float32)).astype(np.float32)[None]
    found = run(seen[None], [[0, 0]], scale=scale, rounds=30, psf=PointSpread.of_mtf(mtf), farthest=0)
    back = GaussianPsf(scale, mtf=mtf).apply(found[0].numpy())
    start = GaussianPsf(scale, mtf=mtf).apply(upsample(torch.from_numpy(seen)[None], scale, "bicubic")[0, 0].numpy())
    inner = (slice(6, -6), slice(6, -6))
    assert np.abs(back - seen[0])[inner].max() < 0.1 * np.abs(start - seen[0])[inner].max()
    with pytest.raises(ValueError, match="between 0 and 1, got 1"):
        PointSpread.of_mtf(1)
    with pytest.raises(ValueError, match="expected at most 2"):
        run(seen[None], [[0, 0]], scale=scale, psf=PointSpread(sd=1.2))


@pytest.mark.parametrize(("scale", "farthest", "rounds"), [(2, 1, 2), (3, 2, 1), (2, 0, 3)])
def test_a_window_with_its_halo_gives_the_same_bits(scale, farthest, rounds):
    random = torch.Generator().manual_seed(5)
    halo, core = reach_of(scale, rounds=rounds, farthest=farthest), 5
    rows, cols = 2 * halo + core + 7, 2 * halo + core + 3
    values = torch.rand((3, 2, rows, cols), generator=random) * 300
    shift = (torch.rand((3, 2, rows, cols), generator=random) * 2 - 1) * (farthest + 0.1)
    weights = torch.rand((1, 3, 1, rows, cols), generator=random)
    options = {"scale": scale, "farthest": farthest, "rounds": rounds}
    whole = run(values, shift, weights=weights, **options)
    here = (..., slice(4, 4 + 2 * halo + core), slice(1, 1 + 2 * halo + core))
    part = run(values[here], shift[here], weights=weights[here], **options)
    inner = slice(halo * scale, -halo * scale)
    there = (slice((4 + halo) * scale, (4 + halo + core) * scale), slice((1 + halo) * scale, (1 + halo + core) * scale))
    assert torch.equal(part[:, inner, inner], whole[:, *there])


def test_dates_without_weight_clear_pixel_or_near_shift_change_nothing(burst):
    anchor = torch.from_numpy(burst.values[[burst.anchor]])
    wild = torch.full_like(anchor, 1e6)
    alone = run(anchor, [[0, 0]], rounds=2)
    both = torch.cat([anchor, wild])
    assert torch.equal(run(both, [[0, 0], [2.5, 0]], rounds=2), alone)
    weights = torch.ones(1, 2, 1, *anchor.shape[-2:])
    weights[:, 1] = 0
    assert torch.equal(run(both, [[0, 0], [1, 0]], weights=weights, rounds=2), alone)
    base = upsample(anchor, 2, "bicubic")[0]
    assert torch.equal(run(anchor, [[0, 0]], weights=0 * weights[:, 1:], rounds=2), base)


@needs_shared
@pytest.mark.parametrize(
    ("read", "noise", "border", "published"), [(read_naip, 0.5, 16, 33.08), (read_town, 0, 8, 39.10)]
)
def test_published_figures_are_reproduced(read, noise, border, published):
    truth = read()
    seen = degrade(truth, 2)
    seen = seen + noise * np.random.default_rng(0).standard_normal(seen.shape).astype(np.float32)
    found = run(seen[None], [[0, 0]], farthest=0)
    assert score_psnr(found, truth, border=border) == pytest.approx(published, abs=0.05)
